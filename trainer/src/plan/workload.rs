//! What a run goes through: its micro-batches by their sizes.
//!
//! Reads the lengths and masks of the prepared examples, in the order and the layout of the run; no tensor is made.

use datasets::{ExampleRef, Examples, Prepared};

use super::questions::{Answers, Questions};
use crate::recipe::TrainConfig;
use crate::train::batch::{Layout, rows};
use crate::train::replay::Replay;
use crate::train::validation;

/// Steps that are looked at one by one; those after them are taken to be like them.
const STEPS: u64 = 4096;

/// A micro-batch by its sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// The length of each sequence.
    pub lengths: Vec<usize>,
    /// Supervised tokens.
    pub supervised: usize,
    /// Whether their divergence from the base is computed.
    pub divergence: bool,
}

impl Shape {
    /// All tokens.
    pub fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }
}

/// The micro-batches of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// The steps of the run.
    pub steps: u64,
    /// The micro-batches of the first steps.
    pub steps_seen: Vec<Vec<Shape>>,
    /// The micro-batches of one validation.
    pub validation: Vec<Shape>,
    /// Validations in the run.
    pub validations: u64,
    /// What forgetting is measured by.
    pub questions: Questions,
    /// The base's answers that are replayed, in batches.
    pub answers: Vec<Answers>,
}

impl Workload {
    /// The workload of a recipe's `train` section on its data.
    pub fn new(data: &Prepared, train: &TrainConfig, layout: Layout) -> Self {
        let per_epoch = data.order.len_per_epoch() as u64;
        let (steps, total) = (train.total_steps(per_epoch), train.total_examples(per_epoch));
        let batch = train.global_batch_size;
        let step = |index: u64| {
            let position = index * batch as u64;
            let left = usize::try_from(total - position).unwrap_or(usize::MAX);
            shapes(&data.examples_at(position, batch.min(left)), layout)
        };
        let steps_seen = if data.train.is_empty() { Vec::new() } else { (0..steps.min(STEPS)).map(step).collect() };
        let validation = validation_shapes(&data.validation, layout);
        let every = train.eval_every(per_epoch);
        let validations = if validation.is_empty() { 0 } else { steps.div_ceil(every) };
        Self { steps, steps_seen, validation, validations, ..Self::default() }
    }

    /// The same with what is replayed in every step.
    #[must_use]
    pub fn with_replay(mut self, replay: &Replay, layout: Layout) -> Self {
        for (step, micro_batches) in (0..).zip(&mut self.steps_seen) {
            micro_batches.extend(replay.micro_batches(step, layout).into_iter().map(|batch| Shape {
                supervised: batch.targets.len(),
                lengths: batch.lengths,
                divergence: replay.has_divergence(),
            }));
        }
        self
    }

    /// All micro-batches that were looked at.
    pub fn micro_batches(&self) -> impl Iterator<Item = &Shape> {
        self.steps_seen.iter().flatten()
    }

    /// What the sum of a figure over the micro-batches looked at is to be multiplied by for the whole run.
    pub fn scale(&self) -> f64 {
        if self.steps_seen.is_empty() { 0.0 } else { self.steps as f64 / self.steps_seen.len() as f64 }
    }

    /// Tokens of a step, on average.
    pub fn tokens_per_step(&self) -> f64 {
        let tokens: usize = self.micro_batches().map(Shape::tokens).sum();
        tokens as f64 / self.steps_seen.len().max(1) as f64
    }

    /// Supervised tokens of a step, on average.
    pub fn supervised_per_step(&self) -> f64 {
        let tokens: usize = self.micro_batches().map(|shape| shape.supervised).sum();
        tokens as f64 / self.steps_seen.len().max(1) as f64
    }

    /// Whether any step has more than one micro-batch.
    pub fn accumulates(&self) -> bool {
        self.steps_seen.iter().any(|step| step.len() > 1)
    }
}

/// The micro-batches of these examples.
fn shapes(examples: &[ExampleRef<'_>], layout: Layout) -> Vec<Shape> {
    let lengths: Vec<usize> = examples.iter().map(|example| example.input_ids.len()).collect();
    let rows = rows(&lengths, layout);
    let shape = |rows: &[Vec<usize>]| Shape {
        lengths: rows.iter().flatten().map(|&index| lengths[index]).collect(),
        // The first token of an example has no predecessor to predict it.
        supervised: rows
            .iter()
            .flatten()
            .map(|&index| examples[index].loss_mask.iter().skip(1).filter(|learned| **learned).count())
            .sum(),
        divergence: false,
    };
    rows.chunks(layout.micro_batch_size).map(shape).collect()
}

fn validation_shapes(examples: &Examples, layout: Layout) -> Vec<Shape> {
    let chunks = (0..examples.len()).step_by(validation::CHUNK);
    chunks
        .flat_map(|start| {
            let end = examples.len().min(start + validation::CHUNK);
            let chunk: Vec<ExampleRef<'_>> = (start..end).map(|index| examples.get(index)).collect();
            shapes(&chunk, layout)
        })
        .collect()
}
