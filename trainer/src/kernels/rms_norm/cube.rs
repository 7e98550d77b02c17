//! RMS norm on the GPU: one cube a row.

use burn::backend::Cube;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::RmsNormKernel;
use crate::kernels::gpu::{UNITS, cube_sum, cubes, dim, empty, rows};

#[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
impl RmsNormKernel for Cube {
    fn rms_norm_forward(x: CubeTensor, weight: CubeTensor, eps: f64) -> CubeTensor {
        let [x, weight] = [x, weight].map(rows);
        let out = empty(&x, [dim(&x, 0), dim(&x, 1)]);
        forward_kernel::launch(
            &out.client,
            cubes(&out, dim(&out, 0)),
            CubeDim::new_1d(UNITS),
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            eps as f32,
            UNITS as usize,
        );
        out
    }

    fn rms_norm_backward(x: CubeTensor, weight: CubeTensor, grad: CubeTensor, eps: f64) -> CubeTensor {
        let [x, weight, grad] = [x, weight, grad].map(rows);
        let out = empty(&x, [dim(&x, 0), dim(&x, 1)]);
        backward_kernel::launch(
            &out.client,
            cubes(&out, dim(&out, 0)),
            CubeDim::new_1d(UNITS),
            x.into_buffer_arg(),
            weight.into_buffer_arg(),
            grad.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            eps as f32,
            UNITS as usize,
        );
        out
    }
}

#[cube(launch)]
fn forward_kernel(x: &[f32], weight: &[f32], out: &mut [f32], eps: f32, #[comptime] units: usize) {
    let hidden = weight.len();
    let start = CUBE_POS * hidden;
    if start >= out.len() {
        terminate!();
    }
    let mut squares = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < hidden {
        squares += x[start + i] * x[start + i];
        i += units;
    }
    let inverse_rms = (cube_sum(squares, units) / hidden as f32 + eps).inverse_sqrt();
    let mut i = UNIT_POS as usize;
    while i < hidden {
        out[start + i] = x[start + i] * inverse_rms * weight[i];
        i += units;
    }
}

/// With `r` the inverse RMS and `h = grad · weight`: `dx = r · h - x · r³ · mean(h · x)`.
#[cube(launch)]
fn backward_kernel(x: &[f32], weight: &[f32], grad: &[f32], out: &mut [f32], eps: f32, #[comptime] units: usize) {
    let hidden = weight.len();
    let start = CUBE_POS * hidden;
    if start >= out.len() {
        terminate!();
    }
    let mut squares = 0.0f32;
    let mut dot = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < hidden {
        let value = x[start + i];
        squares += value * value;
        dot += grad[start + i] * weight[i] * value;
        i += units;
    }
    let r = (cube_sum(squares, units) / hidden as f32 + eps).inverse_sqrt();
    let scale = r * r * r * cube_sum(dot, units) / hidden as f32;
    let mut i = UNIT_POS as usize;
    while i < hidden {
        out[start + i] = r * grad[start + i] * weight[i] - x[start + i] * scale;
        i += units;
    }
}
