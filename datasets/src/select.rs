//! Training on a part of the examples: which ones.
//!
//! What is chosen from are units: the examples of a family that are drawn together, or one example. Units are put into an
//! order of preference, and the first that make up the share are trained on, each as often as without.
//!
//! Sources: Marion et al. 2023, <https://arxiv.org/abs/2309.04564> (the loss of a model, the middle of it), Paul et al.
//! 2021, <https://arxiv.org/abs/2107.07075> (the hardest), Sener and Savarese 2018, <https://arxiv.org/abs/1708.00489>
//! (coverage, by the farthest from those chosen), Ash et al. 2020, <https://arxiv.org/abs/1906.03671> (of gradients).

use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::mixture::permutation;

/// A part of the training examples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelectConfig {
    /// What decides. Examples that `share_prefix` brings together are chosen together.
    pub by: Criterion,
    /// The share of the examples, above 0 and at most 1. Null takes what the run's steps see once:
    /// `train.max_steps · train.global_batch_size` examples.
    #[serde(default)]
    pub share: Option<f64>,
}

/// What decides which examples are trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Criterion {
    /// Chance: what the others have to beat.
    Random,
    /// Coverage: of the base's token embeddings, averaged with rare tokens first. No forward pass is made.
    Embedding,
    /// Coverage: of the gradients of the base's loss at its last hidden states. One forward pass over all examples.
    Gradient,
    /// The highest base loss for each supervised token. One forward pass over all examples.
    Hardest,
    /// The base loss closest to the median. One forward pass over all examples.
    Middle,
}

impl Criterion {
    /// As recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Embedding => "embedding",
            Self::Gradient => "gradient",
            Self::Hardest => "hardest",
            Self::Middle => "middle",
        }
    }

    /// Whether the base has to read all examples.
    pub fn reads_examples(self) -> bool {
        matches!(self, Self::Gradient | Self::Hardest | Self::Middle)
    }
}

impl SelectConfig {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`DataError::Config`].
    pub(crate) fn validate(&self, key: &str) -> Result<(), DataError> {
        match self.share {
            Some(share) if !(share > 0.0 && share <= 1.0) => Err(DataError::Config {
                key: format!("{key}.share"),
                got: share.to_string(),
                expected: "a number above 0 and at most 1, or null for what the steps see once".to_owned(),
            }),
            _ => Ok(()),
        }
    }
}

/// What is known of a unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traits {
    /// Its examples.
    pub examples: usize,
    /// The base's loss for each supervised token, in nats; 0 where it was not asked.
    pub loss: f64,
    /// What coverage is measured by, of equal length for all; empty where it is not.
    pub features: Vec<f32>,
}

/// Units among which the farthest is looked for at a time: all pairs of them are compared.
const TOGETHER: usize = 2048;

/// The places of the units that make up at least `wanted` examples, ascending; at least one where there are any.
pub fn choose(by: Criterion, units: &[Traits], wanted: usize, seed: u64) -> Vec<usize> {
    let mut taken = 0;
    let mut chosen: Vec<usize> = preferred(by, units, wanted, seed)
        .into_iter()
        .take_while(|&unit| {
            let is_needed = taken == 0 || taken < wanted;
            taken += units[unit].examples;
            is_needed
        })
        .collect();
    chosen.sort_unstable();
    chosen
}

/// The units in the order in which they are taken.
fn preferred(by: Criterion, units: &[Traits], wanted: usize, seed: u64) -> Vec<usize> {
    match by {
        Criterion::Random => permutation(units.len(), seed, 0),
        Criterion::Hardest => {
            let mut order = by_loss(units);
            order.reverse();
            order
        }
        Criterion::Middle => {
            let mut order: Vec<(usize, usize)> = by_loss(units).into_iter().enumerate().collect();
            order.sort_by_key(|(rank, _)| (2 * rank).abs_diff(units.len().saturating_sub(1)));
            order.into_iter().map(|(_, unit)| unit).collect()
        }
        Criterion::Embedding | Criterion::Gradient => covering(units, wanted, seed),
    }
}

/// The units from the lowest loss to the highest.
fn by_loss(units: &[Traits]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..units.len()).collect();
    order.sort_by(|&a, &b| units[a].loss.total_cmp(&units[b].loss));
    order
}

/// Units one after the other, each the farthest from those before it: of each so many, drawn by the seed, the same share.
fn covering(units: &[Traits], wanted: usize, seed: u64) -> Vec<usize> {
    let all = permutation(units.len(), seed, 0);
    let examples: usize = units.iter().map(|unit| unit.examples).sum();
    let share = wanted as f64 / examples.max(1) as f64;
    let orders: Vec<Vec<usize>> = all.par_chunks(TOGETHER).map(|some| farthest_first(units, some)).collect();
    let count = |order: &[usize]| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the length of a list")]
        let count = (share.min(1.0) * order.len() as f64).ceil() as usize;
        count.min(order.len())
    };
    // What is beyond each one's share comes last: units are of different sizes, and some may be needed.
    let first = orders.iter().flat_map(|order| &order[..count(order)]);
    first.chain(orders.iter().flat_map(|order| &order[count(order)..])).copied().collect()
}

/// Source: Gonzalez 1985, <https://doi.org/10.1016/0304-3975(85)90224-5>; it begins with the one closest to the mean.
fn farthest_first(units: &[Traits], some: &[usize]) -> Vec<usize> {
    let Some(&first) = some.first() else { return Vec::new() };
    let mut mean = vec![0.0; units[first].features.len()];
    for &unit in some {
        mean.iter_mut().zip(&units[unit].features).for_each(|(sum, value)| *sum += value / some.len() as f32);
    }
    let mut waiting: Vec<(usize, f32)> = some.iter().map(|&unit| (unit, f32::INFINITY)).collect();
    let central = waiting.iter().enumerate().map(|(place, (unit, _))| (place, distance(&units[*unit].features, &mean)));
    let mut next = central.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(place, _)| place);
    let mut order = Vec::with_capacity(some.len());
    while let Some(place) = next {
        let (taken, _) = waiting.swap_remove(place);
        order.push(taken);
        for (unit, nearest) in &mut waiting {
            *nearest = nearest.min(distance(&units[*unit].features, &units[taken].features));
        }
        let far = waiting.iter().enumerate().max_by(|a, b| a.1.1.total_cmp(&b.1.1).then(b.1.0.cmp(&a.1.0)));
        next = far.map(|(place, _)| place);
    }
    order
}

/// The squared distance.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Criterion; 5] =
        [Criterion::Random, Criterion::Embedding, Criterion::Gradient, Criterion::Hardest, Criterion::Middle];

    fn unit(examples: usize, loss: f64, at: f32) -> Traits {
        Traits { examples, loss, features: vec![at, 0.5] }
    }

    #[test]
    fn the_hardest_the_middle_and_those_far_apart_are_told_from_others() {
        let units: Vec<Traits> =
            [(0.1, 0.0), (0.9, 0.1), (0.5, 9.0), (0.4, 0.2), (0.8, 4.0)].map(|(loss, at)| unit(2, loss, at)).into();
        assert_eq!(choose(Criterion::Hardest, &units, 4, 0), [1, 4]);
        assert_eq!(choose(Criterion::Middle, &units, 5, 0), [2, 3, 4]);
        // The mean is at 2.66: the closest is at 4, then the farthest from it and from each other.
        assert_eq!(choose(Criterion::Embedding, &units, 6, 0), [0, 2, 4]);
        assert_eq!(choose(Criterion::Gradient, &units, 6, 1), [0, 2, 4]);
        assert_eq!(choose(Criterion::Hardest, &units, 0, 0), [1], "never nothing");
        assert_eq!(choose(Criterion::Hardest, &[], 3, 0), [0; 0]);
    }

    #[test]
    fn coverage_of_many_units_is_made_part_by_part_and_takes_the_share_of_each() {
        let units: Vec<Traits> = (0..3 * TOGETHER + 5).map(|i| unit(1, 0.0, (i % 97) as f32)).collect();
        let chosen = choose(Criterion::Embedding, &units, 700, 3);
        assert_eq!(chosen.len(), 700);
        let places: std::collections::HashSet<usize> = chosen.iter().map(|unit| unit % 97).collect();
        assert_eq!(places.len(), 97, "each place is covered before any is taken twice");
    }

    proptest! {
        #[test]
        fn what_is_chosen_is_enough_and_not_more_than_needed(
            sizes in prop::collection::vec((1_usize..5, 0.0_f64..3.0, -4.0_f32..4.0), 1..40),
            share in 0.0_f64..=1.0,
            seed: u64,
        ) {
            let units: Vec<Traits> = sizes.iter().map(|&(examples, loss, at)| unit(examples, loss, at)).collect();
            let total: usize = units.iter().map(|unit| unit.examples).sum();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the total")]
            let wanted = (share * total as f64).round() as usize;
            for by in ALL {
                let chosen = choose(by, &units, wanted, seed);
                let count: usize = chosen.iter().map(|&unit| units[unit].examples).sum();
                let largest = units.iter().map(|unit| unit.examples).max().unwrap();
                prop_assert!(chosen.is_sorted_by(|a, b| a < b));
                prop_assert!(count >= wanted && (chosen.len() == 1 || count < wanted + largest), "{by:?}: {count} of {wanted}");
                prop_assert_eq!(choose(by, &units, wanted, seed), chosen);
            }
        }
    }
}
