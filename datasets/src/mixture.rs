//! The order of the examples: a weighted mixture of sources, shuffled by seed, without state.
//!
//! Everything is a function of the seed and a position, so that a resumed run, and each worker of a
//! cluster, finds the same examples at the same step. The shuffle is written here, over the plain
//! `ChaCha8` stream: the shuffles of random-number libraries change their results between versions, and
//! a recipe must give the same order for years and on every platform.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The order of the examples of several sources, each drawn with its weight.
///
/// A source of n examples and weight w gives `round(n · w)` examples to each epoch, at least one. It is
/// read as an endless series of shuffled passes, and each epoch continues where the last one stopped:
/// with weight 0.5 two epochs see each example once, with weight 2.0 one epoch sees each twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    sources: Vec<Share>,
    seed: u64,
    /// Of each source and example the number of its family; empty where every example is drawn by itself.
    families: Vec<Vec<usize>>,
    /// Of each source the examples that are drawn, ascending; empty where all are.
    chosen: Vec<Vec<usize>>,
}

/// A source's part of an epoch.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Share {
    /// How many examples the source has.
    all: usize,
    /// How many of them are drawn from.
    count: usize,
    /// How many of them, repetitions included, one epoch takes.
    taken: usize,
}

impl Order {
    /// The order of sources with `counts[i]` examples and weight `weights[i]`, above 0 and at most
    /// [`MAX_WEIGHT`](crate::MAX_WEIGHT).
    ///
    /// # Panics
    /// When the two lists differ in length, or a weight is not in its range.
    pub fn new(counts: &[usize], weights: &[f64], seed: u64) -> Self {
        assert_eq!(counts.len(), weights.len(), "one weight for each source");
        let share = |(&count, &weight): (&usize, &f64)| {
            assert!(weight > 0.0 && weight <= crate::MAX_WEIGHT, "weight {weight} is out of range");
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive, and at most 1000 times the length of a list in memory"
            )]
            let taken = (count as f64 * weight).round() as usize;
            Share { all: count, count, taken: if count == 0 { 0 } else { taken.max(1) } }
        };
        let sources = counts.iter().zip(weights).map(share).collect();
        Self { sources, seed, families: Vec::new(), chosen: Vec::new() }
    }

    /// The same with the examples of a family drawn one after the other, where the first of them comes. `families` has
    /// the number of its family for each source and example.
    ///
    /// # Panics
    /// When it has not one number for each example.
    #[must_use]
    pub fn with_families(self, families: Vec<Vec<usize>>) -> Self {
        assert!(families.iter().map(Vec::len).eq(self.sources.iter().map(|source| source.all)), "one for each example");
        Self { families, ..self }
    }

    /// The same from some of the examples alone, of each source those at the given places, ascending. An epoch has as much
    /// less of a source.
    ///
    /// # Panics
    /// When there is not one list for each source.
    #[must_use]
    pub fn of_some(mut self, chosen: Vec<Vec<usize>>) -> Self {
        assert_eq!(chosen.len(), self.sources.len(), "one list for each source");
        for (share, chosen) in self.sources.iter_mut().zip(&chosen) {
            let taken = (share.taken * chosen.len()).checked_div(share.all).unwrap_or(0);
            share.count = chosen.len();
            share.taken = if chosen.is_empty() { 0 } else { taken.max(1) };
        }
        Self { chosen, ..self }
    }

    /// How many examples are drawn from.
    pub fn examples(&self) -> usize {
        self.sources.iter().map(|source| source.count).sum()
    }

    /// The number of its family for each source and example; empty where every example is drawn by itself.
    pub(crate) fn families(&self) -> &[Vec<usize>] {
        &self.families
    }

    /// How many examples an epoch has, the same for each.
    pub fn len_per_epoch(&self) -> usize {
        self.sources.iter().map(|source| source.taken).sum()
    }

    /// The examples of an epoch (counted from 0) in order, each as source and index in the source.
    pub fn epoch(&self, epoch: u64) -> Vec<(usize, usize)> {
        let mut examples = Vec::with_capacity(self.len_per_epoch());
        for (i, source) in self.sources.iter().enumerate() {
            examples.extend(self.drawn(i, *source, epoch).into_iter().map(|index| (i, index)));
        }
        shuffle(&mut examples, &mut stream(self.seed, "epoch", 0, epoch));
        if self.families.is_empty() { examples } else { self.brought_together(&examples) }
    }

    /// The examples with each family's where its first one is. One that comes several times in the epoch comes once each
    /// time that its family does.
    fn brought_together(&self, examples: &[(usize, usize)]) -> Vec<(usize, usize)> {
        let family = |&(source, index): &(usize, usize)| self.families[source][index];
        let mut waiting: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
        for example in examples {
            waiting.entry(family(example)).or_default().push(*example);
        }
        let mut together: Vec<(usize, usize)> = Vec::with_capacity(examples.len());
        for example in examples {
            let Some(members) = waiting.get_mut(&family(example)) else { continue };
            let first = together.len();
            members.retain(|member| {
                let is_there = together[first..].contains(member);
                if !is_there {
                    together.push(*member);
                }
                is_there
            });
        }
        together
    }

    /// The examples from `position` on, without end: positions count through all epochs, so step s of
    /// batches of g examples takes the g examples from position s · g on.
    ///
    /// Empty when no source has an example.
    pub fn from_position(&self, position: u64) -> impl Iterator<Item = (usize, usize)> + '_ {
        let length = self.len_per_epoch() as u64;
        let (mut epoch, skipped) = (position.checked_div(length).unwrap_or(0), position.checked_rem(length));
        let mut examples = if length == 0 { Vec::new() } else { self.epoch(epoch) }.into_iter();
        if let Some(skipped) = skipped.and_then(|skipped| usize::try_from(skipped).ok()).filter(|n| *n > 0) {
            examples.nth(skipped - 1);
        }
        std::iter::from_fn(move || {
            if examples.len() == 0 && length > 0 {
                epoch += 1;
                examples = self.epoch(epoch).into_iter();
            }
            examples.next()
        })
    }

    /// How many times each example of each source comes at the first `positions` positions.
    #[expect(clippy::missing_panics_doc, reason = "a place in an epoch is below the length of a list")]
    pub fn seen(&self, positions: u64) -> Vec<Vec<u64>> {
        let length = self.len_per_epoch() as u64;
        let (epochs, rest) = (positions.checked_div(length).unwrap_or(0), positions.checked_rem(length).unwrap_or(0));
        let whole = |(number, Share { all, count, taken }): (usize, &Share)| {
            // The whole epochs are the beginning of the source's endless series: whole passes, and a part of the next.
            let drawn = u128::from(epochs) * *taken as u128;
            let (passes, part) = (drawn.checked_div(*count as u128), drawn.checked_rem(*count as u128));
            let passes = passes.and_then(|passes| u64::try_from(passes).ok()).unwrap_or(0);
            let mut seen = vec![0; *all];
            (0..*count).for_each(|place| seen[self.example(number, place)] = passes);
            let part = usize::try_from(part.unwrap_or(0)).unwrap_or(0);
            for index in self.pass(number, *count, passes).into_iter().take(part) {
                seen[index] += 1;
            }
            seen
        };
        let mut seen: Vec<Vec<u64>> = self.sources.iter().enumerate().map(whole).collect();
        if rest > 0 {
            let rest = usize::try_from(rest).expect("it is below the length of a list");
            for (source, index) in &self.epoch(epochs)[..rest] {
                seen[*source][*index] += 1;
            }
        }
        seen
    }

    /// One pass over a source.
    fn pass(&self, source: usize, count: usize, pass: u64) -> Vec<usize> {
        let mut indices: Vec<usize> = (0..count).map(|place| self.example(source, place)).collect();
        shuffle(&mut indices, &mut stream(self.seed, "source", source as u64, pass));
        indices
    }

    /// The example at a place among those that are drawn from.
    fn example(&self, source: usize, place: usize) -> usize {
        self.chosen.get(source).map_or(place, |chosen| chosen[place])
    }

    /// The indices that a source gives to an epoch: the part of its endless series that is the epoch's.
    fn drawn(&self, source: usize, Share { count, taken, .. }: Share, epoch: u64) -> Vec<usize> {
        let mut drawn = Vec::with_capacity(taken);
        // Positions in the series exceed 64 bits only in epochs that no run reaches.
        let start = u128::from(epoch) * taken as u128;
        let (mut pass, mut at) = (0, 0);
        if count > 0 {
            pass = u64::try_from(start / count as u128).unwrap_or(u64::MAX);
            at = usize::try_from(start % count as u128).unwrap_or(0);
        }
        while drawn.len() < taken {
            let indices = self.pass(source, count, pass);
            let end = count.min(at + (taken - drawn.len()));
            drawn.extend_from_slice(&indices[at..end]);
            (pass, at) = (pass.saturating_add(1), 0);
        }
        drawn
    }
}

/// The numbers 0 to n - 1 in a shuffled order that depends on the seed and `round` only: the order of an
/// epoch's packed rows, for example.
pub fn permutation(n: usize, seed: u64, round: u64) -> Vec<usize> {
    let mut indices: Vec<usize> = (0..n).collect();
    shuffle(&mut indices, &mut stream(seed, "permutation", 0, round));
    indices
}

/// A generator of its own for each purpose and round. The 32 bytes of its key are a hash of what it is
/// for: the libraries' own way from a 64-bit seed to a key is not promised to stay.
fn stream(seed: u64, purpose: &str, source: u64, round: u64) -> ChaCha8Rng {
    let mut hash = Sha256::new();
    hash.update(purpose);
    for number in [seed, source, round] {
        hash.update(number.to_le_bytes());
    }
    ChaCha8Rng::from_seed(hash.finalize().into())
}

/// Fisher-Yates, from the end to the start.
fn shuffle<T>(items: &mut [T], rng: &mut ChaCha8Rng) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(last as u64 + 1, rng));
    }
}

/// A number in `0..bound`, each equally likely.
///
/// Source: Lemire 2019, <https://arxiv.org/abs/1805.10941>, section 4.
fn below(bound: u64, rng: &mut ChaCha8Rng) -> usize {
    // The least part of the range that would favour some numbers is drawn again.
    let rejected = bound.wrapping_neg() % bound;
    loop {
        let product = u128::from(rng.next_u64()) * u128::from(bound);
        let (high, low) = (product >> 64, product & u128::from(u64::MAX));
        if low >= u128::from(rejected) {
            return usize::try_from(high).expect("it is below the length of a slice");
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts_of(examples: &[(usize, usize)], source: usize, count: usize) -> Vec<usize> {
        let mut seen = vec![0; count];
        examples.iter().filter(|(s, _)| *s == source).for_each(|(_, index)| seen[*index] += 1);
        seen
    }

    #[test]
    fn weights_decide_how_often_an_example_comes() {
        let order = Order::new(&[10, 7, 4], &[0.5, 2.0, 1.5], 1);
        assert_eq!(order.len_per_epoch(), 5 + 14 + 6);
        let (first, second) = (order.epoch(0), order.epoch(1));
        assert_eq!(counts_of(&first, 1, 7), [2; 7]);
        assert_eq!(counts_of(&first, 0, 10).iter().sum::<usize>(), 5);
        assert!(counts_of(&first, 2, 4).iter().all(|n| (1..=2).contains(n)));
        // The next epoch takes the other half.
        let both = [first, second].concat();
        assert_eq!(counts_of(&both, 0, 10), [1; 10]);
        assert_eq!(counts_of(&both, 2, 4), [3; 4]);
    }

    #[test]
    fn a_tiny_weight_gives_one_example_and_an_empty_source_none() {
        let order = Order::new(&[3, 0], &[0.001, 5.0], 1);
        assert_eq!(order.len_per_epoch(), 1);
        let seen = [order.epoch(0), order.epoch(1), order.epoch(2)].concat();
        assert_eq!(counts_of(&seen, 0, 3), [1; 3]);
        assert_eq!(Order::new(&[0], &[1.0], 1).from_position(3).next(), None);
        assert_eq!(Order::new(&[], &[], 1).from_position(0).next(), None);
    }

    #[test]
    fn a_position_leads_to_the_same_examples_as_the_way_there() {
        let order = Order::new(&[5, 3], &[1.0, 1.0], 42);
        let all: Vec<_> = (0..4).flat_map(|epoch| order.epoch(epoch)).collect();
        for position in 0..all.len() {
            let here: Vec<_> = order.from_position(position as u64).take(all.len() - position).collect();
            assert_eq!(here, all[position..], "from position {position}");
        }
    }

    #[test]
    fn the_seed_and_the_epoch_change_the_order() {
        let of = |seed, epoch| Order::new(&[100], &[1.0], seed).epoch(epoch);
        assert_eq!(of(1, 0), of(1, 0));
        assert_ne!(of(1, 0), of(2, 0));
        assert_ne!(of(1, 0), of(1, 1));
        assert_ne!(permutation(100, 1, 0), permutation(100, 1, 1));
    }

    #[test]
    fn a_family_comes_together_where_its_first_one_is() {
        // Every third example is of one family; the others are alone.
        let families = vec![(0..9).map(|i| if i % 3 == 0 { 0 } else { i }).collect::<Vec<_>>(), vec![0, 100]];
        let plain = Order::new(&[9, 2], &[1.0, 2.0], 3);
        let order = plain.clone().with_families(families.clone());
        for epoch in 0..4 {
            let (before, after) = (plain.epoch(epoch), order.epoch(epoch));
            let sorted = |examples: &[(usize, usize)]| {
                let mut examples = examples.to_vec();
                examples.sort_unstable();
                examples
            };
            assert_eq!(sorted(&before), sorted(&after));
            let is_of_family = |&(source, index): &(usize, usize)| families[source][index] == 0;
            let first = before.iter().position(is_of_family).unwrap();
            assert_eq!(before[..first], after[..first]);
            // Three of the first source and one that comes twice: four together, its second time by itself.
            let together = sorted(&after[first..first + 4]);
            assert_eq!(together, [(0, 0), (0, 3), (0, 6), (1, 0)]);
            assert_eq!(after[first + 4..].iter().filter(|example| is_of_family(example)).count(), 1);
        }
        let of_all: usize = order.seen(10).concat().iter().map(|seen| usize::try_from(*seen).unwrap()).sum();
        assert_eq!(of_all, 10);
    }

    /// The expected orders come from `tests-data/order.py`, which computes them without our code.
    #[test]
    fn the_order_is_the_same_on_every_platform_and_version() {
        let expected = [9, 3, 14, 7, 12, 13, 16, 8, 5, 10, 11, 4, 0, 15, 1, 17, 18, 2, 19, 6];
        assert_eq!(permutation(20, 7, 3), expected);
        let order = Order::new(&[6, 3], &[0.5, 2.0], 42);
        let first = [(1, 2), (0, 0), (1, 0), (1, 2), (0, 5), (0, 3), (1, 0), (1, 1), (1, 1)];
        assert_eq!(order.epoch(0), first);
        let second = [(1, 1), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (1, 0), (0, 4), (1, 2)];
        assert_eq!(order.epoch(1), second);
    }

    #[test]
    fn of_some_examples_no_other_is_drawn_and_each_as_often() {
        let chosen = vec![vec![1, 4, 6], vec![], vec![0, 9]];
        let order = Order::new(&[8, 3, 10], &[1.0, 1.0, 2.0], 5).of_some(chosen.clone());
        assert_eq!(order.len_per_epoch(), 3 + 4);
        let drawn: Vec<(usize, usize)> = order.from_position(0).take(14).collect();
        for (source, chosen) in chosen.iter().enumerate() {
            let most = if source == 2 { 4 } else { 2 };
            for index in chosen {
                assert_eq!(drawn.iter().filter(|one| **one == (source, *index)).count(), most);
            }
        }
        let seen = order.seen(14);
        assert_eq!(seen[0], [0, 2, 0, 0, 2, 0, 2, 0]);
        assert_eq!((&seen[1], seen[2].iter().sum::<u64>()), (&vec![0, 0, 0], 8));
    }

    proptest! {
        #[test]
        fn what_was_seen_is_what_came(
            counts in proptest::collection::vec(0_usize..20, 0..4), weight in 0.05..3.0_f64, positions in 0_u64..400
        ) {
            let weights: Vec<f64> = (0..counts.len()).map(|i| weight * (i + 1) as f64).collect();
            let order = Order::new(&counts, &weights, 5);
            let mut expected: Vec<Vec<u64>> = counts.iter().map(|count| vec![0; *count]).collect();
            for (source, index) in order.from_position(0).take(usize::try_from(positions).unwrap()) {
                expected[source][index] += 1;
            }
            prop_assert_eq!(order.seen(positions), expected);
        }

        #[test]
        fn a_permutation_has_each_number_once(n in 0_usize..300, seed: u64, round: u64) {
            let mut numbers = permutation(n, seed, round);
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..n).collect::<Vec<_>>());
        }

        #[test]
        fn whole_passes_see_each_example_equally_often(count in 1_usize..40, halves in 1_usize..7, seed: u64) {
            let order = Order::new(&[count * 2], &[halves as f64 / 2.0], seed);
            let seen = [order.epoch(6), order.epoch(7)].concat();
            prop_assert_eq!(counts_of(&seen, 0, count * 2), vec![halves; count * 2]);
        }
    }
}
