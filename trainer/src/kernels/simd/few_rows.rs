//! Products of a handful of rows with a large weight, as generation makes them: the time is that of reading the weight.
//!
//! The weight is read once, row by row where it lies, and each of its rows is multiplied with all rows of the input.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::{Matrix, arch};

/// Weight rows that one task goes through.
const TASK_ROWS: usize = 64;

/// Weight rows whose products are added up side by side.
const TILE_ROWS: usize = 4;

/// Whether this way is the faster one: up to as many rows as the packed weights would not be worth packing for.
pub(in crate::kernels) fn applies(rows: usize) -> bool {
    rows <= 16
}

/// `out = x wᵀ`, or `out += x wᵀ`. Rows of `x` lie `x_row` apart, those of `out` `out_row`.
pub(in crate::kernels) fn product(
    x: &[f32],
    x_row: usize,
    w: Matrix<'_>,
    out: &mut [f32],
    out_row: usize,
    accumulate: bool,
) {
    let rows = out.len().div_ceil(out_row.max(1));
    if rows == 0 || w.rows == 0 {
        return;
    }
    let mut transposed = vec![0.0; w.rows * rows];
    let tasks = transposed.par_chunks_mut(TASK_ROWS * rows).enumerate();
    tasks.for_each(|(task, out)| {
        arch().dispatch(Task { x, x_row, w, first: task * TASK_ROWS, rows, out });
    });
    for (row, out) in out.chunks_mut(out_row).enumerate() {
        for (column, out) in out[..w.rows].iter_mut().enumerate() {
            let value = transposed[column * rows + row];
            *out = if accumulate { *out + value } else { value };
        }
    }
}

struct Task<'a> {
    x: &'a [f32],
    x_row: usize,
    w: Matrix<'a>,
    first: usize,
    rows: usize,
    out: &'a mut [f32],
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let depth = self.w.columns;
        let mut scratch = if self.w.as_f32(0..0).is_none() { vec![0.0; TILE_ROWS * depth] } else { vec![0.0; 0] };
        for (tile, out) in self.out.chunks_mut(TILE_ROWS * self.rows).enumerate() {
            let first = self.first + tile * TILE_ROWS;
            let count = out.len() / self.rows;
            let w = if let Some(rows) = self.w.as_f32(first..first + count) {
                rows
            } else {
                for (i, row) in scratch.chunks_exact_mut(depth).take(count).enumerate() {
                    self.w.read(first + i, 0..depth, row);
                }
                &scratch[..count * depth]
            };
            let x = |row: usize| &self.x[row * self.x_row..][..depth];
            let mut row = 0;
            while row < self.rows {
                let out = &mut out[row..];
                if count == TILE_ROWS && row + 4 <= self.rows {
                    dots::<S, 4, TILE_ROWS>(simd, [x(row), x(row + 1), x(row + 2), x(row + 3)], w, out, self.rows);
                    row += 4;
                } else if count == TILE_ROWS {
                    dots::<S, 1, TILE_ROWS>(simd, [x(row)], w, out, self.rows);
                    row += 1;
                } else {
                    for (w, out) in w.chunks_exact(depth).zip(out.chunks_mut(self.rows)) {
                        dots::<S, 1, 1>(simd, [x(row)], w, out, self.rows);
                    }
                    row += 1;
                }
            }
        }
    }
}

/// The products of `R` rows of the input with `W` rows of the weight; row `r` times `w` goes to `out[w · out_row + r]`.
#[inline(always)]
fn dots<S: Simd, const R: usize, const W: usize>(simd: S, x: [&[f32]; R], w: &[f32], out: &mut [f32], out_row: usize) {
    let depth = x[0].len();
    let count = depth / S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); R]; W];
    let mut xs = [S::as_simd_f32s(x[0]); R];
    let mut ws = [S::as_simd_f32s(&w[..depth]); W];
    for r in 0..R {
        xs[r] = S::as_simd_f32s(&x[r][..depth]);
    }
    for i in 0..W {
        ws[i] = S::as_simd_f32s(&w[i * depth..][..depth]);
    }
    for k in 0..count {
        for i in 0..W {
            for r in 0..R {
                sums[i][r] = simd.mul_add_e_f32s(ws[i].0[k], xs[r].0[k], sums[i][r]);
            }
        }
    }
    for i in 0..W {
        for r in 0..R {
            if count * S::F32_LANES < depth {
                let (w, x) = (simd.partial_load_f32s(ws[i].1), simd.partial_load_f32s(xs[r].1));
                sums[i][r] = simd.mul_add_e_f32s(w, x, sums[i][r]);
            }
            out[i * out_row + r] = simd.reduce_sum_f32s(sums[i][r]);
        }
    }
}
