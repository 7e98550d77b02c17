//! The borders of the sequences in a flat run of tokens, and what each layer needs to know of them.
//!
//! Built once for a forward pass and shared by all layers.

use burn::tensor::Device;

use crate::kernels::attention::Ranges;
use crate::kernels::rope::Rotation;

/// Sequences that lie one after the other in the `tokens` axis.
#[derive(Clone, Debug)]
pub struct Segments {
    pub(super) ranges: Ranges,
    /// For each kind of block.
    pub(super) rotations: Vec<Rotation>,
}

impl Segments {
    /// Sequences of `lengths` new tokens, each after `pasts` tokens that a cache holds (all 0 in training). The
    /// frequencies are [`DecoderConfig::inverse_frequencies`](super::config::DecoderConfig::inverse_frequencies).
    ///
    /// # Panics
    /// When the two slices differ in length.
    pub fn new(lengths: &[usize], pasts: &[usize], inverse_frequencies: &[Vec<f32>], device: &Device) -> Self {
        assert_eq!(lengths.len(), pasts.len(), "one past for each sequence");
        let mut ranges = Vec::with_capacity(lengths.len());
        let mut position_ids = Vec::new();
        let mut start = 0;
        for (&new, &past) in lengths.iter().zip(pasts) {
            ranges.push(start..start + new);
            start += new;
            position_ids.extend(past..past + new);
        }
        let rotations =
            inverse_frequencies.iter().map(|frequencies| Rotation::new(&position_ids, frequencies, device)).collect();
        Self { ranges: ranges.into(), rotations }
    }

    /// The last token of each sequence, as indices into the `tokens` axis.
    pub fn last_tokens(&self) -> Vec<usize> {
        self.ranges.iter().map(|range| range.end - 1).collect()
    }
}
