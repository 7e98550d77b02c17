//! The gated activation of the MLP.

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
use burn::tensor::activation::sigmoid;

use super::Kernels;

/// What is done to the gate: `x · σ(z(x))`, where `σ` is the logistic function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `z = x`.
    Silu,
    /// `z = √(8/π) · (x + 0.044715 · x³)`: the Gaussian error linear unit by way of `tanh`.
    ///
    /// Source: Hendrycks and Gimpel 2016, <https://arxiv.org/abs/1606.08415>; `½ (1 + tanh u)` is `σ(2u)`.
    GeluTanh,
}

impl Activation {
    /// Its name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::GeluTanh => "gelu_pytorch_tanh",
        }
    }

    /// `z = linear · x + cubic · x³`.
    fn coefficients(self) -> (f32, f32) {
        /// `√(8/π)`.
        const ROOT: f32 = 1.595_769_2;
        match self {
            Self::Silu => (1.0, 0.0),
            Self::GeluTanh => (ROOT, ROOT * 0.044_715),
        }
    }
}

/// `activation(gate) · up`.
///
/// # Shapes
/// - `gate_up`: `[tokens, 2 · intermediate]`, the gate's half first; output: `[tokens, intermediate]`.
///
/// Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>, where it is `SwiGLU` or `GEGLU` by the activation.
pub fn swiglu(kernels: Kernels, gate_up: Tensor<2>, activation: Activation) -> Tensor<2> {
    match kernels {
        Kernels::Fused | Kernels::Bf16 => Tensor::from_dispatch(Dispatch::swiglu(gate_up.into_dispatch(), activation)),
        Kernels::Reference => reference(gate_up, activation),
    }
}

/// [`swiglu`] in ordinary tensor operators.
fn reference(gate_up: Tensor<2>, activation: Activation) -> Tensor<2> {
    let intermediate = gate_up.dims()[1] / 2;
    let gate = gate_up.clone().narrow(1, 0, intermediate);
    let (linear, cubic) = activation.coefficients();
    let inner = gate.clone() * linear + gate.clone().powi_scalar(3) * cubic;
    gate * sigmoid(inner) * gate_up.narrow(1, intermediate, intermediate)
}

/// The operator as a backend computes it.
pub trait SwiGluKernel: Backend {
    /// As [`swiglu`].
    fn swiglu_forward(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;

    /// The gradient of `gate_up` from the gradient of the output.
    fn swiglu_backward(
        gate_up: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        activation: Activation,
    ) -> FloatTensor<Self>;
}

/// The operator with autodiff.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait SwiGlu: Backend {
    /// As [`swiglu`].
    fn swiglu(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self>;
}

impl<B: SwiGluKernel> SwiGlu for B {
    fn swiglu(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        B::swiglu_forward(gate_up, activation)
    }
}

#[derive(Debug)]
struct SwiGluBackward;

impl<B: SwiGluKernel> Backward<B, 1> for SwiGluBackward {
    type State = (NodeId, Activation);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [parent] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (gate_up, activation) = ops.state;
        let gate_up: FloatTensor<B> = checkpointer.retrieve_node_output(gate_up);
        if let Some(parent) = parent {
            grads.register::<B>(parent.id, B::swiglu_backward(gate_up, grad, activation));
        }
    }
}

/// Computes the output again in the backward pass: keeping it would cost more memory than computing it costs time.
#[derive(Debug)]
struct Recompute<B> {
    gate_up: NodeId,
    activation: Activation,
    backend: std::marker::PhantomData<B>,
}

impl<B: SwiGluKernel> RetroForward for Recompute<B> {
    fn forward(&self, states: &mut BackwardStates, out_node: NodeId) {
        let gate_up = states.get_state::<FloatTensor<B>>(&self.gate_up);
        states.save(out_node, B::swiglu_forward(gate_up, self.activation));
    }
}

impl<B: SwiGluKernel, C: CheckpointStrategy> SwiGlu for Autodiff<B, C> {
    fn swiglu(gate_up: FloatTensor<Self>, activation: Activation) -> FloatTensor<Self> {
        let node = gate_up.node();
        let recompute = Recompute::<B> { gate_up: node.id(), activation, backend: std::marker::PhantomData };
        let prep = SwiGluBackward.prepare::<C>([node]).memory_bound().retro_forward(recompute).parents([&gate_up]);
        match prep.stateful() {
            OpsKind::Tracked(mut prep) => {
                let id = prep.checkpoint(&gate_up);
                prep.finish((id, activation), B::swiglu_forward(gate_up.into_primitive(), activation))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::swiglu_forward(gate_up.into_primitive(), activation)),
        }
    }
}
