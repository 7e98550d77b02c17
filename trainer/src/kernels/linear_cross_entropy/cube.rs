//! The head's loss on the GPU: chunk of rows by chunk of rows, whose logits become their own gradient in place.

use burn::backend::Cube;
use burn::backend::ops::{FloatTensorOps as _, IntTensorOps as _};
use burn::tensor::IntDType;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::{into_contiguous, slice};
use burn_cubecl::tensor::CubeTensor;

use super::LinearCrossEntropyKernel;
use crate::kernels::Frozen;
use crate::kernels::gpu::{UNITS, cube_max, cube_sum, cubes, dim, empty, frozen, rows};

/// Logits that are held at a time: 64 MiB of them; few in tests, so that they see several chunks.
const LOGITS: usize = if cfg!(test) { 1 << 12 } else { 1 << 24 };

impl LinearCrossEntropyKernel for Cube {
    fn linear_cross_entropy_forward(
        hidden: CubeTensor,
        lm_head: Frozen<Cube>,
        targets: CubeTensor,
        with_gradient: bool,
    ) -> (CubeTensor, Option<CubeTensor>) {
        let lm_head = frozen(lm_head, &hidden);
        let hidden = rows(hidden);
        let targets = into_contiguous(Cube::int_cast(targets, IntDType::U32));
        let (count, depth, vocabulary) = (dim(&hidden, 0), dim(&hidden, 1), dim(&lm_head, 0));
        let losses = empty(&hidden, [count]);
        let chunk = (LOGITS / vocabulary).max(1);
        let gradients = (0..count).step_by(chunk).map(|first| {
            let chunk = first..(first + chunk).min(count);
            let hidden = slice(hidden.clone(), &[chunk.clone(), 0..depth]);
            let logits = rows(Cube::float_matmul(hidden, Cube::float_transpose(lm_head.clone())));
            rows_kernel::launch(
                &losses.client,
                cubes(&losses, chunk.len()),
                CubeDim::new_1d(UNITS),
                logits.clone().into_buffer_arg(),
                targets.clone().into_buffer_arg(),
                losses.clone().into_buffer_arg(),
                first,
                vocabulary,
                with_gradient,
                UNITS as usize,
            );
            with_gradient.then(|| Cube::float_matmul(logits, lm_head.clone()))
        });
        let gradients: Option<Vec<CubeTensor>> = gradients.collect();
        (losses, gradients.map(|chunks| Cube::float_cat(chunks, 0)))
    }
}

/// One cube a row: its loss, and in the place of its logits their gradient, `softmax - one at the target`.
#[cube(launch)]
fn rows_kernel(
    logits: &mut [f32],
    targets: &[u32],
    losses: &mut [f32],
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
    let mut i = unit;
    while i < vocabulary {
        largest = max(largest, logits[start + i]);
        i += units;
    }
    let largest = cube_max(largest, units);
    let mut sum = 0.0f32;
    let mut i = unit;
    while i < vocabulary {
        sum += (logits[start + i] - largest).exp();
        i += units;
    }
    let sum = cube_sum(sum, units);
    let row = first + CUBE_POS;
    let target = targets[row] as usize;
    if unit == 0 {
        losses[row] = sum.ln() + largest - logits[start + target];
    }
    if comptime!(with_gradient) {
        sync_cube();
        let inverse = 1.0 / sum;
        let mut i = unit;
        while i < vocabulary {
            let probability = (logits[start + i] - largest).exp() * inverse;
            logits[start + i] = select(i == target, probability - 1.0, probability);
            i += units;
        }
    }
}
