//! The formulas, module by module, in single precision and in PEFT's order of operations.

use std::borrow::Cow;

use super::method::Pruning;
use super::{Combination, MajoritySign, Masks, Method};
use crate::LoraPair;

/// A module's matrices in one adapter.
pub(super) struct Weighted<'a> {
    /// The adapter's place in the list.
    pub(super) index: usize,
    /// Its weight times its scale for this module.
    pub(super) weight: f64,
    pub(super) pair: &'a LoraPair,
}

/// Combines what several adapters have for one module. The shapes fit, which `check` has seen to.
pub(super) fn combine(
    method: Method,
    module: &str,
    having: &[Weighted<'_>],
    combination: &Combination,
    masks: &mut Masks<'_>,
) -> LoraPair {
    if method.takes_different_ranks() {
        return concatenate(having);
    }
    // Half of the weight goes to each side, by its root; the sign to one of them, since two would cancel.
    let root = |part: &Weighted<'_>| part.weight.abs().sqrt();
    let signed = |part: &Weighted<'_>| if part.weight >= 0.0 { root(part) } else { -root(part) };
    let mut side = |name, matrix: fn(&LoraPair) -> &[f32], factor: &dyn Fn(&Weighted<'_>) -> f64| {
        let pruned: Vec<Cow<'_, [f32]>> = having
            .iter()
            .map(|part| prune(method, module, name, part.index, matrix(part.pair), combination, masks))
            .collect();
        let weights: Vec<f32> = having.iter().map(|part| single(factor(part))).collect();
        if method.elects() {
            elected_mean(&pruned, &weights, combination.majority_sign)
        } else {
            weighted_sum(&pruned, &weights)
        }
    };
    let a = side("lora_A", |pair| &pair.a, &signed);
    let b = side("lora_B", |pair| &pair.b, &root);
    let LoraPair { rank, in_features, out_features, .. } = *having[0].pair;
    LoraPair { rank, in_features, out_features, a, b, magnitude: None }
}

/// The As under each other, with weight and scale, and the Bs beside each other.
fn concatenate(having: &[Weighted<'_>]) -> LoraPair {
    let LoraPair { in_features, out_features, .. } = *having[0].pair;
    let rank = having.iter().map(|part| part.pair.rank).sum();
    let a = having.iter().flat_map(|part| {
        let factor = single(part.weight);
        part.pair.a.iter().map(move |value| value * factor)
    });
    let b = (0..out_features).flat_map(|row| {
        having.iter().flat_map(move |part| &part.pair.b[row * part.pair.rank..(row + 1) * part.pair.rank]).copied()
    });
    LoraPair { rank, in_features, out_features, a: a.collect(), b: b.collect(), magnitude: None }
}

/// A matrix with the numbers that its method drops set to 0.
fn prune<'a>(
    method: Method,
    module: &str,
    name: &str,
    adapter: usize,
    values: &'a [f32],
    combination: &Combination,
    masks: &mut Masks<'_>,
) -> Cow<'a, [f32]> {
    let density = combination.density.filter(|density| *density < 1.0);
    match (method.pruning(), density) {
        (Pruning::None, _) | (_, None) => values.into(),
        (Pruning::Magnitude, Some(density)) => largest(values, density).into(),
        (Pruning::Random, Some(density)) => {
            let kept = masks(module, name, adapter, values.len());
            let density = single(density);
            let pruned = values.iter().zip(kept).map(|(value, keep)| if keep { value / density } else { 0.0 });
            pruned.collect::<Vec<_>>().into()
        }
    }
}

/// Keeps that share of the numbers, rounded down, that is largest in magnitude; of equal ones the earlier.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rounded down, and density is 0 to 1")]
fn largest(values: &[f32], density: f64) -> Vec<f32> {
    let count = (density * values.len() as f64) as usize;
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&left, &right| values[right].abs().total_cmp(&values[left].abs()));
    let mut kept = vec![0.0; values.len()];
    for &at in &order[..count] {
        kept[at] = values[at];
    }
    kept
}

/// PEFT's `task_arithmetic`: `Σ weight · task`.
fn weighted_sum(tasks: &[Cow<'_, [f32]>], weights: &[f32]) -> Vec<f32> {
    (0..tasks[0].len()).map(|at| tasks.iter().zip(weights).map(|(task, weight)| task[at] * weight).sum()).collect()
}

/// TIES: of each number a sign is elected, and the weighted numbers that have it are averaged. Votes are unweighted.
fn elected_mean(tasks: &[Cow<'_, [f32]>], weights: &[f32], majority_sign: MajoritySign) -> Vec<f32> {
    let vote = |value: f32| match majority_sign {
        MajoritySign::Total => value,
        MajoritySign::Frequency => f32::from(sign(value)),
    };
    let elect = |at: usize| {
        let total: f32 = tasks.iter().map(|task| vote(task[at])).sum();
        let elected = if total >= 0.0 { 1 } else { -1 };
        let (mut sum, mut count) = (0.0, 0.0_f32);
        for (task, weight) in tasks.iter().zip(weights) {
            if sign(task[at]) == elected {
                sum += task[at] * weight;
                count += 1.0;
            }
        }
        sum / count.max(1.0)
    };
    (0..tasks[0].len()).map(elect).collect()
}

/// -1, 0 or 1, as PyTorch's `sign`; Rust's own gives 0 a sign.
fn sign(value: f32) -> i8 {
    i8::from(value > 0.0) - i8::from(value < 0.0)
}

/// The matrices are in single precision.
#[expect(clippy::cast_possible_truncation, reason = "the matrices' precision")]
pub(super) fn single(number: f64) -> f32 {
    number as f32
}
