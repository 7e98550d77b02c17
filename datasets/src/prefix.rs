//! Examples that begin with the same tokens, such as several questions about one document.
//!
//! A causal model computes a token from those before it alone, so what several examples have in common is computed once
//! and seen by each: the same losses and gradients, for a fraction of the tokens. What is supervised is never in common,
//! nor is the token that predicts it.
//!
//! Source: Wang and Hegde 2024, <https://arxiv.org/abs/2410.20305>, for pairs of answers to one prompt.

use rayon::prelude::*;

/// Examples with a beginning in common, or one alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Family {
    /// How many first tokens they have in common; 0 for one alone.
    pub shared: usize,
    /// Their places in the list, ascending; at least one.
    pub members: Vec<usize>,
}

impl Family {
    /// One example.
    pub fn alone(member: usize) -> Self {
        Self { shared: 0, members: vec![member] }
    }

    /// The tokens to compute, with the length of each member.
    pub fn tokens(&self, length: impl Fn(usize) -> usize) -> usize {
        self.shared + self.members.iter().map(|&member| length(member) - self.shared).sum::<usize>()
    }
}

/// Finds the families among examples, each its token ids and loss mask, in the order of their first members. None has more
/// than `most` members, or more than `capacity` tokens to compute unless it is one example.
///
/// What a family has in common is at least half of what each member has before its first supervised token: a system prompt
/// that all examples begin with brings none together that differ in what follows.
pub fn families(examples: &[(&[u32], &[bool])], most: usize, capacity: usize) -> Vec<Family> {
    let beginnings: Vec<&[u32]> = examples.iter().map(|(ids, mask)| beginning(ids, mask)).collect();
    let length = |member: usize| examples[member].0.len();
    // Next to each other in this order are those that have the most in common.
    let mut sorted: Vec<usize> = (0..examples.len()).collect();
    sorted.par_sort_by(|&a, &b| beginnings[a].cmp(beginnings[b]).then(a.cmp(&b)));
    let mut found: Vec<Family> = Vec::new();
    // Of the last family: the tokens of all members, and the longest beginning.
    let (mut tokens, mut longest) = (0, 0);
    for index in sorted {
        let own = beginnings[index];
        if let Some(last) = found.last_mut().filter(|last| last.members.len() < most) {
            let before = &beginnings[last.members[0]][..last.shared];
            let shared = before.iter().zip(own).take_while(|(a, b)| a == b).count();
            let computed = tokens + length(index) - shared * last.members.len();
            if shared > 0 && 2 * shared >= longest.max(own.len()) && computed <= capacity {
                last.shared = shared;
                last.members.push(index);
                (tokens, longest) = (tokens + length(index), longest.max(own.len()));
                continue;
            }
        }
        found.push(Family { shared: own.len(), members: vec![index] });
        (tokens, longest) = (length(index), own.len());
    }
    for family in &mut found {
        family.members.sort_unstable();
        if family.members.len() == 1 {
            family.shared = 0;
        }
    }
    found.sort_unstable_by_key(|family| family.members[0]);
    found
}

/// The tokens before the one that predicts the first supervised token.
fn beginning<'a>(ids: &'a [u32], mask: &[bool]) -> &'a [u32] {
    let first = mask.iter().skip(1).position(|is_supervised| *is_supervised);
    &ids[..first.unwrap_or(ids.len().saturating_sub(1))]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example(ids: &[u32], supervised: usize) -> (Vec<u32>, Vec<bool>) {
        (ids.to_vec(), (0..ids.len()).map(|i| i + supervised >= ids.len()).collect())
    }

    fn found(examples: &[(Vec<u32>, Vec<bool>)], most: usize, capacity: usize) -> Vec<(usize, Vec<usize>)> {
        let lent: Vec<(&[u32], &[bool])> = examples.iter().map(|(ids, mask)| (&ids[..], &mask[..])).collect();
        families(&lent, most, capacity).into_iter().map(|family| (family.shared, family.members)).collect()
    }

    #[test]
    fn questions_about_one_document_are_a_family() {
        // A system prompt (1), two documents (2.., 3..), questions and one answer token.
        let examples = [
            example(&[1, 2, 2, 2, 7, 9, 50], 1),
            example(&[1, 3, 3, 3, 7, 9, 51], 1),
            example(&[1, 2, 2, 2, 8, 9, 52], 1),
            example(&[1, 4, 4, 4, 7, 9, 53], 1),
            example(&[1, 2, 2, 2, 6, 9, 54], 1),
        ];
        assert_eq!(found(&examples, 9, 99), [(4, vec![0, 2, 4]), (0, vec![1]), (0, vec![3])]);
        assert_eq!(found(&examples, 2, 99), [(4, vec![0, 4]), (0, vec![1]), (0, vec![2]), (0, vec![3])]);
        // Three of them take 4 + 3 · 3 tokens.
        assert_eq!(found(&examples, 9, 13).iter().filter(|(shared, _)| *shared > 0).count(), 1);
        assert!(found(&examples, 9, 12).iter().all(|(_, members)| members.len() < 3));
        assert_eq!(found(&[], 9, 99), []);
    }

    #[test]
    fn what_is_supervised_and_its_predictor_are_never_in_common() {
        let same = [example(&[1, 2, 3, 4, 5], 2), example(&[1, 2, 3, 4, 5], 2)];
        // 4 and 5 are supervised, 3 predicts 4.
        assert_eq!(found(&same, 9, 99), [(2, vec![0, 1])]);
        assert_eq!(found(&[example(&[1, 2], 2), example(&[1, 2], 2)], 9, 99), [(0, vec![0]), (0, vec![1])]);
        assert_eq!(found(&[example(&[1], 1), example(&[], 0)], 9, 99), [(0, vec![0]), (0, vec![1])]);
    }

    proptest! {
        #[test]
        fn every_example_is_in_one_family_that_keeps_its_promises(
            examples in prop::collection::vec((prop::collection::vec(0_u32..3, 1..12), 0_usize..4), 0..30),
            most in 1_usize..5,
            capacity in 12_usize..40,
        ) {
            let examples: Vec<_> = examples.iter().map(|(ids, supervised)| example(ids, *supervised)).collect();
            let found = found(&examples, most, capacity);
            let mut all: Vec<usize> = found.iter().flat_map(|(_, members)| members.clone()).collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..examples.len()).collect::<Vec<_>>());
            for (shared, members) in found {
                prop_assert!(members.len() <= most);
                let family = Family { shared, members };
                prop_assert!(family.members.len() == 1 || family.tokens(|i| examples[i].0.len()) <= capacity);
                for &member in &family.members {
                    let (ids, mask) = &examples[member];
                    prop_assert_eq!(&ids[..shared], &examples[family.members[0]].0[..shared]);
                    prop_assert!(shared <= beginning(ids, mask).len());
                    prop_assert!(family.members.len() == 1 || 2 * shared >= beginning(ids, mask).len());
                }
            }
        }
    }
}
