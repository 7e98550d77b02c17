//! The forward pass: one cube a tile of queries and head, through the keys with a running maximum and sum.

use burn_cubecl::cubecl::{self, prelude::*};

use super::tile::{COLUMNS, Layout, ROWS, STRIDE, add_rows, bend, first_seen, product_of_rows, zeros};

/// The output, and the logarithm of each query's sum of exponentials.
#[cube(launch)]
pub(super) fn forward_kernel(
    q: &[f32],
    k: &[f32],
    v: &[f32],
    tiles: &[u32],
    out: &mut [f32],
    log_sums: &mut [f32],
    past: usize,
    window: usize,
    scale: f32,
    cap: f32,
    #[comptime] layout: Layout,
) {
    let tile = CUBE_POS / layout.heads * 4;
    if tile >= tiles.len() {
        terminate!();
    }
    let head = CUBE_POS % layout.heads;
    let kv_column = head / comptime!(layout.heads / layout.kv_heads) * layout.head_dim;
    let first = tiles[tile] as usize;
    let end = tiles[tile + 1] as usize;
    let start = tiles[tile + 2] as usize;
    let i = UNIT_POS as usize / COLUMNS;
    let j = UNIT_POS as usize % COLUMNS;
    let query = first + i;
    let mut a_tile = Shared::<[f32]>::new_slice(ROWS * STRIDE);
    let mut b_tile = Shared::<[f32]>::new_slice(COLUMNS * STRIDE);
    let mut weights = Shared::<[f32]>::new_slice(ROWS * STRIDE);
    let mut sums = zeros(layout.head_dim);
    let mut largest = f32::new(-1e30);
    let mut sum = 0.0f32;
    let keys_end = end + past;
    let own_first = first_seen(query + past, start, window);
    let mut keys = first_seen(first + past, start, window);
    while keys < keys_end {
        let count = min(keys_end - keys, COLUMNS);
        let mut score = scale
            * product_of_rows(
                q,
                first * layout.q_row + head * layout.head_dim,
                end - first,
                k,
                keys * layout.kv_row + layout.k_first + kv_column,
                count,
                &mut a_tile,
                &mut b_tile,
                layout.q_row,
                layout.kv_row,
                layout.head_dim,
            );
        if comptime!(layout.capped) {
            score = cap * bend(score, cap);
        }
        let seen = query < end && keys + j >= own_first && keys + j <= query + past;
        weights[i * STRIDE + j] = select(seen, score, f32::new(-1e30));
        sync_cube();
        let before = largest;
        #[unroll]
        for n in 0..COLUMNS {
            largest = max(largest, weights[i * STRIDE + n]);
        }
        sync_cube();
        weights[i * STRIDE + j] = select(seen, (score - largest).exp(), 0.0f32);
        sync_cube();
        let fade = (before - largest).exp();
        sum *= fade;
        #[unroll]
        for n in 0..COLUMNS {
            sum += weights[i * STRIDE + n];
        }
        #[unroll]
        for step in 0..comptime!(layout.head_dim.div_ceil(COLUMNS)) {
            sums[step] *= fade;
        }
        let values = keys * layout.kv_row + layout.v_first + kv_column;
        add_rows(&mut sums, &weights, v, values, count, layout.kv_row, layout.head_dim);
        keys += COLUMNS;
    }
    if query < end {
        #[unroll]
        for step in 0..comptime!(layout.head_dim.div_ceil(COLUMNS)) {
            let column = comptime!(step * COLUMNS) + j;
            if column < layout.head_dim {
                out[(query * layout.heads + head) * layout.head_dim + column] = sums[step] / sum;
            }
        }
        if j == 0 {
            log_sums[head * (log_sums.len() / layout.heads) + query] = largest + sum.ln();
        }
    }
}
