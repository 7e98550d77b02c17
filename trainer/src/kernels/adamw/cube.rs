//! `AdamW` on the GPU: one pass over parameters, moments and gradient, in place where nothing else reads them.

use burn::backend::Cube;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::{FusedAdamW, Update};
use crate::kernels::Optional;
use crate::kernels::gpu::{UNITS, dim, elements, owned, rows};

impl FusedAdamW for Cube {
    fn adamw(
        parameters: CubeTensor,
        exp_avg: CubeTensor,
        exp_avg_sq: CubeTensor,
        gradient: CubeTensor,
        rates: Optional<Self>,
        update: Update,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [p, m, v] = [parameters, exp_avg, exp_avg_sq].map(owned);
        // A kernel needs something in the place of what is not there.
        let (has_rates, rates) = match rates.into_option() {
            Some(rates) => (true, rows(rates)),
            None => (false, p.clone()),
        };
        update_kernel::launch(
            &p.client,
            elements(&p, dim(&p, 0)),
            CubeDim::new_1d(UNITS),
            p.clone().into_buffer_arg(),
            m.clone().into_buffer_arg(),
            v.clone().into_buffer_arg(),
            rows(gradient).into_buffer_arg(),
            rates.into_buffer_arg(),
            update.beta1,
            update.beta2,
            update.gain1,
            update.gain2,
            update.gradient_scale,
            update.decay,
            update.step_size,
            update.inverse_correction,
            update.eps,
            has_rates,
        );
        (p, m, v)
    }
}

#[cube(launch)]
fn update_kernel(
    p: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    gradient: &[f32],
    rates: &[f32],
    beta1: f32,
    beta2: f32,
    gain1: f32,
    gain2: f32,
    gradient_scale: f32,
    decay: f32,
    step_size: f32,
    inverse_correction: f32,
    eps: f32,
    #[comptime] has_rates: bool,
) {
    let i = ABSOLUTE_POS;
    if i >= p.len() {
        terminate!();
    }
    let g = gradient[i] * gradient_scale;
    let first = m[i] * beta1 + g * gain1;
    let second = v[i] * beta2 + g * g * gain2;
    m[i] = first;
    v[i] = second;
    let moved = first / (second.sqrt() * inverse_correction + eps) * step_size;
    if comptime!(has_rates) {
        p[i] = p[i] - p[i] * (rates[i] * (1.0 - decay)) - moved * rates[i];
    } else {
        p[i] = p[i] * decay - moved;
    }
}
