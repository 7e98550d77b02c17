//! Whether a run of capitalised words is a person, and which of its words are the name.

use super::around::{Around, Introduced, introduction, previous_street, stands_apart};
use super::lists::{NEVER_FIRST, NOT_AFTER, NOT_BEFORE, PLACE_BEFORE};
use super::push;
use super::words::{Word, is_title};
use crate::screen::Finding;

/// Finds the person in the run of the words from `i` to `end`.
pub(super) fn person(text: &str, words: &[Word<'_>], i: usize, end: usize, found: &mut Vec<Finding>) {
    let after = words.get(end).filter(|next| text[words[end - 1].range.end..next.range.start].trim().is_empty());
    let ends_as_company = NOT_AFTER.contains(&words[end - 1].folded.as_str())
        || text[words[end - 1].range.end..].starts_with(" & ")
        || after.is_some_and(|next| {
            NOT_AFTER.contains(&next.folded.as_str())
                && !matches!(next.folded.as_str(), "st" | "co" | "ab" | "ag" | "sa" | "park")
        })
        || (after.is_some_and(|next| next.folded == "et")
            && words.get(end + 1).is_some_and(|next| NOT_AFTER.contains(&next.folded.as_str())));
    // The last title of the run: what stands before it belongs to something else.
    let title = (i..end).rev().find(|at| is_title(text, words, *at) && at + 1 < end);
    if let Some(title) = title {
        let mut begin = title;
        while begin > i && is_title(text, words, begin - 1) {
            begin -= 1;
        }
        let last = last_name(words, title + 1, end);
        if last > title + 1 && !(last == title + 2 && words[title + 1].initial) {
            push(words, begin, last, found);
        }
        return;
    }
    if ends_as_company {
        return;
    }
    let before = &text[..words[i].range.start];
    let previous = i.checked_sub(1).map(|at| &words[at]).filter(|word| {
        let gap = &text[word.range.end..words[i].range.start];
        gap.len() <= 2 && (gap.trim().is_empty() || matches!(gap, "'" | "’"))
    });
    if previous.is_some_and(|word| NOT_BEFORE.contains(&word.folded.as_str())) || previous_street(words, i) {
        return;
    }
    let introduced = introduction(before);
    for begin in i..end {
        let word = &words[begin];
        let first = begin == i;
        if NOT_BEFORE.contains(&word.folded.as_str()) {
            return;
        }
        if first && introduced == Introduced::Strongly && !word.initial && !word.known.word {
            push(words, begin, last_name(words, begin, end), found);
            return;
        }
        let last = last_name(words, begin, end);
        if last <= begin {
            continue;
        }
        let apart = first && stands_apart(text, words, begin, last);
        let around = Around { first, introduced, previous: previous.filter(|_| first), apart };
        if accepted(words, begin, last, &around) {
            push(words, begin, last, found);
            return;
        }
    }
}

/// The end of the names from `begin` on: at most five words, no word that is ordinary and no name.
fn last_name(words: &[Word<'_>], begin: usize, end: usize) -> usize {
    let mut last = begin;
    for (at, word) in words.iter().enumerate().take(end.min(begin + 6)).skip(begin) {
        let ordinary =
            word.known.word && !(word.known.family || word.known.given) || NOT_AFTER.contains(&word.folded.as_str());
        if ordinary && word.capital {
            break;
        }
        if word.capital {
            last = at + 1;
        }
    }
    last
}

/// Whether the words are a name.
fn accepted(words: &[Word<'_>], begin: usize, last: usize, around: &Around<'_>) -> bool {
    let Around { first, introduced, previous, apart } = *around;
    let named: Vec<&Word<'_>> = words[begin..last].iter().filter(|word| word.capital).collect();
    let head = named[0];
    let full: Vec<&&Word<'_>> = named.iter().filter(|word| !word.initial).collect();
    if full.is_empty() {
        return false;
    }
    if NEVER_FIRST.contains(&head.folded.as_str()) || (head.known.word && head.folded.len() < 3) {
        return false;
    }
    // A heading in capitals.
    if named.len() > 3 && named.iter().all(|word| word.text.chars().all(|c| !c.is_lowercase())) {
        return false;
    }
    let introduced = first && introduced != Introduced::Not;
    if named.len() == 1 {
        let place = previous.is_some_and(|word| PLACE_BEFORE.contains(&word.folded.as_str()));
        let shouted = head.text.chars().count() < 5 && head.text.chars().all(char::is_uppercase);
        let is_name = head.known.given || (introduced && head.known.family);
        return is_name && !head.known.word && head.folded.len() >= 3 && !shouted && (!place || introduced);
    }
    let clear = full.iter().filter(|word| !word.known.word).count();
    let given = full.iter().any(|word| word.known.given);
    let family = full.iter().filter(|word| word.known.family).count();
    let has_initial = named.iter().any(|word| word.initial);
    // A given name at either end, with a name or an initial beside it.
    let head_given = head.known.given || (head.initial && full[0].known.family);
    let last_given = named[named.len() - 1].known.given && head.known.family;
    if head_given && clear >= 1 && (family + usize::from(given) >= 2 || has_initial || !head.known.word) {
        return true;
    }
    (last_given && clear >= 1)
        || (has_initial && !named[named.len() - 1].initial && (given || family > 0) && clear >= 1)
        || (has_initial && named.len() == 3 && named[1].initial && clear == 2)
        || (introduced && (given || family > 0) && clear >= 1)
        // A given name that is in no list, inside a sentence or alone on its line.
        || (full.len() == 2 && named.len() == 2 && clear == 2 && full[1].known.family && !full[1].known.given && apart)
        // Two family names that are nothing else, as in "Dupont Lefebvre".
        || (full.len() >= 2 && family == full.len() && clear == full.len() && first)
}
