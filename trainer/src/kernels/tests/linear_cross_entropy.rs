//! The head's loss: any vocabulary, any rows.

use burn::tensor::Tensor;
use proptest::prelude::*;

use super::{Draw, check, config, device, weight_form};
use crate::kernels::linear_cross_entropy::linear_cross_entropy;

fn plain(hidden: &[f64], head: &[f64], depth: usize, targets: &[usize]) -> Vec<f64> {
    let row = |(hidden, &target): (&[f64], &usize)| {
        let logits: Vec<f64> = head.chunks(depth).map(|row| super::dot(row, hidden)).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln() + largest - logits[target]
    };
    hidden.chunks(depth).zip(targets).map(row).collect()
}

proptest! {
    #![proptest_config(config(16))]

    #[test]
    fn any_shape(
        rows in 1usize..40,
        depth in 1usize..100,
        vocabulary in 50usize..2000,
        deviation in 0.1f64..5.0,
        form in weight_form(),
        seed: u64,
    ) {
        let depth = form.fit(depth);
        let mut draw = Draw::new(seed);
        let hidden = draw.matrix(rows, depth, 1.0);
        let (weight, head) = draw.matrix(vocabulary, depth, deviation / (depth as f64).sqrt()).stored(form);
        let targets: Vec<usize> = (0..rows).map(|_| draw.0.random_range(0..vocabulary)).collect();
        check(
            &mut draw,
            &[hidden],
            |kernels, inputs| {
                let targets = crate::device::indices(targets.iter().copied(), &device());
                let losses: Tensor<1> =
                    linear_cross_entropy(kernels, inputs[0].clone(), &weight, targets);
                losses.unsqueeze()
            },
            |inputs| plain(&inputs[0], &head.doubles(), depth, &targets),
        );
    }
}
