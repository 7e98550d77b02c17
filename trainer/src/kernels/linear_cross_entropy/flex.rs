//! The head's loss on the CPU: block of vocabulary by block of vocabulary, with a running maximum.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::LinearCrossEntropyKernel;
use crate::kernels::simd::{
    Form, Matrix, Part, Softmax, contiguous, dim, for_each_part, indices, row_block, slice, tensor,
};
use crate::kernels::{Frozen, Precision};

impl LinearCrossEntropyKernel for Flex {
    fn linear_cross_entropy_forward(
        hidden: FlexTensor,
        lm_head: Frozen<Flex>,
        targets: FlexTensor,
        precision: Precision,
        with_gradient: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        let ([hidden, targets], lm_head) = ([hidden, targets].map(contiguous), lm_head.contiguous());
        let (rows, depth) = (dim(&hidden, 0), dim(&hidden, 1));
        let (head, form) = (Matrix::new(&lm_head), Form::from(precision));
        let targets = indices(&targets);
        let block = row_block(rows);
        let mut states: Vec<Rows<'_>> = slice(&hidden)
            .chunks(block * depth)
            .zip(targets.chunks(block))
            .map(|(hidden, targets)| Rows {
                softmax: Softmax::new(hidden, depth, form, with_gradient),
                targets,
                target_logits: vec![0.0; targets.len()],
            })
            .collect();
        for_each_part(&head, form, with_gradient, |part| states.par_iter_mut().for_each(|rows| rows.add(part)));
        let losses = states.iter().flat_map(Rows::losses).collect();
        let gradient = with_gradient.then(|| {
            let blocks: Vec<Vec<f32>> = states.par_iter().map(|rows| rows.gradient(&head)).collect();
            tensor(blocks.concat(), [rows, depth])
        });
        (tensor(losses, [rows]), gradient)
    }
}

/// Some rows, and what is known of them after a part of the vocabulary.
struct Rows<'a> {
    softmax: Softmax<'a>,
    targets: &'a [usize],
    target_logits: Vec<f32>,
}

impl Rows<'_> {
    fn add(&mut self, part: &Part) {
        let mut logits = self.softmax.logits(part);
        for ((logits, target), out) in logits.chunks(part.count).zip(self.targets).zip(&mut self.target_logits) {
            if let Some(&logit) = target.checked_sub(part.start).and_then(|place| logits.get(place)) {
                *out = logit;
            }
        }
        self.softmax.add(part, &mut logits, |_, _, _| {});
    }

    /// `log(sum of e^logit) - logit[target]`.
    #[expect(clippy::cast_possible_truncation, reason = "losses are f32")]
    fn losses(&self) -> impl Iterator<Item = f32> {
        let loss = |(row, logit): (usize, &f32)| (self.softmax.log_sum(row) - f64::from(*logit)) as f32;
        self.target_logits.iter().enumerate().map(loss)
    }

    /// `softmax · head - head[target]`.
    fn gradient(&self, head: &Matrix<'_>) -> Vec<f32> {
        let mut target_row = vec![0.0; head.columns];
        let mut gradient = Vec::with_capacity(self.targets.len() * head.columns);
        for (row, &target) in self.targets.iter().enumerate() {
            head.read(target, 0..head.columns, &mut target_row);
            gradient.extend(self.softmax.mean(row).zip(&target_row).map(|(mean, target)| mean - target));
        }
        gradient
    }
}
