//! Memory that is used again.
//!
//! A training step takes and gives back the same sizes over and over. Memory that goes back to the system between two
//! uses must be cleared by it page by page; that costs more than many a kernel.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Fewer numbers than this are left to the allocator, which does not give such back to the system.
const SMALLEST: usize = 1 << 14;

/// What was given back, by length.
static POOL: Mutex<BTreeMap<usize, Vec<Vec<f32>>>> = Mutex::new(BTreeMap::new());

/// Numbers whose memory goes back to the pool when they are dropped.
#[derive(Debug)]
pub(in crate::kernels) struct Buffer {
    /// At least `len` of them.
    numbers: Vec<f32>,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` numbers of any value; whoever takes it writes every number before reading it.
    pub(in crate::kernels) fn take(len: usize) -> Self {
        if len < SMALLEST {
            return Self { numbers: vec![0.0; len], len };
        }
        let reused = POOL.lock().ok().and_then(|mut pool| {
            let reused = fitting(&mut pool, len);
            if reused.is_none() {
                make_room(&mut pool, len);
            }
            reused
        });
        Self { numbers: reused.unwrap_or_else(|| vec![0.0; len]), len }
    }
}

/// The smallest of the pool that holds `len` numbers and is hardly larger.
fn fitting(pool: &mut BTreeMap<usize, Vec<Vec<f32>>>, len: usize) -> Option<Vec<f32>> {
    let mut sizes = pool.range_mut(len..=len + len / 8);
    let (&size, buffers) = sizes.next()?;
    let buffer = buffers.pop();
    if buffers.is_empty() {
        pool.remove(&size);
    }
    buffer
}

/// Gives as much back to the system as is about to be taken from it, so that sizes which are no longer used do not pile
/// up beside those that are.
fn make_room(pool: &mut BTreeMap<usize, Vec<Vec<f32>>>, len: usize) {
    let mut freed = 0;
    while freed < len {
        let size = pool.range(..=len).next_back().or_else(|| pool.first_key_value()).map(|(&size, _)| size);
        let Some(size) = size else { return };
        freed += size;
        if let Some(buffers) = pool.get_mut(&size) {
            buffers.pop();
            if buffers.is_empty() {
                pool.remove(&size);
            }
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let numbers = std::mem::take(&mut self.numbers);
        if numbers.len() < SMALLEST {
            return;
        }
        if let Ok(mut pool) = POOL.lock() {
            pool.entry(numbers.len()).or_default().push(numbers);
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(self)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_reused_and_what_is_no_longer_used_makes_room() {
        let mut pool = BTreeMap::from([(1000, vec![vec![0.0; 1000]; 2]), (5000, vec![vec![0.0; 5000]])]);
        assert_eq!(fitting(&mut pool, 990).map(|buffer| buffer.len()), Some(1000), "hardly larger");
        assert_eq!(fitting(&mut pool, 800), None, "much larger");
        make_room(&mut pool, 4000);
        assert!(pool.is_empty(), "both small ones and then the large one");
    }
}
