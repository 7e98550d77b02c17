//! Keys, tokens and passwords.
//!
//! The tokens of well-known services are known by how they begin. Any other is known by the name that stands before
//! it, and it must look like no word: its characters carry at least three bits each.

use std::sync::LazyLock;

use regex::Regex;

use super::context::pattern;
use super::{Finding, Kind};

/// Tokens that are known by their form.
///
/// Source: the services' own documentation of their token prefixes.
static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?x)-----BEGIN\ [A-Z\ ]*PRIVATE\ KEY(?:\ BLOCK)?-----[\s\S]*?(?:-----END\ [A-Z\ ]*PRIVATE\ KEY(?:\ BLOCK)?-----|\z)
        | \b(?: (?:AKIA|ASIA|AIDA|AROA)[0-9A-Z]{16}
        | gh[pousr]_[A-Za-z0-9]{36,255} | github_pat_[A-Za-z0-9_]{22,255} | glpat-[A-Za-z0-9_-]{20,}
        | xox[abeoprs]-[A-Za-z0-9-]{10,250} | AIza[0-9A-Za-z_-]{35} | ya29\.[0-9A-Za-z_-]{20,}
        | eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}
        | [sr]k_(?:live|test)_[0-9A-Za-z]{16,} | sk-(?:[a-z]+-)?[A-Za-z0-9_-]{20,} | hf_[A-Za-z0-9]{30,}
        | npm_[A-Za-z0-9]{36} | pypi-[A-Za-z0-9_-]{50,} | SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}
        | dop_v1_[a-f0-9]{64} | shpat_[a-fA-F0-9]{32} )",
    )
});

/// Values behind a name: a password, which may be anything, or a key.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?ix)(?: (?P<password> \b(?:[a-z0-9]+_)?(?: pass(?:word|wd|phrase|code)? | pwd | mot\ de\ passe | mdp ) )
        | (?P<key> \b(?:[a-z0-9]+[_-])*(?: api[_\ -]?keys? | secret(?:[_\ -]?(?:access[_\ -]?)?key)? | access[_\ -]?(?:key|token)
            | auth[_\ -]?token | bearer | client[_\ -]?secret | private[_\ -]?key | tokens? | cl[ée]\ (?:api|secr[èe]te) ) ) )
        ["']? (?: \s*(?::=|=>|[:=])\s* | \s+(?:is|est)\s*:?\s+ | (?-i:\b)\s+(?P<bare>) )
        ["'`]? (?P<value>[^\s\x1f"'`,;<>\[\]]{6,256})"#,
    )
});

/// The password inside an address of a service: `scheme://user:password@host`.
static IN_ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@]{1,100}:(?P<value>[^\s\x1f:/@]{3,200})@"));

pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    for part in TOKENS.find_iter(text) {
        found.push(Finding { kind: Kind::Secret, range: part.range() });
    }
    if text.contains("://") {
        for part in IN_ADDRESS.captures_iter(text) {
            if let Some(value) = part.name("value") {
                found.push(Finding { kind: Kind::Secret, range: value.range() });
            }
        }
    }
    for part in NAMED.captures_iter(text) {
        let Some(value) = part.name("value") else { continue };
        let written = value.as_str().trim_end_matches(['.', '!', '?', ')', '}']);
        let (is_password, bare) = (part.name("password").is_some(), part.name("bare").is_some());
        let is_one = match (is_password, bare) {
            // Words that follow the word are ordinary ones unless they are mixed like a password.
            (true, true) => written.len() >= 8 && is_mixed(written),
            (true, false) => written.len() >= 6 && written.chars().any(|c| !c.is_lowercase()),
            (false, _) => {
                written.len() >= 16 && written.bytes().any(|byte| byte.is_ascii_digit()) && entropy(written) >= 3.0
            }
        };
        if is_one && !written.starts_with(['$', '{', '[', '<']) {
            found.push(Finding { kind: Kind::Secret, range: value.start()..value.start() + written.len() });
        }
    }
}

/// Whether a text has small letters, and two of capitals, digits and signs.
fn is_mixed(text: &str) -> bool {
    let has = |of: fn(char) -> bool| text.chars().any(of);
    let others = [
        has(char::is_uppercase),
        has(|c| c.is_ascii_digit()),
        has(|c| c.is_ascii_punctuation() && !matches!(c, '-' | '.' | '/')),
    ];
    has(char::is_lowercase) && others.iter().filter(|found| **found).count() >= 2
}

/// Shannon's entropy of the bytes of a text, in bits a byte.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let total = text.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|share| -share * share.log2())
        .sum()
}
