//! One optimizer step: forward and backward over its micro-batches, with one normalisation over the whole step.

use burn::tensor::{Device, Tensor};

use super::backward;
use super::batch::MicroBatch;
use super::parameters;
use super::share::{Share, StepSize};
use crate::model::{Context, Decoder, DropoutSeed, Segments};

/// The figures of a step, or of one rank's part of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLosses {
    /// Mean negative log-likelihood over the supervised tokens of the task, in nats.
    pub loss: f64,
    /// The same over those that are replayed; `None` where it is not learned.
    pub replay_loss: Option<f64>,
    /// Mean Kullback-Leibler divergence from the base over the supervised tokens that are replayed, in nats; `None`
    /// where it is not held down.
    pub kl: Option<f64>,
}

/// What the backward pass of a step yields.
#[derive(Clone, Debug)]
pub struct StepGradient {
    /// The losses.
    pub losses: StepLosses,
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
    let mut parts = Vec::new();
    let losses = gradient_parts(decoder, &share, settings, device, stop, &mut |part| parts.push(part))?;
    Some(StepGradient { losses, gradient: parameters::join(parts) })
}

/// As [`gradient`], of one rank's part: the sum over all ranks is that of the step. The gradient is handed out in the
/// parts of [`parameters::parts`], each as soon as it is known; none when stopped.
pub fn gradient_parts(
    decoder: &Decoder,
    share: &Share,
    settings: StepSettings,
    device: &Device,
    stop: &dyn Fn() -> bool,
    hand_out: &mut dyn FnMut(Tensor<1>),
) -> Option<StepLosses> {
    let StepSettings { seed, step, dropout: probability, recomputed_blocks } = settings;
    let dropout = DropoutSeed { probability, seed, step };
    let mut losses = StepLosses { loss: 0.0, replay_loss: None, kl: None };
    let mut sums: Vec<Tensor<1>> = Vec::new();
    for (index, batch) in share.micro_batches.iter().enumerate() {
        if stop() {
            return None;
        }
        let is_task = batch.objective.is_task();
        let count = if is_task { share.size.supervised } else { share.size.replayed };
        let is_last = index + 1 == share.micro_batches.len();
        let mut before = std::mem::take(&mut sums).into_iter();
        let mut add_up = |part: Tensor<1>| {
            let sum = match before.next() {
                Some(sum) => sum + part,
                None => part,
            };
            if is_last { hand_out(sum) } else { sums.push(sum) }
        };
        let own = backward::gradient(decoder, batch, count, dropout, recomputed_blocks, device, &mut add_up);
        if is_task {
            losses.loss += own.likelihood.unwrap_or(0.0);
        } else {
            add(&mut losses.replay_loss, own.likelihood);
            add(&mut losses.kl, own.divergence);
        }
    }
    if share.micro_batches.is_empty() {
        for count in parameters::parts(decoder) {
            hand_out(Tensor::zeros([count], device));
        }
    }
    Some(losses)
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
    Segments::of_spans(&batch.spans, &decoder.config.inverse_frequencies(), device)
}
