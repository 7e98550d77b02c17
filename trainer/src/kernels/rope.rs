//! Rotary position embedding in the half-split form that Hugging Face checkpoints use.

use burn::tensor::{Device, Tensor, TensorData};

/// The angles of a micro-batch: one row of cosines and sines for each token.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Shape `[tokens, 1, head_dim / 2]`.
    cos: Tensor<3>,
    /// Shape `[tokens, 1, head_dim / 2]`.
    sin: Tensor<3>,
}

/// The inverse frequencies `theta^(-2i / head_dim)`, for `i` in `0..head_dim / 2`.
pub fn inverse_frequencies(theta: f64, head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2).map(|i| (1.0 / theta.powf(2.0 * i as f64 / head_dim as f64)) as f32).collect()
}

impl Rotation {
    /// Computes the angles for the given positions, in f32 as transformers does.
    pub fn new(position_ids: &[u32], inverse_frequencies: &[f32], device: &Device) -> Self {
        let shape = [position_ids.len(), 1, inverse_frequencies.len()];
        let angles = || position_ids.iter().flat_map(|&p| inverse_frequencies.iter().map(move |f| p as f32 * f));
        let cos: Vec<f32> = angles().map(f32::cos).collect();
        let sin: Vec<f32> = angles().map(f32::sin).collect();
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
        }
    }
}

/// Rotates each pair `(x[i], x[i + head_dim / 2])` by its angle.
///
/// # Shapes
/// - `x` and the output: `[tokens, heads, head_dim]`.
///
/// Source: Su et al. 2021, <https://arxiv.org/abs/2104.09864>; half-split as in transformers' `apply_rotary_pos_emb`.
pub fn rope(x: Tensor<3>, rotation: &Rotation) -> Tensor<3> {
    let half = x.dims()[2] / 2;
    let first = x.clone().narrow(2, 0, half);
    let second = x.narrow(2, half, half);
    let (cos, sin) = (&rotation.cos, &rotation.sin);
    Tensor::cat(
        vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos.clone() + first * sin.clone()],
        2,
    )
}
