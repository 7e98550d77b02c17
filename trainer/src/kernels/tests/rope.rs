//! Rotary position embedding: heads of any even size, with and without columns that stay as they are.

use proptest::prelude::*;

use super::{Draw, check, config, device};
use crate::kernels::rope::{Rotation, inverse_frequencies, rope};

fn plain(x: &[f64], width: usize, positions: &[usize], frequencies: &[f32], heads: usize) -> Vec<f64> {
    let half = frequencies.len();
    let mut out = x.to_vec();
    for (token, &position) in positions.iter().enumerate() {
        for head in 0..heads {
            for (i, frequency) in frequencies.iter().enumerate() {
                // The angle is rounded to float32, as transformers does.
                let angle = f64::from(position as f32 * frequency);
                let first = token * width + head * 2 * half + i;
                let (a, b) = (x[first], x[first + half]);
                out[first] = a * angle.cos() - b * angle.sin();
                out[first + half] = b * angle.cos() + a * angle.sin();
            }
        }
    }
    out
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn any_shape(
        tokens in 1usize..70,
        heads in 1usize..6,
        half in 1usize..33,
        behind in 0usize..40,
        first in 0usize..5000,
        seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let width = heads * 2 * half + behind;
        let positions: Vec<usize> = (first..first + tokens).collect();
        let frequencies = inverse_frequencies(10_000.0, 2 * half);
        let rotation = Rotation::new(&positions, &frequencies, &device());
        let x = draw.matrix(tokens, width, 1.0);
        check(
            &mut draw,
            &[x],
            |kernels, inputs| rope(kernels, inputs[0].clone(), &rotation, heads),
            |inputs| plain(&inputs[0], width, &positions, &frequencies, heads),
        );
    }
}
