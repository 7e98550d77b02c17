//! The borders of the sequences in a flat run of tokens, and what each layer needs to know of them.
//!
//! Built once for a forward pass and shared by all layers.

use burn::tensor::Device;

use crate::kernels::attention::{Span, Spans};
use crate::kernels::rope::Rotation;

/// Sequences that lie one after the other in the `tokens` axis.
#[derive(Clone, Debug)]
pub struct Segments {
    pub(super) spans: Spans,
    /// For each kind of block.
    pub(super) rotations: Vec<Rotation>,
}

impl Segments {
    /// Spans of a training pass; the positions of each begin after what it sees before it. The frequencies are
    /// [`DecoderConfig::inverse_frequencies`](super::config::DecoderConfig::inverse_frequencies).
    pub fn of_spans(spans: &[Span], inverse_frequencies: &[Vec<f32>], device: &Device) -> Self {
        let pasts = spans.iter().map(|span| span.prefix.len());
        Self::at(spans, pasts, inverse_frequencies, device)
    }

    /// Sequences of `lengths` new tokens, each after `pasts` tokens that a cache holds (all 0 without one). The
    /// frequencies as in [`of_spans`](Self::of_spans).
    ///
    /// # Panics
    /// When the two slices differ in length.
    pub fn new(lengths: &[usize], pasts: &[usize], inverse_frequencies: &[Vec<f32>], device: &Device) -> Self {
        assert_eq!(lengths.len(), pasts.len(), "one past for each sequence");
        let starts = lengths.iter().scan(0, |end, length| Some(std::mem::replace(end, *end + length)));
        let spans: Vec<Span> = starts.zip(lengths).map(|(start, length)| (start..start + length).into()).collect();
        Self::at(&spans, pasts.iter().copied(), inverse_frequencies, device)
    }

    fn at(
        spans: &[Span],
        pasts: impl Iterator<Item = usize>,
        inverse_frequencies: &[Vec<f32>],
        device: &Device,
    ) -> Self {
        let positions = spans.iter().zip(pasts).flat_map(|(span, past)| past..past + span.range.len());
        let position_ids: Vec<usize> = positions.collect();
        let rotations =
            inverse_frequencies.iter().map(|frequencies| Rotation::new(&position_ids, frequencies, device)).collect();
        Self { spans: spans.into(), rotations }
    }

    /// The last token of each sequence, as indices into the `tokens` axis.
    pub fn last_tokens(&self) -> Vec<usize> {
        self.spans.iter().map(|span| span.range.end - 1).collect()
    }
}
