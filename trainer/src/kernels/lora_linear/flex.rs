//! The modules of one input on the CPU, in blocks of rows: base, update and residual meet in the registers of a tile.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{LoraLinearKernel, Module, Modules};
use crate::kernels::Frozen;
use crate::kernels::simd::{
    Form, Matrix, Packed, Panels, Product, Rhs, Side, Term, contiguous, dim, few_rows, row_block, slice, tensor, zeros,
};

impl LoraLinearKernel for Flex {
    fn lora_linear_forward(
        x: FlexTensor,
        weights: Vec<Frozen<Flex>>,
        bias: Option<FlexTensor>,
        adapter: Option<FlexTensor>,
        residual: Option<FlexTensor>,
        modules: &Modules,
    ) -> (FlexTensor, FlexTensor) {
        let x = contiguous(x);
        let [bias, adapter, residual] = [bias, adapter, residual].map(|t| t.map(contiguous));
        let weights: Vec<Frozen<Flex>> = weights.into_iter().map(Frozen::contiguous).collect();
        let (tokens, depth) = (dim(&x, 0), dim(&x, 1));
        let group = Group::new(depth, &weights, adapter.as_ref(), modules);
        let mut reduced = vec![0.0; tokens * group.rank];
        let mut out = zeros(tokens * group.width);
        let start = Start { residual: residual.as_ref().map(slice), bias: bias.as_ref().map(slice) };
        // In bfloat16 a row must not depend on how many others come with it.
        if group.form == Form::Plain && few_rows::applies(tokens) {
            group.forward_few_rows(slice(&x), start, &mut reduced, &mut out);
        } else {
            group.forward(slice(&x), start, &mut reduced, &mut out);
        }
        (tensor(out, [tokens, group.width]), tensor(reduced, [tokens, group.rank]))
    }

    fn lora_linear_backward(
        grad: FlexTensor,
        x: FlexTensor,
        reduced: FlexTensor,
        weights: Vec<Frozen<Flex>>,
        adapter: Option<FlexTensor>,
        modules: &Modules,
        needs_x: bool,
    ) -> (Option<FlexTensor>, Option<FlexTensor>) {
        let [grad, x, reduced] = [grad, x, reduced].map(contiguous);
        let adapter = adapter.map(contiguous);
        let weights: Vec<Frozen<Flex>> = weights.into_iter().map(Frozen::contiguous).collect();
        let (tokens, depth) = (dim(&x, 0), dim(&x, 1));
        let group = Group::new(depth, &weights, adapter.as_ref(), modules);
        let grad = slice(&grad);
        let (grad_reduced, x_grad) = group.input_gradient(grad, tokens, needs_x);
        let x_grad = needs_x.then(|| tensor(x_grad, [tokens, depth]));
        let adapter_grad = adapter.is_some().then(|| {
            let numbers = group.adapter_gradient(grad, slice(&x), slice(&reduced), &grad_reduced, tokens);
            let count = numbers.len();
            tensor(numbers, [count])
        });
        (x_grad, adapter_grad)
    }
}

/// What the products are added to.
#[derive(Clone, Copy)]
struct Start<'a> {
    residual: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
}

impl Start<'_> {
    /// Whether there is anything; otherwise the output is written, not added to.
    fn exists(self) -> bool {
        self.residual.is_some() || self.bias.is_some()
    }

    /// Writes the rows of the output from `first` on.
    fn write(self, first: usize, width: usize, out: &mut [f32]) {
        if let Some(residual) = self.residual {
            out.copy_from_slice(&residual[first * width..][..out.len()]);
        }
        let Some(bias) = self.bias else { return };
        for row in out.chunks_exact_mut(width) {
            for (out, bias) in row.iter_mut().zip(bias) {
                *out += bias;
            }
        }
    }
}

/// As many pieces of `rows` rows as there are, also when the rows are empty.
fn pieces(numbers: &mut [f32], rows: usize, width: usize, count: usize) -> Vec<&mut [f32]> {
    let mut pieces: Vec<&mut [f32]> = numbers.chunks_mut((rows * width).max(1)).collect();
    pieces.resize_with(count, Default::default);
    pieces
}

/// Modules that share their input.
struct Group<'a> {
    /// Numbers in a row of the input.
    depth: usize,
    /// Numbers in a row of the output.
    width: usize,
    /// The sum of the ranks.
    rank: usize,
    /// Of all products.
    form: Form,
    parts: Vec<Part<'a>>,
}

struct Part<'a> {
    weight: Matrix<'a>,
    /// `[rank, in]`.
    a: &'a [f32],
    /// `[out, rank]`.
    b: &'a [f32],
    module: Module,
    /// Its first column in the output.
    column: usize,
    /// Its first column among the reduced.
    rank_column: usize,
}

impl<'a> Part<'a> {
    /// Its columns in the output.
    fn columns(&self) -> Range<usize> {
        self.column..self.column + self.module.out
    }

    /// Its columns among the reduced.
    fn rank_columns(&self) -> Range<usize> {
        self.rank_column..self.rank_column + self.module.rank
    }

    /// `Wᵀ` as panels.
    fn transposed(&self, form: Form) -> Cow<'a, Panels> {
        let read = |row, out: &mut [f32]| self.weight.read(row, 0..self.weight.columns, out);
        let make = || Panels::transposed(form, self.weight.rows, self.weight.columns, read);
        self.packed(form, |packed| &packed.transposed, make)
    }

    /// `W` as panels.
    fn rows(&self, form: Form) -> Cow<'a, Panels> {
        let read = |row, columns, out: &mut [f32]| self.weight.read(row, columns, out);
        let make = || Panels::rows(form, self.weight.columns, self.weight.rows, self.weight.alignment(), read);
        self.packed(form, |packed| &packed.rows, make)
    }

    /// Panels as they were packed before, or packed now.
    fn packed(
        &self,
        form: Form,
        place: impl Fn(&'a Packed) -> &'a OnceLock<Panels>,
        make: impl FnOnce() -> Panels,
    ) -> Cow<'a, Panels> {
        let Some(packed) = self.weight.packed().filter(|_| form == Form::Paired) else { return Cow::Owned(make()) };
        // Not `get_or_init`: a thread that packs may meanwhile be given work that waits for the same panels.
        let place = place(packed);
        match place.get() {
            Some(panels) => Cow::Borrowed(panels),
            None => Cow::Borrowed({
                place.set(make()).ok();
                place.get().expect("they were just put there")
            }),
        }
    }
}

impl<'a> Group<'a> {
    fn new(depth: usize, weights: &'a [Frozen<Flex>], adapter: Option<&'a FlexTensor>, modules: &Modules) -> Self {
        let mut numbers = adapter.map_or(&[][..], slice);
        let mut take = |count: usize| {
            let (taken, rest) = numbers.split_at(count);
            numbers = rest;
            taken
        };
        let (mut width, mut rank) = (0, 0);
        let parts = weights.iter().zip(&modules.each).map(|(weight, &module)| {
            let (a, b) = (take(module.rank * depth), take(module.out * module.rank));
            let part = Part { weight: Matrix::new(weight), a, b, module, column: width, rank_column: rank };
            width += module.out;
            rank += module.rank;
            part
        });
        let parts = parts.collect();
        Self { depth, width, rank, form: modules.precision.into(), parts }
    }

    fn updated(&self) -> impl Iterator<Item = &Part<'a>> {
        self.parts.iter().filter(|part| part.module.rank > 0)
    }

    /// Multiplies each module's part of the reduced by its scaling.
    fn scale(&self, reduced: &mut [f32]) {
        for row in reduced.chunks_exact_mut(self.rank.max(1)) {
            for part in self.updated() {
                for number in &mut row[part.rank_column..][..part.module.rank] {
                    *number *= part.module.scaling;
                }
            }
        }
    }

    /// `reduced = scaling · x Aᵀ` of all modules side by side, and `out = start + x Wᵀ + reduced Bᵀ`.
    fn forward(&self, x: &[f32], start: Start<'_>, reduced: &mut [f32], out: &mut [f32]) {
        let tokens = x.len() / self.depth;
        let rows_of_a: Vec<&[f32]> = self.updated().flat_map(|part| part.a.chunks_exact(self.depth)).collect();
        let pack = |part: &Part<'a>| {
            let rank = part.module.rank;
            let base = || part.transposed(self.form);
            let update = || {
                let read = |row: usize, out: &mut [f32]| out.copy_from_slice(&part.b[row * rank..][..rank]);
                (rank > 0).then(|| Panels::transposed(self.form, part.module.out, rank, read))
            };
            rayon::join(base, update)
        };
        let (panels, a): (Vec<_>, _) = rayon::join(
            || self.parts.par_iter().map(pack).collect(),
            || Panels::transposed(self.form, self.rank, self.depth, |row, out| out.copy_from_slice(rows_of_a[row])),
        );
        let block = row_block(tokens);
        let reduced = pieces(reduced, block, self.rank, tokens.div_ceil(block));
        out.par_chunks_mut(block * self.width).zip(reduced).enumerate().for_each(|(index, (out, reduced))| {
            let rows = out.len() / self.width;
            let x = &x[index * block * self.depth..][..rows * self.depth];
            let (form, steps) = (self.form, self.form.steps(self.depth));
            let left = form.along(x, self.depth, 0..self.depth, rows);
            let (terms, out_row) = (&[left.rows(Rhs::Panels(&a), steps)], self.rank);
            Product { rows, columns: self.rank, terms, form, out: reduced, out_row, accumulate: false }.compute();
            self.scale(reduced);
            start.write(index * block, self.width, out);
            for (part, (base, update)) in self.parts.iter().zip(&panels) {
                let own = form.along(reduced, self.rank, part.rank_columns(), rows);
                let update = update.as_ref().map(|b| own.rows(Rhs::Panels(b), form.steps(part.module.rank)));
                let base = left.rows(Rhs::Panels(base), steps);
                let terms: Vec<Term<'_>> = std::iter::once(base).chain(update).collect();
                let (columns, out) = (part.module.out, &mut out[part.column..]);
                let (out_row, accumulate) = (self.width, start.exists());
                Product { rows, columns, terms: &terms, form, out, out_row, accumulate }.compute();
            }
        });
    }

    /// [`Self::forward`] for a handful of tokens: every weight is read once, where it lies.
    fn forward_few_rows(&self, x: &[f32], start: Start<'_>, reduced: &mut [f32], out: &mut [f32]) {
        start.write(0, self.width, out);
        let mut column = 0;
        for part in self.updated() {
            let a = Matrix::from_slice(part.a, self.depth);
            few_rows::product(x, self.depth, a, &mut reduced[column..], self.rank, false);
            column += part.module.rank;
        }
        self.scale(reduced);
        for part in &self.parts {
            few_rows::product(x, self.depth, part.weight, &mut out[part.column..], self.width, start.exists());
        }
        for part in self.updated() {
            let b = Matrix::from_slice(part.b, part.module.rank);
            few_rows::product(&reduced[part.rank_column..], self.rank, b, &mut out[part.column..], self.width, true);
        }
    }

    /// `grad_reduced = scaling · grad B` of all modules side by side, and `Σ grad W + grad_reduced A` if it is needed.
    fn input_gradient(&self, grad: &[f32], tokens: usize, needed: bool) -> (Vec<f32>, Vec<f32>) {
        let rows_of_a: Vec<&[f32]> = self.updated().flat_map(|part| part.a.chunks_exact(self.depth)).collect();
        let base = || self.parts.par_iter().map(|part| part.rows(self.form)).collect::<Vec<_>>();
        let update = || {
            Panels::rows(self.form, self.depth, self.rank, 1, |k, columns, out| {
                out.copy_from_slice(&rows_of_a[k][columns]);
            })
        };
        let pack = |part: &Part<'_>| {
            let rank = part.module.rank;
            Panels::rows(self.form, rank, part.module.out, 1, |k, columns, out| {
                out.copy_from_slice(&part.b[k * rank..][columns]);
            })
        };
        let (b, of_x): (Vec<Panels>, _) = rayon::join(
            || self.updated().collect::<Vec<_>>().into_par_iter().map(pack).collect(),
            || needed.then(|| rayon::join(base, update)),
        );
        let block = row_block(tokens);
        let count = tokens.div_ceil(block);
        let mut grad_reduced = vec![0.0; tokens * self.rank];
        let mut x_grad = zeros(if needed { tokens * self.depth } else { 0 });
        let reduced = pieces(&mut grad_reduced, block, self.rank, count);
        let outs = pieces(&mut x_grad, block, self.depth, count);
        let blocks = grad.par_chunks(block * self.width).zip(reduced).zip(outs);
        blocks.for_each(|((grad, reduced), out)| {
            let rows = grad.len() / self.width;
            let form = self.form;
            let own = |part: &Part<'_>| form.along(grad, self.width, part.columns(), rows);
            let lefts: Vec<Side<'_>> = self.parts.iter().map(own).collect();
            for ((part, left), b) in self.parts.iter().zip(&lefts).filter(|(part, _)| part.module.rank > 0).zip(&b) {
                let terms = &[left.rows(Rhs::Panels(b), form.steps(part.module.out))];
                let (columns, out) = (part.module.rank, &mut reduced[part.rank_column..]);
                Product { rows, columns, terms, form, out, out_row: self.rank, accumulate: false }.compute();
            }
            self.scale(reduced);
            let Some((bases, update)) = &of_x else { return };
            let reduced = form.along(reduced, self.rank, 0..self.rank, rows);
            let mut update = Some(reduced.rows(Rhs::Panels(update), form.steps(self.rank)));
            for (index, ((part, left), base)) in self.parts.iter().zip(&lefts).zip(bases).enumerate() {
                let base = left.rows(Rhs::Panels(base), form.steps(part.module.out));
                let terms: Vec<Term<'_>> = std::iter::once(base).chain(update.take()).collect();
                let (columns, out) = (self.depth, &mut *out);
                Product { rows, columns, terms: &terms, form, out, out_row: columns, accumulate: index > 0 }.compute();
            }
        });
        (grad_reduced, x_grad)
    }

    /// `dA = grad_reducedᵀ x` and `dB = gradᵀ reduced` of each module, in the order of the adapter.
    ///
    /// Each number is added up over all tokens by one tile, so that the sum has one order.
    fn adapter_gradient(
        &self,
        grad: &[f32],
        x: &[f32],
        reduced: &[f32],
        grad_reduced: &[f32],
        tokens: usize,
    ) -> Vec<f32> {
        /// Columns that one task computes: a few panels of the widest tile.
        const COLUMNS: usize = 96;
        let form = self.form;
        let [of_a, of_b] = [grad_reduced, reduced].map(|lhs| form.across(lhs, self.rank, self.rank, tokens));
        // The rows of all `A` at once, since they share `x`; then each `Bᵀ`.
        let whole_a = (0..self.rank, &of_a, x, self.depth, 0..self.depth);
        let each_b = self.updated().map(|part| (part.rank_columns(), &of_b, grad, self.width, part.columns()));
        let tasks: Vec<_> = std::iter::once(whole_a)
            .chain(each_b)
            .enumerate()
            .flat_map(|(product, all)| {
                (0..all.4.len()).step_by(COLUMNS).map(move |start| (product, start, all.clone()))
            })
            .collect();
        let blocks: Vec<Vec<f32>> = tasks
            .par_iter()
            .map(|(_, start, (rows, lhs, matrix, row, all))| {
                let columns = COLUMNS.min(all.len() - start);
                let rhs = form.across(&matrix[all.start + start..], *row, columns, tokens);
                let term = Term {
                    lhs: &lhs.numbers[rows.start..],
                    lhs_row: 1,
                    lhs_depth: lhs.row,
                    rhs: Rhs::Rows { data: &rhs.numbers, row: rhs.row },
                    depth: form.steps(tokens),
                };
                let mut out = vec![0.0; rows.len() * columns];
                let (terms, out_row) = (&[term], columns);
                Product { rows: rows.len(), columns, terms, form, out: &mut out, out_row, accumulate: false }.compute();
                out
            })
            .collect();
        let mut gradient = vec![0.0; self.updated().map(|part| part.a.len() + part.b.len()).sum()];
        let mut offset = 0;
        let offsets: Vec<usize> = self
            .updated()
            .map(|part| {
                let own = offset;
                offset += part.a.len() + part.b.len();
                own
            })
            .collect();
        for ((product, start, (.., all)), block) in tasks.iter().zip(&blocks) {
            let (product, start) = (*product, *start);
            let columns = COLUMNS.min(all.len() - start);
            if product == 0 {
                for (part, &own) in self.updated().zip(&offsets) {
                    for row in 0..part.module.rank {
                        let from = &block[(part.rank_column + row) * columns..][..columns];
                        gradient[own + row * self.depth + start..][..columns].copy_from_slice(from);
                    }
                }
            } else {
                let part = self.updated().nth(product - 1).expect("a task for each module with an update");
                let b = &mut gradient[offsets[product - 1] + part.a.len()..][..part.b.len()];
                for (column, b) in b.chunks_exact_mut(part.module.rank).skip(start).take(columns).enumerate() {
                    for (row, b) in b.iter_mut().enumerate() {
                        *b = block[row * columns + column];
                    }
                }
            }
        }
        gradient
    }
}
