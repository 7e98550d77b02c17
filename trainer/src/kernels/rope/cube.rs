//! Rotary position embedding on the GPU: one unit an element.

use burn::backend::Cube;
use burn_cubecl::cubecl::{self, prelude::*};
use burn_cubecl::tensor::CubeTensor;

use super::RopeKernel;
use crate::kernels::gpu::{UNITS, dim, elements, empty, rows};

impl RopeKernel for Cube {
    fn rope_forward(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, heads: usize, inverse: bool) -> CubeTensor {
        let [x, cos, sin] = [x, cos, sin].map(rows);
        let (tokens, width, half) = (dim(&x, 0), dim(&x, 1), dim(&cos, 1));
        let out = empty(&x, [tokens, width]);
        rotate_kernel::launch(
            &out.client,
            elements(&out, tokens * width),
            CubeDim::new_1d(UNITS),
            x.into_buffer_arg(),
            cos.into_buffer_arg(),
            sin.into_buffer_arg(),
            out.clone().into_buffer_arg(),
            width,
            heads * 2 * half,
            if inverse { -1.0 } else { 1.0 },
            half,
        );
        out
    }
}

/// Turns the first `rotated` numbers of each row, head by head, and copies the others.
#[cube(launch)]
fn rotate_kernel(
    x: &[f32],
    cos: &[f32],
    sin: &[f32],
    out: &mut [f32],
    width: usize,
    rotated: usize,
    sign: f32,
    #[comptime] half: usize,
) {
    if ABSOLUTE_POS >= out.len() {
        terminate!();
    }
    let column = ABSOLUTE_POS % width;
    let mut value = x[ABSOLUTE_POS];
    if column < rotated {
        let angle = ABSOLUTE_POS / width * half + column % half;
        let turned = sin[angle] * sign;
        if column % (2 * half) < half {
            value = value * cos[angle] - x[ABSOLUTE_POS + half] * turned;
        } else {
            value = value * cos[angle] + x[ABSOLUTE_POS - half] * turned;
        }
    }
    out[ABSOLUTE_POS] = value;
}
