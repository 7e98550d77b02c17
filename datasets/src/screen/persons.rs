//! The names of persons: runs of capitalised words, accepted for what stands in the lists of names or around them.
//!
//! A run is split into titles, known names and other words. It is a person when a title or a phrase such as "my name
//! is" introduces it, or when a known given name has another name beside it; a given name alone counts unless it is an
//! ordinary word too. A family name that was found once in a text is found again where it stands alone. Companies,
//! streets and places are left out by the words beside them.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

use super::context::pattern;
use super::names::{Known, NAMES, folded};
use super::{Finding, Kind};

/// Titles, folded. "M" needs its dot or a name after it.
const TITLES: &[&str] = &[
    "mr",
    "mrs",
    "ms",
    "miss",
    "mister",
    "dr",
    "doctor",
    "prof",
    "professor",
    "sir",
    "madam",
    "lady",
    "lord",
    "rev",
    "officer",
    "detective",
    "sergeant",
    "judge",
    "captain",
    "nurse",
    "m",
    "mm",
    "mme",
    "mmes",
    "mlle",
    "monsieur",
    "madame",
    "mademoiselle",
    "maitre",
    "me",
    "docteur",
    "professeur",
];

/// Small words inside names.
const PARTICLES: &[&str] = &[
    "de", "du", "des", "la", "le", "les", "d", "van", "von", "der", "den", "ter", "di", "da", "do", "dos", "das",
    "del", "della", "al", "el", "bin", "ben", "ibn", "y", "zu",
];

/// Words behind a name that make it a company, a place or a street, folded.
const NOT_AFTER: &[&str] = &[
    "sa",
    "sas",
    "sarl",
    "sasu",
    "eurl",
    "snc",
    "inc",
    "ltd",
    "llc",
    "llp",
    "plc",
    "corp",
    "corporation",
    "company",
    "co",
    "group",
    "groupe",
    "gmbh",
    "ag",
    "bv",
    "nv",
    "oy",
    "ab",
    "bank",
    "banque",
    "university",
    "universite",
    "hospital",
    "school",
    "college",
    "institute",
    "foundation",
    "association",
    "associates",
    "partners",
    "holdings",
    "industries",
    "technologies",
    "solutions",
    "systems",
    "street",
    "st",
    "road",
    "rd",
    "avenue",
    "ave",
    "drive",
    "lane",
    "boulevard",
    "square",
    "park",
    "bridge",
    "airport",
    "county",
    "river",
    "lake",
    "beach",
    "island",
    "islands",
    "stadium",
    "church",
    "cathedral",
    "museum",
    "award",
    "prize",
    "fils",
    "freres",
    "cie",
];

/// Words before a name that make it a company, a place or a street, folded.
const NOT_BEFORE: &[&str] = &[
    "societe",
    "entreprise",
    "company",
    "cabinet",
    "groupe",
    "group",
    "firm",
    "rue",
    "avenue",
    "boulevard",
    "chemin",
    "place",
    "allee",
    "impasse",
    "quai",
    "cours",
    "square",
    "lycee",
    "college",
    "ecole",
    "school",
    "university",
    "universite",
    "hopital",
    "hospital",
    "gare",
    "pont",
    "saint",
    "sainte",
    "st",
    "ste",
    "mount",
    "lake",
    "port",
    "fort",
    "san",
    "santa",
    "sao",
];

/// Words that never begin a name.
const NEVER_FIRST: &[&str] = &[
    "the", "this", "that", "these", "those", "with", "when", "what", "where", "who", "why", "how", "your", "from",
    "they", "some", "even", "many", "just", "then", "will", "can", "any", "all", "see", "let", "for", "and", "but",
    "our", "over", "under", "like", "unlike", "call", "dear", "une", "des", "les", "mon", "son", "ses", "nos", "vos",
    "leur", "cette", "ces", "pour", "par", "avec", "sans", "dans", "sur", "sous", "selon", "depuis", "bot",
];

/// Words before a lone name that make it a place more likely.
const PLACE_BEFORE: &[&str] = &["in", "at", "near", "en", "vers", "depuis", "the"];

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

/// Whether a word is a title, such as "Mme".
pub(super) fn is_title_word(word: &str) -> bool {
    TITLES.contains(&folded(word).as_ref())
}

/// Whether a word is a small one inside names, such as "de".
pub(super) fn is_particle(word: &str) -> bool {
    PARTICLES.contains(&folded(word).as_ref())
}

/// Whether a folded name means something else beside a name, so that it is no good alias.
pub(super) fn is_reserved(name: &str) -> bool {
    [TITLES, PARTICLES, NOT_AFTER, NOT_BEFORE, NEVER_FIRST, PLACE_BEFORE].iter().any(|list| list.contains(&name))
}

/// A word of the text.
struct Word<'a> {
    range: Range<usize>,
    text: &'a str,
    /// It begins with a capital letter.
    capital: bool,
    /// It is a single capital letter.
    initial: bool,
    known: Known,
    folded: String,
}

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

/// Splits a text into words. An elided article ("l'", "d'") is a word of its own, and an English "'s" is left out.
fn words(text: &str) -> Vec<Word<'_>> {
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

/// The end of the run of capitalised words, initials and particles that begins at `i`.
fn run(text: &str, words: &[Word<'_>], i: usize) -> usize {
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

fn is_title(text: &str, words: &[Word<'_>], i: usize) -> bool {
    let word = &words[i];
    TITLES.contains(&word.folded.as_str())
        // "Me" and "M" are titles before a name only: "M. Petit", "Me Petit".
        // "Ján M. Novák" has an initial there.
        && (word.folded != "m" || i == 0 || !words[i - 1].capital || !text[words[i - 1].range.end..word.range.start].trim().is_empty())
        && (!matches!(word.folded.as_str(), "m" | "me" | "lady" | "lord")
            || text[word.range.end..].starts_with('.')
            || words.get(i + 1).is_some_and(|next| next.known.family && !next.known.word))
}

/// Finds the person in the run of the words from `i` to `end`.
fn person(text: &str, words: &[Word<'_>], i: usize, end: usize, found: &mut Vec<Finding>) {
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

/// Whether the words stand inside a sentence, where a capital means something, or are a line of their own.
fn stands_apart(text: &str, words: &[Word<'_>], begin: usize, last: usize) -> bool {
    let before = text[..words[begin].range.start].trim_end_matches([' ', '>', '?', '*', '\t']);
    let begins_line = before.is_empty() || before.ends_with('\n');
    let ends_line = matches!(text[words[last - 1].range.end..].chars().next(), None | Some('\n' | '\r' | ','));
    if begins_line { ends_line } else { before.ends_with(|c: char| c.is_lowercase() || c == ',') }
}

/// What stands around words that may be a name.
struct Around<'a> {
    /// They begin their run.
    first: bool,
    introduced: Introduced,
    /// The word before their run.
    previous: Option<&'a Word<'a>>,
    /// Their capitals mean something.
    apart: bool,
}

/// How a run is introduced.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Introduced {
    Not,
    Weakly,
    Strongly,
}

fn introduction(before: &str) -> Introduced {
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

/// Whether the run stands in the name of a street: "rue de la République".
fn previous_street(words: &[Word<'_>], i: usize) -> bool {
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
