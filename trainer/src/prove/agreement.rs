//! How far a server's log-probabilities are from the trainer's.

use serde::{Deserialize, Serialize};

use super::{PROMPTS, TOP};

/// A server against the trainer, over all prompts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// Mean absolute difference over the server's most probable tokens, in nats.
    pub mean: f64,
    /// The largest absolute difference, in nats.
    pub largest: f64,
    /// Prompts after which the server's first token is the trainer's.
    pub same_first: usize,
    /// The prompts of which that is not so, except where the trainer's own log-probabilities of the two tokens are
    /// closer than twice the limit: there the limit itself allows that they change places.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub other_first: Vec<String>,
}

impl Agreement {
    /// Compares; `own` has a log-probability for every token, `theirs` the most probable ones, best first.
    pub(super) fn of(own: &[Vec<f64>], theirs: &[Vec<(usize, f64)>], limit: f64) -> Self {
        let differences: Vec<f64> = own
            .iter()
            .zip(theirs)
            .flat_map(|(own, theirs)| theirs.iter().map(|(id, log_prob)| (own[*id] - log_prob).abs()))
            .collect();
        let (mut same_first, mut other_first) = (0, Vec::new());
        for ((own, theirs), prompt) in own.iter().zip(theirs).zip(PROMPTS) {
            let (best, highest) = best(own);
            let (first, _) = theirs[0];
            if first == best {
                same_first += 1;
            } else if highest - own[first] > 2.0 * limit {
                other_first.push(format!(
                    "after {prompt:?} the server's first token is {first}, the trainer's {best}, by {:.4} nats",
                    highest - own[first]
                ));
            }
        }
        Self {
            mean: differences.iter().sum::<f64>() / differences.len().max(1) as f64,
            largest: differences.iter().copied().fold(0.0, f64::max),
            same_first,
            other_first,
        }
    }
}

/// The mean absolute difference between two models of the trainer, over the first one's most probable tokens.
pub(super) fn effect(adapted: &[Vec<f64>], plain: &[Vec<f64>]) -> f64 {
    let top = |own: &Vec<f64>| {
        let mut ranked: Vec<(usize, f64)> = own.iter().copied().enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(TOP);
        ranked
    };
    Agreement::of(plain, &adapted.iter().map(top).collect::<Vec<_>>(), f64::INFINITY).mean
}

/// The most probable token, and its log-probability.
fn best(own: &[f64]) -> (usize, f64) {
    own.iter().copied().enumerate().fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<f64>> {
        vec![vec![-0.1, -2.5, -4.0]; PROMPTS.len()]
    }

    #[test]
    fn differences_are_taken_token_by_token() {
        let theirs = vec![vec![(0, -0.2), (2, -3.7)]; PROMPTS.len()];
        let agreement = Agreement::of(&rows(), &theirs, 0.01);
        assert!((agreement.mean - 0.2).abs() < 1e-12 && (agreement.largest - 0.3).abs() < 1e-12, "{agreement:?}");
        assert_eq!((agreement.same_first, agreement.other_first.len()), (PROMPTS.len(), 0));
    }

    #[test]
    fn another_first_token_counts_unless_the_limit_allows_it() {
        let mut theirs = vec![vec![(0, -0.1), (1, -2.5)]; PROMPTS.len()];
        theirs[3] = vec![(1, -0.1), (0, -2.5)];
        let agreement = Agreement::of(&rows(), &theirs, 0.01);
        assert_eq!((agreement.same_first, agreement.other_first.len()), (PROMPTS.len() - 1, 1));
        assert!(agreement.other_first[0].contains("first token is 1, the trainer's 0, by 2.4000 nats"));
        assert_eq!(Agreement::of(&rows(), &theirs, 1.3).other_first, Vec::<String>::new());
    }

    #[test]
    fn the_effect_is_what_a_server_without_the_adapter_would_be_off() {
        let plain = vec![vec![-0.3, -1.5, -4.0]; PROMPTS.len()];
        assert!((effect(&rows(), &plain) - (0.2 + 1.0) / 3.0).abs() < 1e-12);
    }
}
