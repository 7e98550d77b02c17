//! `AdamW` on the CPU: one pass over parameters, moments and gradient, in place.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{FusedAdamW, Update};
use crate::kernels::simd::{arch, contiguous, slice, whole};

/// Numbers that one task updates.
const CHUNK: usize = 1 << 15;

impl FusedAdamW for Flex {
    fn adamw(
        parameters: FlexTensor,
        exp_avg: FlexTensor,
        exp_avg_sq: FlexTensor,
        gradient: FlexTensor,
        update: Update,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [mut p, mut m, mut v] = [parameters, exp_avg, exp_avg_sq].map(whole);
        let gradient = contiguous(gradient);
        let chunks = (p.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(m.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(v.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(slice(&gradient).par_chunks(CHUNK));
        chunks.for_each(|(((p, m), v), g)| arch().dispatch(Chunk { p, m, v, g, update }));
        (p, m, v)
    }
}

struct Chunk<'a> {
    p: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    g: &'a [f32],
    update: Update,
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    /// The compiler turns this loop into vectors: every operation in it is one of IEEE's, the same on every machine.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let u = self.update;
        for (((p, m), v), g) in self.p.iter_mut().zip(self.m).zip(self.v).zip(self.g) {
            let g = g * u.gradient_scale;
            *m = *m * u.beta1 + g * u.gain1;
            *v = *v * u.beta2 + g * g * u.gain2;
            let denominator = v.sqrt() * u.inverse_correction + u.eps;
            *p = *p * u.decay - *m / denominator * u.step_size;
        }
    }
}
