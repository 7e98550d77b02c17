//! The modules of one input on the CPU, in blocks of rows: base, update and residual meet in the registers of a tile.

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use rayon::prelude::*;

use super::{LoraLinearKernel, Module};
use crate::kernels::simd::{
    Buffer, Matrix, Panels, Product, ROW_BLOCK, Rhs, Term, contiguous, dim, few_rows, slice, tensor,
};

impl LoraLinearKernel for Flex {
    fn lora_linear_forward(
        x: FlexTensor,
        weights: Vec<FlexTensor>,
        bias: Option<FlexTensor>,
        adapter: Option<FlexTensor>,
        residual: Option<FlexTensor>,
        modules: &[Module],
    ) -> (FlexTensor, FlexTensor) {
        let x = contiguous(x);
        let [bias, adapter, residual] = [bias, adapter, residual].map(|t| t.map(contiguous));
        let weights: Vec<FlexTensor> = weights.into_iter().map(contiguous).collect();
        let (tokens, depth) = (dim(&x, 0), dim(&x, 1));
        let group = Group::new(depth, &weights, adapter.as_ref(), modules);
        let mut reduced = Buffer::take(tokens * group.rank);
        let mut out = Buffer::take(tokens * group.width);
        let (bias, residual) = (bias.as_ref().map(slice), residual.as_ref().map(slice));
        start(&mut out, group.width, residual, bias);
        let accumulate = residual.is_some() || bias.is_some();
        if few_rows::applies(tokens) {
            group.forward_few_rows(slice(&x), &mut reduced, &mut out, accumulate);
        } else {
            group.reduce(slice(&x), &mut reduced);
            group.forward(slice(&x), &reduced, &mut out, accumulate);
        }
        (tensor(out, [tokens, group.width]), tensor(reduced, [tokens, group.rank]))
    }

    fn lora_linear_backward(
        grad: FlexTensor,
        x: FlexTensor,
        reduced: FlexTensor,
        weights: Vec<FlexTensor>,
        adapter: Option<FlexTensor>,
        modules: &[Module],
        needs_x: bool,
    ) -> (Option<FlexTensor>, Option<FlexTensor>) {
        let [grad, x, reduced] = [grad, x, reduced].map(contiguous);
        let adapter = adapter.map(contiguous);
        let weights: Vec<FlexTensor> = weights.into_iter().map(contiguous).collect();
        let (tokens, depth) = (dim(&x, 0), dim(&x, 1));
        let group = Group::new(depth, &weights, adapter.as_ref(), modules);
        let grad = slice(&grad);
        let grad_reduced = group.reduce_gradient(grad, tokens);
        let x_grad = needs_x.then(|| tensor(group.input_gradient(grad, &grad_reduced, tokens), [tokens, depth]));
        let adapter_grad = adapter.is_some().then(|| {
            let numbers = group.adapter_gradient(grad, slice(&x), slice(&reduced), &grad_reduced, tokens);
            let count = numbers.len();
            tensor(numbers, [count])
        });
        (x_grad, adapter_grad)
    }
}

/// Fills the output with what the products are added to; without either it is left as it is.
fn start(out: &mut [f32], width: usize, residual: Option<&[f32]>, bias: Option<&[f32]>) {
    match (residual, bias) {
        (Some(residual), bias) => {
            let blocks = out.par_chunks_mut(ROW_BLOCK * width).zip(residual.par_chunks(ROW_BLOCK * width));
            blocks.for_each(|(out, residual)| {
                out.copy_from_slice(residual);
                for row in out.chunks_exact_mut(width) {
                    for (out, bias) in row.iter_mut().zip(bias.unwrap_or_default()) {
                        *out += bias;
                    }
                }
            });
        }
        (None, Some(bias)) => out.par_chunks_mut(width).for_each(|out| out.copy_from_slice(bias)),
        (None, None) => {}
    }
}

/// Modules that share their input.
struct Group<'a> {
    /// Numbers in a row of the input.
    depth: usize,
    /// Numbers in a row of the output.
    width: usize,
    /// The sum of the ranks.
    rank: usize,
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

impl<'a> Group<'a> {
    fn new(depth: usize, weights: &'a [FlexTensor], adapter: Option<&'a FlexTensor>, modules: &[Module]) -> Self {
        let mut numbers = adapter.map_or(&[][..], slice);
        let mut take = |count: usize| {
            let (taken, rest) = numbers.split_at(count);
            numbers = rest;
            taken
        };
        let (mut width, mut rank) = (0, 0);
        let parts = weights.iter().zip(modules).map(|(weight, &module)| {
            let (a, b) = (take(module.rank * depth), take(module.out * module.rank));
            let part = Part { weight: Matrix::new(weight), a, b, module, column: width, rank_column: rank };
            width += module.out;
            rank += module.rank;
            part
        });
        let parts = parts.collect();
        Self { depth, width, rank, parts }
    }

    fn updated(&self) -> impl Iterator<Item = &Part<'a>> {
        self.parts.iter().filter(|part| part.module.rank > 0)
    }

    /// `scaling · x Aᵀ` of all modules side by side.
    fn reduce(&self, x: &[f32], reduced: &mut [f32]) {
        if self.rank == 0 {
            return;
        }
        let rows: Vec<&[f32]> = self.updated().flat_map(|part| part.a.chunks_exact(self.depth)).collect();
        let panels = Panels::transposed(self.rank, self.depth, |row, out| out.copy_from_slice(rows[row]));
        let blocks = reduced.par_chunks_mut(ROW_BLOCK * self.rank).zip(x.par_chunks(ROW_BLOCK * self.depth));
        blocks.for_each(|(out, x)| {
            let term = Term { lhs: x, lhs_row: self.depth, lhs_depth: 1, rhs: Rhs::Panels(&panels), depth: self.depth };
            let (rows, columns) = (out.len() / self.rank, self.rank);
            Product { rows, columns, terms: &[term], out, out_row: self.rank, accumulate: false }.compute();
            self.scale(out);
        });
    }

    /// Multiplies each module's part of the reduced by its scaling.
    fn scale(&self, reduced: &mut [f32]) {
        for row in reduced.chunks_exact_mut(self.rank) {
            for part in self.updated() {
                for number in &mut row[part.rank_column..][..part.module.rank] {
                    *number *= part.module.scaling;
                }
            }
        }
    }

    /// `x Wᵀ + reduced Bᵀ`.
    fn forward(&self, x: &[f32], reduced: &[f32], out: &mut [f32], accumulate: bool) {
        let pack = |part: &Part<'_>| {
            let base = Panels::transposed(part.module.out, self.depth, |row, out| {
                part.weight.read(row, 0..self.depth, out);
            });
            let rank = part.module.rank;
            let update = (rank > 0).then(|| {
                Panels::transposed(part.module.out, rank, |row, out| out.copy_from_slice(&part.b[row * rank..][..rank]))
            });
            (base, update)
        };
        let panels: Vec<(Panels, Option<Panels>)> = self.parts.iter().map(pack).collect();
        out.par_chunks_mut(ROW_BLOCK * self.width).enumerate().for_each(|(block, out)| {
            let rows = out.len() / self.width;
            let first = block * ROW_BLOCK;
            let x = &x[first * self.depth..][..rows * self.depth];
            for (part, (base, update)) in self.parts.iter().zip(&panels) {
                let base =
                    Term { lhs: x, lhs_row: self.depth, lhs_depth: 1, rhs: Rhs::Panels(base), depth: self.depth };
                let update = update.as_ref().map(|update| Term {
                    lhs: &reduced[first * self.rank + part.rank_column..],
                    lhs_row: self.rank,
                    lhs_depth: 1,
                    rhs: Rhs::Panels(update),
                    depth: part.module.rank,
                });
                let terms: Vec<Term<'_>> = std::iter::once(base).chain(update).collect();
                let (columns, out) = (part.module.out, &mut out[part.column..]);
                Product { rows, columns, terms: &terms, out, out_row: self.width, accumulate }.compute();
            }
        });
    }

    /// [`Self::reduce`] and [`Self::forward`] for a handful of tokens: every weight is read once, where it lies.
    fn forward_few_rows(&self, x: &[f32], reduced: &mut [f32], out: &mut [f32], accumulate: bool) {
        let mut column = 0;
        for part in self.updated() {
            let a = Matrix::from_slice(part.a, self.depth);
            few_rows::product(x, self.depth, a, &mut reduced[column..], self.rank, false);
            column += part.module.rank;
        }
        if self.rank > 0 {
            self.scale(reduced);
        }
        for part in &self.parts {
            few_rows::product(x, self.depth, part.weight, &mut out[part.column..], self.width, accumulate);
        }
        for part in self.updated() {
            let b = Matrix::from_slice(part.b, part.module.rank);
            few_rows::product(&reduced[part.rank_column..], self.rank, b, &mut out[part.column..], self.width, true);
        }
    }

    /// `scaling · grad B` of all modules side by side.
    fn reduce_gradient(&self, grad: &[f32], tokens: usize) -> Buffer {
        let mut reduced = Buffer::take(tokens * self.rank);
        if self.rank == 0 {
            return reduced;
        }
        let pack = |part: &Part<'_>| {
            let rank = part.module.rank;
            Panels::rows(rank, part.module.out, |k, columns, out| {
                out.copy_from_slice(&part.b[k * rank..][columns]);
            })
        };
        let panels: Vec<Panels> = self.updated().map(pack).collect();
        reduced.par_chunks_mut(ROW_BLOCK * self.rank).enumerate().for_each(|(block, out)| {
            let rows = out.len() / self.rank;
            for (part, panels) in self.updated().zip(&panels) {
                let term = Term {
                    lhs: &grad[block * ROW_BLOCK * self.width + part.column..],
                    lhs_row: self.width,
                    lhs_depth: 1,
                    rhs: Rhs::Panels(panels),
                    depth: part.module.out,
                };
                let (columns, out) = (part.module.rank, &mut out[part.rank_column..]);
                Product { rows, columns, terms: &[term], out, out_row: self.rank, accumulate: false }.compute();
            }
            self.scale(out);
        });
        reduced
    }

    /// `Σ grad W + grad_reduced A` over the modules.
    fn input_gradient(&self, grad: &[f32], grad_reduced: &[f32], tokens: usize) -> Buffer {
        let owner: Vec<(usize, usize)> =
            self.parts.iter().enumerate().flat_map(|(i, part)| (0..part.module.out).map(move |k| (i, k))).collect();
        let base = Panels::rows(self.depth, self.width, |k, columns, out| {
            let (part, row) = owner[k];
            self.parts[part].weight.read(row, columns, out);
        });
        let a: Vec<&[f32]> = self.updated().flat_map(|part| part.a.chunks_exact(self.depth)).collect();
        let update = (self.rank > 0)
            .then(|| Panels::rows(self.depth, self.rank, |k, columns, out| out.copy_from_slice(&a[k][columns])));
        let mut out = Buffer::take(tokens * self.depth);
        out.par_chunks_mut(ROW_BLOCK * self.depth).enumerate().for_each(|(block, out)| {
            let (rows, first) = (out.len() / self.depth, block * ROW_BLOCK);
            let base = Term {
                lhs: &grad[first * self.width..],
                lhs_row: self.width,
                lhs_depth: 1,
                rhs: Rhs::Panels(&base),
                depth: self.width,
            };
            let update = update.as_ref().map(|update| Term {
                lhs: &grad_reduced[first * self.rank..],
                lhs_row: self.rank,
                lhs_depth: 1,
                rhs: Rhs::Panels(update),
                depth: self.rank,
            });
            let terms: Vec<Term<'_>> = std::iter::once(base).chain(update).collect();
            let columns = self.depth;
            Product { rows, columns, terms: &terms, out, out_row: columns, accumulate: false }.compute();
        });
        out
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
    ) -> Buffer {
        /// Columns that one task computes: a few panels of the widest tile.
        const COLUMNS: usize = 96;
        // The rows of all `A` at once, since they share `x`; then each `Bᵀ`.
        let whole_a = (0usize, self.rank, grad_reduced, x, self.depth, 0usize, self.depth);
        let each_b = self
            .updated()
            .map(|part| (part.rank_column, part.module.rank, reduced, grad, self.width, part.column, part.module.out));
        let tasks: Vec<_> = std::iter::once(whole_a)
            .chain(each_b)
            .enumerate()
            .flat_map(|(product, all)| (0..all.6).step_by(COLUMNS).map(move |start| (product, start, all)))
            .collect();
        let blocks: Vec<Buffer> = tasks
            .par_iter()
            .map(|&(_, start, (row, rows, lhs, rhs, rhs_row, first, columns))| {
                let columns = COLUMNS.min(columns - start);
                let mut out = Buffer::take(rows * columns);
                let term = Term {
                    lhs: &lhs[row..],
                    lhs_row: 1,
                    lhs_depth: self.rank,
                    rhs: Rhs::Rows { data: &rhs[first + start..], row: rhs_row },
                    depth: tokens,
                };
                let (terms, out_row) = (&[term], columns);
                Product { rows, columns, terms, out: &mut out, out_row, accumulate: false }.compute();
                out
            })
            .collect();
        let mut gradient = Buffer::take(self.updated().map(|part| part.a.len() + part.b.len()).sum());
        let mut offset = 0;
        let offsets: Vec<usize> = self
            .updated()
            .map(|part| {
                let own = offset;
                offset += part.a.len() + part.b.len();
                own
            })
            .collect();
        for (&(product, start, (.., columns)), block) in tasks.iter().zip(&blocks) {
            let columns = COLUMNS.min(columns - start);
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
