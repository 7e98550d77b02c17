//! Attention in ordinary tensor operators.

use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorData};

use super::{Heads, Spans};

pub(super) fn attention(qkv: &Tensor<2>, spans: &Spans, heads: Heads) -> Tensor<2> {
    let width = [heads.heads, heads.kv_heads, heads.kv_heads].map(|count| count * heads.head_dim);
    let outputs = spans.iter().map(|span| {
        let part = |range: &Range<usize>, index: usize| {
            let rows = qkv.clone().narrow(0, range.start, range.len());
            rows.narrow(1, width[..index].iter().sum(), width[index])
        };
        let all = |index| {
            let own = part(&span.range, index);
            if span.prefix.is_empty() { own } else { Tensor::cat(vec![part(&span.prefix, index), own], 0) }
        };
        cached_attention(part(&span.range, 0), all(1), all(2), heads)
    });
    Tensor::cat(outputs.collect(), 0)
}

pub(super) fn cached_attention(q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: Heads) -> Tensor<2> {
    let Heads { heads: count, kv_heads, head_dim, .. } = heads;
    let (new, total) = (q.dims()[0], k.dims()[0]);
    let group = count / kv_heads;
    // The query heads of a group are stacked as rows of one matrix, so that k and v are not repeated.
    let q = q.reshape([new, count, head_dim]).swap_dims(0, 1).reshape([kv_heads, group * new, head_dim]);
    let [k, v] = [k, v].map(|t| t.reshape([total, kv_heads, head_dim]).swap_dims(0, 1));
    let mut scores = q.matmul(k.swap_dims(1, 2)).mul_scalar(heads.scale);
    if let Some(cap) = heads.soft_cap {
        scores = scores.div_scalar(cap).tanh().mul_scalar(cap);
    }
    let scores = scores.reshape([count, new, total]) + mask(new, total, heads, &v);
    softmax(scores.reshape([kv_heads, group * new, total]), 2)
        .matmul(v)
        .reshape([count, new, head_dim])
        .swap_dims(0, 1)
        .reshape([new, count * head_dim])
}

/// The additive mask `[1, new, total]`: `-inf` where a query does not see a key.
fn mask(new: usize, total: usize, heads: Heads, like: &Tensor<3>) -> Tensor<3> {
    let seen = |query: usize, key: usize| heads.seen(total - new + query).contains(&key);
    let mask: Vec<f32> = (0..new)
        .flat_map(|query| (0..total).map(move |key| if seen(query, key) { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    Tensor::from_data(TensorData::new(mask, [1, new, total]), &like.device().without_autodiff())
}
