//! RMS norm: rows of any length.

use burn::tensor::Tensor;
use proptest::prelude::*;

use super::{Draw, Matrix, assert_close, check, config, device, read};
use crate::kernels::Kernels;
use crate::kernels::rms_norm::rms_norm;

const EPS: f64 = 1e-5;

fn plain(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let row = |x: &[f64]| {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let inverse = 1.0 / (mean + EPS).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * inverse * w).collect::<Vec<_>>()
    };
    x.chunks(weight.len()).flat_map(row).collect()
}

fn weight_on_device(weight: &Matrix) -> Tensor<1> {
    weight.tensor(&device()).flatten(0, 1)
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn any_shape(tokens in 1usize..70, hidden in 1usize..400, seed: u64) {
        let mut draw = Draw::new(seed);
        let x = draw.matrix(tokens, hidden, 1.0);
        let weight = draw.matrix(1, hidden, 1.0);
        check(
            &mut draw,
            &[x],
            |kernels, inputs| rms_norm(kernels, inputs[0].clone(), &weight_on_device(&weight), EPS),
            |inputs| plain(&inputs[0], &weight.doubles()),
        );
    }
}

/// One axis of a GPU's grid ends at 65,535.
#[test]
fn more_rows_than_an_axis_of_a_grid() {
    let mut draw = Draw::new(7);
    let (x, weight) = (draw.matrix(70_000, 3, 1.0), draw.matrix(1, 3, 1.0));
    let got = rms_norm(Kernels::Fused, x.tensor(&device()), &weight_on_device(&weight), EPS);
    assert_close("output", &read(got), &plain(&x.doubles(), &weight.doubles()));
}

/// A transposed tensor does not lie in memory row by row.
#[test]
fn a_transposed_input() {
    let mut draw = Draw::new(8);
    let (x, weight) = (draw.matrix(37, 21, 1.0), draw.matrix(1, 37, 1.0));
    let turned = x.tensor(&device()).transpose();
    let expected = plain(&read(turned.clone()), &weight.doubles());
    let got = rms_norm(Kernels::Fused, turned, &weight_on_device(&weight), EPS);
    assert_close("output", &read(got), &expected);
}
