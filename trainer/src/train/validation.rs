//! The loss on examples that are never trained on.

use std::ops::Range;

use burn::tensor::Device;
use datasets::Examples;

use super::batch::{Layout, micro_batches};
use super::step::negative_log_likelihood;
use crate::model::Decoder;

/// Mean negative log-likelihood in nats per supervised token over all examples, outside autodiff.
///
/// It goes through the same layout as training, so it needs no more memory than a training step.
pub fn loss(decoder: &Decoder, examples: &Examples, layout: Layout, device: &Device) -> f64 {
    loss_of(decoder, examples, 0..examples.len(), layout, device)
}

/// As [`loss`], over some of the examples.
pub fn loss_of(decoder: &Decoder, examples: &Examples, some: Range<usize>, layout: Layout, device: &Device) -> f64 {
    let (mut total, mut count) = (0.0, 0);
    for start in some.clone().step_by(CHUNK) {
        let chunk = (start..some.end.min(start + CHUNK)).map(|index| examples.get(index));
        for batch in micro_batches(chunk, layout) {
            let sum = negative_log_likelihood(decoder, &batch, device);
            total += f64::from(sum.into_scalar::<f32>());
            count += batch.targets.len();
        }
    }
    total / count as f64
}

/// Examples packed together; any number gives the same loss.
pub const CHUNK: usize = 256;
