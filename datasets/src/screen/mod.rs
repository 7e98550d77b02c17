//! Personal data and secrets in any text: found, masked, or replaced with aliases.
//!
//! [`Screener`] finds; each file beside this one knows one matter. Numbers that carry check digits are verified;
//! the others are known by their form and by what stands around them. [`Pseudonymiser`] makes aliases of the same form,
//! [`Screening`] applies the choice of a recipe to conversations, and [`LicenceRules`] says what may be used at all.

mod addresses;
mod aliases;
mod check;
mod context;
mod dates;
mod draw;
mod gate;
mod internet;
mod kind;
mod licences;
mod names;
mod numbers;
mod persons;
mod phones;
mod pseudonym;
mod records;
mod secrets;
mod vehicles;

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::{AhoCorasick, MatchKind};

pub(crate) use aliases::alias;
pub(crate) use dates::MONTHS;
pub(crate) use draw::Draw;
pub(crate) use gate::note;
pub use gate::{Action, ScreenConfig, Screened, Screening};
pub use kind::Kind;
pub use licences::{Licence, LicenceRules, Owed};
pub(crate) use names::{POOLS, folded};
pub use pseudonym::{KEY_VARIABLE, Pseudonymiser, replace};
pub use records::{Chunk, read_chunks, screen_value};

/// A place in a text that holds personal data or a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Where it stands, in bytes of the text.
    pub range: Range<usize>,
}

/// Finds personal data and secrets. Built once, used from any number of threads.
#[derive(Clone, Debug)]
pub struct Screener {
    kinds: [bool; Kind::ALL.len()],
}

impl Default for Screener {
    fn default() -> Self {
        Self::new(&Kind::ALL)
    }
}

impl Screener {
    /// A screener that reports these kinds. The others are looked for all the same, so that what a longer number is
    /// does not depend on what is asked for.
    pub fn new(kinds: &[Kind]) -> Self {
        Self { kinds: Kind::ALL.map(|kind| kinds.contains(&kind)) }
    }

    /// Everything found in `text`, in its order, without overlaps: what carries check digits wins, then the longer,
    /// then the first kind in the order of [`Kind::ALL`].
    pub fn find(&self, text: &str) -> Vec<Finding> {
        let mut found = Vec::new();
        let (mut digit, mut capital, mut colon) = (false, false, false);
        for byte in text.bytes() {
            digit |= byte.is_ascii_digit();
            // Every letter beyond ASCII may be a capital.
            capital |= byte.is_ascii_uppercase() || byte >= 0x80;
            colon |= byte == b':';
        }
        if digit {
            numbers::find(text, &mut found);
            numbers::find_lettered(text, &mut found);
            phones::find(text, &mut found);
            dates::find(text, &mut found);
            addresses::find(text, &mut found);
        }
        if digit && capital {
            vehicles::find(text, &mut found);
            vehicles::find_vins(text, &mut found);
        }
        if digit {
            vehicles::find_papers(text, &mut found);
        }
        if digit || colon {
            internet::find_ips(text, &mut found);
        }
        if capital {
            persons::find(text, &mut found);
        }
        internet::find_emails(text, &mut found);
        secrets::find(text, &mut found);
        if found.is_empty() {
            return found;
        }
        let mut found = resolve(found);
        // Nothing is repeated in a text that is hardly longer than what was found in it.
        if text.len() > 2 * found.iter().map(|finding| finding.range.len()).min().unwrap_or_default() {
            repeated(text, &mut found);
        }
        found.retain(|finding| self.kinds[finding.kind as usize]);
        found
    }
}

/// Of findings that overlap, the one that wins.
fn resolve(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by_key(|finding| {
        let length = finding.range.len();
        (!finding.kind.is_checked(), usize::MAX - length, finding.kind, finding.range.start)
    });
    // By where they begin: only the neighbours can overlap.
    let mut kept: BTreeMap<usize, Finding> = BTreeMap::new();
    for finding in found {
        let before = kept.range(..finding.range.end).next_back();
        if before.is_none_or(|(_, other)| other.range.end <= finding.range.start) {
            kept.insert(finding.range.start, finding);
        }
    }
    kept.into_values().collect()
}

/// The same values once more, where nothing beside them says what they are: a number that a question names is what an
/// answer repeats.
fn repeated(text: &str, found: &mut Vec<Finding>) {
    const SHORTEST: usize = 5;
    let mut values: Vec<(&str, Kind)> = found
        .iter()
        .map(|finding| (&text[finding.range.clone()], finding.kind))
        .filter(|(value, kind)| value.len() >= SHORTEST && *kind != Kind::DateOfBirth)
        .collect();
    values.sort_unstable();
    values.dedup_by_key(|(value, _)| *value);
    let Ok(patterns) =
        AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(values.iter().map(|(value, _)| *value))
    else {
        return;
    };
    let word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut more = Vec::new();
    for part in patterns.find_iter(text) {
        let (start, end) = (part.start(), part.end());
        let apart = !word(text[..start].chars().next_back()) && !word(text[end..].chars().next());
        let after = found.partition_point(|finding| finding.range.start < end);
        if apart && (after == 0 || found[after - 1].range.end <= start) {
            more.push(Finding { kind: values[part.pattern().as_usize()].1, range: start..end });
        }
    }
    if !more.is_empty() {
        found.append(&mut more);
        found.sort_by_key(|finding| finding.range.start);
    }
}

#[cfg(test)]
mod tests;
