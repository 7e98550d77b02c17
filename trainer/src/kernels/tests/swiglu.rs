//! `SwiGLU`: gates of any size, also such as saturate.

use proptest::prelude::*;

use super::{Draw, check, config};
use crate::kernels::swiglu::swiglu;

fn plain(gate_up: &[f64], intermediate: usize) -> Vec<f64> {
    let row = |row: &[f64]| {
        let (gate, up) = row.split_at(intermediate);
        gate.iter().zip(up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect::<Vec<_>>()
    };
    gate_up.chunks(2 * intermediate).flat_map(row).collect()
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn any_shape(tokens in 1usize..70, intermediate in 1usize..300, deviation in 0.1f64..60.0, seed: u64) {
        let mut draw = Draw::new(seed);
        let gate_up = draw.matrix(tokens, 2 * intermediate, deviation);
        check(
            &mut draw,
            &[gate_up],
            |kernels, inputs| swiglu(kernels, inputs[0].clone()),
            |inputs| plain(&inputs[0], intermediate),
        );
    }
}
