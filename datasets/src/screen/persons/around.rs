//! What stands around words that may be a name: an introduction, the beginning of a sentence, a street.

use std::sync::LazyLock;

use regex::Regex;

use super::lists::PARTICLES;
use super::words::Word;
use crate::screen::context::pattern;

/// What introduces a name.
static INTRODUCTION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?ix)(?: \bm['’]appelle | \bs['’]appelle | \b(?:my|his|her|last|first|full|middle|maiden|sur)[\ -]?(?:\w+\ )?name(?:\ is|\ was|\ ?:)
          | \b(?:contact|patient|customer|client|employee|user)?\ ?names?\ ?: | \bnom(?:\ et\ prénoms?|\ de\ famille|\ de\ naissance)?\ ?: | \bprénoms?\ ?:
          | \bau\ nom\ de | \bnommée?s?\ | \bnamed | \bsoussignée?(?:\(e\))? | \bje\ suis | \bi['’]m | \bi\ am | \bthis\ is | \bdear | \bch[eè]re?
          | \bsigné\ ?: | \bsigned(?:\ by)? | \bdélivrée?\ à | \battn\.?:? | \bbonjour | \bhello | \bhi | \bhey | \bsaid | \bsays | \btold | \basked | \bby:?
          | \bregards,\s | \bsincerely,\s | \bcordialement,\s )[\s:\ ]*$",
    )
});

/// Introductions that are enough for a word that is in no list.
static STRONG: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?ix)(?: m['’]appelle | s['’]appelle | \bname(?:\ is|\ was|\ ?:) | \bnom(?:\ et\ prénoms?|\ de\ famille|\ de\ naissance)?\ ?: | \bprénoms?\ ?:
          | soussignée?(?:\(e\))? | \bau\ nom\ de | délivrée?\ à | last\ name\? )[\s:\ ]*$",
    )
});

/// What stands around words that may be a name.
pub(super) struct Around<'a> {
    /// They begin their run.
    pub(super) first: bool,
    pub(super) introduced: Introduced,
    /// The word before their run.
    pub(super) previous: Option<&'a Word<'a>>,
    /// Their capitals mean something.
    pub(super) apart: bool,
}

/// How a run is introduced.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Introduced {
    Not,
    Weakly,
    Strongly,
}

/// How what stands before a run introduces it.
pub(super) fn introduction(before: &str) -> Introduced {
    let mut start = before.len().saturating_sub(40);
    while !before.is_char_boundary(start) {
        start += 1;
    }
    let before = &before[start..];
    if STRONG.is_match(before) {
        Introduced::Strongly
    } else if INTRODUCTION.is_match(before) {
        Introduced::Weakly
    } else {
        Introduced::Not
    }
}

/// Whether the words stand inside a sentence, where a capital means something, or are a line of their own.
pub(super) fn stands_apart(text: &str, words: &[Word<'_>], begin: usize, last: usize) -> bool {
    let before = text[..words[begin].range.start].trim_end_matches([' ', '>', '?', '*', '\t']);
    let begins_line = before.is_empty() || before.ends_with('\n');
    let ends_line = matches!(text[words[last - 1].range.end..].chars().next(), None | Some('\n' | '\r' | ','));
    if begins_line { ends_line } else { before.ends_with(|c: char| c.is_lowercase() || c == ',') }
}

/// Whether the run stands in the name of a street: "rue de la République".
pub(super) fn previous_street(words: &[Word<'_>], i: usize) -> bool {
    let mut at = i;
    while at > 0 && at + 4 > i {
        at -= 1;
        let folded = words[at].folded.as_str();
        if matches!(
            folded,
            "rue" | "avenue" | "boulevard" | "chemin" | "place" | "allee" | "impasse" | "quai" | "route" | "bd" | "av"
        ) {
            return true;
        }
        if !PARTICLES.contains(&folded) && folded != "l" {
            return false;
        }
    }
    false
}
