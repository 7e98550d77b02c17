//! The divergence on the CPU: both softmaxes block of vocabulary by block of vocabulary, each with a maximum of its own.
//!
//! With `z` the base's logits and `y` the adapted model's, `KL = Σ p (z - y) - log Σ e^z + log Σ e^y`, where `p` is the
//! base's softmax; all three sums are added up in one pass. Rows of equal bits give equal logits, since both go through
//! the same products, and then every term cancels exactly.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::LinearKlDivergenceKernel;
use crate::kernels::simd::vector::{each, total};
use crate::kernels::simd::{
    Form, Matrix, Part, Softmax, arch, contiguous, dim, for_each_part, row_block, slice, tensor,
};
use crate::kernels::{Frozen, Precision};

impl LinearKlDivergenceKernel for Flex {
    fn linear_kl_divergence_forward(
        hidden: FlexTensor,
        base_hidden: FlexTensor,
        lm_head: Frozen<Flex>,
        precision: Precision,
        with_gradient: bool,
    ) -> (FlexTensor, Option<FlexTensor>) {
        let ([hidden, base_hidden], lm_head) = ([hidden, base_hidden].map(contiguous), lm_head.contiguous());
        let (rows, depth) = (dim(&hidden, 0), dim(&hidden, 1));
        let (head, form) = (Matrix::new(&lm_head), Form::from(precision));
        let block = row_block(rows) * depth;
        let mut states: Vec<Rows<'_>> = slice(&hidden)
            .chunks(block)
            .zip(slice(&base_hidden).chunks(block))
            .map(|(hidden, base)| {
                let [adapted, base] = [hidden, base].map(|hidden| Softmax::new(hidden, depth, form, with_gradient));
                Rows { differences: vec![0.0; adapted.rows()], adapted, base }
            })
            .collect();
        for_each_part(&head, form, with_gradient, |part| states.par_iter_mut().for_each(|rows| rows.add(part)));
        let divergences = states.iter().flat_map(Rows::divergences).collect();
        let gradient = with_gradient.then(|| {
            let numbers = states.iter().flat_map(Rows::gradient).collect();
            tensor(numbers, [rows, depth])
        });
        (tensor(divergences, [rows]), gradient)
    }
}

/// Some rows, and what is known of them after a part of the vocabulary.
struct Rows<'a> {
    adapted: Softmax<'a>,
    base: Softmax<'a>,
    /// The sum of `e^(base's logit - its largest)` times the base's logit less the adapted one so far.
    differences: Vec<f64>,
}

impl Rows<'_> {
    fn add(&mut self, part: &Part) {
        let (mut base, mut adapted) = (self.base.logits(part), self.adapted.logits(part));
        let mut less = adapted.clone();
        arch().dispatch(Difference { from: &base, less: &mut less });
        self.adapted.add(part, &mut adapted, |_, _, _| {});
        let (count, differences) = (part.count, &mut self.differences);
        self.base.add(part, &mut base, |row, weights, fade| {
            let sum = arch().dispatch(Dot(weights, &less[row * count..][..count]));
            differences[row] = differences[row] * f64::from(fade) + f64::from(sum);
        });
    }

    /// A divergence is never negative; where rounding makes it so, it is 0.
    #[expect(clippy::cast_possible_truncation, reason = "losses are f32")]
    fn divergences(&self) -> impl Iterator<Item = f32> {
        self.differences.iter().enumerate().map(|(row, difference)| {
            let mean = difference / self.base.sum(row);
            let divergence = mean - (self.base.log_sum(row) - self.adapted.log_sum(row));
            // Not `max`, which would turn a NaN into a 0.
            if divergence < 0.0 { 0.0 } else { divergence as f32 }
        })
    }

    /// `softmax · head` of the adapted model less that of the base.
    fn gradient(&self) -> impl Iterator<Item = f32> {
        let row = |row| self.adapted.mean(row).zip(self.base.mean(row)).map(|(adapted, base)| adapted - base);
        (0..self.adapted.rows()).flat_map(row)
    }
}

/// `less = from - less`.
struct Difference<'a> {
    from: &'a [f32],
    less: &'a mut [f32],
}

impl WithSimd for Difference<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        each!(S, simd, less in self.less, [from in self.from], simd.sub_f32s(from, less));
    }
}

/// The sum of the products.
struct Dot<'a>(&'a [f32], &'a [f32]);

impl WithSimd for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        total!(S, simd, [a in self.0, b in self.1], simd.mul_f32s(a, b))
    }
}
