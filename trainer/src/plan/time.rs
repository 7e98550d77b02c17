//! **The time model**: the work of a step in operations and in bytes moved, and the seconds that it takes.
//!
//! Matrix products are counted in operations, at a rate of their own; everything else is bytes that go through memory.
//! With the two rates of a device, measured or from its data sheet, the sum of both is the time.

use std::ops::{Add, AddAssign, Mul};

use serde::{Deserialize, Serialize};

use super::model::ModelSizes;
use super::questions::{Answers, Questions};
use super::scale::{Cluster, Compute, ScalePlan};
use super::workload::{Shape, Workload};
use crate::train::backward::is_recomputed;

/// Bytes of a number.
const F32: f64 = 4.0;

/// Numbers moved for each weight that is read and packed for a product. It would be two; the packing turns rows into
/// columns, which takes about as long again as moving them: measured.
const PACKING: f64 = 4.0;

/// What a device does in a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Operations of matrix products.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

/// Work to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Operations of matrix products; a multiplication with its addition counts as two.
    pub flops: f64,
    /// Bytes read and written.
    pub bytes: f64,
}

impl TimePlan {
    /// Seconds of the whole run.
    pub fn total_seconds(&self) -> f64 {
        let Self { training_seconds, validation_seconds, selection_seconds, question_seconds, answer_seconds, .. } =
            self;
        training_seconds + validation_seconds + selection_seconds + question_seconds + answer_seconds
    }
}

impl Work {
    /// How long it takes.
    pub fn seconds(self, rates: Rates) -> f64 {
        self.flops / rates.flops + self.bytes / rates.bytes
    }
}

impl Add for Work {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { flops: self.flops + other.flops, bytes: self.bytes + other.bytes }
    }
}

impl AddAssign for Work {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Mul<f64> for Work {
    type Output = Self;

    fn mul(self, factor: f64) -> Self {
        Self { flops: self.flops * factor, bytes: self.bytes * factor }
    }
}

/// How a block is gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Forward alone: in validation, and below the first block with an adapter.
    Forward,
    /// Forward and backward.
    Kept,
    /// Forward twice, and backward.
    Recomputed,
}

/// Forward and backward work as multiples of the forward pass of matrix products.
impl Pass {
    /// Passes over a frozen weight: forward, and the gradient of the input.
    fn products(self) -> f64 {
        match self {
            Self::Forward => 1.0,
            Self::Kept => 2.0,
            Self::Recomputed => 3.0,
        }
    }

    /// As multiples of an adapter's forward pass: the backward pass has two products for each of the forward's, with
    /// the gradients of `A` and `B`.
    fn adapter(self) -> f64 {
        match self {
            Self::Forward => 1.0,
            Self::Kept => 3.0,
            Self::Recomputed => 4.0,
        }
    }

    /// As multiples of attention's forward pass of two products; the backward pass has five.
    fn attention(self) -> f64 {
        match self {
            Self::Forward => 1.0,
            Self::Kept => 3.5,
            Self::Recomputed => 4.5,
        }
    }

    /// As multiples of what the forward pass reads and writes of activations.
    fn activations(self) -> f64 {
        match self {
            Self::Forward => 1.0,
            Self::Kept => 3.5,
            Self::Recomputed => 4.5,
        }
    }
}

/// The work of one block on a micro-batch.
pub fn block(model: &ModelSizes, block: usize, shape: &Shape, pass: Pass) -> Work {
    let (tokens, c) = (shape.tokens() as f64, &model.config);
    let (hidden, intermediate) = (c.hidden_size as f64, c.intermediate_size as f64);
    let weights = model.block_weights() as f64;
    // Each meeting of a query and a key is two products: with the key and with the value.
    let attention = 2.0 * shape.meetings() as f64 * model.heads_width() as f64;
    let flops = 2.0 * tokens * weights * pass.products()
        + 2.0 * tokens * model.block_parameters(block) as f64 * pass.adapter()
        + attention * pass.attention();
    // Two normalisations, rotation, attention, two residuals, the gated activation; each reads and writes its rows.
    let width = 10.0 * hidden + 3.0 * model.qkv() as f64 + 2.0 * model.heads_width() as f64 + 6.0 * intermediate;
    let packing = PACKING * weights * pass.products();
    let bytes = F32 * (tokens * width * pass.activations() + packing);
    Work { flops, bytes }
}

/// The work of the head with its loss, on a micro-batch.
pub fn head(model: &ModelSizes, shape: &Shape, pass: Pass) -> Work {
    let c = &model.config;
    let weights = (c.vocab_size * c.hidden_size) as f64;
    let products = if pass == Pass::Forward { 1.0 } else { 2.0 };
    let supervised = shape.supervised as f64;
    let flops = 2.0 * supervised * weights * products;
    let logits = 4.0 * supervised * c.vocab_size as f64;
    Work { flops, bytes: F32 * (logits + PACKING * weights * products) }
}

/// The work of the base's side of a divergence, by blocks and head: its own pass from the first block with an adapter on,
/// and in training the head's three products instead of two.
pub fn divergence(model: &ModelSizes, shape: &Shape) -> (Work, Work) {
    let blocks = (model.first_adapted()..model.blocks())
        .fold(Work::default(), |sum, i| sum + block(model, i, shape, Pass::Forward));
    (blocks, head(model, shape, Pass::Forward))
}

/// The work of writing answers: each token of all of them reads every weight once.
pub fn writing(model: &ModelSizes, answers: Answers) -> Work {
    let c = &model.config;
    let weights = (model.blocks() * model.block_weights() + c.vocab_size * c.hidden_size) as f64;
    let Answers { sequences, tokens } = answers;
    Work { flops: 2.0 * weights * (sequences * tokens) as f64, bytes: F32 * weights * tokens as f64 }
}

/// The work of an optimizer step beside its micro-batches: norm, update, and the way between vector and matrices.
pub fn update(model: &ModelSizes) -> Work {
    Work { flops: 0.0, bytes: 16.0 * F32 * model.parameters() as f64 }
}

/// How the blocks of a model are gone through in training.
pub fn passes(model: &ModelSizes, recomputed_blocks: usize) -> impl Iterator<Item = Pass> {
    let (first, blocks) = (model.first_adapted(), model.blocks());
    (0..blocks).map(move |index| {
        if index < first {
            Pass::Forward
        } else if is_recomputed(index, blocks, recomputed_blocks) {
            Pass::Recomputed
        } else {
            Pass::Kept
        }
    })
}

/// What a run's parts take, as multiples of the model's figures; a probe measures them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Corrections {
    /// Of the blocks.
    pub blocks: f64,
    /// Of head, embedding and what else a micro-batch has once.
    pub head: f64,
}

impl Default for Corrections {
    fn default() -> Self {
        Self { blocks: 1.0, head: 1.0 }
    }
}

/// The time of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimePlan {
    /// Seconds of all steps.
    pub training_seconds: f64,
    /// Seconds of all validations.
    pub validation_seconds: f64,
    /// Seconds in which the base reads the examples to choose from.
    pub selection_seconds: f64,
    /// Seconds in which forgetting is measured; less where the base's answers are kept from an earlier run.
    pub question_seconds: f64,
    /// Seconds in which the base answers what is replayed.
    pub answer_seconds: f64,
    /// An average step.
    pub step: ScalePlan,
}

/// Predicts the time of a run on a cluster, each of whose devices has these rates.
pub fn time(
    model: &ModelSizes,
    workload: &Workload,
    recomputed_blocks: usize,
    rates: Rates,
    corrections: Corrections,
    cluster: Cluster,
) -> TimePlan {
    let micro_batch = |shape: &Shape, training: bool| {
        let mut blocks = Work::default();
        for (index, pass) in passes(model, recomputed_blocks).enumerate() {
            blocks += block(model, index, shape, if training { pass } else { Pass::Forward });
        }
        let mut head = head(model, shape, if training { Pass::Kept } else { Pass::Forward });
        if shape.divergence {
            let of_base = divergence(model, shape);
            (blocks, head) = (blocks + of_base.0, head + of_base.1);
        }
        blocks.seconds(rates) * corrections.blocks + head.seconds(rates) * corrections.head
    };
    let forward = |shapes: &[Shape]| shapes.iter().fold(0.0, |sum, shape| sum + micro_batch(shape, false));
    let writing =
        |answers: &[Answers]| answers.iter().fold(0.0, |sum, batch| sum + writing(model, *batch).seconds(rates));
    // Every rank updates its own copy of the adapter.
    let update = update(model).seconds(rates);
    let of_rank = |own: &Vec<Shape>| own.iter().fold(update, |sum, shape| sum + micro_batch(shape, true));
    // What follows the forward pass of the last micro-batch.
    let last_backward = |own: &Vec<Shape>| -> f64 {
        own.last().map_or(0.0, |shape| {
            let of = |pass: Pass, index: usize| block(model, index, shape, pass).seconds(rates) * corrections.blocks;
            let backward = |(index, pass)| of(pass, index) - of(Pass::Forward, index);
            passes(model, recomputed_blocks).enumerate().map(backward).sum()
        })
    };
    let mut compute = Compute::default();
    for step in &workload.steps_seen {
        let of_ranks: Vec<f64> = step.iter().map(of_rank).collect();
        compute.mean += cluster.mean(&of_ranks);
        compute.longest += cluster.longest(&of_ranks);
        let slowest = (0..step.len()).max_by(|&a, &b| of_ranks[a].total_cmp(&of_ranks[b]));
        compute.overlap += slowest.map_or(0.0, |rank| last_backward(&step[rank]));
    }
    let steps_seen = workload.steps_seen.len().max(1) as f64;
    let Compute { mean, longest, overlap } = compute;
    let compute = Compute { mean: mean / steps_seen, longest: longest / steps_seen, overlap: overlap / steps_seen };
    let step = cluster.step(model.parameters(), workload.tokens_per_step(), compute);
    let Questions { passes, texts, answers, measurements } = &workload.questions;
    let (one_model, difference) = (forward(passes) + writing(answers), forward(texts));
    let devices = cluster.used_devices();
    let question_seconds =
        one_model * (*measurements as f64 + f64::from(u8::from(*measurements > 0))) + difference * *measurements as f64;
    TimePlan {
        training_seconds: (step.compute_seconds + step.communication_seconds) * workload.steps as f64,
        validation_seconds: forward(&workload.validation) * workload.validations as f64 / devices,
        selection_seconds: forward(&workload.selection) / devices,
        // The base is asked once.
        question_seconds: question_seconds / devices,
        answer_seconds: writing(&workload.answers) / devices,
        step,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::smollm2;

    const RATES: Rates = Rates { flops: 1e11, bytes: 1e10 };

    fn shape(lengths: &[usize], supervised: usize) -> Shape {
        Shape::alone(lengths, supervised)
    }

    #[test]
    fn a_token_costs_four_operations_a_weight_and_six_a_trained_number() {
        let mut model = smollm2(16);
        // So short that attention counts for nothing.
        let tokens = shape(&[1; 100], 0);
        let weights = model.block_weights() as f64;
        let parameters = model.block_parameters(0) as f64;
        let exact = 100.0 * (4.0 * weights + 6.0 * parameters);
        let counted = block(&model, 0, &tokens, Pass::Kept).flops;
        assert!((counted / exact - 1.0).abs() < 1e-3, "{counted} and {exact}");
        model.ranks[0] = [0; 7];
        let recomputed = block(&model, 0, &tokens, Pass::Recomputed).flops;
        assert!((recomputed / (600.0 * weights) - 1.0).abs() < 1e-3);
        let head = head(&model, &shape(&[100], 10), Pass::Kept).flops;
        assert!((head / (4.0 * 10.0 * 49152.0 * 576.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn longer_sequences_cost_more_than_packed_short_ones() {
        let model = smollm2(16);
        let long = block(&model, 0, &shape(&[2048], 0), Pass::Kept).flops;
        let packed = block(&model, 0, &shape(&[256; 8], 0), Pass::Kept).flops;
        let attention = 7.0 * 576.0 * (2048f64.powi(2) - 8.0 * 256f64.powi(2));
        assert!((long - packed - attention).abs() / attention < 1e-9);
    }

    #[test]
    fn time_grows_with_what_is_computed_again_and_falls_with_the_rates() {
        let model = smollm2(16);
        let workload = Workload {
            steps: 10,
            steps_seen: vec![vec![vec![shape(&[512], 40)]]; 10],
            validation: vec![shape(&[300], 20)],
            validations: 2,
            ..Workload::default()
        };
        let none = time(&model, &workload, 0, RATES, Corrections::default(), Cluster::ALONE);
        let half = time(&model, &workload, 15, RATES, Corrections::default(), Cluster::ALONE);
        let all = time(&model, &workload, 30, RATES, Corrections::default(), Cluster::ALONE);
        assert!(none.training_seconds < half.training_seconds && half.training_seconds < all.training_seconds);
        let twice = Rates { flops: 2e11, bytes: 2e10 };
        let faster = time(&model, &workload, 0, twice, Corrections::default(), Cluster::ALONE);
        assert!((faster.step.tokens_per_second / none.step.tokens_per_second - 2.0).abs() < 1e-9);
        assert!((none.step.tokens_per_second * none.training_seconds - 5120.0).abs() < 1e-6);
        assert!(none.validation_seconds > 0.0 && none.validation_seconds < none.training_seconds);

        // A second rank with as much work doubles the tokens, and each rank updates its own copy.
        let two = Cluster { ranks: 2, devices: 2, ..Cluster::ALONE };
        let steps_seen = vec![vec![vec![shape(&[512], 40)]; 2]; 10];
        let twice = time(&model, &Workload { steps_seen, ..workload }, 0, RATES, Corrections::default(), two);
        assert!((twice.step.tokens_per_second / none.step.tokens_per_second - 2.0).abs() < 1e-9);
        assert!((twice.validation_seconds / none.validation_seconds - 0.5).abs() < 1e-9);
    }
}
