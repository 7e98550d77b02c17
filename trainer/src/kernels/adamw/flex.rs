//! `AdamW` on the CPU: one pass over parameters, moments and gradient, in place.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{FusedAdamW, Update};
use crate::kernels::Optional;
use crate::kernels::simd::{arch, contiguous, slice, whole};

/// Numbers that one task updates.
const CHUNK: usize = 1 << 15;

impl FusedAdamW for Flex {
    fn adamw(
        parameters: FlexTensor,
        exp_avg: FlexTensor,
        exp_avg_sq: FlexTensor,
        gradient: FlexTensor,
        rates: Optional<Self>,
        update: Update,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let [mut p, mut m, mut v] = [parameters, exp_avg, exp_avg_sq].map(whole);
        let (gradient, rates) = (contiguous(gradient), rates.into_option().map(contiguous));
        let rates = rates.as_ref().map(slice);
        let chunks = (p.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(m.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(v.storage_mut::<f32>().par_chunks_mut(CHUNK))
            .zip(slice(&gradient).par_chunks(CHUNK));
        chunks.enumerate().for_each(|(index, (((p, m), v), g))| {
            let rates = rates.map(|rates| &rates[index * CHUNK..][..p.len()]);
            arch().dispatch(Chunk { p, m, v, g, rates, update });
        });
        (p, m, v)
    }
}

struct Chunk<'a> {
    p: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    g: &'a [f32],
    rates: Option<&'a [f32]>,
    update: Update,
}

impl WithSimd for Chunk<'_> {
    type Output = ();

    /// The compiler turns these loops into vectors: every operation in them is one of IEEE's, the same on every machine.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let u = self.update;
        let numbers = self.p.iter_mut().zip(self.m).zip(self.v).zip(self.g);
        match self.rates {
            None => {
                for (((p, m), v), g) in numbers {
                    *p = *p * u.decay - moments(u, m, v, *g);
                }
            }
            Some(rates) => {
                let decay = 1.0 - u.decay;
                for ((((p, m), v), g), rate) in numbers.zip(rates) {
                    *p = *p - *p * (rate * decay) - moments(u, m, v, *g) * rate;
                }
            }
        }
    }
}

/// Moves the moments on and gives what is taken from the parameter.
#[inline(always)]
fn moments(u: Update, m: &mut f32, v: &mut f32, g: f32) -> f32 {
    let g = g * u.gradient_scale;
    *m = *m * u.beta1 + g * u.gain1;
    *v = *v * u.beta2 + g * g * u.gain2;
    let denominator = v.sqrt() * u.inverse_correction + u.eps;
    *m / denominator * u.step_size
}
