//! The backward pass: the scores are computed again, once a tile of queries and once a tile of keys.

use burn_cubecl::cubecl::{self, prelude::*};

use super::tile::{COLUMNS, Layout, ROWS, STRIDE, add_rows, bend, first_seen, product_of_rows, zeros};

/// The gradient of the queries, and each query's `grad · output`, which the gradient of the keys needs as well.
#[cube(launch)]
pub(super) fn query_gradient_kernel(
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
pub(super) fn key_gradient_kernel(
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
