//! Whether an extractive answer is a part of its passage, and where it stands.
//!
//! White space of any kind and length counts as one space, and typographic apostrophes as plain ones; all else must be
//! the same, case included. A part begins and ends where a word or number does: "42" does not stand in "1426".

/// A part of a passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroundedSpan {
    /// The text as the passage has it.
    pub text: String,
    /// Where it begins in the passage, in bytes.
    pub start: usize,
    /// Where it begins in the passage, in characters, as `answer_start` of `SQuAD`.
    pub answer_start: usize,
}

/// The first place where an answer stands in a passage; none where it does not, or is empty.
pub fn ground(answer: &str, passage: &str) -> Option<GroundedSpan> {
    let answer = Plain::new(answer.trim()).text;
    if answer.is_empty() {
        return None;
    }
    let plain = Plain::new(passage);
    let mut from = 0;
    while let Some(found) = plain.text[from..].find(&answer) {
        let (start, end) = (from + found, from + found + answer.len());
        if is_whole(&plain.text, start, end) {
            // The plain text ends at a character that the passage has too, so the place after it is known.
            let (first, last) = (plain.places[start], plain.places.get(end).copied().unwrap_or(passage.len()));
            let text = passage[first..last].trim_end().to_owned();
            let answer_start = passage[..first].chars().count();
            return Some(GroundedSpan { text, start: first, answer_start });
        }
        from = start + plain.text[start..].chars().next().map_or(1, char::len_utf8);
    }
    None
}

/// Whether no word and no number is cut at either end. Scripts without case do not set words apart, so that any place
/// will do there.
fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let cut = |at: usize| {
        let (before, after) = (text[..at].chars().next_back(), text[at..].chars().next());
        let cased = |character: char| character.is_lowercase() || character.is_uppercase();
        match (before, after) {
            (Some(before), Some(after)) => cased(before) && cased(after) || before.is_numeric() && after.is_numeric(),
            _ => false,
        }
    };
    !cut(start) && !cut(end)
}

/// A text with plain spaces and apostrophes.
struct Plain {
    text: String,
    /// For each byte of the text, where the character that it belongs to begins in the original.
    places: Vec<usize>,
}

impl Plain {
    fn new(original: &str) -> Self {
        let mut plain =
            Self { text: String::with_capacity(original.len()), places: Vec::with_capacity(original.len()) };
        let mut space = false;
        for (place, character) in original.char_indices() {
            let character = match character {
                '\u{2019}' | '\u{2018}' | '\u{02BC}' | '\u{2032}' => '\'',
                space if space.is_whitespace() => ' ',
                other => other,
            };
            if character == ' ' && space {
                continue;
            }
            space = character == ' ';
            plain.text.push(character);
            plain.places.resize(plain.text.len(), place);
        }
        plain
    }
}

/// The beginning of a text, for messages.
pub(super) fn shown(text: &str, characters: usize) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_place_is_given_back_in_bytes_and_in_characters() {
        let passage = "À l’été 1802,\u{a0}le   délai\nétait de « deux jours ».";
        let span = |answer| ground(answer, passage);
        let expected = GroundedSpan { text: "l’été 1802".to_owned(), start: 3, answer_start: 2 };
        assert_eq!(span("l'été 1802"), Some(expected));
        assert_eq!(span(" le délai était ").unwrap().text, "le   délai\nétait");
        assert_eq!(span("le délai").unwrap().answer_start, 14);
        assert_eq!(span("« deux jours ».").unwrap().text, "« deux jours ».");
        assert_eq!(span(passage).unwrap().text, passage);
        for absent in ["", "  ", "L'été 1802", "trois jours", "deux  jours demain", "18", "jour", "élai"] {
            assert_eq!(span(absent), None, "{absent:?}");
        }
    }

    #[test]
    fn words_and_numbers_are_not_cut() {
        let found = ground("42", "en 1426, et 42 en tout").unwrap();
        assert_eq!(found.start, 12);
        assert_eq!(ground("an", "la France"), None);
        assert_eq!(ground("assureur", "l'assureur").unwrap().start, 2);
        assert_eq!(ground("10", "10km").unwrap().start, 0);
        // Scripts that do not set words apart.
        assert_eq!(ground("防波堤", "灯塔矗立在防波堤的尽头").unwrap().answer_start, 5);
    }

    proptest! {
        /// What is accepted is a part of the passage and says the answer; what was cut out of a passage is found.
        #[test]
        fn an_accepted_answer_is_a_part_of_its_passage(
            passage in "([a-cé'’\u{a0} \n1.,]|\\PC){0,60}",
            answer in "[a-cé'’ 1]{0,6}",
            from in 0usize..60,
            length in 0usize..20,
        ) {
            let cut: String = passage.chars().skip(from).take(length).collect();
            for answer in [&answer, &cut, &cut.replace('’', "'").replace(' ', "\n ")] {
                if let Some(span) = ground(answer, &passage) {
                    prop_assert_eq!(&passage[span.start..span.start + span.text.len()], &span.text);
                    let by_characters: String =
                        passage.chars().skip(span.answer_start).take(span.text.chars().count()).collect();
                    prop_assert_eq!(&by_characters, &span.text);
                    prop_assert_eq!(Plain::new(span.text.trim()).text, Plain::new(answer.trim()).text);
                }
            }
            let plain = Plain::new(passage.trim()).text;
            if !plain.is_empty() {
                prop_assert!(ground(&plain, &passage).is_some());
            }
        }
    }
}
