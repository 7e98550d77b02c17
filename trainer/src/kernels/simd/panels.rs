//! Right sides of products, packed in the order in which tiles read them.

use std::ops::Range;
use std::sync::OnceLock;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::bf16::Form;
use super::{arch, zeros};

/// A right side in the order in which tiles read it: `[columns / width][depth][width]`, filled up with zeros.
#[derive(Clone, Debug)]
pub(in crate::kernels) struct Panels {
    pub(super) data: Vec<f32>,
    /// The steps of a product; two numbers each where it is paired.
    pub(super) depth: usize,
    pub(super) columns: usize,
    /// Columns in a panel.
    pub width: usize,
    pub(super) form: Form,
}

/// A frozen weight as panels in pairs of bfloat16, once it is packed and where it is kept.
#[derive(Debug, Default)]
pub(in crate::kernels) struct Packed {
    /// `wᵀ`, for products with inputs.
    pub transposed: OnceLock<Panels>,
    /// `w`, for products with gradients.
    pub rows: OnceLock<Panels>,
}

/// Vectors of columns in a tile, at most.
const MAX_VECTORS: usize = 3;

/// Columns of a tile for that many columns: the widest that wastes the least.
pub(super) fn tile_width(columns: usize) -> usize {
    let lanes = lanes();
    let vectors = (1..=MAX_VECTORS).rev().min_by_key(|v| columns.next_multiple_of(v * lanes)).unwrap_or(1);
    vectors * lanes
}

/// Numbers in a vector register.
pub(super) fn lanes() -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    arch().dispatch(Lanes)
}

impl Panels {
    /// Packs `wᵀ`, where `w` is `[columns, depth]` and `read(j, out)` copies its row `j`.
    pub(in crate::kernels) fn transposed(
        form: Form,
        columns: usize,
        depth: usize,
        read: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Self {
        /// Rows of a panel written at a time, so that they stay in the first-level cache.
        const DEPTH_BLOCK: usize = 32;
        Self::pack(form, columns, depth, 1, |panels, [numbers, rows], out| {
            let (steps, width) = (panels.steps, panels.width);
            let used = width.min(columns - panels.first * width);
            numbers.resize(depth, 0.0);
            rows.resize(steps * used, 0.0);
            for (j, row) in rows.chunks_exact_mut(steps).enumerate() {
                if form == Form::Plain {
                    read(panels.first * width + j, row);
                } else {
                    read(panels.first * width + j, numbers);
                    form.row(numbers, row);
                }
            }
            for (block, out) in out.chunks_mut(DEPTH_BLOCK * width).enumerate() {
                for (j, row) in rows.chunks_exact(steps).enumerate() {
                    for (out, &value) in out.chunks_exact_mut(width).zip(&row[block * DEPTH_BLOCK..]) {
                        out[j] = value;
                    }
                }
                for out in out.chunks_exact_mut(width) {
                    out[used..].fill(0.0);
                }
            }
        })
    }

    /// Packs a matrix `[depth, columns]`, of which `read(k, columns, out)` copies a part of row `k` that begins and
    /// ends at a multiple of `alignment`, or at the end of the row.
    pub(in crate::kernels) fn rows(
        form: Form,
        columns: usize,
        depth: usize,
        alignment: usize,
        read: impl Fn(usize, Range<usize>, &mut [f32]) + Sync,
    ) -> Self {
        let width = tile_width(columns);
        // As many panels at a time as hold whole blocks, and about a task for each processor: long parts of rows are read
        // faster than short ones.
        let whole = (1..=alignment).find(|panels| (panels * width).is_multiple_of(alignment)).unwrap_or(alignment);
        let group = columns.div_ceil(width * whole * rayon::current_num_threads()).max(1) * whole;
        Self::pack(form, columns, depth, group, |panels, [rows, _], out| {
            let (start, steps) = (panels.first * width, panels.steps);
            let all = out.len() / steps;
            let count = all.min(columns - start);
            let (each, mut k) = (form.rows_in_step(), 0);
            rows.clear();
            rows.resize(each * all, 0.0);
            for step in 0..steps {
                for row in rows.chunks_exact_mut(all) {
                    if k < depth {
                        read(k, start..start + count, &mut row[..count]);
                    } else {
                        row.fill(0.0);
                    }
                    k += 1;
                }
                for (panel, out) in out.chunks_exact_mut(width * steps).enumerate() {
                    form.step(rows, panel * width, &mut out[step * width..][..width]);
                }
            }
        })
    }

    /// Panels of which `fill` writes some, `group` at a time. The room that it is given is for what it needs meanwhile,
    /// with whatever it left there the last time.
    fn pack(
        form: Form,
        columns: usize,
        depth: usize,
        group: usize,
        fill: impl Fn(Group, &mut [Vec<f32>; 2], &mut [f32]) + Sync,
    ) -> Self {
        let (steps, width) = (form.steps(depth), tile_width(columns));
        let mut data = zeros(columns.next_multiple_of(width) * steps);
        let groups = data.par_chunks_mut((group * width * steps).max(1)).enumerate();
        groups.for_each_init(Default::default, |room, (index, out)| {
            fill(Group { first: index * group, steps, width }, room, out);
        });
        Self { data, depth: steps, columns, width, form }
    }
}

/// Some of the panels.
struct Group {
    /// The first of them.
    first: usize,
    /// The rows of each.
    steps: usize,
    /// The columns of each.
    width: usize,
}
