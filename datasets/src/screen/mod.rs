//! Personal data and secrets in any text: found, masked, or replaced with aliases.
//!
//! [`Screener`] finds; each file beside this one knows one matter. Numbers that carry check digits are verified;
//! the others are known by their form and by what stands around them. [`Pseudonymiser`] makes aliases of the same form,
//! [`Screening`] applies the choice of a recipe to conversations, and [`LicenceRules`] says what may be used at all.

mod addresses;
mod check;
mod context;
mod dates;
mod internet;
mod kind;
mod names;
mod numbers;
mod persons;
mod phones;
mod secrets;
mod vehicles;

use std::ops::Range;

pub use kind::Kind;

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
        let mut found = resolve(found);
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
    let mut kept: Vec<Finding> = Vec::with_capacity(found.len());
    for finding in found {
        let overlaps = |other: &Finding| finding.range.start < other.range.end && other.range.start < finding.range.end;
        if !kept.iter().any(overlaps) {
            kept.push(finding);
        }
    }
    kept.sort_by_key(|finding| finding.range.start);
    kept
}

#[cfg(test)]
mod tests;
