//! From the examples of an optimizer step to micro-batches of tensors.
//!
//! Which examples a step holds is decided before, by the seed alone. Packing and the micro-batch size only decide how
//! they are laid out, so they change memory and speed, never the result.

use std::ops::Range;

use burn::tensor::{Device, Int, Tensor};
use datasets::{ExampleRef, Family, Row, Segment, families, pack};

use crate::device::indices;
use crate::kernels::attention::Span;
use crate::recipe::{DeviceName, Recipe};

/// Sequences that go through the decoder together, one after the other, without padding.
#[derive(Clone, Debug, PartialEq)]
pub struct MicroBatch {
    /// All tokens.
    pub input_ids: Vec<u32>,
    /// Where each sequence lies, and what it sees before it.
    pub spans: Vec<Span>,
    /// The number of each sequence's example in the optimizer step, which decides the sequence's dropout; that of what
    /// several have in common is the first one's with a number beyond all examples added.
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

/// Added to the number of an example for what others have in common with it.
const IN_COMMON: u64 = 1 << 33;

impl MicroBatch {
    /// Lays rows out one after the other, each with the numbers of its examples in the step.
    fn from_rows(rows: &[(Row, Vec<u64>)]) -> Self {
        let mut batch = Self {
            input_ids: Vec::new(),
            spans: Vec::new(),
            examples: Vec::new(),
            predictors: Vec::new(),
            targets: Vec::new(),
            objective: Objective::Task,
        };
        for (row, examples) in rows {
            let start = batch.input_ids.len();
            for Segment { range: segment, prefix } in &row.segments {
                let moved = |range: &Range<usize>| range.start + start..range.end + start;
                batch.spans.push(Span { range: moved(segment), prefix: moved(prefix) });
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
        self.examples.iter().copied().zip(self.spans.iter().map(|span| span.range.len()))
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
    /// Compute what examples of a row begin with in common once; with packing only.
    pub share_prefix: bool,
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
            share_prefix: recipe.data.share_prefix.is_some(),
            max_length: recipe.data.max_length,
            micro_batch_size: recipe.train.micro_batch_size,
        }
    }
}

impl Layout {
    /// That of examples which are only read: their order changes nothing, so those that begin alike always come together
    /// where the device's attention knows how.
    pub fn of_reading(recipe: &Recipe) -> Self {
        let own = Self::of(recipe);
        let knows = matches!(recipe.device.parse(), Ok(DeviceName::Flex));
        Self { share_prefix: own.packing && (own.share_prefix || knows), ..own }
    }
}

/// The examples that are laid out side by side: families where a beginning is shared, else each by itself.
pub fn together(examples: &[ExampleRef<'_>], layout: Layout) -> Vec<Family> {
    if layout.share_prefix {
        let parts: Vec<(&[u32], &[bool])> = examples.iter().map(|e| (e.input_ids, e.loss_mask)).collect();
        families(&parts, usize::MAX, layout.max_length)
    } else {
        (0..examples.len()).map(Family::alone).collect()
    }
}

/// The families of each row.
pub fn rows(examples: &[ExampleRef<'_>], layout: Layout) -> Vec<Vec<Family>> {
    let families = together(examples, layout);
    if !layout.packing {
        return families.into_iter().map(|family| vec![family]).collect();
    }
    let tokens: Vec<usize> =
        families.iter().map(|family| family.tokens(|index| examples[index].input_ids.len())).collect();
    let rows = pack(&tokens, layout.max_length);
    rows.into_iter().map(|row| row.into_iter().map(|index| families[index].clone()).collect()).collect()
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
    let (numbers, examples): (Vec<u64>, Vec<ExampleRef<'a>>) = examples.into_iter().unzip();
    let row = |families: Vec<Family>| {
        let (mut row, mut of_segments) = (Row::default(), Vec::new());
        for Family { shared, members } in families {
            let part = |&index: &usize| (examples[index].input_ids, examples[index].loss_mask);
            row.push_family(shared, &members.iter().map(part).collect::<Vec<_>>());
            of_segments.extend((shared > 0).then(|| numbers[members[0]] + IN_COMMON));
            of_segments.extend(members.iter().map(|&index| numbers[index]));
        }
        (row, of_segments)
    };
    let rows: Vec<(Row, Vec<u64>)> = rows(&examples, layout).into_iter().map(row).collect();
    rows.chunks(layout.micro_batch_size).map(MicroBatch::from_rows).collect()
}
