//! Attention on the GPU: one cube a tile of queries (or, for the gradients of keys and values, a tile of keys) and head.
//!
//! A cube goes through the other side in tiles, with a running maximum and sum; nothing of the size of the square of
//! an example's length is kept. Every gradient is added up by one unit, so its order is fixed.

use std::ops::Range;

use burn::backend::Cube;
use burn::backend::ops::IntTensorOps as _;
use burn::tensor::TensorData;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::{AttentionKernel, Heads, Ranges};
use crate::kernels::gpu::{UNITS, cubes, dim, empty, rows};

/// Rows of a cube's own tile.
const ROWS: usize = 8;
/// Rows of the tiles that it goes through, and the run of a row that is staged at a time.
const COLUMNS: usize = 32;
/// From row to row of a staged tile: one more than its length, so that units read from different memory banks.
const STRIDE: usize = COLUMNS + 1;

const _: () = assert!(ROWS * COLUMNS == UNITS as usize, "a unit for each pair of rows");

impl AttentionKernel for Cube {
    fn attention_forward(qkv: CubeTensor, ranges: &Ranges, heads: Heads) -> (CubeTensor, CubeTensor) {
        let qkv = rows(qkv);
        let layout = Layout::of_rows(heads);
        forward([qkv.clone(), qkv.clone(), qkv], ranges, 0, heads, layout)
    }

    fn attention_backward(
        grad: CubeTensor,
        qkv: CubeTensor,
        output: CubeTensor,
        log_sums: CubeTensor,
        ranges: &Ranges,
        heads: Heads,
    ) -> CubeTensor {
        let [grad, qkv, output, log_sums] = [grad, qkv, output, log_sums].map(rows);
        let layout = Layout::of_rows(heads);
        let tokens = dim(&qkv, 0);
        let out = empty(&qkv, [tokens, heads.width()]);
        let deltas = empty(&qkv, [heads.heads, tokens]);
        let (tiles, count) = tiles(ranges, &qkv);
        query_gradient_kernel::launch(
            &out.client,
            cubes(&out, count * heads.heads),
            CubeDim::new_1d(UNITS),
            qkv.clone().into_buffer_arg(),
            tiles.clone().into_buffer_arg(),
            grad.clone().into_buffer_arg(),
            output.into_buffer_arg(),
            log_sums.clone().into_buffer_arg(),
            deltas.clone().into_buffer_arg(),
            out.clone().into_buffer_arg(),
            window(heads),
            heads.scale,
            heads.soft_cap.unwrap_or(1.0),
            layout,
        );
        key_gradient_kernel::launch(
            &out.client,
            cubes(&out, count * heads.kv_heads),
            CubeDim::new_1d(UNITS),
            qkv.into_buffer_arg(),
            tiles.into_buffer_arg(),
            grad.into_buffer_arg(),
            log_sums.into_buffer_arg(),
            deltas.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            window(heads),
            heads.scale,
            heads.soft_cap.unwrap_or(1.0),
            layout,
        );
        out
    }

    fn cached_attention_forward(q: CubeTensor, k: CubeTensor, v: CubeTensor, heads: Heads) -> CubeTensor {
        let parts = [q, k, v].map(rows);
        let (new, total) = (dim(&parts[0], 0), dim(&parts[1], 0));
        let layout = Layout {
            q_row: heads.heads * heads.head_dim,
            kv_row: heads.kv_heads * heads.head_dim,
            k_first: 0,
            v_first: 0,
            ..Layout::of_rows(heads)
        };
        forward(parts, std::slice::from_ref(&(0..new)), total - new, heads, layout).0
    }
}

/// The output and the logarithms of the sums.
fn forward(
    [q, k, v]: [CubeTensor; 3],
    ranges: &[Range<usize>],
    past: usize,
    heads: Heads,
    layout: Layout,
) -> (CubeTensor, CubeTensor) {
    let tokens = dim(&q, 0);
    let out = empty(&q, [tokens, heads.heads * heads.head_dim]);
    let log_sums = empty(&q, [heads.heads, tokens]);
    let (tiles, count) = tiles(ranges, &q);
    forward_kernel::launch(
        &out.client,
        cubes(&out, count * heads.heads),
        CubeDim::new_1d(UNITS),
        q.into_buffer_arg(),
        k.into_buffer_arg(),
        v.into_buffer_arg(),
        tiles.into_buffer_arg(),
        out.clone().into_buffer_arg(),
        log_sums.clone().into_buffer_arg(),
        past,
        window(heads),
        heads.scale,
        heads.soft_cap.unwrap_or(1.0),
        layout,
    );
    (out, log_sums)
}

/// The tiles of all examples, `[tiles, 4]`: first token and end of the tile, first token and end of its example.
#[expect(clippy::cast_possible_truncation, reason = "a micro-batch has fewer than 2^32 tokens")]
fn tiles(ranges: &[Range<usize>], beside: &CubeTensor) -> (CubeTensor, usize) {
    let tile = |range: &Range<usize>, first: usize| [first, (first + ROWS).min(range.end), range.start, range.end];
    let numbers: Vec<u32> = ranges
        .iter()
        .flat_map(|range| range.clone().step_by(ROWS).flat_map(move |first| tile(range, first)))
        .map(|number| number as u32)
        .collect();
    let count = numbers.len() / 4;
    (Cube::int_from_data(TensorData::new(numbers, [count, 4]), &beside.device), count)
}

/// The window, or a number that no example's length reaches.
fn window(heads: Heads) -> usize {
    heads.window.unwrap_or(1 << 30).min(1 << 30)
}

/// What a kernel is compiled for.
#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq)]
struct Layout {
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    /// Numbers from one query to the next.
    q_row: usize,
    /// Numbers from one key to the next.
    kv_row: usize,
    /// The column of the first key head.
    k_first: usize,
    /// The column of the first value head.
    v_first: usize,
    capped: bool,
}

impl Layout {
    /// Of rows that hold all queries, then keys, then values.
    fn of_rows(heads: Heads) -> Self {
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
fn product_of_rows(
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
fn add_rows(
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
fn zeros(#[comptime] depth: usize) -> Array<f32> {
    let mut sums = Array::<f32>::new(comptime!(depth.div_ceil(COLUMNS)));
    #[unroll]
    for step in 0..comptime!(depth.div_ceil(COLUMNS)) {
        sums[step] = 0.0f32;
    }
    sums
}

/// The first key that the query sees.
#[cube]
fn first_seen(query: usize, start: usize, window: usize) -> usize {
    let mut first = start;
    if query + 1 > start + window {
        first = query + 1 - window;
    }
    first
}

/// `tanh(score / cap)`; beyond 15 it is 1 in float32.
#[cube]
fn bend(score: f32, cap: f32) -> f32 {
    (score / cap).clamp(-15.0, 15.0).tanh()
}

#[cube(launch)]
fn forward_kernel(
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

/// The gradient of the queries, and each query's `grad · output`, which the gradient of the keys needs as well.
#[cube(launch)]
fn query_gradient_kernel(
    qkv: &[f32],
    tiles: &[u32],
    grad: &[f32],
    output: &[f32],
    log_sums: &[f32],
    deltas: &mut [f32],
    out: &mut [f32],
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
    let mut delta = 0.0f32;
    let mut log_sum = 0.0f32;
    if query < end {
        let place = head * (log_sums.len() / layout.heads) + query;
        for column in 0..layout.head_dim {
            let at = (query * layout.heads + head) * layout.head_dim + column;
            delta += grad[at] * output[at];
        }
        log_sum = log_sums[place];
        if j == 0 {
            deltas[place] = delta;
        }
    }
    let own_first = first_seen(query, start, window);
    let mut keys = first_seen(first, start, window);
    while keys < end {
        let count = min(end - keys, COLUMNS);
        let mut score = scale
            * product_of_rows(
                qkv,
                first * layout.q_row + head * layout.head_dim,
                end - first,
                qkv,
                keys * layout.kv_row + layout.k_first + kv_column,
                count,
                &mut a_tile,
                &mut b_tile,
                layout.q_row,
                layout.kv_row,
                layout.head_dim,
            );
        let slope = product_of_rows(
            grad,
            (first * layout.heads + head) * layout.head_dim,
            end - first,
            qkv,
            keys * layout.kv_row + layout.v_first + kv_column,
            count,
            &mut a_tile,
            &mut b_tile,
            comptime!(layout.heads * layout.head_dim),
            layout.kv_row,
            layout.head_dim,
        );
        let mut factor = scale;
        if comptime!(layout.capped) {
            let bent = bend(score, cap);
            score = cap * bent;
            factor *= 1.0 - bent * bent;
        }
        let seen = query < end && keys + j >= own_first && keys + j <= query;
        weights[i * STRIDE + j] = select(seen, (score - log_sum).exp() * (slope - delta) * factor, 0.0f32);
        sync_cube();
        let rows = keys * layout.kv_row + layout.k_first + kv_column;
        add_rows(&mut sums, &weights, qkv, rows, count, layout.kv_row, layout.head_dim);
        keys += COLUMNS;
    }
    if query < end {
        #[unroll]
        for step in 0..comptime!(layout.head_dim.div_ceil(COLUMNS)) {
            let column = comptime!(step * COLUMNS) + j;
            if column < layout.head_dim {
                out[query * layout.q_row + head * layout.head_dim + column] = sums[step];
            }
        }
    }
}

/// The gradients of keys and values: the heads of a group in order, and their queries in order.
#[cube(launch)]
fn key_gradient_kernel(
    qkv: &[f32],
    tiles: &[u32],
    grad: &[f32],
    log_sums: &[f32],
    deltas: &[f32],
    out: &mut [f32],
    window: usize,
    scale: f32,
    cap: f32,
    #[comptime] layout: Layout,
) {
    let tile = CUBE_POS / layout.kv_heads * 4;
    if tile >= tiles.len() {
        terminate!();
    }
    let kv_head = CUBE_POS % layout.kv_heads;
    let kv_column = kv_head * layout.head_dim;
    let group = comptime!(layout.heads / layout.kv_heads);
    let first = tiles[tile] as usize;
    let end = tiles[tile + 1] as usize;
    let queries_end = min(tiles[tile + 3] as usize, end - 1 + window);
    let i = UNIT_POS as usize / COLUMNS;
    let j = UNIT_POS as usize % COLUMNS;
    let key = first + i;
    let mut a_tile = Shared::<[f32]>::new_slice(ROWS * STRIDE);
    let mut b_tile = Shared::<[f32]>::new_slice(COLUMNS * STRIDE);
    let mut weights = Shared::<[f32]>::new_slice(ROWS * STRIDE);
    let mut slopes = Shared::<[f32]>::new_slice(ROWS * STRIDE);
    let mut key_sums = zeros(layout.head_dim);
    let mut value_sums = zeros(layout.head_dim);
    for member in 0..group {
        let head = kv_head * group + member;
        let mut queries = first;
        while queries < queries_end {
            let count = min(queries_end - queries, COLUMNS);
            let mut score = scale
                * product_of_rows(
                    qkv,
                    first * layout.kv_row + layout.k_first + kv_column,
                    end - first,
                    qkv,
                    queries * layout.q_row + head * layout.head_dim,
                    count,
                    &mut a_tile,
                    &mut b_tile,
                    layout.kv_row,
                    layout.q_row,
                    layout.head_dim,
                );
            let slope = product_of_rows(
                qkv,
                first * layout.kv_row + layout.v_first + kv_column,
                end - first,
                grad,
                (queries * layout.heads + head) * layout.head_dim,
                count,
                &mut a_tile,
                &mut b_tile,
                layout.kv_row,
                comptime!(layout.heads * layout.head_dim),
                layout.head_dim,
            );
            let mut factor = scale;
            if comptime!(layout.capped) {
                let bent = bend(score, cap);
                score = cap * bent;
                factor *= 1.0 - bent * bent;
            }
            let query = queries + j;
            let mut weight = 0.0f32;
            let mut delta = 0.0f32;
            if key < end && query < queries_end && query >= key && query < key + window {
                let place = head * (log_sums.len() / layout.heads) + query;
                weight = (score - log_sums[place]).exp();
                delta = deltas[place];
            }
            weights[i * STRIDE + j] = weight;
            slopes[i * STRIDE + j] = weight * (slope - delta) * factor;
            sync_cube();
            let rows = queries * layout.q_row + head * layout.head_dim;
            add_rows(&mut key_sums, &slopes, qkv, rows, count, layout.q_row, layout.head_dim);
            let rows = (queries * layout.heads + head) * layout.head_dim;
            let row = comptime!(layout.heads * layout.head_dim);
            add_rows(&mut value_sums, &weights, grad, rows, count, row, layout.head_dim);
            queries += COLUMNS;
        }
    }
    if key < end {
        #[unroll]
        for step in 0..comptime!(layout.head_dim.div_ceil(COLUMNS)) {
            let column = comptime!(step * COLUMNS) + j;
            if column < layout.head_dim {
                out[key * layout.kv_row + layout.k_first + kv_column + column] = key_sums[step];
                out[key * layout.kv_row + layout.v_first + kv_column + column] = value_sums[step];
            }
        }
    }
}
