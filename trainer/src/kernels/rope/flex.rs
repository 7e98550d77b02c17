//! Rotary position embedding on the CPU: one pass, in place.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::RopeKernel;
use crate::kernels::simd::{arch, contiguous, dim, row_block, slice, whole};

impl RopeKernel for Flex {
    fn rope_forward(x: FlexTensor, cos: FlexTensor, sin: FlexTensor, heads: usize, inverse: bool) -> FlexTensor {
        let mut x = whole(x);
        let [cos, sin] = [cos, sin].map(contiguous);
        let (tokens, width, half) = (dim(&x, 0), dim(&x, 1), dim(&cos, 1));
        let block = row_block(tokens);
        let rows = x.storage_mut::<f32>().par_chunks_mut((block * width).max(1));
        let angles = [&cos, &sin].map(|angles| slice(angles).par_chunks((block * half).max(1)));
        let [cos, sin] = angles;
        rows.zip(cos.zip(sin)).for_each(|(x, (cos, sin))| {
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

    /// The compiler turns the innermost loop into vectors, as in `AdamW`'s.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let sign = if self.inverse { -1.0 } else { 1.0 };
        let angles = self.cos.chunks_exact(self.half).zip(self.sin.chunks_exact(self.half));
        for (row, (cos, sin)) in self.x.chunks_exact_mut(self.width).zip(angles) {
            for head in row.chunks_exact_mut(2 * self.half).take(self.heads) {
                let (first, second) = head.split_at_mut(self.half);
                for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
                    let sin = sin * sign;
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    }
}
