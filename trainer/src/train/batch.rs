//! From the examples of an optimizer step to micro-batches of tensors.
//!
//! Which examples a step holds is decided before, by the seed alone. Packing and the micro-batch size only decide how
//! they are laid out, so they change memory and speed, never the result.

use burn::tensor::{Device, Int, Tensor};
use datasets::{ExampleRef, Row, pack};

use crate::device::indices;

/// Sequences that go through the decoder together, one after the other, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MicroBatch {
    /// All tokens.
    pub input_ids: Vec<u32>,
    /// Length of each sequence.
    pub lengths: Vec<usize>,
    /// The tokens whose next token is supervised, as indices into `input_ids`, ascending.
    pub predictors: Vec<usize>,
    /// The supervised next token of each predictor.
    pub targets: Vec<u32>,
}

impl MicroBatch {
    /// Lays rows out one after the other.
    pub fn from_rows(rows: &[Row]) -> Self {
        let mut batch =
            Self { input_ids: Vec::new(), lengths: Vec::new(), predictors: Vec::new(), targets: Vec::new() };
        for row in rows {
            let start = batch.input_ids.len();
            for segment in &row.segments {
                batch.lengths.push(segment.len());
                // The first token of a segment has no predecessor to predict it.
                for target in segment.start + 1..segment.end {
                    if row.loss_mask[target] {
                        batch.predictors.push(start + target - 1);
                        batch.targets.push(row.input_ids[target]);
                    }
                }
            }
            batch.input_ids.extend_from_slice(&row.input_ids);
        }
        batch
    }

    /// The tokens as a tensor, `[tokens]`.
    pub fn input_ids(&self, device: &Device) -> Tensor<1, Int> {
        indices(self.input_ids.iter().copied(), device)
    }

    /// The predictors as a tensor, `[supervised]`.
    pub fn predictors(&self, device: &Device) -> Tensor<1, Int> {
        indices(self.predictors.iter().copied(), device)
    }

    /// The targets as a tensor, `[supervised]`.
    pub fn targets(&self, device: &Device) -> Tensor<1, Int> {
        indices(self.targets.iter().copied(), device)
    }
}

/// How the examples of a step are laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Put several examples into one row.
    pub packing: bool,
    /// Tokens in a row, when packing.
    pub max_length: usize,
    /// Rows in a micro-batch.
    pub micro_batch_size: usize,
}

/// Lays the examples of one optimizer step out as micro-batches.
pub fn micro_batches<'a>(
    examples: impl IntoIterator<Item = impl Into<ExampleRef<'a>>>,
    layout: Layout,
) -> Vec<MicroBatch> {
    let examples: Vec<ExampleRef<'a>> = examples.into_iter().map(Into::into).collect();
    let groups: Vec<Vec<usize>> = if layout.packing {
        let lengths: Vec<usize> = examples.iter().map(|e| e.input_ids.len()).collect();
        pack(&lengths, layout.max_length)
    } else {
        (0..examples.len()).map(|i| vec![i]).collect()
    };
    let rows: Vec<Row> = groups
        .iter()
        .map(|group| {
            let parts: Vec<(&[u32], &[bool])> =
                group.iter().map(|&i| (examples[i].input_ids, examples[i].loss_mask)).collect();
            Row::from_examples(&parts)
        })
        .collect();
    rows.chunks(layout.micro_batch_size).map(MicroBatch::from_rows).collect()
}
