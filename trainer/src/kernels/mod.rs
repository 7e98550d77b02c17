//! The hot operators of the decoder, one folder each.
//!
//! `mod.rs` of an operator holds its definition in ordinary tensor operators (the reference: it runs on every backend
//! and is the tests' oracle), the operator's interface with its backward pass for autodiff, and the choice between the
//! two. `flex.rs` is the CPU's implementation, `cube.rs` the GPU's; `simd` and `gpu` are what these are made of.
//!
//! Activations are `[tokens, ..]`: the examples of a micro-batch lie one after the other, and only [`attention`] knows
//! their borders.

pub mod adamw;
pub mod allocator;
pub mod attention;
#[cfg(feature = "cube")]
mod gpu;
pub mod linear_cross_entropy;
pub mod linear_kl_divergence;
pub mod lora_linear;
pub mod rms_norm;
pub mod rope;
mod row_loss;
pub mod seed;
#[cfg(feature = "flex")]
mod simd;
pub mod swiglu;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use adapters::{BlockMatrix, Weight};
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which implementation of the hot operators computes a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kernels {
    /// The fused operators.
    #[default]
    Fused,
    /// The fused operators, with their matrix products in bfloat16, added up in float32: up to twice as fast where the
    /// processor has AVX512-BF16. For training; what is asked of a model is computed in float32.
    Bf16,
    /// Ordinary tensor operators: slow, and independent of the fused ones.
    Reference,
}

impl Kernels {
    /// Those that a model is asked with, as it will be served.
    #[must_use]
    pub fn for_questions(self) -> Self {
        if self == Self::Bf16 { Self::Fused } else { self }
    }

    /// How matrix products are computed.
    fn precision(self) -> Precision {
        if self == Self::Bf16 { Precision::Bf16 } else { Precision::F32 }
    }
}

/// How a product is computed. Its sums are in float32 in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Of the numbers as they are.
    F32,
    /// Of both sides rounded to bfloat16.
    Bf16,
}

/// The name of the instruction set that the CPU computes with here, such as `x86_64-v4` or, for products in bfloat16,
/// `x86_64-v4-bf16`: another one adds up in another order.
#[cfg(feature = "flex")]
pub fn instructions(kernels: Kernels) -> Option<String> {
    Some(simd::instructions(kernels.precision()))
}

/// Whether this processor multiplies bfloat16 faster than float32.
#[cfg(feature = "flex")]
pub fn multiplies_bf16() -> bool {
    simd::has_pairs()
}

/// This build computes nothing on the CPU.
#[cfg(not(feature = "flex"))]
pub fn multiplies_bf16() -> bool {
    false
}

/// This build computes nothing on the CPU.
#[cfg(not(feature = "flex"))]
pub fn instructions(_: Kernels) -> Option<String> {
    None
}

/// A tensor that an operator may do without.
#[derive(Clone, Debug, ExtensionType)]
pub enum Optional<B: Backend> {
    /// It is there.
    Some(FloatTensor<B>),
    /// It is not.
    None,
}

impl<B: Backend> Optional<B> {
    /// As the standard library's.
    pub fn into_option(self) -> Option<FloatTensor<B>> {
        match self {
            Self::Some(tensor) => Some(tensor),
            Self::None => None,
        }
    }
}

/// A frozen weight, `[out, in]`, as an operator takes it.
#[derive(Clone, Debug, ExtensionType)]
pub enum Frozen<B: Backend> {
    /// In float32, bfloat16 or float16.
    Dense(FloatTensor<B>),
    /// In blocks, which stay in the machine's memory.
    Blocks(Arc<BlockMatrix>),
}

impl From<&Weight> for Frozen<Dispatch> {
    fn from(weight: &Weight) -> Self {
        match weight {
            Weight::Dense(tensor) => Self::Dense(tensor.clone().into_dispatch()),
            Weight::Blocks(blocks) => Self::Blocks(Arc::clone(blocks)),
        }
    }
}

impl<B: Backend, C: CheckpointStrategy> Frozen<Autodiff<B, C>> {
    /// The same weight outside autodiff.
    pub fn into_primitive(self) -> Frozen<B> {
        match self {
            Self::Dense(tensor) => Frozen::Dense(tensor.into_primitive()),
            Self::Blocks(blocks) => Frozen::Blocks(blocks),
        }
    }
}
