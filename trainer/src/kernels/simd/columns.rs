//! Writing to one matrix from several tasks that own columns of it.
#![expect(unsafe_code, reason = "slices can be split between tasks by rows only")]

use std::marker::PhantomData;
use std::ops::Range;

/// A matrix of which each task writes its own part.
#[derive(Debug)]
pub(in crate::kernels) struct Columns<'a> {
    data: *mut f32,
    len: usize,
    row: usize,
    matrix: PhantomData<&'a mut [f32]>,
}

// SAFETY: the parts that tasks ask for do not overlap, which `row` demands of its callers.
unsafe impl Send for Columns<'_> {}
// SAFETY: as above.
unsafe impl Sync for Columns<'_> {}

impl<'a> Columns<'a> {
    /// The matrix, with the distance of two rows.
    pub(in crate::kernels) fn new(matrix: &'a mut [f32], row: usize) -> Self {
        Self { data: matrix.as_mut_ptr(), len: matrix.len(), row, matrix: PhantomData }
    }

    /// Some columns of a row.
    ///
    /// # Safety
    /// No other task asks for any of them while this one holds them.
    ///
    /// # Panics
    /// When they lie outside the matrix.
    pub(in crate::kernels) unsafe fn row(&self, row: usize, columns: Range<usize>) -> &'a mut [f32] {
        let start = row * self.row + columns.start;
        assert!(columns.end <= self.row && start + columns.len() <= self.len, "the part lies outside the matrix");
        // SAFETY: it lies inside, and nobody else holds it.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), columns.len()) }
    }
}
