//! Phrases that give a refusal away, and insults and threats, by short lists in English and French.
//!
//! A phrase is found as whole words, whatever the case, the spaces and the form of the apostrophes. The lists are short on
//! purpose: each phrase is one that a fit sample hardly ever says. They are no judge of what is harmful.

use std::sync::LazyLock;

use regex::Regex;

use super::grounding::shown;
use super::{Candidate, Rejection};
use crate::conversation::Role;

static REFUSALS: LazyLock<Regex> =
    LazyLock::new(|| any_of(&[include_str!("phrases/refusals.en.txt"), include_str!("phrases/refusals.fr.txt")]));
static TOXIC: LazyLock<Regex> =
    LazyLock::new(|| any_of(&[include_str!("phrases/toxic.en.txt"), include_str!("phrases/toxic.fr.txt")]));

/// Refusals are looked for in what the assistant says.
pub(super) fn refusal(sample: &Candidate<'_>) -> Result<(), Rejection> {
    let found = sample.said_by(Role::Assistant).find_map(|text| REFUSALS.find(text));
    found.map_or(Ok(()), |found| Err(Rejection::Refusal { phrase: shown(found.as_str(), 80) }))
}

/// Insults and threats are looked for in all that is said.
pub(super) fn toxic(sample: &Candidate<'_>) -> Result<(), Rejection> {
    for (i, message) in sample.messages.iter().enumerate() {
        if let Some(found) = TOXIC.find(&message.content) {
            return Err(Rejection::Toxicity { message: i + 1, phrase: shown(found.as_str(), 80) });
        }
    }
    Ok(())
}

/// A pattern that finds each of the lines, those that begin with `#` aside.
fn any_of(lists: &[&str]) -> Regex {
    let phrase = |line: &str| {
        let words: Vec<String> =
            line.split_whitespace().map(|word| regex::escape(word).replace('\'', "['’ʼ]")).collect();
        words.join(r"\s+")
    };
    let lines = lists.iter().flat_map(|list| list.lines()).map(str::trim);
    let phrases: Vec<String> = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(phrase).collect();
    Regex::new(&format!(r"(?i)\b(?:{})\b", phrases.join("|"))).expect("the lists are constants, and a test reads them")
}
