//! One optimizer step: forward and backward over its micro-batches, with one normalisation over the whole step.

use burn::tensor::{Device, Tensor};

use super::backward;
use super::batch::MicroBatch;
use super::parameters;
use super::share::{Share, StepSize};
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
/// When a micro-batch supervises nothing, which is refused when the data is loaded.
pub fn gradient(
    decoder: &Decoder,
    micro_batches: &[MicroBatch],
    settings: StepSettings,
    device: &Device,
    stop: &dyn Fn() -> bool,
) -> Option<StepGradient> {
    let share = Share { micro_batches: micro_batches.to_vec(), size: StepSize::of(micro_batches) };
    gradient_of(decoder, &share, settings, device, stop)
}

/// As [`gradient`], of one rank's part: the sum over all ranks is that of the step.
pub fn gradient_of(
    decoder: &Decoder,
    share: &Share,
    settings: StepSettings,
    device: &Device,
    stop: &dyn Fn() -> bool,
) -> Option<StepGradient> {
    let StepSize { supervised, replayed, tokens } = share.size;
    let StepSettings { seed, step, dropout: probability, recomputed_blocks } = settings;
    let dropout = DropoutSeed { probability, seed, step };
    let (mut loss, mut replay_loss, mut kl) = (0.0, None, None);
    let mut total: Option<Tensor<1>> = None;
    for batch in &share.micro_batches {
        if stop() {
            return None;
        }
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
    let gradient = total.unwrap_or_else(|| Tensor::zeros([parameters::count(decoder)], device));
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
