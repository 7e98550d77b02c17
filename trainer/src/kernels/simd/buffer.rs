//! Memory that is used again.
//!
//! A training step takes and gives back the same sizes over and over. Memory that goes back to the system between two
//! uses must be cleared by it page by page; that costs more than many a kernel.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// What was given back, by capacity.
static POOL: Mutex<BTreeMap<usize, Vec<Vec<f32>>>> = Mutex::new(BTreeMap::new());

/// Numbers whose memory goes back to the pool when they are dropped.
#[derive(Debug)]
pub(in crate::kernels) struct Buffer {
    numbers: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` numbers of any value; whoever takes it writes every number before reading it.
    pub(in crate::kernels) fn take(len: usize) -> Self {
        let capacity = capacity(len);
        let reused = POOL.lock().ok().and_then(|mut pool| pool.get_mut(&capacity)?.pop());
        Self { numbers: reused.unwrap_or_else(|| vec![0.0; capacity]), len }
    }
}

/// The size that is allocated for a length: a few sizes for each power of two, so that like lengths share memory.
fn capacity(len: usize) -> usize {
    let step = (len.next_power_of_two() / 8).max(64);
    len.next_multiple_of(step)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        if let Ok(mut pool) = POOL.lock() {
            pool.entry(numbers.len()).or_default().push(numbers);
        }
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.numbers[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.numbers[..self.len]
    }
}
