//! One optimizer step: forward and backward over its micro-batches, with one normalisation over the whole step.

use burn::tensor::{Device, Tensor};

use super::batch::MicroBatch;
use super::parameters;
use crate::kernels::linear_cross_entropy::linear_cross_entropy;
use crate::model::{Context, Decoder, Dropout, Segments};

/// What the backward pass of a step yields.
#[derive(Clone, Debug)]
pub struct StepGradient {
    /// Mean negative log-likelihood over the supervised tokens of the step, in nats.
    pub loss: f64,
    /// Supervised tokens of the step.
    pub supervised: usize,
    /// All tokens of the step.
    pub tokens: usize,
    /// The gradient of the loss in the layout of [`parameters::flatten`].
    pub gradient: Tensor<1>,
}

/// The randomness of a step.
#[derive(Clone, Copy, Debug)]
pub struct StepSeed {
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// LoRA dropout.
    pub dropout: f64,
}

/// Computes the loss of a step and its gradient. `None` when `stop` says so between two micro-batches.
///
/// The sum of token losses is divided by the supervised tokens of the **step**, so that neither packing nor the
/// micro-batch size changes a number.
///
/// # Panics
/// When no micro-batch is given, or one supervises nothing; both are refused when the data is loaded.
pub fn gradient(
    decoder: &Decoder,
    micro_batches: &[MicroBatch],
    seed: StepSeed,
    device: &Device,
    stop: &dyn Fn() -> bool,
) -> Option<StepGradient> {
    let supervised: usize = micro_batches.iter().map(|b| b.targets.len()).sum();
    let tokens = micro_batches.iter().map(|b| b.input_ids.len()).sum();
    let mut loss = 0.0;
    let mut total: Option<Tensor<1>> = None;
    for (micro_step, batch) in micro_batches.iter().enumerate() {
        if stop() {
            return None;
        }
        let mut dropout = Dropout::for_micro_batch(seed.dropout, seed.seed, seed.step, micro_step as u64);
        let context = Context { dropout: dropout.as_mut(), ..Context::default() };
        let micro_loss = negative_log_likelihood(decoder, batch, context, device).div_scalar(supervised as f64);
        let mut gradients = micro_loss.backward();
        loss += f64::from(micro_loss.into_scalar::<f32>());
        let gradient = parameters::flatten_gradients(decoder, &mut gradients);
        total = Some(match total {
            Some(sum) => sum + gradient,
            None => gradient,
        });
    }
    let gradient = total.expect("a step has at least one micro-batch");
    Some(StepGradient { loss, supervised, tokens, gradient })
}

/// The summed negative log-likelihood of a micro-batch's targets, shape `[1]`.
pub fn negative_log_likelihood(
    decoder: &Decoder,
    batch: &MicroBatch,
    context: Context<'_>,
    device: &Device,
) -> Tensor<1> {
    let segments =
        Segments::new(&batch.lengths, &vec![0; batch.lengths.len()], &decoder.config.inverse_frequencies(), device);
    let hidden = decoder.forward(batch.input_ids(device), &segments, context);
    linear_cross_entropy(hidden.select(0, batch.predictors(device)), decoder.head(), batch.targets(device))
}
