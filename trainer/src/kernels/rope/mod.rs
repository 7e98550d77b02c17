//! Rotary position embedding in the half-split form that Hugging Face checkpoints use.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Device, Tensor, TensorData};

use super::Kernels;

/// The angles of a micro-batch: one row of cosines and sines for each token.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Shape `[tokens, head_dim / 2]`.
    cos: Tensor<2>,
    /// Shape `[tokens, head_dim / 2]`.
    sin: Tensor<2>,
}

/// The inverse frequencies `theta^(-2i / head_dim)`, for `i` in `0..head_dim / 2`.
#[expect(clippy::cast_possible_truncation, reason = "the angles are computed in f32, as transformers does")]
pub fn inverse_frequencies(theta: f64, head_dim: usize) -> Vec<f32> {
    (0..head_dim / 2).map(|i| (1.0 / theta.powf(2.0 * i as f64 / head_dim as f64)) as f32).collect()
}

impl Rotation {
    /// Computes the angles for the given positions, in f32 as transformers does.
    pub fn new(position_ids: &[usize], inverse_frequencies: &[f32], device: &Device) -> Self {
        let shape = [position_ids.len(), inverse_frequencies.len()];
        let angles = || position_ids.iter().flat_map(|&p| inverse_frequencies.iter().map(move |f| p as f32 * f));
        let cos: Vec<f32> = angles().map(f32::cos).collect();
        let sin: Vec<f32> = angles().map(f32::sin).collect();
        Self {
            cos: Tensor::from_data(TensorData::new(cos, shape), device),
            sin: Tensor::from_data(TensorData::new(sin, shape), device),
        }
    }
}

/// Rotates, in each of the first `heads` heads of a row, each pair `(x[i], x[i + head_dim / 2])` by its angle. What
/// lies behind those heads in a row stays as it is.
///
/// # Shapes
/// - `x` and the output: `[tokens, width]`, with `heads · head_dim <= width`.
///
/// Source: Su et al. 2021, <https://arxiv.org/abs/2104.09864>; half-split as in transformers' `apply_rotary_pos_emb`.
pub fn rope(kernels: Kernels, x: Tensor<2>, rotation: &Rotation, heads: usize) -> Tensor<2> {
    match kernels {
        Kernels::Fused | Kernels::Bf16 => {
            let (cos, sin) = (rotation.cos.clone().into_dispatch(), rotation.sin.clone().into_dispatch());
            Tensor::from_dispatch(Dispatch::rope(x.into_dispatch(), cos, sin, heads))
        }
        Kernels::Reference => reference(x, rotation, heads),
    }
}

/// [`rope`] in ordinary tensor operators.
fn reference(x: Tensor<2>, rotation: &Rotation, heads: usize) -> Tensor<2> {
    let [tokens, width] = x.dims();
    let half = rotation.cos.dims()[1];
    let rotated = heads * 2 * half;
    let heads = x.clone().narrow(1, 0, rotated).reshape([tokens, heads, 2 * half]);
    let (first, second) = (heads.clone().narrow(2, 0, half), heads.narrow(2, half, half));
    let (cos, sin) = (rotation.cos.clone().unsqueeze_dim::<3>(1), rotation.sin.clone().unsqueeze_dim::<3>(1));
    let turned =
        Tensor::cat(vec![first.clone() * cos.clone() - second.clone() * sin.clone(), second * cos + first * sin], 2)
            .reshape([tokens, rotated]);
    if rotated == width {
        return turned;
    }
    Tensor::cat(vec![turned, x.narrow(1, rotated, width - rotated)], 1)
}

/// The operator as a backend computes it.
pub trait RopeKernel: Backend {
    /// As [`rope`]; `inverse` rotates back, which is also the gradient.
    fn rope_forward(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        heads: usize,
        inverse: bool,
    ) -> FloatTensor<Self>;
}

/// The operator with autodiff.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait Rope: Backend {
    /// As [`rope`].
    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, heads: usize) -> FloatTensor<Self>;
}

impl<B: RopeKernel> Rope for B {
    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        B::rope_forward(x, cos, sin, heads, false)
    }
}

#[derive(Debug)]
struct RopeBackward;

impl<B: RopeKernel> Backward<B, 1> for RopeBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [parent] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (cos, sin, heads) = ops.state;
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::rope_forward(grad, cos, sin, heads, true));
        }
    }
}

impl<B: RopeKernel, C: CheckpointStrategy> Rope for Autodiff<B, C> {
    fn rope(x: FloatTensor<Self>, cos: FloatTensor<Self>, sin: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let node = x.node();
        match RopeBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let output = B::rope(x.into_primitive(), cos.clone(), sin.clone(), heads);
                prep.finish((cos, sin, heads), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rope(x.into_primitive(), cos, sin, heads)),
        }
    }
}
