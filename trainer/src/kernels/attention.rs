//! Causal attention inside one example, with grouped heads.
//!
//! Examples of a micro-batch are attended one by one, so a token of one never sees a token of another: there is no
//! mask between examples that could be wrong, and no score is computed to be thrown away.

use burn::tensor::{Device, Tensor, TensorData, activation::softmax};

/// Attends `new` queries to `total` keys, of which the last `new` are their own positions.
///
/// # Shapes
/// - `q`: `[new, heads, head_dim]`; `k`, `v`: `[total, kv_heads, head_dim]`; output like `q`.
/// - `heads` is a multiple of `kv_heads`; query head `h` reads key head `h / (heads / kv_heads)`.
/// - `mask`: [`causal_mask`]`(new, total)`.
///
/// Source: Ainslie et al. 2023, <https://arxiv.org/abs/2305.13245> (grouped heads).
pub fn attention(q: Tensor<3>, k: Tensor<3>, v: Tensor<3>, mask: Option<&Tensor<3>>, scale: f64) -> Tensor<3> {
    let [new, heads, head_dim] = q.dims();
    let [total, kv_heads, _] = k.dims();
    let group = heads / kv_heads;
    // The query heads of a group are stacked as rows of one matrix, so that k and v are not repeated.
    let q = q.swap_dims(0, 1).reshape([kv_heads, group * new, head_dim]);
    let k = k.swap_dims(0, 1);
    let v = v.swap_dims(0, 1);
    let scores = q.matmul(k.swap_dims(1, 2)).mul_scalar(scale);
    let scores = match mask {
        Some(mask) => (scores.reshape([heads, new, total]) + mask.clone()).reshape([kv_heads, group * new, total]),
        None => scores,
    };
    softmax(scores, 2).matmul(v).reshape([heads, new, head_dim]).swap_dims(0, 1)
}

/// The additive mask `[1, new, total]`: `-inf` where a key lies after its query. `None` when nothing is hidden.
pub fn causal_mask(new: usize, total: usize, device: &Device) -> Option<Tensor<3>> {
    if new <= 1 {
        return None;
    }
    let past = total - new;
    let mask: Vec<f32> =
        (0..new).flat_map(|i| (0..total).map(move |j| if j > past + i { f32::NEG_INFINITY } else { 0.0 })).collect();
    Some(Tensor::from_data(TensorData::new(mask, [1, new, total]), device))
}
