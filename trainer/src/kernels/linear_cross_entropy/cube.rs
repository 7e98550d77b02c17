//! The head's loss on the GPU: chunk of rows by chunk of rows, whose logits become their own gradient in place.

use burn::backend::Cube;
use burn::backend::ops::IntTensorOps as _;
use burn::tensor::IntDType;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;

use super::LinearCrossEntropyKernel;
use crate::kernels::gpu::{UNITS, behind_the_head, cube_max, cube_sum, cubes, dim, empty, rows};
use crate::kernels::{Frozen, Precision};

impl LinearCrossEntropyKernel for Cube {
    fn linear_cross_entropy_forward(
        hidden: CubeTensor,
        lm_head: Frozen<Cube>,
        targets: CubeTensor,
        _: Precision,
        with_gradient: bool,
    ) -> (CubeTensor, Option<CubeTensor>) {
        let hidden = rows(hidden);
        let targets = into_contiguous(Cube::int_cast(targets, IntDType::U32));
        let losses = empty(&hidden, [dim(&hidden, 0)]);
        let gradient = behind_the_head([hidden], lm_head, with_gradient, |first, count, [logits]| {
            let vocabulary = dim(&logits, 1);
            rows_kernel::launch(
                &losses.client,
                cubes(&losses, count),
                CubeDim::new_1d(UNITS),
                logits.into_buffer_arg(),
                targets.clone().into_buffer_arg(),
                losses.clone().into_buffer_arg(),
                first,
                vocabulary,
                with_gradient,
                UNITS as usize,
            );
        });
        (losses, gradient)
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
