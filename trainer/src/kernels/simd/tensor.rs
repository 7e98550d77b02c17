//! Between Flex tensors and slices.

use std::ops::Range;

use adapters::BlockMatrix;
use burn::backend::flex::{FlexTensor, Layout};
use burn::backend::{DType, Flex};
use burn::tensor::{Bytes, Shape, bf16, f16};
use half::slice::HalfFloatSliceExt as _;
use rayon::prelude::*;

use super::Packed;
use crate::kernels::Frozen;

/// A new tensor of these numbers.
pub(in crate::kernels) fn tensor<const D: usize>(numbers: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(numbers), Layout::contiguous(Shape::from(shape)), DType::F32)
}

/// So many zeros, written by all threads: by one, the others would wait while a large output is cleared.
pub(in crate::kernels) fn zeros(count: usize) -> Vec<f32> {
    /// What a thread clears at a time.
    const CHUNK: usize = 1 << 16;
    if count <= CHUNK {
        return vec![0.0; count];
    }
    let mut numbers = Vec::with_capacity(count);
    numbers.spare_capacity_mut()[..count].par_chunks_mut(CHUNK).for_each(|chunk| {
        for number in chunk {
            number.write(0.0);
        }
    });
    // SAFETY: the chunks were all of them.
    #[expect(unsafe_code, reason = "a vector has no other way to be filled by several threads")]
    unsafe {
        numbers.set_len(count);
    }
    numbers
}

/// The numbers of a float32 tensor, in row order; copied when it is a view that skips some.
pub(in crate::kernels) fn contiguous(tensor: FlexTensor) -> FlexTensor {
    if tensor.is_contiguous() { tensor } else { tensor.to_contiguous() }
}

impl Frozen<Flex> {
    /// The same weight with its numbers in row order; blocks always are.
    pub(in crate::kernels) fn contiguous(self) -> Self {
        match self {
            Self::Dense(tensor) => Self::Dense(contiguous(tensor)),
            Self::Blocks(_) => self,
        }
    }
}

/// The numbers of a contiguous float32 tensor.
///
/// # Panics
/// When it is not one; [`contiguous`] makes it one.
pub(in crate::kernels) fn slice(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice().expect("a contiguous float32 tensor")
}

/// The numbers of a contiguous tensor of indices; a negative one becomes one that lies outside everything.
pub(in crate::kernels) fn indices(tensor: &FlexTensor) -> Vec<usize> {
    let outside = usize::MAX;
    if tensor.dtype() == DType::I32 {
        let numbers: &[i32] = tensor.as_slice().expect("contiguous indices");
        return numbers.iter().map(|&i| usize::try_from(i).unwrap_or(outside)).collect();
    }
    let numbers: &[i64] = tensor.as_slice().expect("contiguous indices");
    numbers.iter().map(|&i| usize::try_from(i).unwrap_or(outside)).collect()
}

/// The size of an axis.
pub(in crate::kernels) fn dim(tensor: &FlexTensor, axis: usize) -> usize {
    tensor.layout().shape()[axis]
}

/// A frozen weight as it is kept in memory. Kernels turn it into float32 when they pack it.
#[derive(Clone, Copy, Debug)]
pub(in crate::kernels) struct Matrix<'a> {
    numbers: Numbers<'a>,
    /// Numbers in a row.
    pub columns: usize,
    /// Rows.
    pub rows: usize,
}

#[derive(Clone, Copy, Debug)]
enum Numbers<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
    F16(&'a [f16]),
    Blocks(&'a BlockMatrix),
}

impl<'a> Matrix<'a> {
    /// A frozen weight that is [contiguous](Frozen::contiguous).
    ///
    /// # Panics
    /// When it is not, or not in float32, bfloat16, float16 or blocks.
    pub(in crate::kernels) fn new(weight: &'a Frozen<Flex>) -> Self {
        let tensor = match weight {
            Frozen::Dense(tensor) => tensor,
            Frozen::Blocks(blocks) => {
                let [rows, columns] = blocks.dims();
                return Self { numbers: Numbers::Blocks(blocks), columns, rows };
            }
        };
        let numbers = match tensor.dtype() {
            DType::BF16 => Numbers::Bf16(tensor.as_slice().expect("a contiguous weight")),
            DType::F16 => Numbers::F16(tensor.as_slice().expect("a contiguous weight")),
            _ => Numbers::F32(tensor.as_slice().expect("a contiguous weight")),
        };
        Self { numbers, columns: dim(tensor, 1), rows: dim(tensor, 0) }
    }

    /// A matrix of float32 numbers.
    pub(in crate::kernels) fn from_slice(numbers: &'a [f32], columns: usize) -> Self {
        Self { numbers: Numbers::F32(numbers), columns, rows: numbers.len() / columns }
    }

    /// Parts of rows that [`Self::read`] is asked for must begin and end at multiples of this.
    pub(in crate::kernels) fn alignment(&self) -> usize {
        match self.numbers {
            Numbers::F32(_) | Numbers::Bf16(_) | Numbers::F16(_) => 1,
            Numbers::Blocks(blocks) => blocks.form().block_size(),
        }
    }

    /// Where panels of it are kept, if they are.
    pub(in crate::kernels) fn packed(&self) -> Option<&'a Packed> {
        match self.numbers {
            Numbers::Blocks(blocks) => blocks.kept(),
            Numbers::F32(_) | Numbers::Bf16(_) | Numbers::F16(_) => None,
        }
    }

    /// Copies a part of a row.
    pub(in crate::kernels) fn read(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let range = row * self.columns + columns.start..row * self.columns + columns.end;
        match self.numbers {
            Numbers::Blocks(blocks) => blocks.read(row, columns, out),
            Numbers::F32(numbers) => out.copy_from_slice(&numbers[range]),
            Numbers::Bf16(numbers) => numbers[range].convert_to_f32_slice(out),
            Numbers::F16(numbers) => numbers[range].convert_to_f32_slice(out),
        }
    }

    /// Some rows as they are, where they are float32.
    pub(in crate::kernels) fn as_f32(&self, rows: Range<usize>) -> Option<&'a [f32]> {
        match self.numbers {
            Numbers::F32(numbers) => Some(&numbers[rows.start * self.columns..rows.end * self.columns]),
            Numbers::Bf16(_) | Numbers::F16(_) | Numbers::Blocks(_) => None,
        }
    }
}

/// The tensor with storage that holds its numbers and nothing else, so that it may be written in place.
pub(in crate::kernels) fn whole(tensor: FlexTensor) -> FlexTensor {
    let is_whole = tensor.layout().contiguous_offsets() == Some((0, tensor.storage::<f32>().len()));
    if is_whole {
        return tensor;
    }
    let shape = tensor.layout().shape().clone();
    let numbers = slice(&contiguous(tensor)).to_vec();
    FlexTensor::new(Bytes::from_elems(numbers), Layout::contiguous(shape), DType::F32)
}
