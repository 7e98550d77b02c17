//! The divergence on the GPU: chunk of rows by chunk of rows, whose logits become their own gradient in place.

use burn::backend::Cube;
use burn::backend::ops::FloatTensorOps as _;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::slice;
use burn_cubecl::tensor::CubeTensor;

use super::LinearKlDivergenceKernel;
use crate::kernels::Frozen;
use crate::kernels::gpu::{UNITS, cube_max, cube_sum, cubes, dim, empty, frozen, rows};

/// Logits of each side that are held at a time: 32 MiB of them; few in tests, so that they see several chunks.
const LOGITS: usize = if cfg!(test) { 1 << 12 } else { 1 << 23 };

impl LinearKlDivergenceKernel for Cube {
    fn linear_kl_divergence_forward(
        hidden: CubeTensor,
        base_hidden: CubeTensor,
        lm_head: Frozen<Cube>,
        with_gradient: bool,
    ) -> (CubeTensor, Option<CubeTensor>) {
        let lm_head = frozen(lm_head, &hidden);
        let (hidden, base_hidden) = (rows(hidden), rows(base_hidden));
        let (count, depth, vocabulary) = (dim(&hidden, 0), dim(&hidden, 1), dim(&lm_head, 0));
        let divergences = empty(&hidden, [count]);
        let chunk = (LOGITS / vocabulary).max(1);
        let gradients = (0..count).step_by(chunk).map(|first| {
            let chunk = first..(first + chunk).min(count);
            let [logits, base_logits] = [&hidden, &base_hidden].map(|hidden| {
                let hidden = slice(hidden.clone(), &[chunk.clone(), 0..depth]);
                rows(Cube::float_matmul(hidden, Cube::float_transpose(lm_head.clone())))
            });
            rows_kernel::launch(
                &divergences.client,
                cubes(&divergences, chunk.len()),
                CubeDim::new_1d(UNITS),
                logits.clone().into_buffer_arg(),
                base_logits.into_buffer_arg(),
                divergences.clone().into_buffer_arg(),
                first,
                vocabulary,
                with_gradient,
                UNITS as usize,
            );
            with_gradient.then(|| Cube::float_matmul(logits, lm_head.clone()))
        });
        let gradients: Option<Vec<CubeTensor>> = gradients.collect();
        (divergences, gradients.map(|chunks| Cube::float_cat(chunks, 0)))
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
