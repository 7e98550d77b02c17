//! How long a response is: words and paragraphs.

use std::sync::LazyLock;

use regex::Regex;

use super::keywords::in_word;

/// How many runs of letters, digits and underscores there are.
pub(super) fn words(text: &str) -> usize {
    text.split(|character| !in_word(character)).filter(|word| !word.is_empty()).count()
}

/// How many paragraphs there are, set apart by `***`; none when one in the middle is empty.
pub(super) fn paragraphs(text: &str) -> Option<usize> {
    static DIVIDER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\s?\*\*\*\s?").expect("a valid expression"));
    let paragraphs: Vec<&str> = DIVIDER.split(text).map(str::trim).collect();
    let inner = paragraphs.get(1..paragraphs.len() - 1).unwrap_or_default();
    if inner.iter().any(|paragraph| paragraph.is_empty()) {
        return None;
    }
    Some(paragraphs.iter().filter(|paragraph| !paragraph.is_empty()).count())
}

/// Whether there are so many paragraphs, set apart by an empty line, and the nth, counted from 1, begins with this word
/// of small letters.
pub(super) fn nth_paragraph_starts(text: &str, paragraphs: usize, nth: usize, first_word: &str) -> bool {
    let all: Vec<&str> = text.split("\n\n").map(str::trim).collect();
    let filled = all.iter().filter(|paragraph| !paragraph.is_empty()).count();
    // As in IFEval, empty paragraphs count for the place of the nth, though not for their number.
    let Some(paragraph) = nth.checked_sub(1).and_then(|index| all.get(index)).filter(|_| nth <= filled) else {
        return false;
    };
    let word = paragraph.split_whitespace().next().unwrap_or_default();
    let word = word.trim_start_matches('\'').trim_start_matches('"');
    let word = word.split(['.', ',', '?', '!', '\'', '"']).next().unwrap_or_default().to_lowercase();
    filled == paragraphs && !paragraph.is_empty() && word == first_word
}
