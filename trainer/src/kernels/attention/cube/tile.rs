//! What the attention's kernels share: tiles of rows, their products and sums.

use burn_cubecl::cubecl::{self, prelude::*};

use super::Heads;
use crate::kernels::gpu::UNITS;

/// Rows of a cube's own tile.
pub(super) const ROWS: usize = 8;
/// Rows of the tiles that it goes through, and the run of a row that is staged at a time.
pub(super) const COLUMNS: usize = 32;
/// From row to row of a staged tile: one more than its length, so that units read from different memory banks.
pub(super) const STRIDE: usize = COLUMNS + 1;

const _: () = assert!(ROWS * COLUMNS == UNITS as usize, "a unit for each pair of rows");

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) heads: usize,
    pub(super) kv_heads: usize,
    pub(super) head_dim: usize,
    /// Numbers from one query to the next.
    pub(super) q_row: usize,
    /// Numbers from one key to the next.
    pub(super) kv_row: usize,
    /// The column of the first key head.
    pub(super) k_first: usize,
    /// The column of the first value head.
    pub(super) v_first: usize,
    pub(super) capped: bool,
}

impl Layout {
    /// Of rows that hold all queries, then keys, then values.
    pub(super) fn of_rows(heads: Heads) -> Self {
        Self {
            heads: heads.heads,
            kv_heads: heads.kv_heads,
            head_dim: heads.head_dim,
            q_row: heads.width(),
            kv_row: heads.width(),
            k_first: heads.heads * heads.head_dim,
            v_first: (heads.heads + heads.kv_heads) * heads.head_dim,
            capped: heads.soft_cap.is_some(),
        }
    }
}

/// The product of row `UNIT_POS / COLUMNS` of one tile with row `UNIT_POS % COLUMNS` of the other. Rows are staged in
/// shared memory, a run of `COLUMNS` numbers at a time; those behind the count are zero.
#[cube]
pub(super) fn product_of_rows(
    a: &[f32],
    a_first: usize,
    a_count: usize,
    b: &[f32],
    b_first: usize,
    b_count: usize,
    a_tile: &mut [f32],
    b_tile: &mut [f32],
    #[comptime] a_row: usize,
    #[comptime] b_row: usize,
    #[comptime] depth: usize,
) -> f32 {
    let i = UNIT_POS as usize / COLUMNS;
    let j = UNIT_POS as usize % COLUMNS;
    let mut sum = 0.0f32;
    #[unroll]
    for step in 0..comptime!(depth.div_ceil(COLUMNS)) {
        let column = comptime!(step * COLUMNS) + j;
        let mut staged = 0.0f32;
        if i < a_count && column < depth {
            staged = a[a_first + i * a_row + column];
        }
        a_tile[i * STRIDE + j] = staged;
        #[unroll]
        for part in 0..comptime!(COLUMNS / ROWS) {
            let row = comptime!(part * ROWS) + i;
            let mut staged = 0.0f32;
            if row < b_count && column < depth {
                staged = b[b_first + row * b_row + column];
            }
            b_tile[row * STRIDE + j] = staged;
        }
        sync_cube();
        #[unroll]
        for n in 0..COLUMNS {
            sum += a_tile[i * STRIDE + n] * b_tile[j * STRIDE + n];
        }
        sync_cube();
    }
    sum
}

/// Adds rows of `from`, each times its weight, to the unit's part of a row: the columns `j`, `j + COLUMNS` and so on.
#[cube]
pub(super) fn add_rows(
    sums: &mut Array<f32>,
    weights: &[f32],
    from: &[f32],
    first: usize,
    count: usize,
    #[comptime] row: usize,
    #[comptime] depth: usize,
) {
    let i = UNIT_POS as usize / COLUMNS;
    let j = UNIT_POS as usize % COLUMNS;
    for n in 0..count {
        let weight = weights[i * STRIDE + n];
        #[unroll]
        for step in 0..comptime!(depth.div_ceil(COLUMNS)) {
            let column = comptime!(step * COLUMNS) + j;
            if column < depth {
                sums[step] += weight * from[first + n * row + column];
            }
        }
    }
}

/// The unit's part of a row, in the beginning.
#[cube]
pub(super) fn zeros(#[comptime] depth: usize) -> Array<f32> {
    let mut sums = Array::<f32>::new(comptime!(depth.div_ceil(COLUMNS)));
    #[unroll]
    for step in 0..comptime!(depth.div_ceil(COLUMNS)) {
        sums[step] = 0.0f32;
    }
    sums
}

/// The first key that the query sees.
#[cube]
pub(super) fn first_seen(query: usize, start: usize, window: usize) -> usize {
    let mut first = start;
    if query + 1 > start + window {
        first = query + 1 - window;
    }
    first
}

/// `tanh(score / cap)`; beyond 15 it is 1 in float32.
#[cube]
pub(super) fn bend(score: f32, cap: f32) -> f32 {
    (score / cap).clamp(-15.0, 15.0).tanh()
}
