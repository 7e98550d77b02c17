//! Attention on the CPU: one task an example and head, a block of queries at a time.
//!
//! A block's scores against all keys that it sees stay in the second-level cache; nothing of the size of the square of
//! an example's length is ever kept.
#![expect(unsafe_code, reason = "the tasks of one tensor write to columns of it that do not overlap")]

use std::borrow::Cow;
use std::ops::Range;

use burn::backend::Flex;
use burn::backend::flex::FlexTensor;
use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{AttentionKernel, Heads, Span, Spans};
use crate::kernels::Precision;
use crate::kernels::simd::vector::{each, exp, exponentials, total};
use crate::kernels::simd::{
    Columns, Form, Panels, Product, Rhs, Side, Term, arch, contiguous, dim, slice, tensor, zeros,
};

/// Queries in a block.
const QUERIES: usize = 32;

impl AttentionKernel for Flex {
    fn attention_forward(
        qkv: FlexTensor,
        spans: &Spans,
        heads: Heads,
        precision: Precision,
    ) -> (FlexTensor, FlexTensor) {
        let qkv = contiguous(qkv);
        let (tokens, width, form) = (dim(&qkv, 0), heads.heads * heads.head_dim, precision.into());
        let mut out = zeros(tokens * width);
        let mut log_sums = vec![0.0; heads.heads * tokens];
        let (out_columns, sums) = (Columns::new(&mut out, width), Columns::new(&mut log_sums, tokens));
        with_heads(spans, heads).into_par_iter().for_each(|(span, head)| {
            let range = &span.range;
            let task = Task::of_rows(slice(&qkv), span, head, heads, form);
            // SAFETY: each task has its own span and head.
            let log_sums = unsafe { sums.row(head, range.clone()) };
            task.forward(
                |row, values| {
                    // SAFETY: as above.
                    unsafe { out_columns.row(range.start + row, head * heads.head_dim..(head + 1) * heads.head_dim) }
                        .copy_from_slice(values);
                },
                log_sums,
            );
        });
        (tensor(out, [tokens, width]), tensor(log_sums, [heads.heads, tokens]))
    }

    fn attention_backward(
        grad: FlexTensor,
        qkv: FlexTensor,
        output: FlexTensor,
        log_sums: FlexTensor,
        spans: &Spans,
        heads: Heads,
        precision: Precision,
    ) -> FlexTensor {
        let [grad, qkv, output, log_sums] = [grad, qkv, output, log_sums].map(contiguous);
        let (tokens, width, dim_of_head) = (dim(&qkv, 0), heads.width(), heads.head_dim);
        let (group, form) = (heads.heads / heads.kv_heads, precision.into());
        let mut out = zeros(tokens * width);
        // The gradients of keys and values of each query head; those of a group are added up afterwards, in order.
        let mut of_heads = zeros(2 * heads.heads * tokens * dim_of_head);
        let columns = Columns::new(&mut out, width);
        let per_head = Columns::new(&mut of_heads, tokens * dim_of_head);
        // Spans that see the same tokens add to the same gradients, so one task has all of them.
        with_heads(&families(spans), heads).into_par_iter().for_each(|(family, head)| {
            let rows = |kind: usize, tokens: &Range<usize>| {
                // SAFETY: each task has its own spans and head, and asks for the same rows one after the other.
                unsafe { per_head.row(kind * heads.heads + head, tokens.start * dim_of_head..tokens.end * dim_of_head) }
            };
            for span in *family {
                let Span { range, prefix } = span;
                let task = Task::of_rows(slice(&qkv), span, head, heads, form);
                let saved = Saved {
                    grad: &slice(&grad)[range.start * heads.heads * dim_of_head + head * dim_of_head..],
                    output: &slice(&output)[range.start * heads.heads * dim_of_head + head * dim_of_head..],
                    row: heads.heads * dim_of_head,
                    log_sums: &slice(&log_sums)[head * tokens..][range.clone()],
                };
                let write = |row, values: &[f32]| {
                    // SAFETY: as above.
                    unsafe { columns.row(range.start + row, head * dim_of_head..(head + 1) * dim_of_head) }
                        .copy_from_slice(values);
                };
                if prefix.is_empty() {
                    task.backward(&saved, rows(0, range), rows(1, range), write);
                    continue;
                }
                let [mut dk, mut dv] = [(); 2].map(|()| vec![0.0; (prefix.len() + range.len()) * dim_of_head]);
                task.backward(&saved, &mut dk, &mut dv, write);
                for (kind, gradient) in [dk, dv].iter().enumerate() {
                    let (of_prefix, own) = gradient.split_at(prefix.len() * dim_of_head);
                    rows(kind, prefix).iter_mut().zip(of_prefix).for_each(|(sum, part)| *sum += part);
                    rows(kind, range).copy_from_slice(own);
                }
            }
        });
        let first = heads.heads * dim_of_head;
        out.par_chunks_mut(width).enumerate().for_each(|(token, out)| {
            for (kind, out) in out[first..].chunks_exact_mut(heads.kv_heads * dim_of_head).enumerate() {
                for (kv_head, out) in out.chunks_exact_mut(dim_of_head).enumerate() {
                    for head in kv_head * group..(kv_head + 1) * group {
                        let from = ((kind * heads.heads + head) * tokens + token) * dim_of_head;
                        for (out, value) in out.iter_mut().zip(&of_heads[from..from + dim_of_head]) {
                            *out = if head == kv_head * group { *value } else { *out + value };
                        }
                    }
                }
            }
        });
        tensor(out, [tokens, width])
    }

    fn cached_attention_forward(q: FlexTensor, k: FlexTensor, v: FlexTensor, heads: Heads) -> FlexTensor {
        let [q, k, v] = [q, k, v].map(contiguous);
        let (new, total, width) = (dim(&q, 0), dim(&k, 0), heads.heads * heads.head_dim);
        let mut out = vec![0.0; new * width];
        let columns = Columns::new(&mut out, width);
        let group = heads.heads / heads.kv_heads;
        (0..heads.heads).into_par_iter().for_each(|head| {
            let kv = head / group * heads.head_dim;
            let task = Task {
                q: &slice(&q)[head * heads.head_dim..],
                q_row: width,
                k: slice(&k)[kv..].into(),
                v: slice(&v)[kv..].into(),
                kv_row: heads.kv_heads * heads.head_dim,
                queries: new,
                past: total - new,
                heads,
                form: Form::Plain,
            };
            task.forward(
                |row, values| {
                    // SAFETY: each task has its own head.
                    unsafe { columns.row(row, head * heads.head_dim..(head + 1) * heads.head_dim) }
                        .copy_from_slice(values);
                },
                &mut vec![0.0; new],
            );
        });
        tensor(out, [new, width])
    }
}

/// Everything with every head; the longest first would be best, and examples of a row are of like length anyway.
fn with_heads<T>(things: &[T], heads: Heads) -> Vec<(&T, usize)> {
    things.iter().flat_map(|thing| (0..heads.heads).map(move |head| (thing, head))).collect()
}

/// Each span with those that see it.
fn families(spans: &Spans) -> Vec<&[Span]> {
    spans.chunk_by(|_, next| !next.prefix.is_empty()).collect()
}

/// One head of one span.
struct Task<'a> {
    q: &'a [f32],
    q_row: usize,
    k: Cow<'a, [f32]>,
    v: Cow<'a, [f32]>,
    kv_row: usize,
    /// New tokens.
    queries: usize,
    /// Tokens before them.
    past: usize,
    heads: Heads,
    form: Form,
}

/// What the forward pass left for the backward pass, from the task's first row on.
struct Saved<'a> {
    grad: &'a [f32],
    output: &'a [f32],
    row: usize,
    log_sums: &'a [f32],
}

impl<'a> Task<'a> {
    /// From rows of queries, keys and values.
    fn of_rows(qkv: &'a [f32], span: &Span, head: usize, heads: Heads, form: Form) -> Self {
        let (Span { range, prefix }, row, dim) = (span, heads.width(), heads.head_dim);
        let kv_head = head / (heads.heads / heads.kv_heads);
        let from = |head: usize| &qkv[range.start * row + head * dim..];
        // Keys and values that do not lie one after the other are brought together.
        let all = |head: usize| -> Cow<'a, [f32]> {
            if prefix.is_empty() {
                return from(head).into();
            }
            let mut rows = Vec::with_capacity((prefix.len() + range.len()) * dim);
            for token in prefix.clone().chain(range.clone()) {
                rows.extend_from_slice(&qkv[token * row + head * dim..][..dim]);
            }
            rows.into()
        };
        Self {
            q: from(head),
            q_row: row,
            k: all(heads.heads + kv_head),
            v: all(heads.heads + heads.kv_heads + kv_head),
            kv_row: if prefix.is_empty() { row } else { dim },
            queries: range.len(),
            past: prefix.len(),
            heads,
            form,
        }
    }

    /// The blocks of queries, each with the keys that any of its queries sees; these begin at a panel's border.
    fn blocks(&self, panel: usize) -> impl Iterator<Item = Block> {
        let (heads, past, queries) = (self.heads, self.past, self.queries);
        (0..queries).step_by(QUERIES).map(move |first| {
            let count = QUERIES.min(queries - first);
            let start = heads.seen(past + first).start / panel * panel;
            Block { first, count, keys: start..past + first + count }
        })
    }

    /// Keys or values as panels, `[head_dim, total]`.
    fn panels(&self, rows: &[f32]) -> Panels {
        let depth = self.heads.head_dim;
        Panels::transposed(self.form, self.past + self.queries, depth, |key, out| {
            out.copy_from_slice(&rows[key * self.kv_row..][..depth]);
        })
    }

    /// Keys or values one below the other, `[total, head_dim]`.
    fn below<'b>(&self, rows: &'b [f32]) -> Side<'b> {
        self.form.across(rows, self.kv_row, self.heads.head_dim, self.past + self.queries)
    }

    /// Rows of queries, or of gradients, times the panels' keys.
    fn times_keys(&self, lhs: &[f32], lhs_row: usize, panels: &Panels, block: &Block, out: &mut [f32]) {
        let (rows, columns, form, depth) = (block.count, block.keys.len(), self.form, self.heads.head_dim);
        let lhs = form.along(lhs, lhs_row, 0..depth, rows);
        let terms = &[lhs.rows(Rhs::PanelsFrom(panels, block.keys.start / panels.width), form.steps(depth))];
        Product { rows, columns, terms, form, out, out_row: columns, accumulate: false }.compute();
    }

    /// A block's weights of keys times their rows (keys or values).
    fn times_rows(&self, weights: &[f32], below: &Side<'_>, block: &Block, out: &mut [f32]) {
        let (rows, columns, form, depth) = (block.count, self.heads.head_dim, self.form, block.keys.len());
        let lhs = form.along(weights, depth, 0..depth, rows);
        let rhs = Rhs::Rows { data: &below.numbers[form.steps(block.keys.start) * below.row..], row: below.row };
        let terms = &[lhs.rows(rhs, form.steps(depth))];
        Product { rows, columns, terms, form, out, out_row: columns, accumulate: false }.compute();
    }

    /// Adds what a block's queries say to the gradient of its keys or values.
    fn add_to_keys(&self, weights: &[f32], rows: &[f32], row: usize, block: &Block, out: &mut [f32]) {
        let (keys, columns, form) = (block.keys.len(), self.heads.head_dim, self.form);
        let weights = form.across(weights, keys, keys, block.count);
        let rows = form.across(rows, row, columns, block.count);
        let rhs = Rhs::Rows { data: &rows.numbers, row: rows.row };
        let depth = form.steps(block.count);
        let terms = &[Term { lhs: &weights.numbers, lhs_row: 1, lhs_depth: weights.row, rhs, depth }];
        let out = &mut out[block.keys.start * columns..];
        Product { rows: keys, columns, terms, form, out, out_row: columns, accumulate: true }.compute();
    }

    /// Calls `write(query, output)` for each query and notes the logarithms of the sums.
    fn forward(&self, mut write: impl FnMut(usize, &[f32]), log_sums: &mut [f32]) {
        let (keys, values) = (self.panels(&self.k), self.below(&self.v));
        let mut out = vec![0.0; QUERIES * self.heads.head_dim];
        let mut scores = vec![0.0; QUERIES * (self.past + self.queries)];
        for block in self.blocks(keys.width) {
            let width = block.keys.len();
            let scores = &mut scores[..block.count * width];
            self.times_keys(&self.q[block.first * self.q_row..], self.q_row, &keys, &block, scores);
            let mut inverse_sums = [0.0; QUERIES];
            for (i, scores) in scores.chunks_exact_mut(width).enumerate() {
                let seen = self.seen(&block, i);
                scores[..seen.start].fill(0.0);
                scores[seen.end..].fill(0.0);
                let (sum, log_sum) = arch().dispatch(Softmax { scores: &mut scores[seen], heads: self.heads });
                inverse_sums[i] = 1.0 / sum;
                log_sums[block.first + i] = log_sum;
            }
            self.times_rows(scores, &values, &block, &mut out);
            for (i, out) in out.chunks_exact_mut(self.heads.head_dim).take(block.count).enumerate() {
                for value in &mut *out {
                    *value *= inverse_sums[i];
                }
                write(block.first + i, out);
            }
        }
    }

    /// Writes the gradients of keys and values (`[total, head_dim]`) and calls `write(query, gradient)` for each query.
    fn backward(&self, saved: &Saved<'_>, dk: &mut [f32], dv: &mut [f32], mut write: impl FnMut(usize, &[f32])) {
        let dim = self.heads.head_dim;
        let (keys, values, below) = (self.panels(&self.k), self.panels(&self.v), self.below(&self.k));
        let mut dq = vec![0.0; QUERIES * dim];
        let [mut weights, mut slopes] = [(); 2].map(|()| vec![0.0; QUERIES * (self.past + self.queries)]);
        dk.fill(0.0);
        dv.fill(0.0);
        for block in self.blocks(keys.width) {
            let width = block.keys.len();
            let (weights, slopes) = (&mut weights[..block.count * width], &mut slopes[..block.count * width]);
            let queries = &self.q[block.first * self.q_row..];
            let grad = &saved.grad[block.first * saved.row..];
            self.times_keys(queries, self.q_row, &keys, &block, weights);
            self.times_keys(grad, saved.row, &values, &block, slopes);
            let rows = weights.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width));
            for (i, (weights, slopes)) in rows.enumerate() {
                let query = (block.first + i) * saved.row;
                let seen = self.seen(&block, i);
                for row in [&mut *weights, &mut *slopes] {
                    row[..seen.start].fill(0.0);
                    row[seen.end..].fill(0.0);
                }
                arch().dispatch(SoftmaxBackward {
                    scores: &mut weights[seen.clone()],
                    slopes: &mut slopes[seen],
                    grad: &saved.grad[query..][..dim],
                    output: &saved.output[query..][..dim],
                    log_sum: saved.log_sums[block.first + i],
                    heads: self.heads,
                });
            }
            self.times_rows(slopes, &below, &block, &mut dq);
            for (i, dq) in dq.chunks_exact(dim).take(block.count).enumerate() {
                write(block.first + i, dq);
            }
            self.add_to_keys(slopes, queries, self.q_row, &block, dk);
            self.add_to_keys(weights, grad, saved.row, &block, dv);
        }
    }

    /// The keys that query `i` of a block sees, counted from the block's first key.
    fn seen(&self, block: &Block, i: usize) -> Range<usize> {
        let seen = self.heads.seen(self.past + block.first + i);
        seen.start - block.keys.start..seen.end - block.keys.start
    }
}

/// Some queries of a task, and the keys that they see.
struct Block {
    first: usize,
    count: usize,
    keys: Range<usize>,
}

/// `tanh`, by way of the exponential; accurate to 1e-6, which is what a soft cap needs.
#[inline(always)]
fn tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let one = simd.splat_f32s(1.0);
    let e = exp(simd, simd.add_f32s(x, x));
    simd.sub_f32s(one, simd.div_f32s(simd.splat_f32s(2.0), simd.add_f32s(e, one)))
}

/// Turns the products of a query with its keys into weights that are not yet divided by their sum; returns the sum and
/// the logarithm of the sum of the exponentials.
struct Softmax<'a> {
    scores: &'a mut [f32],
    heads: Heads,
}

impl WithSimd for Softmax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> (f32, f32) {
        let scale = simd.splat_f32s(self.heads.scale);
        if let Some(cap) = self.heads.soft_cap {
            let (cap, inverse) = (simd.splat_f32s(cap), simd.splat_f32s(1.0 / cap));
            each!(S, simd, s in &mut *self.scores, [], {
                simd.mul_f32s(tanh(simd, simd.mul_f32s(simd.mul_f32s(s, scale), inverse)), cap)
            });
        } else {
            each!(S, simd, s in &mut *self.scores, [], simd.mul_f32s(s, scale));
        }
        let (largest, sum) = exponentials(simd, self.scores, f32::NEG_INFINITY);
        (sum, largest + sum.ln())
    }
}

/// Turns products with keys into weights, and products of the gradient with values into gradients of the products.
struct SoftmaxBackward<'a> {
    scores: &'a mut [f32],
    slopes: &'a mut [f32],
    grad: &'a [f32],
    output: &'a [f32],
    log_sum: f32,
    heads: Heads,
}

impl WithSimd for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let scale = simd.splat_f32s(self.heads.scale);
        let log_sum = simd.splat_f32s(self.log_sum);
        let delta = total!(S, simd, [g in self.grad, o in self.output], simd.mul_f32s(g, o));
        let delta = simd.splat_f32s(delta);
        let (scores, slopes) = (self.scores, self.slopes);
        if let Some(cap) = self.heads.soft_cap {
            let (cap, inverse, one) = (simd.splat_f32s(cap), simd.splat_f32s(1.0 / cap), simd.splat_f32s(1.0));
            each!(S, simd, s in &mut *scores, [], tanh(simd, simd.mul_f32s(simd.mul_f32s(s, scale), inverse)));
            each!(S, simd, d in slopes, [t in &*scores], {
                let weight = exp(simd, simd.sub_f32s(simd.mul_f32s(t, cap), log_sum));
                let slope = simd.mul_f32s(simd.sub_f32s(one, simd.mul_f32s(t, t)), scale);
                simd.mul_f32s(simd.mul_f32s(weight, simd.sub_f32s(d, delta)), slope)
            });
            each!(S, simd, t in scores, [], exp(simd, simd.sub_f32s(simd.mul_f32s(t, cap), log_sum)));
        } else {
            each!(S, simd, s in &mut *scores, [], exp(simd, simd.sub_f32s(simd.mul_f32s(s, scale), log_sum)));
            each!(S, simd, d in slopes, [p in &*scores], {
                simd.mul_f32s(simd.mul_f32s(p, simd.sub_f32s(d, delta)), scale)
            });
        }
    }
}
