//! Products in bfloat16: both sides are rounded to it, their products are exact, and the sums are in float32.
//!
//! With AVX512-BF16 an instruction multiplies two numbers a lane and adds both products. Two numbers that follow each
//! other along the depth then lie in the bits of one float32, so that rows and panels stay what they are, half as deep.
//! Elsewhere the numbers are rounded and multiplied as any others: the same result up to the order of the sums, at the
//! speed of float32.
//!
//! Source: Kalamkar et al. 2019, "A study of BFLOAT16 for deep learning training", <https://arxiv.org/abs/1905.12322>.
#![expect(unsafe_code, reason = "the instructions are there only on some processors, which is asked before")]

use std::borrow::Cow;
use std::ops::Range;

use half::bf16;

use super::product::Tile;
use crate::kernels::Precision;

/// Whether this processor multiplies pairs of bfloat16.
#[cfg(target_arch = "x86_64")]
pub(in crate::kernels) fn has_pairs() -> bool {
    // Panels are as wide as the vectors that other products are made with, which must be these.
    super::panels::lanes() == instructions::LANES
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bf16")
}

#[cfg(not(target_arch = "x86_64"))]
pub(in crate::kernels) fn has_pairs() -> bool {
    false
}

/// The form in which a product reads its sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) enum Form {
    /// As they are.
    Plain,
    /// Rounded.
    Rounded,
    /// Rounded, two in one. Only where [`has_pairs`].
    Paired,
}

/// A side of a product, in its form.
pub(in crate::kernels) struct Side<'a> {
    pub numbers: Cow<'a, [f32]>,
    /// Distance of two rows.
    pub row: usize,
}

impl From<Precision> for Form {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::Plain,
            Precision::Bf16 if has_pairs() => Self::Paired,
            Precision::Bf16 => Self::Rounded,
        }
    }
}

impl Form {
    /// The steps that a product of this depth makes.
    pub(in crate::kernels) fn steps(self, depth: usize) -> usize {
        if self == Self::Paired { depth.div_ceil(2) } else { depth }
    }

    /// A side of a product whose depth goes along its rows: `count` rows of a matrix whose rows are `row` apart, their
    /// `columns`.
    pub(in crate::kernels) fn along(self, matrix: &[f32], row: usize, columns: Range<usize>, count: usize) -> Side<'_> {
        if self == Self::Plain {
            return Side { numbers: Cow::Borrowed(&matrix[columns.start.min(matrix.len())..]), row };
        }
        let steps = self.steps(columns.len());
        let mut numbers = vec![0.0; count * steps];
        for (index, out) in numbers.chunks_exact_mut(steps.max(1)).enumerate() {
            self.row(&matrix[index * row..][columns.clone()], out);
        }
        Side { numbers: Cow::Owned(numbers), row: steps }
    }

    /// A side of a product whose depth goes from row to row: `count` rows of a matrix whose rows are `row` apart, their first
    /// `columns`.
    pub(in crate::kernels) fn across(self, matrix: &[f32], row: usize, columns: usize, count: usize) -> Side<'_> {
        if self == Self::Plain {
            return Side { numbers: Cow::Borrowed(matrix), row };
        }
        let (steps, each, nothing) = (self.steps(count), self.rows_in_step(), vec![0.0; columns]);
        let mut numbers = vec![0.0; steps * columns];
        for (step, out) in numbers.chunks_exact_mut(columns.max(1)).enumerate() {
            let of = |index: usize| if index < count { &matrix[index * row..][..columns] } else { &nothing };
            match self {
                Self::Paired => pair_rows(of(step * each), of(step * each + 1), out),
                _ => round(of(step), out),
            }
        }
        Side { numbers: Cow::Owned(numbers), row: columns }
    }

    /// Numbers along the depth, as their steps.
    pub(super) fn row(self, numbers: &[f32], out: &mut [f32]) {
        match self {
            Self::Plain => out.copy_from_slice(numbers),
            Self::Rounded => round(numbers, out),
            Self::Paired => pair_neighbours(numbers, out),
        }
    }

    /// The rows of a right side that make one step.
    pub(super) fn rows_in_step(self) -> usize {
        if self == Self::Paired { 2 } else { 1 }
    }

    /// A step from as many rows as it takes, which follow each other: those of the columns from `first` on.
    pub(super) fn step(self, rows: &[f32], first: usize, out: &mut [f32]) {
        let (row, other) = rows.split_at(rows.len() / self.rows_in_step());
        let numbers = &row[first..][..out.len()];
        match self {
            Self::Plain => out.copy_from_slice(numbers),
            Self::Rounded => round(numbers, out),
            Self::Paired => pair_rows(numbers, &other[first..][..out.len()], out),
        }
    }
}

fn round(numbers: &[f32], out: &mut [f32]) {
    for (out, number) in out.iter_mut().zip(numbers) {
        *out = bf16::from_f32(*number).to_f32();
    }
}

/// Two numbers in the bits of one, the first in the lower half.
fn pair(first: f32, second: f32) -> f32 {
    let half = |number| u32::from(bf16::from_f32(number).to_bits());
    f32::from_bits(half(first) | half(second) << 16)
}

/// Pairs the numbers of a row; the last of an odd number with zero.
fn pair_neighbours(row: &[f32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: only called where `has_pairs`.
    let done = unsafe { instructions::pair_neighbours(row, out) };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    for (numbers, out) in row[2 * done..].chunks(2).zip(&mut out[done..]) {
        *out = pair(numbers[0], numbers.get(1).copied().unwrap_or(0.0));
    }
}

/// Pairs the numbers of two rows.
fn pair_rows(first: &[f32], second: &[f32], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: only called where `has_pairs`.
    let done = unsafe { instructions::pair_rows(first, second, out) };
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    for (column, out) in out.iter_mut().enumerate().skip(done) {
        *out = pair(first[column], second[column]);
    }
}

/// Adds up a tile whose sources are paired.
///
/// # Safety
/// Output and sources hold `R` rows and `V` vectors; a source need not have the columns that do not exist.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn tile<const R: usize, const V: usize>(tile: &Tile) {
    // SAFETY: of memory the caller's; panels are paired only where `has_pairs`.
    unsafe { instructions::tile::<R, V>(tile) }
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) unsafe fn tile<const R: usize, const V: usize>(_: &Tile) {
    unreachable!("nothing is paired on this processor");
}

#[cfg(target_arch = "x86_64")]
mod instructions {
    use std::arch::x86_64::{
        __m256bh, __m256i, __m512, __m512bh, __m512i, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
        _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
        _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_slli_epi32,
        _mm512_storeu_ps,
    };
    use std::mem::transmute;

    use super::Tile;

    /// Numbers in a vector.
    pub(super) const LANES: usize = 16;

    /// Says how many pairs are done.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn pair_neighbours(row: &[f32], out: &mut [f32]) -> usize {
        for (numbers, out) in row.chunks_exact(2 * LANES).zip(out.chunks_exact_mut(LANES)) {
            // SAFETY: chunks of two vectors are read and one of one is written.
            unsafe {
                let (low, high) = (_mm512_loadu_ps(numbers.as_ptr()), _mm512_loadu_ps(numbers[LANES..].as_ptr()));
                _mm512_storeu_ps(out.as_mut_ptr(), transmute::<__m512bh, __m512>(_mm512_cvtne2ps_pbh(high, low)));
            }
        }
        row.len() / (2 * LANES) * LANES
    }

    /// Says how many columns are done.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn pair_rows(first: &[f32], second: &[f32], out: &mut [f32]) -> usize {
        let chunks = first.chunks_exact(LANES).zip(second.chunks_exact(LANES)).zip(out.chunks_exact_mut(LANES));
        let mut done = 0;
        for ((first, second), out) in chunks {
            // SAFETY: each is a chunk of one vector.
            unsafe {
                let half = |numbers: &[f32]| {
                    let rounded = _mm512_cvtneps_pbh(_mm512_loadu_ps(numbers.as_ptr()));
                    _mm512_cvtepu16_epi32(transmute::<__m256bh, __m256i>(rounded))
                };
                let paired = _mm512_or_si512(half(first), _mm512_slli_epi32::<16>(half(second)));
                _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(paired));
            }
            done += LANES;
        }
        done
    }

    /// As [`super::tile`].
    #[target_feature(enable = "avx512f,avx512bf16")]
    #[expect(clippy::needless_range_loop, reason = "iterators keep the compiler from holding the sums in registers")]
    pub(super) unsafe fn tile<const R: usize, const V: usize>(tile: &Tile) {
        let mut exists = [0; V];
        for v in 0..V {
            let missing = LANES - tile.used.saturating_sub(v * LANES).min(LANES);
            exists[v] = if missing == LANES { 0 } else { u16::MAX >> missing };
        }
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for source in tile.sources {
            let (mut lhs, mut rhs) = (source.lhs, source.rhs);
            for _ in 0..source.depth {
                let mut columns = [_mm512_setzero_ps(); V];
                for v in 0..V {
                    // SAFETY: the caller's; the pointers after the last step are never read.
                    columns[v] = unsafe { _mm512_maskz_loadu_ps(exists[v], rhs.wrapping_add(v * LANES)) };
                }
                for i in 0..R {
                    // SAFETY: as above; the bits are two numbers.
                    let value = unsafe { *lhs.wrapping_add(i.wrapping_mul(source.lhs_row)).cast::<i32>() };
                    // SAFETY: vectors of the same size, of which every bit pattern is one.
                    let value = unsafe { transmute::<__m512i, __m512bh>(_mm512_set1_epi32(value)) };
                    for v in 0..V {
                        // SAFETY: as above.
                        let column = unsafe { transmute::<__m512, __m512bh>(columns[v]) };
                        sums[i][v] = _mm512_dpbf16_ps(sums[i][v], value, column);
                    }
                }
                lhs = lhs.wrapping_add(source.lhs_depth);
                rhs = rhs.wrapping_add(source.rhs_row);
            }
        }
        for v in 0..V {
            for i in 0..R {
                // SAFETY: only columns that exist are touched.
                unsafe {
                    let out = tile.out.wrapping_add(i.wrapping_mul(tile.out_row) + v * LANES);
                    let before =
                        if tile.accumulate { _mm512_maskz_loadu_ps(exists[v], out) } else { _mm512_setzero_ps() };
                    _mm512_mask_storeu_ps(out, exists[v], _mm512_add_ps(before, sums[i][v]));
                }
            }
        }
    }
}
