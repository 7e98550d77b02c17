//! What one rank computes of an optimizer step.
//!
//! The examples of a step follow from the seed alone. They are shared out over the ranks so that each has about as many
//! tokens to compute, those with a beginning in common to one rank; every rank knows the size of the whole step, by which all losses are divided, so neither the shares nor their
//! number changes the step's gradient beyond the rounding of its sum.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use datasets::{ExampleRef, Family, Prepared};

use super::batch::{Layout, MicroBatch, Objective, micro_batches_of, together};

/// Added to the number of a replayed example in the step, so that its dropout is its own.
const REPLAYED: u64 = 1 << 32;

/// The size of a whole step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepSize {
    /// Supervised tokens of the task.
    pub supervised: usize,
    /// Supervised tokens that are replayed.
    pub replayed: usize,
    /// All tokens of its examples: what several have in common counts for each of them.
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

/// The examples of a step, and the rank that has each of them.
#[derive(Clone, Debug)]
pub struct Division<'a> {
    task: &'a [ExampleRef<'a>],
    replayed: &'a [ExampleRef<'a>],
    /// What the replayed ones are there for.
    objective: Objective,
    /// Of each example, those of the task first.
    owners: Vec<usize>,
    layout: Layout,
}

impl<'a> Division<'a> {
    /// Shares a step out over so many ranks; `replayed` with what they are there for.
    pub fn new(
        task: &'a [ExampleRef<'a>],
        replayed: Option<(&'a [ExampleRef<'a>], Objective)>,
        ranks: usize,
        layout: Layout,
    ) -> Self {
        let (replayed, objective) = replayed.unwrap_or((&[], Objective::Task));
        let lengths = lengths(task, replayed);
        let of_replayed = together(replayed, layout).into_iter().map(|Family { shared, members }| Family {
            shared,
            members: members.into_iter().map(|member| member + task.len()).collect(),
        });
        let families: Vec<Family> = together(task, layout).into_iter().chain(of_replayed).collect();
        let tokens: Vec<usize> = families.iter().map(|family| family.tokens(|member| lengths[member])).collect();
        let mut of_examples = vec![0; lengths.len()];
        for (family, owner) in families.iter().zip(owners(&tokens, ranks)) {
            family.members.iter().for_each(|&member| of_examples[member] = owner);
        }
        Self { task, replayed, objective, owners: of_examples, layout }
    }

    /// The part of a rank.
    pub fn share(&self, rank: usize) -> Share {
        let [task, replayed] = self.examples(rank);
        let mut micro_batches = micro_batches_of(task, self.layout);
        let replays = micro_batches_of(replayed, self.layout).into_iter();
        micro_batches.extend(replays.map(|batch| MicroBatch { objective: self.objective, ..batch }));
        let size = StepSize {
            supervised: self.task.iter().map(supervised).sum(),
            replayed: self.replayed.iter().map(supervised).sum(),
            tokens: lengths(self.task, self.replayed).iter().sum(),
        };
        Share { micro_batches, size }
    }

    /// The examples of a rank, of the task and replayed, each with its number in the step.
    pub fn examples(&self, rank: usize) -> [Vec<(u64, ExampleRef<'a>)>; 2] {
        let (of_task, of_replayed) = self.owners.split_at(self.task.len());
        let own = |examples: &'a [ExampleRef<'a>], owners: &[usize], first: u64| {
            let numbered = (first..).zip(examples.iter().cloned()).zip(owners);
            numbered.filter(|(_, owner)| **owner == rank).map(|(example, _)| example).collect()
        };
        [own(self.task, of_task, 0), own(self.replayed, of_replayed, REPLAYED)]
    }
}

/// The examples of the task in a step, counted from 0, of a run over so many.
pub fn examples_of_step(
    data: &Prepared,
    global_batch_size: usize,
    total_examples: u64,
    step: u64,
) -> Vec<ExampleRef<'_>> {
    let position = step * global_batch_size as u64;
    let left = usize::try_from(total_examples - position).unwrap_or(usize::MAX);
    data.examples_at(position, global_batch_size.min(left))
}

fn lengths(task: &[ExampleRef<'_>], replayed: &[ExampleRef<'_>]) -> Vec<usize> {
    task.iter().chain(replayed).map(|example| example.input_ids.len()).collect()
}

/// Supervised tokens of an example: its first has no predecessor to predict it.
pub fn supervised(example: &ExampleRef<'_>) -> usize {
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
    let mut loads: BinaryHeap<Reverse<(usize, usize)>> = (0..ranks).map(|rank| Reverse((0, rank))).collect();
    let mut owners = vec![0; sizes.len()];
    for index in largest_first {
        let Reverse((load, least)) = loads.pop().expect("there is at least one rank");
        owners[index] = least;
        loads.push(Reverse((load + sizes[index], least)));
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
