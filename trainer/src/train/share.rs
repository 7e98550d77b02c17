//! What one rank computes of an optimizer step.
//!
//! The examples of a step follow from the seed alone. They are shared out over the ranks so that each has about as many
//! tokens; every rank knows the size of the whole step, by which all losses are divided, so neither the shares nor their
//! number changes the step's gradient beyond the rounding of its sum.

use std::cmp::Reverse;

use datasets::ExampleRef;

use super::batch::{Layout, MicroBatch, Objective, micro_batches_of};

/// Added to the number of a replayed example in the step, so that its dropout is its own.
const REPLAYED: u64 = 1 << 32;

/// The size of a whole step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepSize {
    /// Supervised tokens of the task.
    pub supervised: usize,
    /// Supervised tokens that are replayed.
    pub replayed: usize,
    /// All tokens.
    pub tokens: usize,
}

impl StepSize {
    /// The size of a step that these micro-batches are the whole of.
    pub fn of(micro_batches: &[MicroBatch]) -> Self {
        let supervised = |is_task: bool| -> usize {
            micro_batches.iter().filter(|b| b.objective.is_task() == is_task).map(|b| b.targets.len()).sum()
        };
        let tokens = micro_batches.iter().map(|batch| batch.input_ids.len()).sum();
        Self { supervised: supervised(true), replayed: supervised(false), tokens }
    }
}

/// A rank's part of a step.
#[derive(Clone, Debug)]
pub struct Share {
    /// Its micro-batches, the task's first; none when there are fewer examples than ranks.
    pub micro_batches: Vec<MicroBatch>,
    /// The whole step.
    pub size: StepSize,
}

impl Share {
    /// The part of `rank` among `ranks` in a step of these examples; `replayed` with what they are there for.
    pub fn new(
        task: &[ExampleRef<'_>],
        replayed: Option<(&[ExampleRef<'_>], Objective)>,
        layout: Layout,
        rank: usize,
        ranks: usize,
    ) -> Self {
        let (replayed, objective) = replayed.unwrap_or((&[], Objective::Task));
        let lengths: Vec<usize> = task.iter().chain(replayed).map(|example| example.input_ids.len()).collect();
        let owners = owners(&lengths, ranks);
        let (task_owners, replayed_owners) = owners.split_at(task.len());
        let own = |examples: &[ExampleRef<'_>], owners: &[usize], first: u64| {
            let numbered = (first..).zip(examples.iter().cloned()).zip(owners);
            let own = numbered.filter(|(_, owner)| **owner == rank).map(|(example, _)| example);
            micro_batches_of(own, layout)
        };
        let mut micro_batches = own(task, task_owners, 0);
        let replays = own(replayed, replayed_owners, REPLAYED).into_iter();
        micro_batches.extend(replays.map(|batch| MicroBatch { objective, ..batch }));
        let size = StepSize {
            supervised: task.iter().map(supervised).sum(),
            replayed: replayed.iter().map(supervised).sum(),
            tokens: lengths.iter().sum(),
        };
        Self { micro_batches, size }
    }
}

/// Supervised tokens of an example: its first has no predecessor to predict it.
fn supervised(example: &ExampleRef<'_>) -> usize {
    example.loss_mask.iter().skip(1).filter(|is_supervised| **is_supervised).count()
}

/// The rank that gets each thing, so that the sums of their sizes differ little: the largest first, each to the rank that
/// has the least.
///
/// Source: Graham 1969, "Bounds on multiprocessing timing anomalies": no rank gets more than 4/3 of the best division's.
///
/// # Panics
/// When there is a thing and no rank.
pub fn owners(sizes: &[usize], ranks: usize) -> Vec<usize> {
    let mut largest_first: Vec<usize> = (0..sizes.len()).collect();
    largest_first.sort_by_key(|&index| Reverse(sizes[index]));
    let mut loads = vec![0; ranks];
    let mut owners = vec![0; sizes.len()];
    for index in largest_first {
        let least = (0..ranks).min_by_key(|&rank| loads[rank]).expect("there is at least one rank");
        loads[least] += sizes[index];
        owners[index] = least;
    }
    owners
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_thing_has_one_owner_and_no_rank_much_more_than_another(
            sizes in prop::collection::vec(1_usize..500, 0..40),
            ranks in 1_usize..6,
        ) {
            let owners = owners(&sizes, ranks);
            prop_assert_eq!(owners.len(), sizes.len());
            let load = |rank| -> usize { owners.iter().zip(&sizes).filter(|(o, _)| **o == rank).map(|(_, s)| s).sum() };
            let loads: Vec<usize> = (0..ranks).map(load).collect();
            prop_assert_eq!(loads.iter().sum::<usize>(), sizes.iter().sum::<usize>());
            let largest = sizes.iter().copied().max().unwrap_or(0);
            let spread = loads.iter().max().unwrap() - loads.iter().min().unwrap();
            prop_assert!(spread <= largest, "{loads:?}");
        }
    }
}
