//! The form of a response: JSON, bullets, highlights, sections, a title, one of three fixed answers.

use std::sync::LazyLock;

use regex::Regex;
use serde::de::IgnoredAny;

/// Whether one of the three answers that may be given is in the text.
pub(super) fn is_constrained(text: &str) -> bool {
    ["My answer is yes.", "My answer is no.", "My answer is maybe."].into_iter().any(|answer| text.contains(answer))
}

/// Whether a text is JSON, alone or as a Markdown block of code. Any value counts, but not Python's NaN and Infinity.
pub(super) fn is_json(text: &str) -> bool {
    let mut text = text.trim();
    for fence in ["```json", "```Json", "```JSON", "```"] {
        text = text.strip_prefix(fence).unwrap_or(text);
    }
    serde_json::from_str::<IgnoredAny>(text.strip_suffix("```").unwrap_or(text).trim()).is_ok()
}

/// How many Markdown bullets there are, with asterisks or hyphens.
pub(super) fn bullets(text: &str) -> usize {
    static ASTERISK: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*\*[^*].*$").expect("a valid expression"));
    static HYPHEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^\s*-.*$").expect("a valid expression"));
    ASTERISK.find_iter(text).count() + HYPHEN.find_iter(text).count()
}

/// How many highlights there are; one between double asterisks counts once for them and, where single asterisks also
/// enclose text, again for those.
pub(super) fn highlights(text: &str) -> usize {
    static SINGLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\*[^\n*]*\*").expect("a valid expression"));
    static DOUBLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\*\*[^\n*]*\*\*").expect("a valid expression"));
    let count = |expression: &Regex| {
        expression.find_iter(text).filter(|found| !found.as_str().trim_matches('*').trim().is_empty()).count()
    };
    count(&SINGLE) + count(&DOUBLE)
}

/// How many sections there are, each opened by the word and a number.
pub(super) fn sections(text: &str, splitter: &str) -> usize {
    let opens = |rest: &str| {
        // At most one space, line end or tab stands before the number.
        let rest = rest.strip_prefix(char::is_whitespace).unwrap_or(rest);
        rest.starts_with(char::is_numeric)
    };
    text.match_indices(splitter).filter(|(at, _)| opens(&text[at + splitter.len()..])).count()
}

/// Whether there is a title between double angular brackets, on one line.
pub(super) fn has_title(text: &str) -> bool {
    static TITLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"<<[^\n]+>>").expect("a valid expression"));
    let filled = |title: &str| !title.trim_start_matches('<').trim_end_matches('>').trim().is_empty();
    TITLE.find_iter(text).any(|title| filled(title.as_str()))
}
