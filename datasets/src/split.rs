//! The validation split by content, and the check that no validation conversation was trained on.
//!
//! A conversation's side depends on its messages alone: adding, removing or shuffling other records
//! moves nothing from one side to the other, and a duplicate is on the side of its original.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::conversation::Conversation;

/// The SHA-256 of a conversation's messages as compact JSON (`[{"role":…,"content":…},…]`).
#[expect(clippy::missing_panics_doc, reason = "serialising roles and texts to memory cannot fail")]
pub fn content_hash(conversation: &Conversation) -> [u8; 32] {
    let json = serde_json::to_vec(&conversation.messages).expect("roles and texts can be written as JSON");
    Sha256::digest(json).into()
}

/// Parts conversations into training and validation, with about `fraction` in [0, 1) of the distinct
/// ones in validation, each list in the given order. A larger fraction keeps what a smaller one took.
pub fn split(conversations: Vec<Conversation>, fraction: f64) -> (Vec<Conversation>, Vec<Conversation>) {
    conversations.into_iter().partition(|conversation| {
        let [a, b, c, d, e, f, g, h, ..] = content_hash(conversation);
        let place = u64::from_be_bytes([a, b, c, d, e, f, g, h]) as f64 / 2_f64.powi(64);
        place >= fraction
    })
}

/// The places in `validation` of the conversations whose messages are also in `train`.
pub fn leaks(train: &[Conversation], validation: &[Conversation]) -> Vec<usize> {
    let trained: HashSet<_> = train.iter().map(content_hash).collect();
    (0..validation.len()).filter(|i| trained.contains(&content_hash(&validation[*i]))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::conversation::{Message, Origin, Role};

    fn conversation(text: &str, line: usize) -> Conversation {
        let message = |role, content: &str| Message { role, content: content.to_owned() };
        Conversation {
            messages: vec![message(Role::User, text), message(Role::Assistant, "é\"\n")],
            references: Vec::new(),
            origin: Origin { path: Path::new("a.jsonl").into(), line },
        }
    }

    fn conversations(n: usize) -> Vec<Conversation> {
        (0..n).map(|i| conversation(&format!("question {i}"), i + 1)).collect()
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
        assert!(leaks(&train, &validation).is_empty());
        assert_eq!(validation.len() % 2, 0);
        let (_, larger) = split(conversations(500), 0.4);
        assert!(whole.iter().all(|c| larger.contains(c)));
    }

    #[test]
    fn leaks_are_found_by_content() {
        let train = conversations(5);
        let validation = vec![conversation("new", 1), conversation("question 3", 77), conversation("question 3 ", 2)];
        assert_eq!(leaks(&train, &validation), [1]);
    }
}
