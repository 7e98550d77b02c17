//! One optimizer step: forward and backward over its micro-batches, with one normalisation over the whole step.

use burn::tensor::{Device, Tensor};

use super::backward;
use super::batch::MicroBatch;
use crate::model::{Context, Decoder, DropoutSeed, Segments};

/// What the backward pass of a step yields.
#[derive(Clone, Debug)]
pub struct StepGradient {
    /// Mean negative log-likelihood over the supervised tokens of the task, in nats.
    pub loss: f64,
    /// The same over those that are replayed; `None` where it is not learned.
    pub replay_loss: Option<f64>,
    /// Mean Kullback-Leibler divergence from the base over the supervised tokens that are replayed, in nats; `None`
    /// where it is not held down.
    pub kl: Option<f64>,
    /// Supervised tokens of the task.
    pub supervised: usize,
    /// All tokens of the step, replayed ones included.
    pub tokens: usize,
    /// The gradient of the step's objective in the layout of [`flatten`](super::parameters::flatten).
    pub gradient: Tensor<1>,
}

/// How a step is computed.
#[derive(Clone, Copy, Debug)]
pub struct StepSettings {
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// LoRA dropout.
    pub dropout: f64,
    /// Blocks whose activations are computed again in the backward pass instead of being kept.
    pub recomputed_blocks: usize,
}

/// Computes the losses of a step and the gradient of its objective: that of the task, and with their weights those of
/// what is replayed. `None` when `stop` says so between two micro-batches.
///
/// Each sum of token losses is divided by the supervised tokens of the **step** that it is over, so that neither packing
/// nor the micro-batch size changes a number.
///
/// # Panics
/// When no micro-batch is given, or one supervises nothing; both are refused when the data is loaded.
pub fn gradient(
    decoder: &Decoder,
    micro_batches: &[MicroBatch],
    settings: StepSettings,
    device: &Device,
    stop: &dyn Fn() -> bool,
) -> Option<StepGradient> {
    let supervised = |is_task: bool| -> usize {
        micro_batches.iter().filter(|b| b.objective.is_task() == is_task).map(|b| b.targets.len()).sum()
    };
    let (supervised, replayed) = (supervised(true), supervised(false));
    let tokens = micro_batches.iter().map(|b| b.input_ids.len()).sum();
    let (mut loss, mut replay_loss, mut kl) = (0.0, None, None);
    let mut total: Option<Tensor<1>> = None;
    for (micro_step, batch) in (0..).zip(micro_batches) {
        if stop() {
            return None;
        }
        let StepSettings { seed, step, dropout: probability, recomputed_blocks } = settings;
        let dropout = DropoutSeed { probability, seed, step, micro_step };
        let is_task = batch.objective.is_task();
        let count = if is_task { supervised } else { replayed };
        let (losses, gradient) = backward::gradient(decoder, batch, count, dropout, recomputed_blocks, device);
        if is_task {
            loss += losses.likelihood.unwrap_or(0.0);
        } else {
            add(&mut replay_loss, losses.likelihood);
            add(&mut kl, losses.divergence);
        }
        total = Some(match total {
            Some(sum) => sum + gradient,
            None => gradient,
        });
    }
    let gradient = total.expect("a step has at least one micro-batch");
    Some(StepGradient { loss, replay_loss, kl, supervised, tokens, gradient })
}

fn add(sum: &mut Option<f64>, value: Option<f64>) {
    if let Some(value) = value {
        *sum = Some(sum.unwrap_or(0.0) + value);
    }
}

/// The summed negative log-likelihood of a micro-batch's targets, shape `[1]`.
pub fn negative_log_likelihood(decoder: &Decoder, batch: &MicroBatch, device: &Device) -> Tensor<1> {
    let hidden = decoder.forward(batch.input_ids(device), &segments(decoder, batch, device), Context::default());
    let hidden = hidden.select(0, batch.predictors(device));
    decoder.losses(hidden, batch.targets(device), None).sum()
}

/// The borders of a micro-batch's sequences.
pub(super) fn segments(decoder: &Decoder, batch: &MicroBatch, device: &Device) -> Segments {
    Segments::new(&batch.lengths, &vec![0; batch.lengths.len()], &decoder.config.inverse_frequencies(), device)
}
