//! `SwiGLU` on the CPU: one pass.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Activation, SwiGluKernel};
use crate::kernels::simd::vector::{each, exp};
use crate::kernels::simd::{arch, contiguous, dim, row_block, slice, tensor, zeros};

impl SwiGluKernel for Flex {
    fn swiglu_forward(gate_up: FlexTensor, activation: Activation) -> FlexTensor {
        let gate_up = contiguous(gate_up);
        let (tokens, intermediate) = (dim(&gate_up, 0), dim(&gate_up, 1) / 2);
        let mut out = zeros(tokens * intermediate);
        let block = row_block(tokens) * intermediate;
        out.par_chunks_mut(block)
            .zip(slice(&gate_up).par_chunks(2 * block))
            .for_each(|(out, gate_up)| arch().dispatch(Forward { gate_up, intermediate, activation, out }));
        tensor(out, [tokens, intermediate])
    }

    fn swiglu_backward(gate_up: FlexTensor, grad: FlexTensor, activation: Activation) -> FlexTensor {
        let (gate_up, grad) = (contiguous(gate_up), contiguous(grad));
        let (tokens, intermediate) = (dim(&grad, 0), dim(&grad, 1));
        let mut out = zeros(tokens * 2 * intermediate);
        let block = row_block(tokens) * intermediate;
        let inputs = slice(&gate_up).par_chunks(2 * block).zip(slice(&grad).par_chunks(block));
        out.par_chunks_mut(2 * block).zip(inputs).for_each(|(out, (gate_up, grad))| {
            arch().dispatch(BackwardRows { gate_up, grad, intermediate, activation, out });
        });
        tensor(out, [tokens, 2 * intermediate])
    }
}

/// `σ(z(x))`, where `σ` is `1 / (1 + e^-z)`.
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, (linear, cubic): (f32, f32), x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    // Without a cubic part no square is formed that could overflow.
    let z = if cubic == 0.0 {
        x
    } else {
        let square = simd.mul_f32s(x, x);
        simd.mul_f32s(x, simd.mul_add_e_f32s(simd.splat_f32s(cubic), square, simd.splat_f32s(linear)))
    };
    simd.div_f32s(one, simd.add_f32s(one, exp(simd, simd.neg_f32s(z))))
}

struct Forward<'a> {
    gate_up: &'a [f32],
    intermediate: usize,
    activation: Activation,
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (n, z) = (self.intermediate, self.activation.coefficients());
        for (gate_up, out) in self.gate_up.chunks_exact(2 * n).zip(self.out.chunks_exact_mut(n)) {
            let (gate, up) = gate_up.split_at(n);
            each!(S, simd, _old in out, [g in gate, u in up], {
                simd.mul_f32s(simd.mul_f32s(g, sigmoid(simd, z, g)), u)
            });
        }
    }
}

struct BackwardRows<'a> {
    gate_up: &'a [f32],
    grad: &'a [f32],
    intermediate: usize,
    activation: Activation,
    out: &'a mut [f32],
}

impl WithSimd for BackwardRows<'_> {
    type Output = ();

    /// `dup = grad · gate · σ`; `dgate = grad · up · σ · (1 + gate · z'(gate) · (1 - σ))`, with `σ = σ(z(gate))`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (n, z) = (self.intermediate, self.activation.coefficients());
        let (linear, three_cubic, one) = (simd.splat_f32s(z.0), simd.splat_f32s(3.0 * z.1), simd.splat_f32s(1.0));
        let rows = self.gate_up.chunks_exact(2 * n).zip(self.grad.chunks_exact(n));
        for ((gate_up, grad), out) in rows.zip(self.out.chunks_exact_mut(2 * n)) {
            let (gate, up) = gate_up.split_at(n);
            let (out_gate, out_up) = out.split_at_mut(n);
            // The sigmoid is computed once and waits in the gate's place.
            each!(S, simd, _old in &mut *out_gate, [g in gate], sigmoid(simd, z, g));
            each!(S, simd, _old in out_up, [g in gate, s in &*out_gate, d in grad], simd.mul_f32s(d, simd.mul_f32s(g, s)));
            each!(S, simd, s in out_gate, [g in gate, u in up, d in grad], {
                let inner = if z.1 == 0.0 {
                    g
                } else {
                    simd.mul_f32s(g, simd.mul_add_e_f32s(three_cubic, simd.mul_f32s(g, g), linear))
                };
                let slope = simd.mul_f32s(s, simd.mul_add_e_f32s(inner, simd.sub_f32s(one, s), one));
                simd.mul_f32s(simd.mul_f32s(d, u), slope)
            });
        }
    }
}
