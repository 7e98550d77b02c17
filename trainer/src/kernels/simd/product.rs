//! Matrix products on register tiles.
//!
//! A tile of up to 8 rows and 3 vectors of columns is kept in registers while the depth is gone through; the left
//! side is read where it lies, the right side from panels that were packed before, or from the rows of a matrix. A
//! tile adds up several products before it is written, so that a low-rank update costs no second pass over the output.
//!
//! Source of the scheme: Goto and van de Geijn 2008, "Anatomy of high-performance matrix multiplication".
#![expect(unsafe_code, reason = "the inner loop reads through pointers; all bounds are checked before it begins")]

use pulp::{Simd, WithSimd};

use super::arch;
use super::bf16::{self, Form, Side};
use super::panels::{Panels, tile_width};

/// Rows in a tile, at most.
const MAX_ROWS: usize = 8;

/// `lhs · rhs`, a part of what a tile adds up.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Term<'a> {
    /// Element `(row, k)` of the left side is `lhs[row · lhs_row + k · lhs_depth]`.
    pub lhs: &'a [f32],
    /// Distance of two rows.
    pub lhs_row: usize,
    /// Distance of two elements along the depth.
    pub lhs_depth: usize,
    /// The right side.
    pub rhs: Rhs<'a>,
    /// How many steps each value adds up.
    pub depth: usize,
}

impl Side<'_> {
    /// A product of its rows, each of `depth` steps.
    pub(in crate::kernels) fn rows<'a>(&'a self, rhs: Rhs<'a>, depth: usize) -> Term<'a> {
        Term { lhs: &self.numbers, lhs_row: self.row, lhs_depth: 1, rhs, depth }
    }
}

/// The right side of a product, `[depth, columns]`.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) enum Rhs<'a> {
    /// Packed before.
    Panels(&'a Panels),
    /// Packed before, from a panel on; as many columns as the output has.
    PanelsFrom(&'a Panels, usize),
    /// Element `(k, column)` is `data[k · row + column]`.
    Rows {
        /// The matrix.
        data: &'a [f32],
        /// Distance of two rows.
        row: usize,
    },
}

/// `out = Σ terms`, or `out += Σ terms`.
#[derive(Debug)]
pub(in crate::kernels) struct Product<'a> {
    /// Rows of the output.
    pub rows: usize,
    /// Columns of the output.
    pub columns: usize,
    /// What is added up.
    pub terms: &'a [Term<'a>],
    /// The form of both sides of all terms.
    pub form: Form,
    /// Element `(row, column)` is `out[row · out_row + column]`.
    pub out: &'a mut [f32],
    /// Distance of two rows of the output.
    pub out_row: usize,
    /// Add to what is there.
    pub accumulate: bool,
}

impl Product<'_> {
    /// Computes it, on this thread.
    ///
    /// # Panics
    /// When a slice is too short for its side of the product.
    pub(in crate::kernels) fn compute(self) {
        if self.rows == 0 || self.columns == 0 {
            return;
        }
        let last = |count: usize, distance: usize| count.saturating_sub(1) * distance;
        assert!(last(self.rows, self.out_row) + self.columns <= self.out.len(), "the output is too short");
        assert!(self.terms.len() <= 2, "a tile adds up at most two products");
        for term in self.terms {
            if term.depth == 0 {
                continue;
            }
            let end = last(self.rows, term.lhs_row) + last(term.depth, term.lhs_depth);
            assert!(end < term.lhs.len(), "the left side is too short");
            match term.rhs {
                Rhs::Panels(panels) => {
                    assert_eq!((panels.depth, panels.columns), (term.depth, self.columns), "the panels are of others");
                    assert_eq!(
                        (panels.width, panels.form),
                        (self.width(), self.form),
                        "the panels are of another kind"
                    );
                }
                Rhs::PanelsFrom(panels, first) => {
                    let columns = first * panels.width + self.columns;
                    assert!(panels.depth == term.depth && columns <= panels.columns, "the panels are of others");
                    assert_eq!(
                        (panels.width, panels.form),
                        (self.width(), self.form),
                        "the panels are of another kind"
                    );
                }
                Rhs::Rows { data, row } => {
                    assert!(last(term.depth, row) + self.columns <= data.len(), "the right side is too short");
                }
            }
        }
        arch().dispatch(self);
    }

    /// Columns in a tile: as packed, else the best for the output.
    fn width(&self) -> usize {
        let packed = self.terms.iter().find_map(|term| match term.rhs {
            Rhs::Panels(panels) | Rhs::PanelsFrom(panels, _) => Some(panels.width),
            Rhs::Rows { .. } => None,
        });
        packed.unwrap_or_else(|| tile_width(self.columns))
    }
}

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let vectors = self.width() / S::F32_LANES;
        // A tile must fit the register file: 8 x 3 of 32 registers, 4 x 3 of 16.
        let rows = if S::REGISTER_COUNT >= 32 { MAX_ROWS } else { MAX_ROWS / 2 };
        match vectors {
            1 => self.run::<S, 1>(simd, rows),
            2 => self.run::<S, 2>(simd, rows),
            _ => self.run::<S, 3>(simd, rows),
        }
    }
}

impl Product<'_> {
    #[inline(always)]
    fn run<S: Simd, const V: usize>(self, simd: S, tile_rows: usize) {
        let width = V * S::F32_LANES;
        for column in (0..self.columns).step_by(width) {
            let used = width.min(self.columns - column);
            let mut row = 0;
            while row < self.rows {
                // SAFETY: `compute` has checked every side.
                let sources = self.terms.iter().map(|term| unsafe { source(term, row, column, width) });
                let mut tile = Tile {
                    sources: [Source::NONE; 2],
                    out: self.out[row * self.out_row + column..].as_mut_ptr(),
                    out_row: self.out_row,
                    used,
                    accumulate: self.accumulate,
                    is_paired: self.form == Form::Paired,
                };
                for (place, source) in tile.sources.iter_mut().zip(sources) {
                    *place = source;
                }
                row += match self.rows - row {
                    8.. if tile_rows == 8 => tile.compute::<S, 8, V>(simd),
                    4.. => tile.compute::<S, 4, V>(simd),
                    2.. => tile.compute::<S, 2, V>(simd),
                    _ => tile.compute::<S, 1, V>(simd),
                };
            }
        }
    }
}

/// Where a tile reads: pointers to the first element of a term, already moved to the tile's row and panel.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) lhs: *const f32,
    pub(super) lhs_row: usize,
    pub(super) lhs_depth: usize,
    pub(super) rhs: *const f32,
    pub(super) rhs_row: usize,
    pub(super) depth: usize,
    /// The right side has numbers, or zeros, in all columns of the tile.
    padded: bool,
}

impl Source {
    /// Adds nothing.
    const NONE: Self = Self {
        lhs: std::ptr::null(),
        lhs_row: 0,
        lhs_depth: 0,
        rhs: std::ptr::null(),
        rhs_row: 0,
        depth: 0,
        padded: true,
    };
}

/// # Safety
/// `row` and `column` lie within the product that the term belongs to.
#[inline(always)]
unsafe fn source(term: &Term<'_>, row: usize, column: usize, width: usize) -> Source {
    // SAFETY: the caller's.
    unsafe {
        let (rhs, rhs_row, padded) = match term.rhs {
            Rhs::Panels(panels) => (panels.data.as_ptr().add(column * panels.depth), width, true),
            Rhs::PanelsFrom(panels, first) => {
                (panels.data.as_ptr().add((first * width + column) * panels.depth), width, true)
            }
            Rhs::Rows { data, row } => (data.as_ptr().add(column), row, false),
        };
        let lhs = term.lhs.as_ptr().wrapping_add(row * term.lhs_row);
        Source { lhs, lhs_row: term.lhs_row, lhs_depth: term.lhs_depth, rhs, rhs_row, depth: term.depth, padded }
    }
}

pub(super) struct Tile {
    pub(super) sources: [Source; 2],
    pub(super) out: *mut f32,
    pub(super) out_row: usize,
    /// Columns that exist; the others of the tile are not written.
    pub(super) used: usize,
    pub(super) accumulate: bool,
    is_paired: bool,
}

impl Tile {
    /// Computes `R` rows and says so. Output and sources hold them, as the caller has checked.
    #[inline(always)]
    fn compute<S: Simd, const R: usize, const V: usize>(self, simd: S) -> usize {
        // Each kind of tile is a function of its own: in one with the others its sums would leave the registers.
        if self.is_paired {
            // SAFETY: `Product::compute` has checked the sides.
            unsafe { bf16::tile::<R, V>(&self) };
        } else if self.used == V * S::F32_LANES {
            simd.vectorize(Whole::<R, V>(self));
        } else {
            simd.vectorize(Part::<R, V>(self));
        }
        R
    }
}

/// A tile whose columns all exist.
struct Whole<const R: usize, const V: usize>(Tile);

impl<const R: usize, const V: usize> WithSimd for Whole<R, V> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "iterators keep the compiler from holding the sums in registers")]
    fn with_simd<S: Simd>(self, simd: S) {
        let tile = self.0;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for source in tile.sources {
            let (mut lhs, mut rhs) = (source.lhs, source.rhs);
            for _ in 0..source.depth {
                let mut columns = [simd.splat_f32s(0.0); V];
                for v in 0..V {
                    // SAFETY: the product was checked; the pointers after the last step are never read.
                    columns[v] = unsafe { rhs.add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned() };
                }
                for i in 0..R {
                    // SAFETY: as above. Overflow cannot happen; its check would take the sums out of the registers.
                    let value = simd.splat_f32s(unsafe { *lhs.wrapping_add(i.wrapping_mul(source.lhs_row)) });
                    for v in 0..V {
                        sums[i][v] = simd.mul_add_e_f32s(value, columns[v], sums[i][v]);
                    }
                }
                lhs = lhs.wrapping_add(source.lhs_depth);
                rhs = rhs.wrapping_add(source.rhs_row);
            }
        }
        for i in 0..R {
            for v in 0..V {
                // SAFETY: as above.
                unsafe {
                    let out = tile.out.add(i.wrapping_mul(tile.out_row) + v * S::F32_LANES).cast::<S::f32s>();
                    let before = if tile.accumulate { out.read_unaligned() } else { simd.splat_f32s(0.0) };
                    out.write_unaligned(simd.add_f32s(before, sums[i][v]));
                }
            }
        }
    }
}

/// A tile at the right border, some of whose columns do not exist.
struct Part<const R: usize, const V: usize>(Tile);

impl<const R: usize, const V: usize> WithSimd for Part<R, V> {
    type Output = ();

    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "as in the whole tile")]
    fn with_simd<S: Simd>(self, simd: S) {
        let tile = self.0;
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        let mut starts = [0; V];
        let mut counts = [0; V];
        for v in 0..V {
            starts[v] = (v * S::F32_LANES).min(tile.used);
            counts[v] = S::F32_LANES.min(tile.used - starts[v]);
        }
        for source in tile.sources {
            let (mut lhs, mut rhs) = (source.lhs, source.rhs);
            for _ in 0..source.depth {
                let mut columns = [simd.splat_f32s(0.0); V];
                for v in 0..V {
                    // SAFETY: the product was checked; of plain rows only the columns that exist are read.
                    columns[v] = unsafe {
                        if source.padded {
                            rhs.add(v * S::F32_LANES).cast::<S::f32s>().read_unaligned()
                        } else {
                            simd.partial_load_f32s(std::slice::from_raw_parts(rhs.add(starts[v]), counts[v]))
                        }
                    };
                }
                for i in 0..R {
                    // SAFETY: as above.
                    let value = simd.splat_f32s(unsafe { *lhs.wrapping_add(i.wrapping_mul(source.lhs_row)) });
                    for v in 0..V {
                        sums[i][v] = simd.mul_add_e_f32s(value, columns[v], sums[i][v]);
                    }
                }
                lhs = lhs.wrapping_add(source.lhs_depth);
                rhs = rhs.wrapping_add(source.rhs_row);
            }
        }
        for i in 0..R {
            for v in 0..V {
                // SAFETY: as above; only columns that exist are touched.
                let out = unsafe {
                    let start = tile.out.add(i.wrapping_mul(tile.out_row) + starts[v]);
                    std::slice::from_raw_parts_mut(start, counts[v])
                };
                let before = if tile.accumulate { simd.partial_load_f32s(out) } else { simd.splat_f32s(0.0) };
                simd.partial_store_f32s(out, simd.add_f32s(before, sums[i][v]));
            }
        }
    }
}
