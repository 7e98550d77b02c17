//! How many sentences a text has, by the rules of Punkt, with which IFEval counts.
//!
//! A `.`, `?` or `!` ends a sentence when white space and more text follow, or a quotation mark or bracket. A full stop
//! does not when it belongs to an abbreviation, an initial, a number before a small letter, or an ellipsis, unless the
//! next word tells that a sentence begins. Punkt learns abbreviations and the words that begin sentences from newspapers;
//! here both are short lists, so counts may differ where a rare word stands beside an abbreviation or an initial.
//!
//! Source: Kiss and Strunk 2006, <https://doi.org/10.1162/coli.2006.32.4.485>, sections 3 and 4.

use std::sync::LazyLock;

use regex::Regex;

/// Abbreviations without their last full stop, of those that Punkt's English model knows: e.g. and i.e. are not.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "gen", "col", "maj", "lt", "sen", "rep", "st", "ave", "ft", "jr", "sr", "inc",
    "ltd", "co", "corp", "bros", "vs", "v", "jan", "feb", "aug", "sept", "sep", "oct", "nov", "dec", "u.s", "u.k",
    "u.n", "u.s.a", "d.c", "n.y", "a.m", "p.m", "ph.d",
];

/// Words whose capital letter tells that a sentence begins, also after an abbreviation.
const STARTERS: &[&str] = &[
    "although",
    "both",
    "but",
    "despite",
    "even",
    "finally",
    "he",
    "her",
    "here",
    "however",
    "i",
    "if",
    "in",
    "indeed",
    "instead",
    "it",
    "many",
    "meanwhile",
    "moreover",
    "most",
    "nevertheless",
    "nor",
    "since",
    "so",
    "some",
    "still",
    "such",
    "the",
    "there",
    "these",
    "they",
    "this",
    "though",
    "through",
    "thus",
    "under",
    "very",
    "when",
    "which",
    "while",
    "without",
    "yes",
    "yet",
    "your",
];

/// Other words that are written small inside of a sentence, so that an initial does not stand before them.
const SMALL_WORDS: &[&str] = &[
    "a", "about", "after", "all", "also", "an", "and", "another", "any", "as", "at", "because", "before", "by",
    "during", "each", "every", "first", "for", "from", "his", "how", "its", "just", "maybe", "my", "no", "not", "now",
    "of", "on", "once", "one", "only", "or", "other", "our", "over", "perhaps", "she", "that", "their", "then",
    "those", "to", "too", "until", "was", "we", "well", "what", "where", "who", "why", "will", "with", "you",
];

/// How many sentences there are, at least one.
pub(super) fn count(text: &str) -> usize {
    static END: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r#"[.?!][)";}\]*:@'({\[?!\s]"#).expect("a valid expression"));
    // After a break, marks that close the sentence belong to it, and the rest may be nothing.
    const CLOSING: [char; 5] = ['"', '\'', ')', ']', '}'];
    let text = text.trim_end();
    let mut breaks = 0;
    let mut from = 0;
    while let Some(end) = END.find_at(text, from) {
        from = end.start() + 1;
        let (before, after) = (&text[..from], &text[from..]);
        // Of several ends in one word, the last one tells.
        let word_end = after.find(char::is_whitespace).unwrap_or(after.len());
        if END.find_at(text, from).is_some_and(|next| next.start() < from + word_end) {
            continue;
        }
        let rest = after.trim_start_matches(CLOSING).trim_start();
        let word = before.split(char::is_whitespace).next_back().unwrap_or_default();
        if !rest.is_empty() && ends_sentence(word, after) {
            breaks += 1;
        }
    }
    breaks + 1
}

/// Whether a sentence ends with `word`, whose last character is a `.`, `?` or `!`, before `after`.
fn ends_sentence(word: &str, after: &str) -> bool {
    const INSIDE: [char; 17] = ['(', ')', '"', '`', '{', '}', '[', ']', ':', ';', '&', '#', '*', '@', '\'', '?', '!'];
    let Some(stem) = word.strip_suffix('.') else {
        return true;
    };
    let is_ellipsis = stem.ends_with('.');
    let stem = stem.rsplit(INSIDE).next().unwrap_or_default().trim_start_matches([',', '-']).to_lowercase();
    let next: String = after.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
    let is_apart = after.starts_with(char::is_whitespace);
    let capital = is_apart && next.starts_with(char::is_uppercase);
    let small = is_apart && next.starts_with(char::is_lowercase);
    let next = next.to_lowercase();
    let starter = capital && STARTERS.contains(&next.as_str());
    let name = capital && !starter && !SMALL_WORDS.contains(&next.as_str());
    let abbreviation = stem.rsplit('-').next().unwrap_or_default();
    if is_ellipsis || ABBREVIATIONS.contains(&stem.as_str()) || ABBREVIATIONS.contains(&abbreviation) {
        return starter;
    }
    let mut letters = stem.chars();
    let is_initial = letters.next().is_some_and(char::is_alphabetic) && letters.next().is_none();
    let is_number = stem.starts_with(|c: char| c.is_ascii_digit() || c == '-')
        && stem.chars().all(|c| c.is_ascii_digit() || ",.-".contains(c));
    match (is_initial, is_number) {
        (true, _) => !small && !name,
        (_, true) => !small,
        _ => true,
    }
}
