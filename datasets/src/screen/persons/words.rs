//! The words of a text with what the lists of names say of each, and the runs that capitalised words make.

use std::ops::Range;

use super::lists::{PARTICLES, TITLES};
use crate::screen::names::{Known, NAMES, folded};

/// A word of the text.
pub(super) struct Word<'a> {
    pub(super) range: Range<usize>,
    pub(super) text: &'a str,
    /// It begins with a capital letter.
    pub(super) capital: bool,
    /// It is a single capital letter.
    pub(super) initial: bool,
    pub(super) known: Known,
    pub(super) folded: String,
}

/// Splits a text into words. An elided article ("l'", "d'") is a word of its own, and an English "'s" is left out.
pub(super) fn words(text: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut chars = text.char_indices().peekable();
    while let Some((start, c)) = chars.next() {
        if !c.is_alphabetic() {
            // A letter inside a number, a handle or a path begins no word.
            if c.is_ascii_digit() || matches!(c, '_' | '@') {
                while chars.next_if(|(_, c)| c.is_alphanumeric() || matches!(c, '_')).is_some() {}
            }
            continue;
        }
        let mut end = start + c.len_utf8();
        while let Some((at, c)) = chars.peek().copied() {
            let next = text[at + c.len_utf8()..].chars().next();
            let inside = matches!(c, '\'' | '’' | '-') && next.is_some_and(char::is_alphabetic);
            // "d'Alice" is two words, "O'Brien" is one.
            if matches!(c, '\'' | '’') && inside && text[start..at].chars().all(char::is_lowercase) {
                break;
            }
            if !(c.is_alphanumeric() || inside || ('\u{300}'..='\u{36f}').contains(&c)) {
                break;
            }
            end = at + c.len_utf8();
            chars.next();
        }
        let mut word = &text[start..end];
        for suffix in ["'s", "’s"] {
            word = word.strip_suffix(suffix).unwrap_or(word);
        }
        let capital = c.is_uppercase() && !word.bytes().any(|byte| byte.is_ascii_digit());
        let initial = capital && word.chars().count() == 1;
        // "I" and "A" are words, unless a dot makes them initials.
        let capital = capital && (!matches!(word, "I" | "A") || text[start + word.len()..].starts_with('.'));
        let initial = initial && capital;
        let known = if capital && !initial { NAMES.look_up(word) } else { Known::default() };
        let folded = folded(word).into_owned();
        words.push(Word { range: start..start + word.len(), text: word, capital, initial, known, folded });
    }
    words
}

/// The end of the run of capitalised words, initials and particles that begins at `i`.
pub(super) fn run(text: &str, words: &[Word<'_>], i: usize) -> usize {
    let joined = |left: usize, right: usize| {
        let dotted = words[left].initial || TITLES.contains(&words[left].folded.as_str());
        let gap = &text[words[left].range.end..words[right].range.start];
        gap == " "
            || gap == "\u{a0}"
            || (dotted && matches!(gap, ". " | "." | ".\u{a0}"))
            || (matches!(gap, "'" | "’") && words[left].folded == "d")
    };
    let mut end = i + 1;
    while end < words.len() {
        let mut next = end;
        while next < words.len()
            && next < end + 3
            && joined(next - 1, next)
            && !words[next].capital
            && PARTICLES.contains(&words[next].folded.as_str())
        {
            next += 1;
        }
        if next < words.len() && words[next].capital && joined(next - 1, next) {
            end = next + 1;
        } else {
            break;
        }
    }
    end
}

/// Whether the word at `i` is a title here.
pub(super) fn is_title(text: &str, words: &[Word<'_>], i: usize) -> bool {
    let word = &words[i];
    TITLES.contains(&word.folded.as_str())
        // "Me" and "M" are titles before a name only: "M. Petit", "Me Petit".
        // "Ján M. Novák" has an initial there.
        && (word.folded != "m" || i == 0 || !words[i - 1].capital || !text[words[i - 1].range.end..word.range.start].trim().is_empty())
        && (!matches!(word.folded.as_str(), "m" | "me" | "lady" | "lord")
            || text[word.range.end..].starts_with('.')
            || words.get(i + 1).is_some_and(|next| next.known.family && !next.known.word))
}
