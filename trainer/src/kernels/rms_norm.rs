//! Root mean square normalisation, before attention, before the MLP and before the head.

use burn::tensor::Tensor;

/// `x / √(mean(x²) + eps) · weight`, over the last axis.
///
/// # Shapes
/// - `x`: `[tokens, hidden]`; `weight`: `[hidden]`; output like `x`.
///
/// Source: Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>.
pub fn rms_norm(x: Tensor<2>, weight: &Tensor<1>, eps: f64) -> Tensor<2> {
    let inverse_rms = x.clone().square().mean_dim(1).add_scalar(eps).sqrt().recip();
    x * inverse_rms * weight.clone().unsqueeze()
}
