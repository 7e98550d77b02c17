//! Upper and lower case: whole responses, and words in capitals.

/// Whether there is a capital letter and no small one.
pub(super) fn is_upper(text: &str) -> bool {
    text.chars().any(char::is_uppercase) && !text.chars().any(char::is_lowercase)
}

/// Whether there is a small letter and no capital one.
pub(super) fn is_lower(text: &str) -> bool {
    text.chars().any(char::is_lowercase) && !text.chars().any(char::is_uppercase)
}

/// How many words are in capitals. Words are those of the Penn Treebank, in which DON'T is two: DO and N'T.
pub(super) fn capital_words(text: &str) -> usize {
    text.split_whitespace().flat_map(split_at_marks).map(capital_pieces).sum()
}

/// Splits at brackets, quotes and the other marks that are words of their own; at `--` and `..`; and at a comma or
/// colon, unless a digit follows.
fn split_at_marks(chunk: &str) -> Vec<&str> {
    const MARKS: &str = ";@#$%&?!*()[]{}<>\"`«»“”‘’„";
    let (mut pieces, mut start) = (Vec::new(), 0);
    for (at, mark) in chunk.char_indices() {
        let after = &chunk[at + mark.len_utf8()..];
        let splits = match mark {
            ',' | ':' => !after.starts_with(|next: char| next.is_ascii_digit()),
            '-' | '.' => after.starts_with(mark),
            _ => MARKS.contains(mark),
        };
        if splits {
            pieces.push(&chunk[start..at]);
            start = at + mark.len_utf8();
        }
    }
    pieces.push(&chunk[start..]);
    pieces
}

/// How many pieces of a word are in capitals; a clitic at its end is a piece of its own, so I'm has one.
fn capital_pieces(word: &str) -> usize {
    const CLITICS: [&str; 7] = ["'S", "'M", "'D", "'LL", "'RE", "'VE", "N'T"];
    let word = word.trim_end_matches(['\'', '.', ',']);
    let cut = |clitic: &str| {
        word.len().checked_sub(clitic.len()).filter(|at| *at > 0).and_then(|at| word.split_at_checked(at))
    };
    let cut = CLITICS.into_iter().find_map(|clitic| cut(clitic).filter(|(_, end)| end.eq_ignore_ascii_case(clitic)));
    let (stem, end) = cut.unwrap_or((word, ""));
    usize::from(is_upper(stem)) + usize::from(is_upper(end))
}
