//! What the CPU kernels are made of: register-tiled products, vector functions.
//!
//! Everything here works on plain `f32` slices. The instruction set is found when the program runs (AVX-512, AVX2,
//! NEON, or none), and no result depends on the number of threads: each output number is added up by one thread, in
//! one order.

mod bf16;
mod columns;
pub(super) mod few_rows;
mod panels;
mod product;
mod softmax;
mod tensor;
pub(super) mod vector;

use std::sync::OnceLock;

use pulp::Arch;

use super::Precision;

pub(super) use bf16::{Form, Side, has_pairs};
pub(super) use columns::Columns;
pub(super) use panels::{Packed, Panels};
pub(super) use product::{Product, Rhs, Term};
pub(super) use softmax::{Part, Softmax, for_each_part};
pub(super) use tensor::{Matrix, contiguous, dim, indices, slice, tensor, whole, zeros};

/// Rows of activations that one task works on: few enough that they stay in the second-level cache, and about as many
/// for every task, so that no processor waits for the last. No result depends on it.
pub(super) fn row_block(rows: usize) -> usize {
    /// Rows at most.
    const MOST: usize = 64;
    /// Rows of the widest tile.
    const TILE: usize = 8;
    let threads = rayon::current_num_threads();
    let rounds = rows.div_ceil(MOST * threads).max(1);
    rows.div_ceil(rounds * threads).next_multiple_of(TILE).max(TILE)
}

/// The name of the instruction set that this machine computes with, with the architecture.
pub(super) fn instructions(precision: Precision) -> String {
    let arch = format!("{:?}", arch());
    let name = arch.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default().to_lowercase();
    let pairs = if Form::from(precision) == Form::Paired { "-bf16" } else { "" };
    format!("{}-{name}{pairs}", std::env::consts::ARCH)
}

/// The instruction set of this machine.
pub(super) fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(Arch::new)
}
