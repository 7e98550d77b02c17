//! The head's loss on the CPU: block of vocabulary by block of vocabulary, with a running maximum.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::LinearCrossEntropyKernel;
use crate::kernels::Frozen;
use crate::kernels::simd::vector::exponentials;
use crate::kernels::simd::{
    Matrix, Panels, Product, Rhs, Term, arch, contiguous, dim, indices, row_block, slice, tensor,
};

/// Vocabulary whose logits a task holds for its rows.
const VOCABULARY: usize = 768;

impl LinearCrossEntropyKernel for Flex {
    fn linear_cross_entropy_forward(
        hidden: FlexTensor,
        lm_head: Frozen<Flex>,
        targets: FlexTensor,
        with_gradient: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        let ([hidden, targets], lm_head) = ([hidden, targets].map(contiguous), lm_head.contiguous());
        let (rows, depth) = (dim(&hidden, 0), dim(&hidden, 1));
        let head = Matrix::new(&lm_head);
        let targets = indices(&targets);
        let block = row_block(rows);
        let mut states: Vec<Rows<'_>> = slice(&hidden)
            .chunks(block * depth)
            .zip(targets.chunks(block))
            .map(|(hidden, targets)| Rows::new(hidden, targets, depth, with_gradient))
            .collect();
        let pack = |start: usize| {
            let count = VOCABULARY.min(head.rows - start);
            rayon::join(
                || Panels::transposed(count, depth, |row, out| head.read(start + row, 0..depth, out)),
                || {
                    with_gradient.then(|| {
                        Panels::rows(depth, count, head.alignment(), |k, columns, out| {
                            head.read(start + k, columns, out);
                        })
                    })
                },
            )
        };
        let mut packed = pack(0);
        for start in (0..head.rows).step_by(VOCABULARY) {
            let (panels, plain) = packed;
            let count = VOCABULARY.min(head.rows - start);
            let next = start + VOCABULARY;
            // The next part is packed meanwhile, so that no processor has nothing to do.
            ((), packed) = rayon::join(
                || states.par_iter_mut().for_each(|rows| rows.add(start, count, &panels, plain.as_ref())),
                || pack(next.min(head.rows)),
            );
        }
        states.par_iter_mut().for_each(|rows| rows.finish(&head));
        let losses = states.iter().flat_map(|rows| rows.losses.iter().copied()).collect();
        let gradient = with_gradient.then(|| {
            let numbers = states.iter().flat_map(|rows| rows.gradient.iter().copied()).collect();
            tensor(numbers, [rows, depth])
        });
        (tensor(losses, [rows]), gradient)
    }
}

/// Some rows, and what is known of their softmax after a part of the vocabulary.
struct Rows<'a> {
    hidden: &'a [f32],
    targets: &'a [usize],
    depth: usize,
    /// The largest logit so far.
    largest: Vec<f32>,
    /// The sum of `e^(logit - largest)` so far.
    sums: Vec<f64>,
    /// The target's logit; in the end the loss.
    losses: Vec<f32>,
    /// The sum of `e^(logit - largest)` times the head's row so far; in the end the gradient.
    gradient: Vec<f32>,
    with_gradient: bool,
}

impl<'a> Rows<'a> {
    fn new(hidden: &'a [f32], targets: &'a [usize], depth: usize, with_gradient: bool) -> Self {
        let count = targets.len();
        Self {
            hidden,
            targets,
            depth,
            largest: vec![f32::NEG_INFINITY; count],
            sums: vec![0.0; count],
            losses: vec![0.0; count],
            gradient: vec![0.0; if with_gradient { count * depth } else { 0 }],
            with_gradient,
        }
    }

    /// Takes in the vocabulary from `start` on.
    fn add(&mut self, start: usize, count: usize, panels: &Panels, plain: Option<&Panels>) {
        let (rows, depth) = (self.targets.len(), self.depth);
        let mut logits = vec![0.0; rows * count];
        let terms = &[Term { lhs: self.hidden, lhs_row: depth, lhs_depth: 1, rhs: Rhs::Panels(panels), depth }];
        Product { rows, columns: count, terms, out: &mut logits, out_row: count, accumulate: false }.compute();
        for (row, logits) in logits.chunks_exact_mut(count).enumerate() {
            if let Some(&logit) = self.targets[row].checked_sub(start).and_then(|place| logits.get(place)) {
                self.losses[row] = logit;
            }
            let before = self.largest[row];
            let (largest, sum) = arch().dispatch(Exponentials { logits, before });
            let fade = (before - largest).exp();
            self.largest[row] = largest;
            self.sums[row] = self.sums[row] * f64::from(fade) + f64::from(sum);
            if self.with_gradient && fade < 1.0 {
                self.gradient[row * depth..][..depth].iter_mut().for_each(|g| *g *= fade);
            }
        }
        if let Some(plain) = plain {
            let terms = &[Term { lhs: &logits, lhs_row: count, lhs_depth: 1, rhs: Rhs::Panels(plain), depth: count }];
            let out = &mut self.gradient;
            Product { rows, columns: depth, terms, out, out_row: depth, accumulate: true }.compute();
        }
    }

    /// `loss = log(sum) + largest - logit[target]`; `gradient = softmax · head - head[target]`.
    #[expect(clippy::cast_possible_truncation, reason = "losses are f32")]
    fn finish(&mut self, head: &Matrix<'_>) {
        let mut target_row = vec![0.0; self.depth];
        for row in 0..self.targets.len() {
            self.losses[row] =
                (self.sums[row].ln() + f64::from(self.largest[row]) - f64::from(self.losses[row])) as f32;
            if self.with_gradient {
                head.read(self.targets[row], 0..self.depth, &mut target_row);
                let inverse = (1.0 / self.sums[row]) as f32;
                let gradient = &mut self.gradient[row * self.depth..][..self.depth];
                for (gradient, target) in gradient.iter_mut().zip(&target_row) {
                    *gradient = *gradient * inverse - target;
                }
            }
        }
    }
}

/// Turns logits into `e^(logit - largest)`, where `largest` counts in what was before; returns it and the sum.
struct Exponentials<'a> {
    logits: &'a mut [f32],
    before: f32,
}

impl WithSimd for Exponentials<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
        exponentials(simd, self.logits, self.before)
    }
}
