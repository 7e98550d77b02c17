//! From the examples of an optimizer step to micro-batches of tensors.
//!
//! Which examples a step holds is decided before, by the seed alone. Packing and the micro-batch size only decide how
//! they are laid out, so they change memory and speed, never the result.

use burn::tensor::{Device, Int, Tensor, TensorData};
use datasets::{Example, Row, pack};

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
        ids(self.input_ids.iter().map(|&id| i64::from(id)), device)
    }

    /// The predictors as a tensor, `[supervised]`.
    pub fn predictors(&self, device: &Device) -> Tensor<1, Int> {
        ids(self.predictors.iter().map(|&i| i as i64), device)
    }

    /// The targets as a tensor, `[supervised]`.
    pub fn targets(&self, device: &Device) -> Tensor<1, Int> {
        ids(self.targets.iter().map(|&id| i64::from(id)), device)
    }
}

fn ids(values: impl Iterator<Item = i64>, device: &Device) -> Tensor<1, Int> {
    let values: Vec<i64> = values.collect();
    let shape = [values.len()];
    Tensor::from_data(TensorData::new(values, shape), device)
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
pub fn micro_batches(examples: &[&Example], layout: Layout) -> Vec<MicroBatch> {
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
                group.iter().map(|&i| (examples[i].input_ids.as_slice(), examples[i].loss_mask.as_slice())).collect();
            Row::from_examples(&parts)
        })
        .collect();
    rows.chunks(layout.micro_batch_size).map(MicroBatch::from_rows).collect()
}
