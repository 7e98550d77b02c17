//! A frozen matrix kept in memory as blocks: a few bits a number, with scales that the numbers of a block share.
//!
//! The blocks are ggml's, as a GGUF file has them (they stay in the mapped file), or NF4, made from a floating-point
//! checkpoint. Kernels turn them into float32 row by row while they pack a weight, so that the whole matrix never
//! exists in float32 and a product gives the same bits as with the dequantised weight.

use std::any::Any;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rayon::prelude::*;

use crate::gguf::{self, GgmlType};
use crate::nf4;

/// How the numbers of a block are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockForm {
    /// One of ggml's types that [`gguf::dequantize`] reads.
    Ggml(GgmlType),
    /// 64 numbers as indices into [`nf4::LEVELS`], and a float32 scale.
    Nf4,
}

impl BlockForm {
    /// Numbers in a block.
    pub fn block_size(self) -> usize {
        match self {
            Self::Ggml(ggml_type) => ggml_type.block_size(),
            Self::Nf4 => nf4::BLOCK_SIZE,
        }
    }

    /// Bytes in a block.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Ggml(ggml_type) => ggml_type.block_bytes(),
            Self::Nf4 => nf4::BLOCK_BYTES,
        }
    }
}

/// A matrix in blocks, row-major; each row is a whole number of blocks.
#[derive(Clone, Debug)]
pub struct BlockMatrix {
    form: BlockForm,
    rows: usize,
    columns: usize,
    bytes: Bytes,
    kept: Kept,
}

/// What is made of a matrix and lives as long as it does.
#[derive(Debug, Default)]
struct Kept {
    allowed: AtomicBool,
    made: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Of a copy, which may become another matrix, nothing is kept.
impl Clone for Kept {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl BlockMatrix {
    /// A matrix over these bytes; `None` when they are not that many whole blocks, or the form cannot be read.
    pub fn new(form: BlockForm, [rows, columns]: [usize; 2], bytes: Bytes) -> Option<Self> {
        let is_readable = match form {
            BlockForm::Ggml(ggml_type) => gguf::SUPPORTED.contains(&ggml_type),
            BlockForm::Nf4 => true,
        };
        let row_bytes = columns / form.block_size() * form.block_bytes();
        let fits = columns.is_multiple_of(form.block_size()) && rows.checked_mul(row_bytes) == Some(bytes.len());
        (is_readable && fits).then(|| Self { form, rows, columns, bytes, kept: Kept::default() })
    }

    /// Quantises a float32 matrix to NF4; `None` when its rows are not whole blocks of 64.
    ///
    /// # Shapes
    /// - `values`: `[rows, columns]`, row-major.
    pub fn nf4(values: &[f32], shape: [usize; 2]) -> Option<Self> {
        if !shape[1].is_multiple_of(nf4::BLOCK_SIZE) {
            return None;
        }
        Self::new(BlockForm::Nf4, shape, nf4::quantize(values).into())
    }

    /// The same rows in another order: row `i` of the result is row `order(i)`.
    #[must_use]
    pub fn reordered(&self, order: impl Fn(usize) -> usize) -> Self {
        let row_bytes = self.row_bytes();
        let mut bytes = Vec::with_capacity(self.bytes.len());
        for row in 0..self.rows {
            bytes.extend_from_slice(&self.bytes[order(row) * row_bytes..][..row_bytes]);
        }
        Self { bytes: bytes.into(), ..self.clone() }
    }

    /// `[rows, columns]`.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// How the blocks are stored.
    pub fn form(&self) -> BlockForm {
        self.form
    }

    /// Bytes of all blocks.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Allows that what is made of the matrix is kept beside it: memory for time.
    pub fn allow_keeping(&self) {
        self.kept.allowed.store(true, Ordering::Relaxed);
    }

    /// What is kept beside the matrix, empty at first; `None` where it is [not allowed](Self::allow_keeping), or something
    /// of another kind is kept.
    pub fn kept<T: Any + Default + Send + Sync>(&self) -> Option<&T> {
        let allowed = self.kept.allowed.load(Ordering::Relaxed);
        allowed.then(|| self.kept.made.get_or_init(|| Box::<T>::default()).downcast_ref()).flatten()
    }

    /// Writes a part of a row as float32.
    ///
    /// # Panics
    /// When the part does not begin and end between blocks, or lies outside the matrix, or `out` has another length.
    pub fn read(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let (size, bytes) = (self.form.block_size(), self.form.block_bytes());
        let is_whole = columns.start.is_multiple_of(size) && columns.end.is_multiple_of(size);
        assert!(is_whole && columns.end <= self.columns, "columns {columns:?} are not whole blocks of {size}");
        let start = row * self.row_bytes();
        let blocks = &self.bytes[start + columns.start / size * bytes..start + columns.end / size * bytes];
        match self.form {
            BlockForm::Ggml(ggml_type) => gguf::dequantize_row(ggml_type, blocks, out),
            BlockForm::Nf4 => nf4::dequantize(blocks, out),
        }
    }

    /// The first number that is not finite, with its place in row-major order.
    pub fn first_non_finite(&self) -> Option<(usize, f32)> {
        (0..self.rows).into_par_iter().find_map_first(|row| {
            let mut out = vec![0.0; self.columns];
            self.read(row, 0..self.columns, &mut out);
            let column = out.iter().position(|value| !value.is_finite())?;
            Some((row * self.columns + column, out[column]))
        })
    }

    /// All numbers as float32, row-major.
    pub fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        values.par_chunks_exact_mut(self.columns.max(1)).enumerate().for_each(|(row, out)| {
            self.read(row, 0..self.columns, out);
        });
        values
    }

    fn row_bytes(&self) -> usize {
        self.columns / self.form.block_size() * self.form.block_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of two `Q8_0` blocks: scale `1.0`, then the numbers of the row.
    fn small() -> BlockMatrix {
        let block = |first: u8| [0x00, 0x3c].into_iter().chain((0..32).map(move |i| first + i));
        let bytes: Vec<u8> = [0, 32, 64, 90].into_iter().flat_map(block).collect();
        BlockMatrix::new(BlockForm::Ggml(GgmlType::Q8_0), [2, 64], bytes.into()).expect("four blocks")
    }

    #[test]
    fn parts_of_rows_and_other_orders() {
        let matrix = small();
        let mut out = [0.0; 32];
        matrix.read(1, 32..64, &mut out);
        assert_eq!((out[0].to_bits(), out[31].to_bits()), (90.0_f32.to_bits(), 121.0_f32.to_bits()));
        let swapped = matrix.reordered(|row| 1 - row).to_f32();
        assert_eq!(swapped[..64], matrix.to_f32()[64..]);
        assert_eq!(swapped[64..], matrix.to_f32()[..64]);
    }

    #[test]
    fn something_is_kept_where_it_is_allowed_and_not_with_a_copy() {
        let matrix = small();
        assert!(matrix.kept::<OnceLock<u32>>().is_none());
        matrix.allow_keeping();
        matrix.kept::<OnceLock<u32>>().expect("it is allowed").set(7).expect("nothing was there");
        assert_eq!(matrix.kept::<OnceLock<u32>>().and_then(OnceLock::get), Some(&7));
        assert!(matrix.kept::<String>().is_none(), "another kind");
        assert!(matrix.clone().kept::<OnceLock<u32>>().is_none(), "a copy");
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        let new = |form, shape, bytes: usize| BlockMatrix::new(form, shape, vec![0; bytes].into());
        let q8_0 = BlockForm::Ggml(GgmlType::Q8_0);
        assert!(new(q8_0, [2, 32], 68).is_some());
        assert!(new(q8_0, [2, 32], 67).is_none());
        assert!(new(q8_0, [2, 33], 68).is_none(), "a row must be whole blocks");
        assert!(new(q8_0, [usize::MAX, 32], 68).is_none());
        assert!(new(BlockForm::Ggml(GgmlType::Q2K), [1, 256], 84).is_none(), "Q2_K cannot be read");
        assert!(BlockMatrix::nf4(&[0.0; 96], [1, 96]).is_none());
    }

    #[test]
    #[should_panic(expected = "columns 16..32 are not whole blocks of 32")]
    fn a_part_of_a_block_cannot_be_read() {
        small().read(0, 16..32, &mut [0.0; 16]);
    }
}
