//! Words and letters that must or must not be there, in either case.

/// How often a word is there, also inside of others.
pub(super) fn count(text: &str, word: &str) -> usize {
    text.to_lowercase().matches(&word.to_lowercase()).count()
}

/// How often a letter is there.
pub(super) fn count_letter(text: &str, letter: char) -> usize {
    text.to_lowercase().chars().filter(|found| *found == letter).count()
}

/// Whether a word is there by itself: no letter, digit or underscore follows one of its own, at either end.
pub(super) fn has_word(text: &str, word: &str) -> bool {
    let (text, word) = (text.to_lowercase(), word.to_lowercase());
    let joined = |left: Option<char>, right: Option<char>| left.is_some_and(in_word) && right.is_some_and(in_word);
    let mut from = 0;
    while let Some(found) = text[from..].find(&word) {
        let (start, end) = (from + found, from + found + word.len());
        let begins = !joined(text[..start].chars().next_back(), word.chars().next());
        let ends = !joined(word.chars().next_back(), text[end..].chars().next());
        if begins && ends {
            return true;
        }
        // The next may begin inside of this one.
        from = start + text[start..].chars().next().map_or(1, char::len_utf8);
    }
    false
}

/// Whether a character is part of a word: a letter, a digit or an underscore.
pub(super) fn in_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}
