//! The gated activation of the MLP.

use burn::tensor::{Tensor, activation::silu};

/// `silu(gate) · up`.
///
/// # Shapes
/// - `gate`, `up` and the output: `[tokens, intermediate]`.
///
/// Source: Shazeer 2020, <https://arxiv.org/abs/2002.05202>.
pub fn swiglu(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    silu(gate) * up
}
