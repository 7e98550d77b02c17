//! Licence plates, vehicle identification numbers, and the papers of drivers and travellers.

use std::sync::LazyLock;

use regex::Regex;

use super::context::{Context, pattern};
use super::numbers::{alphanumerics, is_word};
use super::{Finding, Kind};

/// Plates. France since 2009: AA-123-AA without I, O and U. Before: 1234 AB 75, known by what is said before it. The
/// United Kingdom since 2001: AB12 CDE, known in the same way.
static PLATE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)\b(?: (?P<siv>[A-HJ-NP-TV-Z]{2}[-\ ][0-9]{3}[-\ ][A-HJ-NP-TV-Z]{2})
        | (?P<other>[A-HJ-NP-TV-Z]{2}[0-9]{3}[A-HJ-NP-TV-Z]{2}
            | [1-9][0-9]{0,3}[-\ ]?[A-Z]{2,3}[-\ ]?(?:[0-9]{2}|2[AB]|97[1-6])
            | [A-Z]{2}[0-9]{2}\ ?[A-Z]{3}) )\b",
    )
});

static PAPERS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?ix)\b(?: (?P<licence> permis(?:\ de\ conduire)? | driv(?:er|ing)['’]?s?\ licen[cs]e | licence\ de\ conduire)
        | (?P<passport> passports? | passeport) )
        (?: [\s:,.\#\(=-]* (?: numbers? | num[ée]ro | no | n° | nº | nr | is | est | a ) ){0,3} [\s:,.\#\(=-]{1,4}
        (?P<value> (?-i:[A-Z0-9])(?:[-\ ]?(?-i:[A-Z0-9])){4,17} )\b",
    )
});

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for part in PLATE.captures_iter(text) {
        let (range, certain) = match (part.name("siv"), part.name("other")) {
            (Some(plate), _) => (plate.range(), true),
            (_, Some(plate)) => (plate.range(), false),
            _ => continue,
        };
        let apart = !text[..range.start].ends_with(['-', '.', '/']) && !text[range.end..].starts_with(['-', '/']);
        if apart && (certain || Context::before(text, range.start).announces_a_vehicle()) {
            found.push(Finding { kind: Kind::LicencePlate, range });
        }
    }
}

/// Finds vehicle identification numbers: 17 letters and digits without I, O and Q.
///
/// Source: ISO 3779. Without a word before it, the last four have to be digits, and the first three hold a letter.
pub(super) fn find_vins(text: &str, found: &mut Vec<Finding>) {
    let bytes = text.as_bytes();
    let allowed =
        |byte: &u8| byte.is_ascii_digit() || (byte.is_ascii_uppercase() && !matches!(byte, b'I' | b'O' | b'Q'));
    let mut start = 0;
    while start < bytes.len() {
        let length = bytes[start..].iter().take_while(|byte| allowed(byte)).count();
        let end = start + length;
        if length == 17 && !is_word(text, start) && alphanumerics(text, start, 17).is_some_and(|(_, last)| last == end)
        {
            let vin = &bytes[start..end];
            let digits = vin.iter().filter(|byte| byte.is_ascii_digit()).count();
            let formed =
                vin[13..].iter().all(u8::is_ascii_digit) && vin[..3].iter().any(u8::is_ascii_alphabetic) && digits < 17;
            if formed || ((3..17).contains(&digits) && Context::before(text, start).announces_a_vin()) {
                found.push(Finding { kind: Kind::Vin, range: start..end });
            }
        }
        start = end + 1;
    }
}

/// Finds the numbers of driving licences and passports by the words before them.
pub(super) fn find_papers(text: &str, found: &mut Vec<Finding>) {
    for part in PAPERS.captures_iter(text) {
        let kind = if part.name("licence").is_some() { Kind::DrivingLicence } else { Kind::Passport };
        let Some(value) = part.name("value") else { continue };
        if value.as_str().bytes().filter(u8::is_ascii_digit).count() >= 4 {
            found.push(Finding { kind, range: value.range() });
        }
    }
}
