//! The divergence behind the head: any vocabulary, any rows; nothing between equal rows.

use burn::tensor::Tensor;
use proptest::prelude::*;

use super::{Draw, Matrix, check, config, device, read, weight_form};
use crate::kernels::Kernels;
use crate::kernels::linear_kl_divergence::linear_kl_divergence;

/// The logarithms of the softmax of `hidden · headᵀ`.
fn log_probabilities(hidden: &[f64], head: &[f64], depth: usize) -> Vec<f64> {
    let logits: Vec<f64> = head.chunks(depth).map(|row| super::dot(row, hidden)).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() + largest;
    logits.iter().map(|logit| logit - sum).collect()
}

fn plain(hidden: &[f64], base: &[f64], head: &[f64], depth: usize) -> Vec<f64> {
    let row = |(hidden, base): (&[f64], &[f64])| {
        let (q, p) = (log_probabilities(hidden, head, depth), log_probabilities(base, head, depth));
        p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum()
    };
    hidden.chunks(depth).zip(base.chunks(depth)).map(row).collect()
}

/// Divergences, and the gradient of their sum.
fn divergences(hidden: &Matrix, base: &Matrix, head: &adapters::Weight) -> (Vec<f64>, Vec<f64>) {
    let hidden = hidden.tensor(&device().autodiff()).require_grad();
    let output = linear_kl_divergence(Kernels::Fused, hidden.clone(), base.tensor(&device()), head);
    let gradients = output.clone().sum().backward();
    (read(output.inner()), read(hidden.grad(&gradients).expect("a gradient")))
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn any_shape(
        rows in 1usize..40,
        depth in 1usize..100,
        vocabulary in 50usize..2000,
        deviation in 0.3f64..5.0,
        form in weight_form(),
        seed: u64,
    ) {
        let depth = form.fit(depth);
        let mut draw = Draw::new(seed);
        let (hidden, base) = (draw.matrix(rows, depth, 1.0), draw.matrix(rows, depth, 1.0));
        let (weight, head) = draw.matrix(vocabulary, depth, deviation / (depth as f64).sqrt()).stored(form);
        check(
            &mut draw,
            &[hidden],
            |kernels, inputs| {
                let divergences: Tensor<1> =
                    linear_kl_divergence(kernels, inputs[0].clone(), base.tensor(&device()), &weight);
                divergences.unsqueeze()
            },
            |inputs| plain(&inputs[0], &base.doubles(), &head.doubles(), depth),
        );
    }

    #[test]
    fn equal_rows_diverge_by_exactly_nothing(
        rows in 1usize..40,
        depth in 1usize..100,
        vocabulary in 50usize..2000,
        form in weight_form(),
        seed: u64,
    ) {
        let depth = form.fit(depth);
        let mut draw = Draw::new(seed);
        let hidden = draw.matrix(rows, depth, 1.0);
        let (head, _) = draw.matrix(vocabulary, depth, 1.0).stored(form);
        // One row in three is another one.
        let mut base = hidden.clone();
        base.values.chunks_mut(depth).skip(1).step_by(3).flatten().for_each(|value| *value = -*value);
        let (divergences, gradient) = divergences(&hidden, &base, &head);
        for (row, (divergence, gradient)) in divergences.iter().zip(gradient.chunks(depth)).enumerate() {
            if row % 3 == 1 {
                prop_assert!(*divergence > 0.0 && gradient.iter().any(|g| *g != 0.0));
            } else {
                prop_assert!(divergence.abs() <= 0.0 && gradient.iter().all(|g| g.abs() <= 0.0), "row {}", row);
            }
        }
    }
}

#[test]
fn a_row_that_is_no_number_stays_none() {
    let mut draw = Draw::new(1);
    let (mut hidden, base) = (draw.matrix(2, 8, 1.0), draw.matrix(2, 8, 1.0));
    hidden.values[0] = f32::NAN;
    let head = draw.matrix(50, 8, 1.0).tensor(&device()).into();
    let (divergences, _) = divergences(&hidden, &base, &head);
    assert!(divergences[0].is_nan() && divergences[1] > 0.0, "{divergences:?}");
}
