//! Rotary position embedding on the CPU: one pass.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::RopeKernel;
use crate::kernels::simd::vector::each;
use crate::kernels::simd::{Buffer, ROW_BLOCK, arch, contiguous, dim, slice, tensor};

impl RopeKernel for Flex {
    fn rope_forward(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, heads: usize, inverse: bool) -> FlexTensor {
        let [x, cos, sin] = [x, cos, sin].map(contiguous);
        let (tokens, width, half) = (dim(&x, 0), dim(&x, 1), dim(&cos, 1));
        let mut out = Buffer::take(tokens * width);
        let angles =
            slice(&cos).par_chunks((ROW_BLOCK * half).max(1)).zip(slice(&sin).par_chunks((ROW_BLOCK * half).max(1)));
        let rows = out.par_chunks_mut(ROW_BLOCK * width).zip(slice(&x).par_chunks(ROW_BLOCK * width));
        rows.zip(angles).for_each(|((out, x), (cos, sin))| {
            arch().dispatch(Rotate { x, out, cos, sin, width, half, heads, inverse });
        });
        tensor(out, [tokens, width])
    }
}

struct Rotate<'a> {
    x: &'a [f32],
    out: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    width: usize,
    half: usize,
    heads: usize,
    inverse: bool,
}

impl WithSimd for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let sign = simd.splat_f32s(if self.inverse { -1.0 } else { 1.0 });
        let angles = self.cos.chunks_exact(self.half).zip(self.sin.chunks_exact(self.half));
        let rows = self.x.chunks_exact(self.width).zip(self.out.chunks_exact_mut(self.width));
        for ((x, out), (cos, sin)) in rows.zip(angles) {
            let rotated = self.heads * 2 * self.half;
            let heads = x.chunks_exact(2 * self.half).zip(out.chunks_exact_mut(2 * self.half));
            for (x, out) in heads.take(self.heads) {
                let ((first, second), (out_first, out_second)) = (x.split_at(self.half), out.split_at_mut(self.half));
                each!(S, simd, _old in out_first, [a in first, b in second, cos in cos, sin in sin], {
                    simd.sub_f32s(simd.mul_f32s(a, cos), simd.mul_f32s(b, simd.mul_f32s(sin, sign)))
                });
                each!(S, simd, _old in out_second, [a in first, b in second, cos in cos, sin in sin], {
                    simd.add_f32s(simd.mul_f32s(b, cos), simd.mul_f32s(a, simd.mul_f32s(sin, sign)))
                });
            }
            out[rotated..].copy_from_slice(&x[rotated..]);
        }
    }
}
