//! Linear modules that read the same input, with their low-rank updates: `q`, `k` and `v`, or `gate` and `up`, or one.
//!
//! The frozen weights never get a gradient, `B · A` is never formed, the input is read once for all modules, and the
//! residual path is added before the output is written.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use std::sync::Arc;

use adapters::{LoraLinear, LowRank};
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Device, Tensor};

use super::{Frozen, Kernels, Optional, Precision};

/// The outputs of up to three modules side by side, each `x Wᵀ + b + scaling · x Aᵀ Bᵀ` (or as
/// [`Magnitude`](adapters::Magnitude) says), plus the residual.
///
/// # Shapes
/// - `x`: `[tokens, in]`; `residual` and output: `[tokens, sum of the modules' out]`.
///
/// # Panics
/// With no module, or more than three.
///
/// Source: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>; the shared input as in Unsloth's kernels.
pub fn lora_linear(kernels: Kernels, x: Tensor<2>, modules: &[&LoraLinear], residual: Option<Tensor<2>>) -> Tensor<2> {
    match kernels {
        Kernels::Reference => reference(&x, modules, residual),
        _ if modules.iter().any(|module| has_magnitude(module)) => scaled(kernels, x, modules, residual),
        _ => fused(kernels.precision(), x, modules, residual),
    }
}

/// [`lora_linear`] in ordinary tensor operators.
fn reference(x: &Tensor<2>, modules: &[&LoraLinear], residual: Option<Tensor<2>>) -> Tensor<2> {
    let outputs = modules.iter().map(|module| module.forward(x.clone())).collect();
    let output = Tensor::cat(outputs, 1);
    match residual {
        Some(residual) => residual + output,
        None => output,
    }
}

/// What a module's adapter adds to its frozen output when it reads an input of its own, as with dropout:
/// `scaling · x Aᵀ Bᵀ`, and with a magnitude `(f - 1) · x Wᵀ + f · scaling · x Aᵀ Bᵀ`; `None` without adapter.
///
/// Source: PEFT `tuners/lora/variants.py`, `DoraLinearVariant.forward`.
pub fn update(kernels: Kernels, x: Tensor<2>, module: &LoraLinear) -> Option<Tensor<2>> {
    let lora = module.lora.as_ref()?;
    let Some(factor) = factor(kernels, module) else { return Some(lora.forward(x)) };
    let factor = factor.unsqueeze::<2>();
    let base = lora_linear(kernels, x.clone(), &[&frozen(module)], None);
    Some(base * factor.clone().sub_scalar(1.0) + lora.forward(x) * factor)
}

fn has_magnitude(module: &LoraLinear) -> bool {
    module.lora.as_ref().is_some_and(|lora| lora.magnitude.is_some())
}

/// The frozen weight alone.
fn frozen(module: &LoraLinear) -> LoraLinear {
    LoraLinear { bias: None, lora: None, ..module.clone() }
}

/// What a module's outputs are multiplied by before its bias is added; `None` without magnitude.
fn factor(kernels: Kernels, module: &LoraLinear) -> Option<Tensor<1>> {
    match kernels {
        Kernels::Reference => module.factor(),
        _ => module.lora.as_ref()?.factor(|rows| fused(kernels.precision(), rows, &[&frozen(module)], None)),
    }
}

/// The fused operator with magnitudes: its output, which the magnitudes' gradient needs, is brought to its length.
fn scaled(kernels: Kernels, x: Tensor<2>, modules: &[&LoraLinear], residual: Option<Tensor<2>>) -> Tensor<2> {
    let direction = |module: &&LoraLinear| {
        let lora = module.lora.clone().map(|lora| LowRank { magnitude: None, ..lora });
        LoraLinear { bias: None, lora, ..(*module).clone() }
    };
    let directions: Vec<LoraLinear> = modules.iter().map(direction).collect();
    let output = fused(kernels.precision(), x, &directions.iter().collect::<Vec<_>>(), None);
    let device = output.device().without_autodiff();
    let one = |module: &LoraLinear| Tensor::ones([module.sizes().1], &device);
    let factors = modules.iter().map(|module| factor(kernels, module).unwrap_or_else(|| one(module)));
    let output = output * Tensor::cat(factors.collect(), 0).unsqueeze();
    let output = match biases(modules, &device) {
        Some(bias) => output + bias.unsqueeze(),
        None => output,
    };
    match residual {
        Some(residual) => residual + output,
        None => output,
    }
}

/// The biases side by side; `None` when no module has one.
fn biases(modules: &[&LoraLinear], device: &Device) -> Option<Tensor<1>> {
    let parts = modules.iter().map(|module| match &module.bias {
        Some(bias) => bias.clone(),
        None => Tensor::zeros([module.sizes().1], device),
    });
    modules.iter().any(|module| module.bias.is_some()).then(|| Tensor::cat(parts.collect(), 0))
}

fn fused(precision: Precision, x: Tensor<2>, modules: &[&LoraLinear], residual: Option<Tensor<2>>) -> Tensor<2> {
    let weight = |index: usize| Frozen::from(&modules[index].weight);
    let weights = match modules.len() {
        1 => Weights::One(weight(0)),
        2 => Weights::Two(weight(0), weight(1)),
        3 => Weights::Three(weight(0), weight(1), weight(2)),
        count => panic!("{count} modules share an input; one to three can"),
    };
    let bias = biases(modules, &x.device().without_autodiff());
    let matrices: Vec<Tensor<1>> = modules
        .iter()
        .filter_map(|module| module.lora.as_ref())
        .flat_map(|lora| [lora.lora_a.clone().flatten(0, 1), lora.lora_b.clone().flatten(0, 1)])
        .collect();
    let adapter = (!matrices.is_empty()).then(|| Tensor::cat(matrices, 0));
    #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
    let each = modules.iter().map(|module| Module {
        out: module.sizes().1,
        rank: module.lora.as_ref().map_or(0, LowRank::rank),
        scaling: module.lora.as_ref().map_or(0.0, |lora| lora.scaling) as f32,
    });
    Tensor::from_dispatch(Dispatch::lora_linear(
        x.into_dispatch(),
        weights,
        bias.map_or(Optional::None, |bias| Optional::Some(bias.into_dispatch())),
        adapter.map_or(Optional::None, |adapter| Optional::Some(adapter.into_dispatch())),
        residual.map_or(Optional::None, |residual| Optional::Some(residual.into_dispatch())),
        Arc::new(Modules { each: each.collect(), precision }),
    ))
}

/// The frozen weights, each `[out, in]`.
#[derive(Clone, Debug, ExtensionType)]
pub enum Weights<B: Backend> {
    /// Of one module.
    One(#[extension_type] Frozen<B>),
    /// Of two.
    Two(#[extension_type] Frozen<B>, #[extension_type] Frozen<B>),
    /// Of three.
    Three(#[extension_type] Frozen<B>, #[extension_type] Frozen<B>, #[extension_type] Frozen<B>),
}

impl<B: Backend> Weights<B> {
    /// The weights in order.
    pub fn into_vec(self) -> Vec<Frozen<B>> {
        match self {
            Self::One(a) => vec![a],
            Self::Two(a, b) => vec![a, b],
            Self::Three(a, b, c) => vec![a, b, c],
        }
    }
}

/// One of the modules.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Module {
    /// Its outputs.
    pub out: usize,
    /// The rank of its update; 0 for none.
    pub rank: usize,
    /// The factor before the update.
    pub scaling: f32,
}

/// The modules of one input.
#[derive(Clone, Debug, PartialEq)]
pub struct Modules {
    /// In order.
    pub each: Vec<Module>,
    /// How their products are computed, forward and backward.
    pub precision: Precision,
}

/// The operator as a backend computes it.
///
/// `adapter` holds `A` (`[rank, in]`) and `B` (`[out, rank]`) of every module that has an update, one after the other.
pub trait LoraLinearKernel: Backend {
    /// The output of [`lora_linear`], and what the backward pass needs besides `x`: `scaling · x Aᵀ` of all modules
    /// side by side, `[tokens, sum of ranks]`.
    fn lora_linear_forward(
        x: FloatTensor<Self>,
        weights: Vec<Frozen<Self>>,
        bias: Option<FloatTensor<Self>>,
        adapter: Option<FloatTensor<Self>>,
        residual: Option<FloatTensor<Self>>,
        modules: &Modules,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of `x` (where `needs_x`) and of `adapter` (where there is one).
    fn lora_linear_backward(
        grad: FloatTensor<Self>,
        x: FloatTensor<Self>,
        reduced: FloatTensor<Self>,
        weights: Vec<Frozen<Self>>,
        adapter: Option<FloatTensor<Self>>,
        modules: &Modules,
        needs_x: bool,
    ) -> (Option<FloatTensor<Self>>, Option<FloatTensor<Self>>);
}

/// The operator with autodiff.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait FusedLoraLinear: Backend {
    /// As [`lora_linear`].
    fn lora_linear(
        x: FloatTensor<Self>,
        #[extension_type] weights: Weights<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] adapter: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        modules: Arc<Modules>,
    ) -> FloatTensor<Self>;
}

impl<B: LoraLinearKernel> FusedLoraLinear for B {
    fn lora_linear(
        x: FloatTensor<Self>,
        weights: Weights<Self>,
        bias: Optional<Self>,
        adapter: Optional<Self>,
        residual: Optional<Self>,
        modules: Arc<Modules>,
    ) -> FloatTensor<Self> {
        let (bias, adapter, residual) = (bias.into_option(), adapter.into_option(), residual.into_option());
        B::lora_linear_forward(x, weights.into_vec(), bias, adapter, residual, &modules).0
    }
}

#[derive(Debug)]
struct LoraLinearBackward;

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct State<B: Backend> {
    x: NodeId,
    reduced: FloatTensor<B>,
    weights: Vec<Frozen<B>>,
    adapter: Option<FloatTensor<B>>,
    has_residual: bool,
    modules: Arc<Modules>,
}

impl<B: LoraLinearKernel> Backward<B, 3> for LoraLinearBackward {
    type State = State<B>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x_parent, adapter_parent, residual_parent] = ops.parents;
        let State { x, reduced, weights, adapter, has_residual, modules } = ops.state;
        let grad = grads.consume::<B>(&ops.node);
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        if let (true, Some(parent)) = (has_residual, residual_parent) {
            grads.register::<B>(parent.id, grad.clone());
        }
        let needs_x = x_parent.is_some();
        let (x_grad, adapter_grad) = B::lora_linear_backward(grad, x, reduced, weights, adapter, &modules, needs_x);
        for (parent, grad) in [(x_parent, x_grad), (adapter_parent, adapter_grad)] {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                grads.register::<B>(parent.id, grad);
            }
        }
    }
}

impl<B: LoraLinearKernel, C: CheckpointStrategy> FusedLoraLinear for Autodiff<B, C> {
    fn lora_linear(
        x: FloatTensor<Self>,
        weights: Weights<Self>,
        bias: Optional<Self>,
        adapter: Optional<Self>,
        residual: Optional<Self>,
        modules: Arc<Modules>,
    ) -> FloatTensor<Self> {
        let inner = |tensor: Option<FloatTensor<Self>>| tensor.map(FloatTensor::<Self>::into_primitive);
        let weights: Vec<_> = weights.into_vec().into_iter().map(Frozen::into_primitive).collect();
        let (bias, adapter, residual) = (inner(bias.into_option()), adapter.into_option(), residual.into_option());
        // Where there is no adapter or residual, `x`'s node takes its place and is not used.
        let node =
            |tensor: &Option<FloatTensor<Self>>| tensor.as_ref().map_or_else(|| x.node(), FloatTensor::<Self>::node);
        let nodes = [x.node(), node(&adapter), node(&residual)];
        let (adapter, residual) = (inner(adapter), inner(residual));
        match LoraLinearBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let id = prep.checkpoint(&x);
                let has_residual = residual.is_some();
                let x = x.into_primitive();
                let (output, reduced) =
                    B::lora_linear_forward(x, weights.clone(), bias, adapter.clone(), residual, &modules);
                prep.finish(State { x: id, reduced, weights, adapter, has_residual, modules }, output)
            }
            OpsKind::UnTracked(prep) => {
                let x = x.into_primitive();
                prep.finish(B::lora_linear_forward(x, weights, bias, adapter, residual, &modules).0)
            }
        }
    }
}
