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
    /// The number of each sequence's example in the optimizer step; it decides the example's dropout.
    pub examples: Vec<u64>,
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
    /// Lays rows out one after the other, each with the numbers of its examples in the step.
    fn from_rows(rows: &[(Row, Vec<u64>)]) -> Self {
        let mut batch = Self {
            input_ids: Vec::new(),
            lengths: Vec::new(),
            examples: Vec::new(),
            predictors: Vec::new(),
            targets: Vec::new(),
            objective: Objective::Task,
        };
        for (row, examples) in rows {
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
            batch.examples.extend(examples);
        }
        batch
    }

    /// The number of each sequence's example, and its tokens.
    pub fn sequences(&self) -> impl Iterator<Item = (u64, usize)> {
        self.examples.iter().copied().zip(self.lengths.iter().copied())
    }

    /// The number of each sequence's example, and its supervised tokens.
    pub fn supervised_sequences(&self) -> impl Iterator<Item = (u64, usize)> {
        let (mut end, mut before) = (0, 0);
        self.sequences().map(move |(example, length)| {
            end += length;
            let until = self.predictors.partition_point(|&predictor| predictor < end);
            let count = until - before;
            before = until;
            (example, count)
        })
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
    micro_batches_of((0..).zip(examples.into_iter().map(Into::into)), layout)
}

/// As [`micro_batches`], of some of a step's examples, each with its number in the step.
pub fn micro_batches_of<'a>(
    examples: impl IntoIterator<Item = (u64, ExampleRef<'a>)>,
    layout: Layout,
) -> Vec<MicroBatch> {
    let examples: Vec<(u64, ExampleRef<'a>)> = examples.into_iter().collect();
    let lengths: Vec<usize> = examples.iter().map(|(_, example)| example.input_ids.len()).collect();
    let rows: Vec<(Row, Vec<u64>)> = rows(&lengths, layout)
        .iter()
        .map(|group| {
            let part = |&index: &usize| (examples[index].1.input_ids, examples[index].1.loss_mask);
            let parts: Vec<(&[u32], &[bool])> = group.iter().map(part).collect();
            (Row::from_examples(&parts), group.iter().map(|&index| examples[index].0).collect())
        })
        .collect();
    rows.chunks(layout.micro_batch_size).map(MicroBatch::from_rows).collect()
}
