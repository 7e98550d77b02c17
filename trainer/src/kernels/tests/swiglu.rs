//! `SwiGLU`: gates of any size, also such as saturate.

use proptest::prelude::*;

use super::{Draw, check, config};
use crate::kernels::swiglu::{Activation, swiglu};

fn plain(gate_up: &[f64], intermediate: usize, activation: Activation) -> Vec<f64> {
    let act = |x: f64| match activation {
        Activation::Silu => x / (1.0 + (-x).exp()),
        Activation::GeluTanh => {
            0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
        }
    };
    let row = |row: &[f64]| {
        let (gate, up) = row.split_at(intermediate);
        gate.iter().zip(up).map(|(g, u)| act(*g) * u).collect::<Vec<_>>()
    };
    gate_up.chunks(2 * intermediate).flat_map(row).collect()
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn any_shape(tokens in 1usize..70, intermediate in 1usize..300, deviation in 0.1f64..60.0, gelu: bool, seed: u64) {
        let activation = if gelu { Activation::GeluTanh } else { Activation::Silu };
        let mut draw = Draw::new(seed);
        let gate_up = draw.matrix(tokens, 2 * intermediate, deviation);
        check(
            &mut draw,
            &[gate_up],
            |kernels, inputs| swiglu(kernels, inputs[0].clone(), activation),
            |inputs| plain(&inputs[0], intermediate, activation),
        );
    }
}
