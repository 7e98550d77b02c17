//! What the filters did with a set, with examples, so that a person can see whether they are right.

use serde::Serialize;

use super::clusters::{ClusterCoverage, cluster_coverage};
use super::distinct::{Distinct, distinct};
use super::grounding::shown;
use super::{Candidate, Filter, Rejection, Verdict};
use crate::conversation::{Message, Role};

/// Rejected samples shown of each filter.
const EXAMPLES: usize = 3;
/// Characters shown of a sample.
const SHOWN: usize = 200;

/// What became of a set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FilterReport {
    /// The samples.
    pub samples: usize,
    /// Those that every filter accepts.
    pub accepted: usize,
    /// What each filter did, in their order; those that were not asked are absent.
    pub filters: Vec<FilterCount>,
    /// How varied the words of the accepted prompts are.
    pub distinct_prompts: Distinct,
    /// How varied the words of the accepted answers are.
    pub distinct_answers: Distinct,
    /// How many topics of the prompts the accepted ones still cover.
    pub coverage: ClusterCoverage,
}

/// What one filter did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilterCount {
    /// The filter.
    pub filter: Filter,
    /// The samples it was asked about: those that no filter before it rejected.
    pub asked: usize,
    /// Those that it rejected.
    pub rejected: usize,
    /// The first of them.
    pub examples: Vec<FilterExample>,
}

/// A rejected sample.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FilterExample {
    /// The sample, as an index.
    pub sample: usize,
    /// Why it was rejected.
    pub reason: String,
    /// The beginning of what it says.
    pub text: String,
}

impl FilterReport {
    pub(super) fn new(samples: &[Candidate<'_>], verdicts: &[Verdict], seed: u64) -> Self {
        let accepted = |sample: usize| verdicts[sample].is_accepted();
        let counts = Filter::ALL.into_iter().filter_map(|filter| {
            let rejected: Vec<(usize, &Rejection)> = verdicts
                .iter()
                .enumerate()
                .filter_map(|(sample, verdict)| Some((sample, verdict.rejection.as_ref()?)))
                .filter(|(_, rejection)| rejection.filter() == filter)
                .collect();
            let passed = verdicts.iter().filter(|verdict| verdict.passed.contains(&filter)).count();
            let asked = passed + rejected.len();
            let example = |(sample, rejection): &(usize, &Rejection)| FilterExample {
                sample: *sample,
                reason: rejection.to_string(),
                text: beginning(samples[*sample].messages),
            };
            let examples = rejected.iter().take(EXAMPLES).map(example).collect();
            (asked > 0).then_some(FilterCount { filter, asked, rejected: rejected.len(), examples })
        });
        let filters = counts.collect();
        let said = |role: Role| {
            let kept = samples.iter().enumerate().filter(move |(sample, _)| accepted(*sample));
            kept.flat_map(move |(_, sample)| sample.said_by(role))
        };
        let asked: Vec<(&str, bool)> = samples
            .iter()
            .enumerate()
            .filter_map(|(sample, candidate)| Some((candidate.said_by(Role::User).last()?, accepted(sample))))
            .collect();
        Self {
            samples: samples.len(),
            accepted: verdicts.iter().filter(|verdict| verdict.is_accepted()).count(),
            filters,
            distinct_prompts: distinct(said(Role::User)),
            distinct_answers: distinct(said(Role::Assistant)),
            coverage: cluster_coverage(&asked, seed),
        }
    }
}

fn beginning(messages: &[Message]) -> String {
    let said = messages.iter().filter(|message| message.role != Role::System);
    let said: Vec<String> = said.map(|message| shown(&message.content, SHOWN / 2)).collect();
    shown(&said.join(" | "), SHOWN)
}
