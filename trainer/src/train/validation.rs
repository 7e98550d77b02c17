//! The loss on examples that are never trained on.

use std::ops::Range;

use burn::tensor::Device;
use datasets::Examples;

use super::batch::{Layout, micro_batches};
use super::reduce::sum_of;
use super::share::owners;
use super::step::negative_log_likelihood;
use crate::cluster::Collective;
use crate::error::TrainError;
use crate::model::Decoder;

/// Mean negative log-likelihood in nats per supervised token over all examples, outside autodiff.
///
/// It goes through the same layout as training, so it needs no more memory than a training step.
pub fn loss(decoder: &Decoder, examples: &Examples, layout: Layout, device: &Device) -> f64 {
    loss_of(decoder, examples, 0..examples.len(), layout, device)
}

/// As [`loss`], shared out over the ranks.
///
/// # Errors
/// [`TrainError::Cluster`].
pub fn loss_over_ranks(
    collective: &dyn Collective,
    decoder: &Decoder,
    examples: &Examples,
    layout: Layout,
    device: &Device,
) -> Result<f64, TrainError> {
    let lengths: Vec<usize> = (0..examples.len()).map(|index| examples.get(index).input_ids.len()).collect();
    let owners = owners(&lengths, collective.ranks());
    let own: Vec<usize> = (0..lengths.len()).filter(|&index| owners[index] == collective.rank()).collect();
    let [total, count] = sum_of(collective, sums(decoder, examples, &own, layout, device))?;
    Ok(total / count)
}

/// As [`loss`], over some of the examples.
pub fn loss_of(decoder: &Decoder, examples: &Examples, some: Range<usize>, layout: Layout, device: &Device) -> f64 {
    let [total, count] = sums(decoder, examples, &some.collect::<Vec<_>>(), layout, device);
    total / count
}

/// The negative log-likelihood of some examples added up, and their supervised tokens.
fn sums(decoder: &Decoder, examples: &Examples, some: &[usize], layout: Layout, device: &Device) -> [f64; 2] {
    let (mut total, mut count) = (0.0, 0);
    for chunk in some.chunks(CHUNK) {
        for batch in micro_batches(chunk.iter().map(|&index| examples.get(index)), layout) {
            let sum = negative_log_likelihood(decoder, &batch, device);
            total += f64::from(sum.into_scalar::<f32>());
            count += batch.targets.len();
        }
    }
    [total, count as f64]
}

/// Examples packed together; any number gives the same loss.
pub const CHUNK: usize = 256;
