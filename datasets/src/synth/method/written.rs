//! What a teacher wrote, and how one line of it is read.

use std::sync::LazyLock;

use regex::Regex;

use crate::probes::{exact_match, f1};

/// A text that the teacher wrote, and the key of its answer.
pub(in crate::synth) struct Written {
    pub(in crate::synth) text: String,
    pub(in crate::synth) key: String,
}

impl Written {
    /// How far it says an answer: the F1 of the words, or 1 for the same text, as in `SQuAD`.
    pub(in crate::synth) fn agreement(&self, answer: &str) -> f64 {
        let (own, expected) = (self.text.trim(), [answer.to_owned()]);
        f1(own, &expected).max(exact_match(own, &expected))
    }

    /// The first line that says something, without a list's number, a label such as `Question :`, or quotation marks
    /// around it.
    pub(super) fn line(&self) -> &str {
        static LEAD: LazyLock<Regex> = LazyLock::new(|| {
            let label = "question|request|demande|instruction|réponse|answer|traduction|translation";
            Regex::new(&format!(
                r"(?i)^(?:[-*•]\s+|\(?\d+\s?[.)]\s*)?(?:\**(?:{label})[ \u{{a0}}]?(?:n?°?\s?\d+\s?)?:\**\s*)?"
            ))
            .expect("a sound pattern")
        });
        let line = self.text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
        let line = line[LEAD.find(line).map_or(0, |lead| lead.end())..].trim();
        let quoted = [('"', '"'), ('«', '»'), ('“', '”'), ('*', '*')].iter().find_map(|(open, close)| {
            let inside = line.strip_prefix(*open)?.strip_suffix(*close)?;
            (!inside.contains([*open, *close])).then_some(inside)
        });
        quoted.unwrap_or(line).trim_matches(|c: char| c.is_whitespace() || c == '*')
    }
}

/// The numbers in a text, in its order, without the marks that part thousands and decimals.
pub(in crate::synth) fn numbers(text: &str) -> Vec<String> {
    static NUMBER: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\d+(?:[.,\u{a0}\u{202f} ]\d+)*").expect("a sound pattern"));
    NUMBER.find_iter(text).map(|found| found.as_str().chars().filter(char::is_ascii_digit).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_without_what_stands_around_it() {
        for (text, expected) in [
            ("\n 1. « Quel est le délai ? »\nEncore.", "Quel est le délai ?"),
            ("Question : Où est-ce ?", "Où est-ce ?"),
            ("**Question 2:** Where is it?", "Where is it?"),
            ("\"Who?\"", "Who?"),
            ("1984 est-il un roman ?", "1984 est-il un roman ?"),
            ("Say \"yes\" or \"no\"", "Say \"yes\" or \"no\""),
            ("- un", "un"),
            ("", ""),
        ] {
            let written = Written { text: text.to_owned(), key: String::new() };
            assert_eq!(written.line(), expected, "{text}");
        }
    }

    #[test]
    fn numbers_are_the_same_in_every_notation() {
        assert_eq!(numbers("12 km, 3 500 € et 4,5 %"), numbers("12 km, 3,500 € and 4.5 %"));
        assert_ne!(numbers("12 km"), numbers("13 km"));
    }
}
