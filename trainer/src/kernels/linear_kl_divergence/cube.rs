//! The divergence on the GPU: chunk of rows by chunk of rows, whose logits become their own gradient in place.

use burn::backend::Cube;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::LinearKlDivergenceKernel;
use crate::kernels::gpu::{UNITS, behind_the_head, cube_max, cube_sum, cubes, dim, empty, rows};
use crate::kernels::{Frozen, Precision};

impl LinearKlDivergenceKernel for Cube {
    fn linear_kl_divergence_forward(
        hidden: CubeTensor,
        base_hidden: CubeTensor,
        lm_head: Frozen<Cube>,
        _: Precision,
        with_gradient: bool,
    ) -> (CubeTensor, Option<CubeTensor>) {
        let (hidden, base_hidden) = (rows(hidden), rows(base_hidden));
        let divergences = empty(&hidden, [dim(&hidden, 0)]);
        let gradient =
            behind_the_head([hidden, base_hidden], lm_head, with_gradient, |first, count, [logits, base_logits]| {
                let vocabulary = dim(&logits, 1);
                rows_kernel::launch(
                    &divergences.client,
                    cubes(&divergences, count),
                    CubeDim::new_1d(UNITS),
                    logits.into_buffer_arg(),
                    base_logits.into_buffer_arg(),
                    divergences.clone().into_buffer_arg(),
                    first,
                    vocabulary,
                    with_gradient,
                    UNITS as usize,
                );
            });
        (divergences, gradient)
    }
}

/// One cube a row: its divergence, and in the place of its logits their gradient, the softmax less that of the base.
#[cube(launch)]
fn rows_kernel(
    logits: &mut [f32],
    base_logits: &[f32],
    divergences: &mut [f32],
    first: usize,
    vocabulary: usize,
    #[comptime] with_gradient: bool,
    #[comptime] units: usize,
) {
    let start = CUBE_POS * vocabulary;
    if start >= logits.len() {
        terminate!();
    }
    let unit = UNIT_POS as usize;
    let mut largest = f32::new(-1e30);
    let mut base_largest = f32::new(-1e30);
    let mut i = unit;
    while i < vocabulary {
        largest = max(largest, logits[start + i]);
        base_largest = max(base_largest, base_logits[start + i]);
        i += units;
    }
    let largest = cube_max(largest, units);
    let base_largest = cube_max(base_largest, units);
    let mut sum = 0.0f32;
    let mut base_sum = 0.0f32;
    let mut difference = 0.0f32;
    let mut i = unit;
    while i < vocabulary {
        let shifted = logits[start + i] - largest;
        let base_shifted = base_logits[start + i] - base_largest;
        let weight = base_shifted.exp();
        sum += shifted.exp();
        base_sum += weight;
        difference += weight * (base_shifted - shifted);
        i += units;
    }
    let sum = cube_sum(sum, units);
    let base_sum = cube_sum(base_sum, units);
    let difference = cube_sum(difference, units);
    if unit == 0 {
        let divergence = difference / base_sum - (base_sum.ln() - sum.ln());
        divergences[first + CUBE_POS] = select(divergence < 0.0, 0.0f32, divergence);
    }
    if comptime!(with_gradient) {
        sync_cube();
        let inverse = 1.0 / sum;
        let base_inverse = 1.0 / base_sum;
        let mut i = unit;
        while i < vocabulary {
            let probability = (logits[start + i] - largest).exp() * inverse;
            let base_probability = (base_logits[start + i] - base_largest).exp() * base_inverse;
            logits[start + i] = probability - base_probability;
            i += units;
        }
    }
}
