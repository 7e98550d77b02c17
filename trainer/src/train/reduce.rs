//! From each rank's part of a step to the step: gradients and losses added up over all ranks.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::parameters;
use super::step::{StepGradient, StepLosses};
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
    /// Seconds in which gradients were added up when all ranks had computed; what travelled before is not in it.
    pub communication_seconds: f64,
}

/// What a rank tells the others of its part.
struct Part {
    stopped: bool,
    /// Seconds that it computed.
    seconds: f64,
    /// Seconds from then until the sum was there.
    waited: f64,
    losses: StepLosses,
}

/// Computes this rank's part of a step and adds up those of all. `compute` hands the gradient out in parts of the given
/// lengths, which travel while it makes those after them; it returns `None` when this rank is stopped. Returns `None` on
/// all ranks when any was.
///
/// # Errors
/// [`TrainError::Cluster`].
pub fn sum(
    collective: &dyn Collective,
    lengths: &[usize],
    wire: Wire,
    device: &Device,
    compute: impl FnOnce(&mut dyn FnMut(Tensor<1>)) -> Option<StepLosses>,
) -> Result<Option<(StepGradient, Option<RanksRecord>)>, TrainError> {
    if collective.ranks() == 1 {
        let mut parts = Vec::with_capacity(lengths.len());
        let losses = compute(&mut |part| parts.push(part));
        return Ok(losses.map(|losses| (StepGradient { losses, gradient: parameters::join(parts) }, None)));
    }
    let started = Instant::now();
    let (mut compute, mut own, mut seconds) = (Some(compute), None, 0.0);
    let sums = collective.all_reduce_sum(lengths, wire, &mut |send| {
        let mut sent = 0;
        own = compute.take().and_then(|compute| {
            compute(&mut |part| {
                send(&read(part));
                sent += 1;
            })
        });
        // The others wait for what a stopped rank does not have.
        lengths[sent..].iter().for_each(|&length| send(&vec![0.0; length]));
        seconds = started.elapsed().as_secs_f64();
    })?;
    let part = Part {
        stopped: own.is_none(),
        seconds,
        waited: started.elapsed().as_secs_f64() - seconds,
        losses: own.unwrap_or(StepLosses { loss: 0.0, replay_loss: None, kl: None }),
    };
    let parts: Vec<Part> = collective.all_gather(&part.bytes())?.iter().map(|bytes| Part::read(bytes)).collect();
    if parts.iter().any(|part| part.stopped) {
        return Ok(None);
    }
    let total = |value: fn(&StepLosses) -> Option<f64>| {
        parts.iter().filter_map(|part| value(&part.losses)).reduce(|sum, value| sum + value)
    };
    let losses = StepLosses {
        loss: total(|losses| Some(losses.loss)).unwrap_or(0.0),
        replay_loss: total(|losses| losses.replay_loss),
        kl: total(|losses| losses.kl),
    };
    let gradient = parameters::join(sums.into_iter().map(|sum| on(sum, device)).collect());
    Ok(Some((StepGradient { losses, gradient }, Some(record(&parts)))))
}

fn on(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

fn record(parts: &[Part]) -> RanksRecord {
    let seconds: Vec<f64> = parts.iter().map(|part| part.seconds).collect();
    let (all, longest) = (seconds.iter().sum::<f64>(), seconds.iter().copied().fold(0.0, f64::max));
    let idle = if longest > 0.0 { 1.0 - all / (longest * seconds.len() as f64) } else { 0.0 };
    // Whoever was the last to end waited for nobody.
    let communication_seconds = parts.iter().map(|part| part.waited).fold(f64::INFINITY, f64::min);
    RanksRecord { seconds, idle, communication_seconds }
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
        let StepLosses { loss, replay_loss, kl } = self.losses;
        let numbers = [[flag(self.stopped), loss], [self.seconds, self.waited], optional(replay_loss), optional(kl)];
        numbers.as_flattened().iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    fn read(bytes: &[u8]) -> Self {
        let mut numbers = numbers(bytes);
        let mut next = || numbers.next().unwrap_or(0.0);
        let (stopped, loss, seconds, waited) = (next() > 0.0, next(), next(), next());
        let mut optional = || {
            let (is_there, value) = (next() > 0.0, next());
            is_there.then_some(value)
        };
        let losses = StepLosses { loss, replay_loss: optional(), kl: optional() };
        Self { stopped, seconds, waited, losses }
    }
}
