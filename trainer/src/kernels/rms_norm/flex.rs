//! RMS norm on the CPU: two passes over a row that is in the first-level cache.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::RmsNormKernel;
use crate::kernels::simd::vector::{each, total};
use crate::kernels::simd::{arch, contiguous, dim, row_block, slice, tensor, zeros};

impl RmsNormKernel for Flex {
    fn rms_norm_forward(x: FlexTensor, weight: FlexTensor, eps: f64) -> FlexTensor {
        let (x, weight) = (contiguous(x), contiguous(weight));
        let (tokens, hidden) = (dim(&x, 0), dim(&x, 1));
        let mut out = zeros(tokens * hidden);
        let (x, weight) = (slice(&x), slice(&weight));
        let block = row_block(tokens) * hidden;
        out.par_chunks_mut(block).zip(x.par_chunks(block)).for_each(|(out, x)| {
            arch().dispatch(Forward { x, weight, eps, out });
        });
        tensor(out, [tokens, hidden])
    }

    fn rms_norm_backward(x: FlexTensor, weight: FlexTensor, grad: FlexTensor, eps: f64) -> FlexTensor {
        let (x, weight, grad) = (contiguous(x), contiguous(weight), contiguous(grad));
        let (tokens, hidden) = (dim(&x, 0), dim(&x, 1));
        let mut out = zeros(tokens * hidden);
        let (x, weight, grad) = (slice(&x), slice(&weight), slice(&grad));
        let block = row_block(tokens) * hidden;
        out.par_chunks_mut(block)
            .zip(x.par_chunks(block).zip(grad.par_chunks(block)))
            .for_each(|(out, (x, grad))| arch().dispatch(BackwardRows { x, weight, grad, eps, out }));
        tensor(out, [tokens, hidden])
    }
}

/// `1 / √(mean(x²) + eps)`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
fn inverse_rms<S: Simd>(simd: S, x: &[f32], eps: f64) -> f32 {
    let squares = total!(S, simd, [x in x], simd.mul_f32s(x, x));
    (1.0 / (f64::from(squares) / x.len() as f64 + eps).sqrt()) as f32
}

struct Forward<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    eps: f64,
    out: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.weight.len();
        for (x, out) in self.x.chunks_exact(hidden).zip(self.out.chunks_exact_mut(hidden)) {
            let r = simd.splat_f32s(inverse_rms(simd, x, self.eps));
            each!(S, simd, _old in out, [x in x, w in self.weight], simd.mul_f32s(simd.mul_f32s(x, r), w));
        }
    }
}

struct BackwardRows<'a> {
    x: &'a [f32],
    weight: &'a [f32],
    grad: &'a [f32],
    eps: f64,
    out: &'a mut [f32],
}

impl WithSimd for BackwardRows<'_> {
    type Output = ();

    /// With `r` the inverse RMS and `h = grad · weight`: `dx = r · h - x · r³ · mean(h · x)`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let hidden = self.weight.len();
        let rows = self.x.chunks_exact(hidden).zip(self.grad.chunks_exact(hidden));
        for ((x, grad), out) in rows.zip(self.out.chunks_exact_mut(hidden)) {
            let r = inverse_rms(simd, x, self.eps);
            let dot = total!(S, simd, [x in x, w in self.weight, g in grad], simd.mul_f32s(simd.mul_f32s(g, w), x));
            let scale = simd.splat_f32s(-dot * r * r * r / hidden as f32);
            let r = simd.splat_f32s(r);
            each!(S, simd, _old in out, [x in x, w in self.weight, g in grad], {
                let h = simd.mul_f32s(simd.mul_f32s(g, w), r);
                simd.mul_add_e_f32s(x, scale, h)
            });
        }
    }
}
