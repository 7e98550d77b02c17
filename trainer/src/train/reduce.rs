//! From each rank's part of a step to the step: gradients and losses added up over all ranks.

use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::step::StepGradient;
use crate::cluster::{Collective, Wire};
use crate::device::read;
use crate::error::TrainError;

/// How the ranks of a step waited for each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RanksRecord {
    /// Seconds that each rank computed, in their order.
    pub seconds: Vec<f64>,
    /// The share of the ranks' time in which they waited for the slowest, in `[0, 1)`.
    pub idle: f64,
    /// Seconds in which the gradients were added up.
    pub communication_seconds: f64,
}

/// What a rank tells the others of its part.
struct Part {
    stopped: bool,
    seconds: f64,
    loss: f64,
    replay_loss: Option<f64>,
    kl: Option<f64>,
}

/// Adds up the parts of all ranks; `own` is `None` when this one was stopped. Returns `None` on all ranks when any was.
/// `seconds` is how long this rank computed.
///
/// # Errors
/// [`TrainError::Cluster`].
pub fn sum(
    collective: &dyn Collective,
    own: Option<StepGradient>,
    seconds: f64,
    wire: Wire,
) -> Result<Option<(StepGradient, Option<RanksRecord>)>, TrainError> {
    if collective.ranks() == 1 {
        return Ok(own.map(|own| (own, None)));
    }
    let part = Part {
        stopped: own.is_none(),
        seconds,
        loss: own.as_ref().map_or(0.0, |own| own.loss),
        replay_loss: own.as_ref().and_then(|own| own.replay_loss),
        kl: own.as_ref().and_then(|own| own.kl),
    };
    let parts: Vec<Part> = collective.all_gather(&part.bytes())?.iter().map(|bytes| Part::read(bytes)).collect();
    let Some(own) = own.filter(|_| parts.iter().all(|part| !part.stopped)) else { return Ok(None) };

    let started = Instant::now();
    let device = own.gradient.device();
    let mut gradient = read(own.gradient);
    collective.all_reduce_sum(&mut gradient, wire)?;
    let communication_seconds = started.elapsed().as_secs_f64();
    let count = gradient.len();
    let total = |value: fn(&Part) -> Option<f64>| parts.iter().filter_map(value).reduce(|sum, value| sum + value);
    let step = StepGradient {
        loss: total(|part| Some(part.loss)).unwrap_or(0.0),
        replay_loss: total(|part| part.replay_loss),
        kl: total(|part| part.kl),
        gradient: Tensor::from_data(TensorData::new(gradient, [count]), &device),
        ..own
    };
    let seconds: Vec<f64> = parts.iter().map(|part| part.seconds).collect();
    let (all, longest) = (seconds.iter().sum::<f64>(), seconds.iter().copied().fold(0.0, f64::max));
    let idle = if longest > 0.0 { 1.0 - all / (longest * seconds.len() as f64) } else { 0.0 };
    Ok(Some((step, Some(RanksRecord { seconds, idle, communication_seconds }))))
}

/// The sum over all ranks of a few numbers, in their order.
///
/// # Errors
/// [`TrainError::Cluster`].
pub fn sum_of<const N: usize>(collective: &dyn Collective, own: [f64; N]) -> Result<[f64; N], TrainError> {
    let mut sums = [0.0; N];
    for bytes in collective.all_gather(&own.map(f64::to_le_bytes).concat())? {
        for (sum, value) in sums.iter_mut().zip(numbers(&bytes)) {
            *sum += value;
        }
    }
    Ok(sums)
}

/// Refuses ranks that do not hold the same.
///
/// # Errors
/// [`TrainError::Cluster`] with the first rank that differs from rank 0, `what` it holds, and the remedy.
pub fn check_equal(
    collective: &dyn Collective,
    what: &str,
    own: impl IntoIterator<Item = impl AsRef<[u8]>>,
    remedy: &str,
) -> Result<(), TrainError> {
    if collective.ranks() == 1 {
        return Ok(());
    }
    let mut hash = Sha256::new();
    for bytes in own {
        hash.update(bytes);
    }
    let digests = collective.all_gather(&hash.finalize())?;
    let Some(rank) = digests.iter().position(|digest| *digest != digests[0]) else { return Ok(()) };
    let reason = format!("{what} of this rank and of rank 0 differ; {remedy}");
    Err(TrainError::Cluster { rank, ranks: collective.ranks(), reason })
}

fn numbers(bytes: &[u8]) -> impl Iterator<Item = f64> {
    let (eights, _) = bytes.as_chunks();
    eights.iter().map(|eight| f64::from_le_bytes(*eight))
}

impl Part {
    fn bytes(&self) -> Vec<u8> {
        let flag = |is_there: bool| if is_there { 1.0 } else { 0.0 };
        let optional = |value: Option<f64>| [flag(value.is_some()), value.unwrap_or(0.0)];
        let numbers =
            [[flag(self.stopped), self.seconds], [self.loss, 0.0], optional(self.replay_loss), optional(self.kl)];
        numbers.as_flattened().iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn read(bytes: &[u8]) -> Self {
        let mut numbers = numbers(bytes);
        let mut next = || numbers.next().unwrap_or(0.0);
        let (stopped, seconds, loss, _) = (next() > 0.0, next(), next(), next());
        let mut optional = || {
            let (is_there, value) = (next() > 0.0, next());
            is_there.then_some(value)
        };
        Self { stopped, seconds, loss, replay_loss: optional(), kl: optional() }
    }
}
