//! The names of persons: runs of capitalised words, accepted for what stands in the lists of names or around them.
//!
//! A run is split into titles, known names and other words. It is a person when a title or a phrase such as "my name
//! is" introduces it, or when a known given name has another name beside it; a given name alone counts unless it is an
//! ordinary word too. A family name that was found once in a text is found again where it stands alone. Companies,
//! streets and places are left out by the words beside them. `words` splits the text and finds its runs, `accept` says
//! which of them are persons.

mod accept;
mod around;
mod lists;
mod words;

use std::collections::HashSet;

use super::names::NAMES;
use super::{Finding, Kind};
use accept::person;
use around::{Introduced, introduction, previous_street};
use lists::TITLES;
use words::{Word, run, words};

pub(super) use lists::{is_particle, is_reserved, is_title_word};

/// Finds the names of persons.
pub(super) fn find(text: &str, found: &mut Vec<Finding>) {
    let words = words(text);
    let first = found.len();
    let mut i = 0;
    while i < words.len() {
        if !words[i].capital {
            in_small_letters(text, &words, i, found);
            i += 1;
            continue;
        }
        let end = run(text, &words, i);
        person(text, &words, i, end, found);
        i = end;
    }
    again(&words, first, found);
}

/// A given and a family name in small letters, neither of them a word: "patricia desrosiers".
fn in_small_letters(text: &str, words: &[Word<'_>], i: usize, found: &mut Vec<Finding>) {
    let Some(next) = words.get(i + 1) else { return };
    let word = &words[i];
    if next.capital
        || word.text.len() < 4
        || next.text.len() < 4
        || text.get(word.range.end..next.range.start) != Some(" ")
    {
        return;
    }
    let (first, second) = (NAMES.look_up(word.text), NAMES.look_up(next.text));
    if first.given
        && !first.word
        && second.family
        && !second.word
        && introduction(&text[..word.range.start]) != Introduced::Not
    {
        push(words, i, i + 2, found);
    }
}

fn push(words: &[Word<'_>], begin: usize, last: usize, found: &mut Vec<Finding>) {
    found.push(Finding { kind: Kind::Person, range: words[begin].range.start..words[last - 1].range.end });
}

/// Finds the names of persons that were found already where they stand alone.
fn again(words: &[Word<'_>], first: usize, found: &mut Vec<Finding>) {
    if found.len() == first {
        return;
    }
    // The findings of this pass are in the order of the text.
    let inside = |word: &Word<'_>, found: &[Finding]| {
        let after = found[first..].partition_point(|finding| finding.range.start <= word.range.start);
        after > 0 && word.range.end <= found[first + after - 1].range.end
    };
    let seen: HashSet<&str> = words
        .iter()
        .filter(|word| word.capital && !word.initial && !word.known.word && word.folded.len() >= 3)
        .filter(|word| !TITLES.contains(&word.folded.as_str()) && inside(word, found))
        .map(|word| word.folded.as_str())
        .collect();
    let more: Vec<_> = words
        .iter()
        .enumerate()
        .filter(|(i, word)| {
            word.capital && seen.contains(word.folded.as_str()) && !inside(word, found) && !previous_street(words, *i)
        })
        .map(|(_, word)| Finding { kind: Kind::Person, range: word.range.clone() })
        .collect();
    found.extend(more);
}
