//! What the GPU's kernels are made of: tensors as the kernels want them, launches, and sums in one fixed order.
//!
//! Kernels are written in `CubeCL`: a launch is a grid of cubes, a cube is a group of units that share memory. Every sum
//! is added up in an order that the shapes alone determine, so that a run can be repeated bit for bit; there are no
//! atomics.

use burn::backend::Cube;
use burn::backend::ops::FloatTensorOps as _;
use burn::tensor::{DType, FloatDType, TensorData};
use burn_cubecl::cubecl::{self, calculate_cube_count_elemwise, prelude::*};
use burn_cubecl::kernel::{into_contiguous, slice};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;

use super::Frozen;

/// Units of a cube that works on one row, or on one run of elements: what every WebGPU device offers.
pub(super) const UNITS: u32 = 256;

/// The tensor in float32.
pub(super) fn floats(tensor: CubeTensor) -> CubeTensor {
    if tensor.dtype == DType::F32 { tensor } else { Cube::float_cast(tensor, FloatDType::F32) }
}

/// The tensor in float32 and in row order, as kernels read it.
pub(super) fn rows(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(floats(tensor))
}

/// A frozen weight in float32. Blocks are dequantised and copied to the device each time: a base is loaded in blocks
/// only where the kernels read them.
pub(super) fn frozen(weight: Frozen<Cube>, beside: &CubeTensor) -> CubeTensor {
    match weight {
        Frozen::Dense(tensor) => floats(tensor),
        Frozen::Blocks(blocks) => {
            Cube::float_from_data(TensorData::new(blocks.to_f32(), blocks.dims()), &beside.device)
        }
    }
}

/// As [`rows`], in memory that nothing else reads, so that a kernel may write to it.
pub(super) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = rows(tensor);
    if tensor.can_mut() { tensor } else { tensor.copy() }
}

/// Memory for a float32 tensor beside another one.
pub(super) fn empty<const D: usize>(beside: &CubeTensor, shape: [usize; D]) -> CubeTensor {
    empty_device_contiguous_dtype(beside.client.clone(), beside.device.clone(), shape.into(), DType::F32)
}

/// The length of an axis.
pub(super) fn dim(tensor: &CubeTensor, axis: usize) -> usize {
    tensor.meta.shape()[axis]
}

/// `count` cubes, spread over the axes of the grid, whose length is limited: there may be more, which have no work.
pub(super) fn cubes(beside: &CubeTensor, count: usize) -> CubeCount {
    calculate_cube_count_elemwise(&beside.client, count, CubeDim::new_1d(1))
}

/// Cubes with a unit for each of `count` elements: there may be more, which have no work.
pub(super) fn elements(beside: &CubeTensor, count: usize) -> CubeCount {
    calculate_cube_count_elemwise(&beside.client, count, CubeDim::new_1d(UNITS))
}

/// Logits that are held at a time, over all inputs: 64 MiB of them; few in tests, so that they see several chunks.
const LOGITS: usize = if cfg!(test) { 1 << 12 } else { 1 << 24 };

/// A loss behind the head, chunk of rows by chunk of rows, so that the logits of all rows never stand side by side.
///
/// `launch(first, count, logits)` has the `count` logits of each input from row `first` on. It leaves the gradient of the
/// first input's logits in their place, of which this gives the gradient of that input, where it is asked for.
pub(super) fn behind_the_head<const N: usize>(
    inputs: [CubeTensor; N],
    lm_head: Frozen<Cube>,
    with_gradient: bool,
    launch: impl Fn(usize, usize, [CubeTensor; N]),
) -> Option<CubeTensor> {
    let lm_head = frozen(lm_head, &inputs[0]);
    let (count, depth, vocabulary) = (dim(&inputs[0], 0), dim(&inputs[0], 1), dim(&lm_head, 0));
    let chunk = (LOGITS / N / vocabulary).max(1);
    let mut gradients = Vec::new();
    for first in (0..count).step_by(chunk) {
        let chunk = first..(first + chunk).min(count);
        let logits = inputs.each_ref().map(|input| {
            let input = slice(input.clone(), &[chunk.clone(), 0..depth]);
            rows(Cube::float_matmul(input, Cube::float_transpose(lm_head.clone())))
        });
        launch(first, chunk.len(), logits.clone());
        if with_gradient {
            gradients.push(Cube::float_matmul(logits[0].clone(), lm_head.clone()));
        }
    }
    with_gradient.then(|| Cube::float_cat(gradients, 0))
}

/// The sum of one value of each unit of the cube, added in a tree.
#[cube]
pub(super) fn cube_sum(value: f32, #[comptime] units: usize) -> f32 {
    let mut partial = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    partial[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let width = comptime!(units >> (step + 1));
        if unit < width {
            let other = partial[unit + width];
            partial[unit] += other;
        }
        sync_cube();
    }
    partial[0]
}

/// The largest of one value of each unit of the cube.
#[cube]
pub(super) fn cube_max(value: f32, #[comptime] units: usize) -> f32 {
    let mut partial = Shared::<[f32]>::new_slice(units);
    let unit = UNIT_POS as usize;
    partial[unit] = value;
    sync_cube();
    #[unroll]
    for step in 0..comptime!(units.ilog2()) {
        let width = comptime!(units >> (step + 1));
        if unit < width {
            let other = partial[unit + width];
            partial[unit] = max(partial[unit], other);
        }
        sync_cube();
    }
    partial[0]
}

/// `1 / (1 + e^-x)`, of which no part leaves the range of float32.
#[cube]
pub(super) fn sigmoid(x: f32) -> f32 {
    let small = (-x.abs()).exp();
    select(x < 0.0, small, 1.0f32) / (1.0 + small)
}
