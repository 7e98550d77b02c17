//! What the CPU kernels are made of: register-tiled products, vector functions, buffers that are used again.
//!
//! Everything here works on plain `f32` slices. The instruction set is found when the program runs (AVX-512, AVX2,
//! NEON, or none), and no result depends on the number of threads: each output number is added up by one thread, in
//! one order.

mod buffer;
mod columns;
pub(super) mod few_rows;
mod product;
mod tensor;
pub(super) mod vector;

use std::sync::OnceLock;

use pulp::Arch;

pub(super) use buffer::Buffer;
pub(super) use columns::Columns;
pub(super) use product::{Panels, Product, Rhs, Term};
pub(super) use tensor::{Matrix, contiguous, dim, indices, owned_tensor, slice, tensor, whole};

/// Rows of activations that one task works on: few enough that they stay in the second-level cache.
pub(super) const ROW_BLOCK: usize = 128;

/// The instruction set of this machine.
pub(super) fn arch() -> Arch {
    static ARCH: OnceLock<Arch> = OnceLock::new();
    *ARCH.get_or_init(Arch::new)
}
