//! Root mean square normalisation, before attention, before the MLP and before the head.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::retro_forward::RetroForward;
use burn::backend::autodiff::checkpoint::state::BackwardStates;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::Kernels;

/// `x / √(mean(x²) + eps) · weight`, over the last axis.
///
/// # Shapes
/// - `x`: `[tokens, hidden]`; `weight`: `[hidden]`; output like `x`.
///
/// Source: Zhang and Sennrich 2019, <https://arxiv.org/abs/1910.07467>.
/// A weight that is trained is multiplied with outside the fused operator, which takes its own as a constant.
pub fn rms_norm(kernels: Kernels, x: Tensor<2>, weight: &Tensor<1>, eps: f64) -> Tensor<2> {
    match kernels {
        Kernels::Fused | Kernels::Bf16 if weight.is_require_grad() => {
            let ones = Tensor::ones(weight.dims(), &weight.device().without_autodiff());
            rms_norm(kernels, x, &ones, eps) * weight.clone().unsqueeze()
        }
        Kernels::Fused | Kernels::Bf16 => {
            let weight = weight.clone().into_dispatch();
            Tensor::from_dispatch(Dispatch::rms_norm(x.into_dispatch(), weight, eps))
        }
        Kernels::Reference => reference(x, weight, eps),
    }
}

/// [`rms_norm`] in ordinary tensor operators.
fn reference(x: Tensor<2>, weight: &Tensor<1>, eps: f64) -> Tensor<2> {
    let inverse_rms = x.clone().square().mean_dim(1).add_scalar(eps).sqrt().recip();
    x * inverse_rms * weight.clone().unsqueeze()
}

/// The operator as a backend computes it.
pub trait RmsNormKernel: Backend {
    /// As [`rms_norm`].
    fn rms_norm_forward(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self>;

    /// The gradient of `x` from the gradient of the output.
    fn rms_norm_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        eps: f64,
    ) -> FloatTensor<Self>;
}

/// The operator with autodiff.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait RmsNorm: Backend {
    /// As [`rms_norm`].
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self>;
}

impl<B: RmsNormKernel> RmsNorm for B {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        B::rms_norm_forward(x, weight, eps)
    }
}

#[derive(Debug)]
struct RmsNormBackward;

impl<B: RmsNormKernel> Backward<B, 1> for RmsNormBackward {
    type State = (NodeId, FloatTensor<B>, f64);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [parent] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, eps) = ops.state;
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::rms_norm_backward(x, weight, grad, eps));
        }
    }
}

/// Computes the output again in the backward pass: keeping it would cost more memory than computing it costs time.
#[derive(Debug)]
struct Recompute<B: Backend> {
    x: NodeId,
    weight: FloatTensor<B>,
    eps: f64,
}

impl<B: RmsNormKernel> RetroForward for Recompute<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let x = states.get_state::<FloatTensor<B>>(&self.x);
        states.save(out_node, B::rms_norm_forward(x, self.weight.clone(), self.eps));
    }
}

impl<B: RmsNormKernel, C: CheckpointStrategy> RmsNorm for Autodiff<B, C> {
    fn rms_norm(x: FloatTensor<Self>, weight: FloatTensor<Self>, eps: f64) -> FloatTensor<Self> {
        let weight = weight.into_primitive();
        let node = x.node();
        let recompute = Recompute::<B> { x: node.id(), weight: weight.clone(), eps };
        match RmsNormBackward.prepare::<C>([node]).memory_bound().retro_forward(recompute).parents([&x]).stateful() {
            OpsKind::Tracked(mut prep) => {
                let id = prep.checkpoint(&x);
                let output = B::rms_norm_forward(x.into_primitive(), weight.clone(), eps);
                prep.finish((id, weight, eps), output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::rms_norm_forward(x.into_primitive(), weight, eps)),
        }
    }
}
