//! The softmax of the head's logits, part by part of the vocabulary, with a running maximum.
//!
//! No more than a part's logits are ever held. Beside the sums of `e^(logit - largest)` the rows of the head can be
//! added up with the same weights, as attention adds up its values: that is what gradients of hidden states are made of.

use pulp::{Simd, WithSimd};

use super::vector::exponentials;
use super::{Form, Matrix, Panels, Product, Rhs, Side, arch};

/// Vocabulary whose logits a task holds for its rows.
const VOCABULARY: usize = 768;

/// A part of the head, packed.
pub(in crate::kernels) struct Part {
    /// The first token.
    pub start: usize,
    /// How many tokens.
    pub count: usize,
    /// For products with hidden states: `headᵀ`.
    transposed: Panels,
    /// For products with probabilities: `head`; packed where means are wanted.
    plain: Option<Panels>,
}

impl Part {
    /// Packs the tokens from `start` on; none of them beyond the end.
    fn pack(head: &Matrix<'_>, start: usize, form: Form, with_means: bool) -> Self {
        let depth = head.columns;
        let start = start.min(head.rows);
        let count = VOCABULARY.min(head.rows - start);
        let (transposed, plain) = rayon::join(
            || Panels::transposed(form, count, depth, |row, out| head.read(start + row, 0..depth, out)),
            || {
                with_means.then(|| {
                    Panels::rows(form, depth, count, head.alignment(), |k, columns, out| {
                        head.read(start + k, columns, out);
                    })
                })
            },
        );
        Self { start, count, transposed, plain }
    }
}

/// Hands out the head part by part.
pub(in crate::kernels) fn for_each_part(
    head: &Matrix<'_>,
    form: Form,
    with_means: bool,
    mut task: impl FnMut(&Part) + Send,
) {
    let mut packed = Part::pack(head, 0, form, with_means);
    while packed.count > 0 {
        let part = packed;
        // The next part is packed meanwhile, so that no processor has nothing to do.
        ((), packed) = rayon::join(|| task(&part), || Part::pack(head, part.start + part.count, form, with_means));
    }
}

/// Some rows of hidden states, and what is known of the softmax of their logits after a part of the vocabulary.
pub(in crate::kernels) struct Softmax<'a> {
    hidden: Side<'a>,
    depth: usize,
    form: Form,
    /// The largest logit so far.
    largest: Vec<f32>,
    /// The sum of `e^(logit - largest)` so far.
    sums: Vec<f64>,
    /// The sum of `e^(logit - largest)` times the head's row so far; empty where it is not wanted.
    weighted: Vec<f32>,
}

impl<'a> Softmax<'a> {
    /// Of rows of `depth` numbers.
    pub(in crate::kernels) fn new(hidden: &'a [f32], depth: usize, form: Form, with_means: bool) -> Self {
        let rows = hidden.len() / depth;
        let hidden = form.along(hidden, depth, 0..depth, rows);
        let weighted = vec![0.0; if with_means { rows * depth } else { 0 }];
        Self { hidden, depth, form, largest: vec![f32::NEG_INFINITY; rows], sums: vec![0.0; rows], weighted }
    }

    /// How many rows.
    pub(in crate::kernels) fn rows(&self) -> usize {
        self.sums.len()
    }

    /// The logits of a part, `[rows, part.count]`.
    pub(in crate::kernels) fn logits(&self, part: &Part) -> Vec<f32> {
        let (rows, columns, form) = (self.rows(), part.count, self.form);
        let mut out = vec![0.0; rows * columns];
        let terms = &[self.hidden.rows(Rhs::Panels(&part.transposed), form.steps(self.depth))];
        Product { rows, columns, terms, form, out: &mut out, out_row: columns, accumulate: false }.compute();
        out
    }

    /// Counts a part's logits in, which become `e^(logit - largest)`. `each_row` sees each row of them, with the factor
    /// by which the new maximum shrinks whatever was added up with the old one.
    pub(in crate::kernels) fn add(
        &mut self,
        part: &Part,
        logits: &mut [f32],
        mut each_row: impl FnMut(usize, &[f32], f32),
    ) {
        let (rows, count, depth) = (self.rows(), part.count, self.depth);
        for (row, logits) in logits.chunks_exact_mut(count).enumerate() {
            let before = self.largest[row];
            let (largest, sum) = arch().dispatch(Exponentials { logits, before });
            let fade = (before - largest).exp();
            self.largest[row] = largest;
            self.sums[row] = self.sums[row] * f64::from(fade) + f64::from(sum);
            if let (Some(weighted), true) = (self.weighted.get_mut(row * depth..(row + 1) * depth), fade < 1.0) {
                for weighted in weighted {
                    *weighted *= fade;
                }
            }
            each_row(row, logits, fade);
        }
        if let Some(plain) = &part.plain {
            let (form, out) = (self.form, &mut self.weighted);
            let weights = form.along(logits, count, 0..count, rows);
            let terms = &[weights.rows(Rhs::Panels(plain), form.steps(count))];
            Product { rows, columns: depth, terms, form, out, out_row: depth, accumulate: true }.compute();
        }
    }

    /// The sum of `e^(logit - largest)` of a row.
    pub(in crate::kernels) fn sum(&self, row: usize) -> f64 {
        self.sums[row]
    }

    /// The logarithm of the sum of `e^logit` of a row.
    pub(in crate::kernels) fn log_sum(&self, row: usize) -> f64 {
        self.sums[row].ln() + f64::from(self.largest[row])
    }

    /// The mean of the head's rows under a row's softmax, `[depth]`; empty where it was not wanted.
    #[expect(clippy::cast_possible_truncation, reason = "gradients are f32")]
    pub(in crate::kernels) fn mean(&self, row: usize) -> impl Iterator<Item = f32> {
        let inverse = (1.0 / self.sums[row]) as f32;
        let weighted = self.weighted.get(row * self.depth..(row + 1) * self.depth).unwrap_or_default();
        weighted.iter().map(move |weighted| weighted * inverse)
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
