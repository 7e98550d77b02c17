//! What was left out before or after the filters, and why.

use std::collections::BTreeMap;

use serde::Serialize;

/// Of each reason, how many rejected texts are kept.
const EXAMPLES: usize = 3;
/// Characters kept of each.
const SHOWN: usize = 300;

/// What was left out, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rejected(pub BTreeMap<String, Reason>);

/// One reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// How often.
    pub count: usize,
    /// Some of the texts.
    pub examples: Vec<String>,
}

impl Rejected {
    /// Counts a text that is left out.
    pub fn add(&mut self, reason: &str, text: &str) {
        let entry = self.0.entry(reason.to_owned()).or_default();
        entry.count += 1;
        if entry.examples.len() < EXAMPLES {
            entry.examples.push(text.chars().take(SHOWN).collect());
        }
    }
}
