//! What a response holds and how it begins and ends: placeholders, a postscript, two answers, the repeated prompt.

use std::sync::LazyLock;

use regex::Regex;

/// How many placeholders such as `[address]` there are.
pub(super) fn placeholders(text: &str) -> usize {
    static PLACEHOLDER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[.*?\]").expect("a valid expression"));
    PLACEHOLDER.find_iter(text).count()
}

/// The mark with which a postscript begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Postscript {
    /// `P.S.`, also with a space inside.
    Single,
    /// `P.P.S`, also with spaces inside, whatever follows.
    Double,
    /// Another one, in lower case.
    Other(String),
}

impl Postscript {
    pub(super) fn new(marker: &str) -> Self {
        match marker {
            "P.S." => Self::Single,
            "P.P.S" => Self::Double,
            other => Self::Other(other.to_lowercase()),
        }
    }

    /// Whether a text has the mark, in either case.
    pub(super) fn is_in(&self, text: &str) -> bool {
        static SINGLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"p\.\s?s\.").expect("a valid expression"));
        static DOUBLE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"p\.\s?p\.\s?s").expect("a valid expression"));
        let text = text.to_lowercase();
        match self {
            Self::Single => SINGLE.is_match(&text),
            Self::Double => DOUBLE.is_match(&text),
            Self::Other(marker) => text.contains(marker),
        }
    }
}

/// Whether there are two different responses, set apart by six asterisks.
pub(super) fn has_two_responses(text: &str) -> bool {
    let responses: Vec<&str> = text.split("******").map(str::trim).collect();
    let inner = responses.get(1..responses.len() - 1).unwrap_or_default();
    if inner.iter().any(|response| response.is_empty()) {
        return false;
    }
    let filled: Vec<&str> = responses.into_iter().filter(|response| !response.is_empty()).collect();
    matches!(filled[..], [first, second] if first != second)
}

/// Whether a text begins with the prompt, in either case.
pub(super) fn starts_with(text: &str, prompt: &str) -> bool {
    text.trim().to_lowercase().starts_with(&prompt.to_lowercase())
}

/// Whether a text ends with the phrase, in either case; a quotation mark may follow.
pub(super) fn ends_with(text: &str, phrase: &str) -> bool {
    text.trim().trim_matches('"').to_lowercase().ends_with(&phrase.to_lowercase())
}

/// Whether a text stands between two quotation marks.
pub(super) fn is_quoted(text: &str) -> bool {
    let text = text.trim();
    text.len() > 1 && text.starts_with('"') && text.ends_with('"')
}
