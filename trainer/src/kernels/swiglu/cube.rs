//! `SwiGLU` on the GPU: one unit an element of the output.

use burn::backend::Cube;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::{Activation, SwiGluKernel};
use crate::kernels::gpu::{UNITS, dim, elements, empty, rows, sigmoid};

impl SwiGluKernel for Cube {
    fn swiglu_forward(gate_up: CubeTensor, activation: Activation) -> CubeTensor {
        let (linear, cubic) = activation.coefficients();
        let gate_up = rows(gate_up);
        let (tokens, intermediate) = (dim(&gate_up, 0), dim(&gate_up, 1) / 2);
        let out = empty(&gate_up, [tokens, intermediate]);
        forward_kernel::launch(
            &out.client,
            elements(&out, tokens * intermediate),
            CubeDim::new_1d(UNITS),
            gate_up.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            intermediate,
            linear,
            cubic,
        );
        out
    }

    fn swiglu_backward(gate_up: CubeTensor, grad: CubeTensor, activation: Activation) -> CubeTensor {
        let (linear, cubic) = activation.coefficients();
        let [gate_up, grad] = [gate_up, grad].map(rows);
        let (tokens, intermediate) = (dim(&grad, 0), dim(&grad, 1));
        let out = empty(&gate_up, [tokens, 2 * intermediate]);
        backward_kernel::launch(
            &out.client,
            elements(&out, tokens * intermediate),
            CubeDim::new_1d(UNITS),
            gate_up.into_buffer_arg(),
            grad.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            intermediate,
            linear,
            cubic,
        );
        out
    }
}

#[cube(launch)]
fn forward_kernel(gate_up: &[f32], out: &mut [f32], intermediate: usize, linear: f32, cubic: f32) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let gate_at = ABSOLUTE_POS + ABSOLUTE_POS / intermediate * intermediate;
    let gate = gate_up[gate_at];
    out[ABSOLUTE_POS] = gate * sigmoid(gate * (linear + cubic * gate * gate)) * gate_up[gate_at + intermediate];
}

/// `dup = grad · gate · σ`; `dgate = grad · up · σ · (1 + gate · z'(gate) · (1 - σ))`, with `σ = σ(z(gate))`.
#[cube(launch)]
fn backward_kernel(gate_up: &[f32], grad: &[f32], out: &mut [f32], intermediate: usize, linear: f32, cubic: f32) {
    if ABSOLUTE_POS >= grad.len() {
        terminate!();
    }
    let gate_at = ABSOLUTE_POS + ABSOLUTE_POS / intermediate * intermediate;
    let up_at = gate_at + intermediate;
    let gate = gate_up[gate_at];
    let slope = sigmoid(gate * (linear + cubic * gate * gate));
    let inner = gate * (linear + 3.0 * cubic * gate * gate);
    out[gate_at] = grad[ABSOLUTE_POS] * gate_up[up_at] * slope * (1.0 + inner * (1.0 - slope));
    out[up_at] = grad[ABSOLUTE_POS] * gate * slope;
}
