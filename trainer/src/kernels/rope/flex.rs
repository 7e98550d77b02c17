//! Rotary position embedding on the CPU, in place where nothing else holds the tensor.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::RopeKernel;
use crate::kernels::simd::vector::each;
use crate::kernels::simd::{ROW_BLOCK, arch, contiguous, dim, slice, whole};

impl RopeKernel for Flex {
    fn rope_forward(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, heads: usize, inverse: bool) -> FlexTensor {
        let (mut x, cos, sin) = (whole(x), contiguous(cos), contiguous(sin));
        let (width, half) = (dim(&x, 1), dim(&cos, 1));
        let (cos, sin) = (slice(&cos), slice(&sin));
        let angles = cos.par_chunks(ROW_BLOCK * half).zip(sin.par_chunks(ROW_BLOCK * half));
        x.storage_mut::<f32>().par_chunks_mut(ROW_BLOCK * width).zip(angles).for_each(|(x, (cos, sin))| {
            arch().dispatch(Rotate { x, cos, sin, width, half, heads, inverse });
        });
        x
    }
}

struct Rotate<'a> {
    x: &'a mut [f32],
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
        let mut old = vec![0.0; self.half];
        let angles = self.cos.chunks_exact(self.half).zip(self.sin.chunks_exact(self.half));
        for (x, (cos, sin)) in self.x.chunks_exact_mut(self.width).zip(angles) {
            for head in x[..self.heads * 2 * self.half].chunks_exact_mut(2 * self.half) {
                let (first, second) = head.split_at_mut(self.half);
                old.copy_from_slice(first);
                each!(S, simd, a in first, [b in &*second, cos in cos, sin in sin], {
                    simd.sub_f32s(simd.mul_f32s(a, cos), simd.mul_f32s(b, simd.mul_f32s(sin, sign)))
                });
                each!(S, simd, b in second, [a in &old, cos in cos, sin in sin], {
                    simd.add_f32s(simd.mul_f32s(b, cos), simd.mul_f32s(a, simd.mul_f32s(sin, sign)))
                });
            }
        }
    }
}
