//! What is counted of a part of the data.

use crate::conversation::Origin;
use crate::error::{DataError, ExampleError};
use crate::store::Counts;
use crate::tokenize::Outcome;

/// What was counted, and what is needed to tell that nothing is left.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) counts: Counts,
    /// The first conversation.
    first: Option<Origin>,
    /// The length of the shortest conversation that was left out.
    shortest: Option<usize>,
}

impl Tally {
    pub(super) fn count(&mut self, origin: Origin, outcome: &Outcome) {
        self.first.get_or_insert(origin);
        let counts = &mut self.counts;
        counts.conversations += 1;
        match outcome {
            Outcome::Kept { example, truncated, unsupervised_turns } => {
                counts.examples += 1;
                counts.tokens += example.input_ids.len() as u64;
                counts.supervised += example.loss_mask.iter().filter(|learned| **learned).count() as u64;
                counts.truncated += u64::from(*truncated);
                counts.unsupervised_turns += *unsupervised_turns as u64;
            }
            Outcome::Dropped { tokens } => {
                counts.dropped_overlong += 1;
                self.shortest = Some(self.shortest.map_or(*tokens, |shortest| shortest.min(*tokens)));
            }
        }
    }

    pub(super) fn leave_out(&mut self, origin: Origin) {
        self.first.get_or_insert(origin);
        self.counts.conversations += 1;
        self.counts.near_duplicates += 1;
    }

    /// Refuses a part of which nothing is left.
    pub(super) fn check(&self, max_length: usize) -> Result<(), DataError> {
        match (&self.first, self.shortest, self.counts.examples) {
            (Some(first), Some(shortest), 0) => Err(DataError::Example(ExampleError::AllOverlong {
                origin: first.clone(),
                dropped: usize::try_from(self.counts.dropped_overlong).unwrap_or(usize::MAX),
                shortest,
                max_length,
            })),
            _ => Ok(()),
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        let (sum, part) = (&mut self.counts, &other.counts);
        sum.conversations += part.conversations;
        sum.examples += part.examples;
        sum.tokens += part.tokens;
        sum.supervised += part.supervised;
        sum.near_duplicates += part.near_duplicates;
        sum.dropped_overlong += part.dropped_overlong;
        sum.truncated += part.truncated;
        sum.unsupervised_turns += part.unsupervised_turns;
    }
}
