//! Attention on the GPU: one cube a tile of queries (or, for the gradients of keys and values, a tile of keys) and head.
//!
//! A cube goes through the other side in tiles, with a running maximum and sum; nothing of the size of the square of
//! an example's length is kept. Every gradient is added up by one unit, so its order is fixed.

mod backward;
mod forward;
mod tile;

use std::ops::Range;

use burn::backend::Cube;
use burn::backend::ops::IntTensorOps as _;
use burn::tensor::TensorData;
use burn_cubecl::cubecl::prelude::CubeDim;
use burn_cubecl::tensor::CubeTensor;

use self::backward::{key_gradient_kernel, query_gradient_kernel};
use self::forward::forward_kernel;
use self::tile::{Layout, ROWS};
use super::{AttentionKernel, Heads, Span, Spans};
use crate::kernels::gpu::{UNITS, cubes, dim, empty, rows};

impl AttentionKernel for Cube {
    fn attention_forward(qkv: CubeTensor, spans: &Spans, heads: Heads, _: Precision) -> (CubeTensor, CubeTensor) {
        let qkv = rows(qkv);
        let layout = Layout::of_rows(heads);
        forward([qkv.clone(), qkv.clone(), qkv], spans, 0, heads, layout)
    }

    fn attention_backward(
        grad: CubeTensor,
        qkv: CubeTensor,
        output: CubeTensor,
        log_sums: CubeTensor,
        spans: &Spans,
        heads: Heads,
        _: Precision,
    ) -> CubeTensor {
        let [grad, qkv, output, log_sums] = [grad, qkv, output, log_sums].map(rows);
        let layout = Layout::of_rows(heads);
        let tokens = dim(&qkv, 0);
        let out = empty(&qkv, [tokens, heads.width()]);
        let deltas = empty(&qkv, [heads.heads, tokens]);
        let (tiles, count) = tiles(spans, &qkv);
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
        forward(parts, &[(0..new).into()], total - new, heads, layout).0
    }
}

/// The output and the logarithms of the sums.
fn forward(
    [q, k, v]: [CubeTensor; 3],
    spans: &[Span],
    past: usize,
    heads: Heads,
    layout: Layout,
) -> (CubeTensor, CubeTensor) {
    let tokens = dim(&q, 0);
    let out = empty(&q, [tokens, heads.heads * heads.head_dim]);
    let log_sums = empty(&q, [heads.heads, tokens]);
    let (tiles, count) = tiles(spans, &q);
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
fn tiles(spans: &[Span], beside: &CubeTensor) -> (CubeTensor, usize) {
    debug_assert!(spans.iter().all(|span| span.prefix.is_empty()), "the reference attends to what is in common");
    let tile = |range: &Range<usize>, first: usize| [first, (first + ROWS).min(range.end), range.start, range.end];
    let numbers: Vec<u32> = spans
        .iter()
        .map(|span| &span.range)
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
