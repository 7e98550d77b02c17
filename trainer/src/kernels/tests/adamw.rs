//! `AdamW`: any number of parameters, any settings.

use burn::tensor::Tensor;
use proptest::prelude::*;

use super::{Draw, Matrix, assert_close, config, device, read};
use crate::kernels::Kernels;
use crate::kernels::adamw::{Update, adamw};

fn plain(p: &[f64], m: &[f64], v: &[f64], g: &[f64], rates: &[f64], update: Update) -> [Vec<f64>; 3] {
    let number = f64::from;
    let g: Vec<f64> = g.iter().map(|g| g * number(update.gradient_scale)).collect();
    let m: Vec<f64> = m.iter().zip(&g).map(|(m, g)| m * number(update.beta1) + g * number(update.gain1)).collect();
    let v: Vec<f64> = v.iter().zip(&g).map(|(v, g)| v * number(update.beta2) + g * g * number(update.gain2)).collect();
    let moved = p.iter().zip(m.iter().zip(&v)).zip(rates).map(|((p, (m, v)), rate)| {
        let denominator = v.sqrt() * number(update.inverse_correction) + number(update.eps);
        p - rate * (p * (1.0 - number(update.decay)) + m / denominator * number(update.step_size))
    });
    [moved.collect(), m, v]
}

proptest! {
    #![proptest_config(config(24))]

    #[test]
    fn any_count_and_settings(
        count in 1usize..5000,
        beta1 in 0.0f32..0.99,
        beta2 in 0.9f32..0.9999,
        gradient_scale in 0.01f32..1.0,
        decay in 0.9f32..1.0,
        step_size in 1e-5f32..1e-1,
        inverse_correction in 1.0f32..30.0,
        has_rates: bool,
        seed: u64,
    ) {
        let mut draw = Draw::new(seed);
        let update = Update {
            beta1,
            beta2,
            gain1: 1.0 - beta1,
            gain2: 1.0 - beta2,
            gradient_scale,
            decay,
            step_size,
            inverse_correction,
            eps: 1e-8,
        };
        let [p, m, mut v, g] = std::array::from_fn(|_| draw.matrix(1, count, 1.0));
        v.values.iter_mut().for_each(|v| *v = v.abs());
        let mut rates = draw.matrix(1, count, 4.0);
        rates.values.iter_mut().for_each(|rate| *rate = if has_rates { rate.abs() } else { 1.0 });
        let expected = plain(&p.doubles(), &m.doubles(), &v.doubles(), &g.doubles(), &rates.doubles(), update);
        for kernels in [Kernels::Fused, Kernels::Reference] {
            let tensors = [&p, &m, &v, &g].map(|matrix: &Matrix| matrix.tensor(&device()).flatten(0, 1));
            let [a, b, c, d]: [Tensor<1>; 4] = tensors.clone();
            let rates = has_rates.then(|| rates.tensor(&device()).flatten(0, 1));
            for (index, (got, expected)) in adamw(kernels, a, b, c, d, rates, update).into_iter().zip(&expected).enumerate() {
                assert_close(&format!("{kernels:?}, result {index}"), &read(got), expected);
            }
            for (tensor, matrix) in tensors.into_iter().zip([&p, &m, &v, &g]) {
                prop_assert_eq!(read(tensor), matrix.doubles(), "a tensor that is still held was written to");
            }
        }
    }
}

/// Nothing else holds the tensors, so they may be updated where they lie.
#[test]
fn many_steps_in_place() {
    let update = Update {
        beta1: 0.9,
        beta2: 0.999,
        gain1: 0.1,
        gain2: 0.001,
        gradient_scale: 0.5,
        decay: 0.999,
        step_size: 1e-2,
        inverse_correction: 2.0,
        eps: 1e-8,
    };
    let mut draw = Draw::new(5);
    let start = draw.matrix(1, 777, 1.0);
    let zeros = Matrix { values: vec![0.0; 777], ..start.clone() };
    let mut state = [&start, &zeros, &zeros].map(|matrix| matrix.tensor(&device()).flatten::<1>(0, 1));
    let mut expected = [&start, &zeros, &zeros].map(Matrix::doubles);
    for _ in 0..10 {
        let gradient = draw.matrix(1, 777, 1.0);
        let [p, m, v] = state;
        state = adamw(Kernels::Fused, p, m, v, gradient.tensor(&device()).flatten(0, 1), None, update);
        let ones = vec![1.0; 777];
        expected = plain(&expected[0], &expected[1], &expected[2], &gradient.doubles(), &ones, update);
    }
    for (got, expected) in state.into_iter().zip(&expected) {
        assert_close("after ten steps", &read(got), expected);
    }
}
