//! From the examples of an optimizer step to micro-batches of tensors.
//!
//! Which examples a step holds is decided before, by the seed alone. Packing and the micro-batch size only decide how
//! they are laid out, so they change memory and speed, never the result.

use burn::tensor::{Device, Int, Tensor};
use datasets::{ExampleRef, Row, pack};

use crate::device::indices;
use crate::recipe::Recipe;

/// Sequences that go through the decoder together, one after the other, without padding.
#[derive(Clone, Debug, PartialEq)]
pub struct MicroBatch {
    /// All tokens.
    pub input_ids: Vec<u32>,
    /// Length of each sequence.
    pub lengths: Vec<usize>,
    /// The tokens whose next token is supervised, as indices into `input_ids`, ascending.
    pub predictors: Vec<usize>,
    /// The supervised next token of each predictor.
    pub targets: Vec<u32>,
    /// What its supervised tokens are there for.
    pub objective: Objective,
}

/// What the supervised tokens of a micro-batch are there for. Each is a mean over such tokens of the whole step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Objective {
    /// The task: their negative log-likelihood.
    #[default]
    Task,
    /// What the model must keep: their negative log-likelihood and the divergence from the base.
    Replay {
        /// Of the negative log-likelihood; with 0 it is not computed.
        weight: f64,
        /// Of the Kullback-Leibler divergence; with 0 it is not computed.
        kl_weight: f64,
    },
}

impl Objective {
    /// The weight of the negative log-likelihood.
    pub fn weight(self) -> f64 {
        match self {
            Self::Task => 1.0,
            Self::Replay { weight, .. } => weight,
        }
    }

    /// The weight of the divergence from the base.
    pub fn kl_weight(self) -> f64 {
        match self {
            Self::Task => 0.0,
            Self::Replay { kl_weight, .. } => kl_weight,
        }
    }

    /// Whether it is the task.
    pub fn is_task(self) -> bool {
        matches!(self, Self::Task)
    }
}

impl MicroBatch {
    /// Lays rows out one after the other.
    pub fn from_rows(rows: &[Row]) -> Self {
        let mut batch = Self {
            input_ids: Vec::new(),
            lengths: Vec::new(),
            predictors: Vec::new(),
            targets: Vec::new(),
            objective: Objective::Task,
        };
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

impl Layout {
    /// The layout that a recipe asks for.
    pub fn of(recipe: &Recipe) -> Self {
        Self {
            packing: recipe.data.packing,
            max_length: recipe.data.max_length,
            micro_batch_size: recipe.train.micro_batch_size,
        }
    }
}

/// The examples of each row, by their lengths.
pub fn rows(lengths: &[usize], layout: Layout) -> Vec<Vec<usize>> {
    if layout.packing { pack(lengths, layout.max_length) } else { (0..lengths.len()).map(|i| vec![i]).collect() }
}

/// Lays the examples of one optimizer step out as micro-batches of the task.
pub fn micro_batches<'a>(
    examples: impl IntoIterator<Item = impl Into<ExampleRef<'a>>>,
    layout: Layout,
) -> Vec<MicroBatch> {
    let examples: Vec<ExampleRef<'a>> = examples.into_iter().map(Into::into).collect();
    let lengths: Vec<usize> = examples.iter().map(|e| e.input_ids.len()).collect();
    let rows: Vec<Row> = rows(&lengths, layout)
        .iter()
        .map(|group| {
            let parts: Vec<(&[u32], &[bool])> =
                group.iter().map(|&i| (examples[i].input_ids, examples[i].loss_mask)).collect();
            Row::from_examples(&parts)
        })
        .collect();
    rows.chunks(layout.micro_batch_size).map(MicroBatch::from_rows).collect()
}
