//! Where a backward pass begins: at a block's output, with the gradient that the blocks behind it have computed.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata as _, backend_extension};
use burn::tensor::{FloatDType, Tensor};

use super::Kernels;

/// A tensor of one element whose backward pass gives `output` the gradient `grad`: `sum(output · grad)`, of which the
/// fused form does not compute the value.
///
/// # Shapes
/// - `output` and `grad`: the same; `grad` outside autodiff. The result: `[1]`.
pub fn seed<const D: usize>(kernels: Kernels, output: Tensor<D>, grad: Tensor<D>) -> Tensor<1> {
    match kernels {
        Kernels::Fused | Kernels::Bf16 => {
            Tensor::from_dispatch(Dispatch::seed_gradient(output.into_dispatch(), grad.into_dispatch()))
        }
        Kernels::Reference => (output * grad).sum(),
    }
}

/// The fused operator.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait Seed: Backend {
    /// As [`seed`].
    fn seed_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        drop(grad);
        Self::float_zeros([1].into(), &output.device(), FloatDType::F32)
    }
}

#[cfg(feature = "flex")]
impl Seed for burn::backend::Flex {}

#[cfg(feature = "cube")]
impl Seed for burn::backend::Cube {}

#[derive(Debug)]
struct SeedBackward;

impl<B: Seed> Backward<B, 1> for SeedBackward {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        grads.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            grads.register::<B>(parent.id, ops.state);
        }
    }
}

impl<B: Seed, C: CheckpointStrategy> Seed for Autodiff<B, C> {
    fn seed_gradient(output: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
        let grad = grad.into_primitive();
        let node = output.node();
        match SeedBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(grad.clone(), B::seed_gradient(output.into_primitive(), grad)),
            OpsKind::UnTracked(prep) => prep.finish(B::seed_gradient(output.into_primitive(), grad)),
        }
    }
}
