//! Repair without training: a smaller scale of the adapter that is within the limits and keeps most of its gain.
//!
//! The adapter's effect is `scale · B A`, so that every scale between 0 and 1 is a model between the base and the adapted
//! one, for the price of questioning it. Interpolated weights often keep the new ability and get most of the old ones
//! back. Source: Wortsman et al. 2022, <https://arxiv.org/abs/2109.01903> (WiSE-FT); for `LoRA`, Biderman et al. 2024,
//! <https://arxiv.org/abs/2405.09673>, show what there is to get back.

use adapters::PeftAdapter;
use serde::Serialize;

use super::Forgetting;
use crate::error::TrainError;
use crate::model::{Decoder, LM_HEAD};

/// Halvings of the interval in which the scale is looked for.
const HALVINGS: usize = 4;
/// By how much a third's scale is lowered at a time.
const NOTCH: f64 = 0.25;

/// A factor for the adapter's effect in the lower, middle and upper third of the blocks. The embedding belongs to the
/// lower, the head to the upper.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scales(pub [f64; 3]);

impl Scales {
    /// The same everywhere.
    pub fn all(scale: f64) -> Self {
        Self([scale; 3])
    }

    /// Of a module by its path, in a model of so many blocks.
    fn of(self, path: &str, blocks: usize) -> f64 {
        let block = path.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
        match block {
            Some(block) => self.0[(3 * block / blocks.max(1)).min(2)],
            None if path == LM_HEAD => self.0[2],
            None => self.0[0],
        }
    }
}

/// A scale that was tried.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// The scales.
    pub scales: Scales,
    /// The share of the adapter's gain that is left: of how far it lowers the validation loss.
    pub gain: f64,
    /// What is forgotten.
    pub forgetting: Forgetting,
}

/// What questions a search asks of a model between the base and the adapted one.
pub trait Judge {
    /// The mean loss on held-out examples of the task, in nats per supervised token.
    ///
    /// # Errors
    /// When the work was ended.
    fn loss(&mut self, decoder: &Decoder) -> Result<f64, TrainError>;

    /// The mean divergence from the base on general text, in nats per token; a cheap sign of what the gate will say.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn divergence(&mut self, decoder: &Decoder) -> Result<f64, TrainError>;

    /// The whole measurement. `name` is the model's own among those of the adapter.
    ///
    /// # Errors
    /// As [`Self::loss`].
    fn measure(&mut self, decoder: &Decoder, name: &str) -> Result<Forgetting, TrainError>;
}

/// A decoder whose adapter has other scales.
///
/// # Errors
/// For an adapter whose effect is not `scale · B A`: `DoRA`'s, and one with norms of its own.
pub fn scaled(decoder: &Decoder, scales: Scales) -> Result<Decoder, TrainError> {
    let mut decoder = decoder.clone();
    let blocks = decoder.layers.len();
    let has_norms = decoder.base_norms.is_some();
    for place in decoder.places_mut() {
        if let Some(lora) = place.lora {
            if has_norms || lora.magnitude.is_some() {
                return Err(no_scale());
            }
            lora.scaling *= scales.of(&place.path, blocks);
        }
    }
    Ok(decoder)
}

/// Puts the scales into an adapter's own matrices, so that every server applies them.
///
/// # Errors
/// As [`scaled`].
pub fn fold(adapter: &mut PeftAdapter, scales: Scales, blocks: usize) -> Result<(), TrainError> {
    for (path, pair) in &mut adapter.pairs {
        if pair.magnitude.is_some() || !adapter.norms.is_empty() {
            return Err(no_scale());
        }
        #[expect(clippy::cast_possible_truncation, reason = "the matrices are in single precision")]
        let scale = scales.of(path, blocks) as f32;
        pair.b.iter_mut().for_each(|value| *value *= scale);
    }
    Ok(())
}

fn no_scale() -> TrainError {
    let reason = "the effect of a DoRA adapter, or of one with norms of its own, does not grow with its scale, so there is \
                  none to look for; train again with forgetting.replay or a lower train.learning_rate";
    TrainError::Run(reason.to_owned())
}

/// Looks for the largest scale within the limits, then for thirds of the blocks that keep more of the gain at the same
/// divergence. Gives all that was measured as a whole, the adapter as it is first.
///
/// # Errors
/// When the adapter gained nothing on the task, or has no scale; whatever ends the judge's work.
pub fn search(base: &Decoder, adapted: &Decoder, judge: &mut impl Judge) -> Result<Vec<Tried>, TrainError> {
    let without = judge.loss(base)?;
    let full = without - judge.loss(adapted)?;
    if full <= 0.0 {
        let reason = format!(
            "the adapter does not lower the validation loss ({without:.4} nats per token without it), so there is no gain \
             to keep"
        );
        return Err(TrainError::Run(reason));
    }
    let gain = |judge: &mut dyn Judge, decoder: &Decoder| Ok::<_, TrainError>((without - judge.loss(decoder)?) / full);
    let mut tried = Vec::new();
    let mut attempt = |judge: &mut dyn Judge, scales: Scales| -> Result<bool, TrainError> {
        let decoder = scaled(adapted, scales)?;
        let forgetting = judge.measure(&decoder, &format!("{:?}", scales.0))?;
        let passed = forgetting.verdict.passed;
        tried.push(Tried { scales, gain: gain(judge, &decoder)?, forgetting });
        Ok(passed)
    };
    if attempt(judge, Scales::all(1.0))? {
        return Ok(tried);
    }
    // The base is within its own limits.
    let (mut within, mut beyond) = (0.0, 1.0);
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(within, beyond);
        if attempt(judge, Scales::all(middle))? {
            within = middle;
        } else {
            beyond = middle;
        }
    }
    if within > 0.0 {
        let allowed = judge.divergence(&scaled(adapted, Scales::all(within))?)?;
        let scales = lowered(adapted, allowed, judge)?;
        if scales != Scales::all(scales.0[0]) {
            attempt(judge, scales)?;
        }
    }
    Ok(tried)
}

/// From the whole adapter downwards: lowers the third whose notch takes the most divergence for the least loss, until the
/// divergence is as small as allowed.
fn lowered(adapted: &Decoder, allowed: f64, judge: &mut impl Judge) -> Result<Scales, TrainError> {
    let mut scales = Scales::all(1.0);
    let mut loss = judge.loss(adapted)?;
    let mut divergence = judge.divergence(adapted)?;
    while divergence > allowed {
        let mut best: Option<(f64, Scales, f64, f64)> = None;
        for third in (0..3).filter(|third| scales.0[*third] > 0.0) {
            let mut next = scales;
            next.0[third] = (next.0[third] - NOTCH).max(0.0);
            let decoder = scaled(adapted, next)?;
            let (next_loss, next_divergence) = (judge.loss(&decoder)?, judge.divergence(&decoder)?);
            // What lowers both is best of all.
            let price = (next_loss - loss).max(1e-9) / (divergence - next_divergence).max(1e-9);
            if best.is_none_or(|(lowest, ..)| price < lowest) {
                best = Some((price, next, next_loss, next_divergence));
            }
        }
        let Some((_, next, next_loss, next_divergence)) = best else { break };
        (scales, loss, divergence) = (next, next_loss, next_divergence);
    }
    Ok(scales)
}

/// The one within the limits that keeps the most of the gain.
pub fn best(tried: &[Tried]) -> Option<&Tried> {
    tried.iter().filter(|tried| tried.forgetting.verdict.passed).max_by(|a, b| a.gain.total_cmp(&b.gain))
}
