//! Telephone numbers: the forms of France and North America, international numbers, and any other form where the words
//! around it say what it is.
//!
//! There is no check digit, so a number whose form alone is not enough needs a word such as "phone" beside it.

use std::sync::LazyLock;

use regex::Regex;

use super::context::{Context, pattern};
use super::{Finding, Kind};

/// One separator inside a number, or none.
const SEP: &str = r"[\ \u{a0}\u{202f}\u{2009}.\-\u{2010}\u{2011}/]?";
/// An extension after a number.
const EXTENSION: &str = r"(?:\ ?(?:x|ext\.?|poste)\ ?\d{1,5}\b)?";

/// The forms that are enough by themselves, each with the numbers of digits it may have.
static FORMS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // France, national and international.
        format!(r"^(?:(?:\+\ ?33|0033){SEP}(?:\(0\){SEP})?[1-9]|0[1-9])(?:{SEP}\d{{2}}){{4}}"),
        // Any other country.
        format!(r"^(?:\+|00)[1-9]\d{{0,2}}{SEP}(?:\(0\){SEP})?(?:\(\d{{1,4}}\){SEP})?\d(?:{SEP}\d){{5,11}}{EXTENSION}"),
        // North America, with separators.
        format!(r"^(?:1[-.\ ])?(?:\([2-9]\d{{2}}\)\ ?|[2-9]\d{{2}}[-.\ ])[2-9]\d{{2}}[-.\ ]\d{{4}}{EXTENSION}"),
        // Countries whose numbers begin with a zero, in two to five groups.
        r"^(?:0[1-9]\d{1,3}|\(0\d{1,4}\))(?:[-.\ \u{a0}\u{202f}/]\d{2,8}){1,4}".to_owned(),
    ]
    .iter()
    .map(|form| pattern(&format!("(?x){form}")))
    .collect()
});

/// What may be a telephone number beside a word that says so.
static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(r"(?x)^\(?\d{{1,5}}\)?(?:[\ \u{{a0}}\u{{202f}}.\-/]?\(?\d\)?){{4,13}}{EXTENSION}"))
});

static AFTER: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)^[ -]{1,2}\(?(office|fax|mobile|cell|home|work|portable|fixe|bureau)\b"));

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let mut from = 0;
    for start in 0..bytes.len() {
        if start < from || !(bytes[start].is_ascii_digit() || matches!(bytes[start], b'+' | b'(')) {
            continue;
        }
        if !bytes.get(start + 1).is_some_and(|next| next.is_ascii_digit() || *next == b' ') {
            continue;
        }
        if let Some(end) = number_end(text, start) {
            found.push(Finding { kind: Kind::Phone, range: start..end });
            from = end;
        }
    }
}

/// The end of the telephone number that begins at `start`.
fn number_end(text: &str, start: usize) -> Option<usize> {
    // Inside a longer number, a price or a reference.
    if text[..start]
        .chars()
        .next_back()
        .is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '+' | '$' | '€' | '£'))
    {
        return None;
    }
    let inside = text[..start].ends_with(['.', '-', '/', ',']) && {
        let before = text[..start].chars().rev().nth(1);
        before.is_some_and(|c| c.is_ascii_digit())
    };
    let rest = &text[start..];
    for (number, form) in FORMS.iter().enumerate() {
        let Some(found) = form.find(rest).filter(|found| !inside && ends(rest, found.end())) else {
            continue;
        };
        let digits = found.as_str().bytes().filter(u8::is_ascii_digit).count();
        let fits = match number {
            1 => (8..=19).contains(&digits),
            3 => (9..=12).contains(&digits) && !is_date(found.as_str()),
            _ => true,
        };
        if fits {
            return Some(start + found.end());
        }
    }
    let found = ANNOUNCED.find(rest)?;
    let digits = found.as_str().bytes().filter(u8::is_ascii_digit).count();
    let announced =
        || Context::before(text, start).announces_a_phone() || (!inside && AFTER.is_match(&rest[found.end()..]));
    ((6..=17).contains(&digits) && ends(rest, found.end()) && !is_date(found.as_str()) && announced())
        .then(|| start + found.end())
}

/// Whether no longer number and no word goes on after `end`.
fn ends(text: &str, end: usize) -> bool {
    let mut after = text[end..].chars();
    match after.next() {
        Some(c) if c.is_alphanumeric() || c == '_' => false,
        Some('.' | ',' | '-' | '/') => {
            !after.next().is_some_and(|c| c.is_ascii_digit()) || text[end..].starts_with(',')
        }
        _ => true,
    }
}

/// Whether it begins like a date: 2024-01-31, 31/01/2024, 31.01.2024.
fn is_date(text: &str) -> bool {
    static DATE: LazyLock<Regex> = LazyLock::new(|| {
        pattern(r"^(?:(?:19|20)\d\d[-./](?:0?\d|1[0-2])[-./]\d|[0-3]?\d[-./](?:0?\d|1[0-2])[-./](?:19|20)\d\d\b)")
    });
    DATE.is_match(text)
}
