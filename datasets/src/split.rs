//! The validation split by content, and the check that no validation conversation was trained on.
//!
//! A conversation's side depends on its messages alone: adding, removing or shuffling other records
//! moves nothing from one side to the other, and a duplicate is on the side of its original.

use std::collections::HashMap;

use crate::conversation::Conversation;
use crate::digest;

/// The SHA-256 of a conversation's messages as compact JSON (`[{"role":…,"content":…},…]`).
pub fn content_hash(conversation: &Conversation) -> [u8; 32] {
    digest::of_messages(&conversation.messages)
}

/// Whether a conversation with this [`content_hash`] is set aside for validation, as about `fraction` in [0, 1) of the
/// distinct ones are. A larger fraction keeps what a smaller one took.
pub(crate) fn is_held_out(hash: &[u8; 32], fraction: f64) -> bool {
    let [a, b, c, d, e, f, g, h, ..] = *hash;
    let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]) as f64 / 2_f64.powi(64);
    place < fraction
}

/// The validation conversations of which none was seen in training yet, by [`content_hash`], and how often each comes.
#[derive(Debug, Default)]
pub(crate) struct HeldOut(HashMap<[u8; 32], u64>);

impl HeldOut {
    /// Adds a validation conversation.
    pub(crate) fn insert(&mut self, hash: [u8; 32]) {
        *self.0.entry(hash).or_default() += 1;
    }

    /// How many validation conversations leak through this training conversation; each is told once.
    pub(crate) fn take(&mut self, hash: &[u8; 32]) -> u64 {
        self.0.remove(hash).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::conversation::{Message, Origin, Role};
    use crate::samples::Lineage;

    fn conversation(text: &str, line: usize) -> Conversation {
        let message = |role, content: &str| Message { role, content: content.to_owned() };
        Conversation {
            messages: vec![message(Role::User, text), message(Role::Assistant, "é\"\n")],
            references: Vec::new(),
            origin: Origin { path: Path::new("a.jsonl").into(), line },
            lineage: Lineage::default(),
            labels: BTreeMap::new(),
        }
    }

    fn conversations(n: usize) -> Vec<Conversation> {
        (0..n).map(|i| conversation(&format!("question {i}"), i + 1)).collect()
    }

    /// The conversations by side, training first.
    fn split(conversations: Vec<Conversation>, fraction: f64) -> (Vec<Conversation>, Vec<Conversation>) {
        conversations.into_iter().partition(|conversation| !is_held_out(&content_hash(conversation), fraction))
    }

    fn leaks(train: &[Conversation], validation: &[Conversation]) -> u64 {
        let mut held_out = HeldOut::default();
        for conversation in validation {
            held_out.insert(content_hash(conversation));
        }
        train.iter().map(|conversation| held_out.take(&content_hash(conversation))).sum()
    }

    /// Expected value: Python's `hashlib.sha256('[{"role":"user","content":"question 0"},
    /// {"role":"assistant","content":"é\\"\\n"}]'.encode()).hexdigest()`, without the line break,
    /// begins 4f3b and ends 41.
    #[test]
    fn the_hash_is_that_of_compact_json() {
        let [first, second, .., last] = content_hash(&conversation("question 0", 1));
        assert_eq!([first, second, last], [0x4f, 0x3b, 0x41]);
    }

    #[test]
    fn the_share_is_about_the_fraction_and_order_is_kept() {
        let (train, validation) = split(conversations(4000), 0.25);
        assert_eq!(train.len() + validation.len(), 4000);
        // Four standard deviations of the binomial: 4 · √(4000 · 0.25 · 0.75) ≈ 110.
        assert!((890..1110).contains(&validation.len()), "{}", validation.len());
        assert!(validation.is_sorted_by_key(|c| c.origin.line) && train.is_sorted_by_key(|c| c.origin.line));
        assert_eq!(split(conversations(50), 0.0).1, []);
    }

    #[test]
    fn a_side_depends_on_the_content_alone() {
        let (_, whole) = split(conversations(500), 0.3);
        let (_, mut part) = split(conversations(500).split_off(250), 0.3);
        part.retain(|c| !whole.contains(c));
        assert_eq!(part, []);
        let twice: Vec<_> = conversations(100)
            .into_iter()
            .chain((0..100).map(|i| conversation(&format!("question {i}"), 1000 + i)))
            .collect();
        let (train, validation) = split(twice, 0.3);
        assert_eq!(leaks(&train, &validation), 0);
        assert_eq!(validation.len() % 2, 0);
        let (_, larger) = split(conversations(500), 0.4);
        assert!(whole.iter().all(|c| larger.contains(c)));
    }

    #[test]
    fn leaks_are_found_by_content() {
        let train = [conversations(5), conversations(5)].concat();
        let validation = vec![conversation("new", 1), conversation("question 3", 77), conversation("question 3 ", 2)];
        assert_eq!(leaks(&train, &validation), 1);
        let twice = vec![conversation("question 3", 77), conversation("question 3", 78)];
        assert_eq!(leaks(&train, &twice), 2);
    }
}
