//! What a run goes through: its micro-batches by their sizes.
//!
//! Reads the lengths and masks of the prepared examples, in the order and the layout of the run; no tensor is made.

use datasets::{ExampleRef, Examples, Family, Prepared};

use super::questions::{Answers, Questions};
use crate::recipe::Recipe;
use crate::train::batch::{Layout, rows};
use crate::train::replay::Replay;
use crate::train::share::{Division, examples_of_step, supervised};
use crate::train::validation;

/// Steps that are looked at one by one; those after them are taken to be like them.
const STEPS: u64 = 4096;

/// A micro-batch by its sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// What it is made of.
    pub sequences: Vec<Sequences>,
    /// Supervised tokens.
    pub supervised: usize,
    /// Whether their divergence from the base is computed.
    pub divergence: bool,
}

/// A sequence, or several with a beginning in common, by their lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Tokens that they have in common, 0 for one alone.
    pub shared: usize,
    /// The tokens of each after these.
    pub rests: Vec<usize>,
}

impl From<usize> for Sequences {
    /// One alone.
    fn from(length: usize) -> Self {
        Self { shared: 0, rests: vec![length] }
    }
}

impl Shape {
    /// Sequences of these lengths, each alone.
    pub fn alone(lengths: &[usize], supervised: usize) -> Self {
        Self { sequences: lengths.iter().map(|&length| length.into()).collect(), supervised, divergence: false }
    }

    /// The tokens that are computed.
    pub fn tokens(&self) -> usize {
        self.sequences.iter().map(|s| s.shared + s.rests.iter().sum::<usize>()).sum()
    }

    /// The tokens of all sequences: what several have in common counts for each of them.
    pub fn read(&self) -> usize {
        self.sequences.iter().map(|s| s.rests.iter().map(|rest| s.shared + rest).sum::<usize>()).sum()
    }

    /// Twice the pairs of a query and a key that it sees.
    pub fn meetings(&self) -> usize {
        let rest = |shared: usize, rest: usize| rest * (rest + 2 * shared);
        self.sequences
            .iter()
            .map(|s| s.shared.pow(2) + s.rests.iter().map(|&own| rest(s.shared, own)).sum::<usize>())
            .sum()
    }
}

/// The micro-batches of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// The steps of the run.
    pub steps: u64,
    /// Of the first steps, each rank's micro-batches.
    pub steps_seen: Vec<Vec<Vec<Shape>>>,
    /// The micro-batches of one validation.
    pub validation: Vec<Shape>,
    /// Validations in the run.
    pub validations: u64,
    /// What the base reads to choose the examples that are trained on.
    pub selection: Vec<Shape>,
    /// What forgetting is measured by.
    pub questions: Questions,
    /// The base's answers that are replayed, in batches.
    pub answers: Vec<Answers>,
}

impl Workload {
    /// The workload of a recipe on its data, with what is replayed in every step, on so many ranks.
    pub fn new(data: &Prepared, replay: Option<&Replay>, recipe: &Recipe, ranks: usize) -> Self {
        let (train, layout) = (&recipe.train, Layout::of(recipe));
        let per_epoch = data.order.len_per_epoch() as u64;
        let (steps, total) = (train.total_steps(per_epoch), train.total_examples(per_epoch));
        let step = |index: u64| -> Vec<Vec<Shape>> {
            let task = examples_of_step(data, train.global_batch_size, total, index);
            let replayed = replay.map(|replay| (replay.examples(index), replay.objective()));
            let replayed = replayed.as_ref().map(|(examples, objective)| (&examples[..], *objective));
            let has_divergence = replay.is_some_and(Replay::has_divergence);
            let division = Division::new(&task, replayed, ranks, layout);
            let of_rank = |rank| {
                let [task, replayed] = division.examples(rank).map(|own| own.into_iter().map(|(_, example)| example));
                let replayed = shapes(replayed, layout).map(|shape| Shape { divergence: has_divergence, ..shape });
                shapes(task, layout).chain(replayed).collect()
            };
            (0..ranks).map(of_rank).collect()
        };
        let steps_seen = if data.train.is_empty() { Vec::new() } else { (0..steps.min(STEPS)).map(step).collect() };
        let validation = shapes_of_all(&data.validation, Layout::of_reading(recipe));
        let every = train.eval_every(per_epoch);
        let validations = if validation.is_empty() { 0 } else { steps.div_ceil(every) };
        Self { steps, steps_seen, validation, validations, ..Self::default() }
    }

    /// All micro-batches that were looked at.
    pub fn micro_batches(&self) -> impl Iterator<Item = &Shape> {
        self.steps_seen.iter().flatten().flatten()
    }

    /// What the sum of a figure over the steps looked at is to be multiplied by for the whole run.
    pub fn scale(&self) -> f64 {
        if self.steps_seen.is_empty() { 0.0 } else { self.steps as f64 / self.steps_seen.len() as f64 }
    }

    /// Tokens of a step's examples, on average.
    pub fn tokens_per_step(&self) -> f64 {
        let tokens: usize = self.micro_batches().map(Shape::read).sum();
        tokens as f64 / self.steps_seen.len().max(1) as f64
    }

    /// Supervised tokens of a step, on average.
    pub fn supervised_per_step(&self) -> f64 {
        let tokens: usize = self.micro_batches().map(|shape| shape.supervised).sum();
        tokens as f64 / self.steps_seen.len().max(1) as f64
    }

    /// Whether any rank has more than one micro-batch in any step.
    pub fn accumulates(&self) -> bool {
        self.steps_seen.iter().flatten().any(|own| own.len() > 1)
    }
}

/// The micro-batches of these examples.
fn shapes<'a>(examples: impl IntoIterator<Item = ExampleRef<'a>>, layout: Layout) -> impl Iterator<Item = Shape> {
    let examples: Vec<ExampleRef<'a>> = examples.into_iter().collect();
    let sequences = |Family { shared, members }: &Family| Sequences {
        shared: *shared,
        rests: members.iter().map(|&member| examples[member].input_ids.len() - shared).collect(),
    };
    let rows = rows(&examples, layout);
    let shape = |rows: &[Vec<Family>]| Shape {
        sequences: rows.iter().flatten().map(sequences).collect(),
        supervised: rows.iter().flatten().flat_map(|family| &family.members).map(|&m| supervised(&examples[m])).sum(),
        divergence: false,
    };
    rows.chunks(layout.micro_batch_size).map(shape).collect::<Vec<_>>().into_iter()
}

/// The micro-batches of all examples in their order, as a validation has them.
pub fn shapes_of_all(examples: &Examples, layout: Layout) -> Vec<Shape> {
    let chunks = (0..examples.len()).step_by(validation::CHUNK);
    let chunk = |start: usize| (start..examples.len().min(start + validation::CHUNK)).map(|index| examples.get(index));
    chunks.flat_map(|start| shapes(chunk(start), layout)).collect()
}
