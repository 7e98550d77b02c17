//! Which filters are asked, and their bounds.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::near_duplicates::DedupConfig;
use crate::probes::instructions::known_language;

/// Which filters are asked, and their bounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is the switch of one filter")]
pub struct FilterConfig {
    /// Whether the turns must be in order (an optional system message, then the user and the assistant in turn, the
    /// assistant last) and none empty.
    pub format: bool,
    /// The bounds of all that the user says, in characters; null for none.
    pub prompt_characters: Option<Bounds>,
    /// The bounds of all that the assistant says, in characters; null for none.
    pub answer_characters: Option<Bounds>,
    /// The bounds of all messages together, in tokens of the model, without those of its template; null for none.
    pub tokens: Option<Bounds>,
    /// The languages that may be spoken, by their ISO 639-1 codes; empty for all. Text whose language cannot be told, such
    /// as a name or a number, is accepted.
    pub languages: Vec<String>,
    /// Whether the answer of an extractive sample must stand in its passage.
    pub grounding: bool,
    /// Whether answers that refuse are rejected, by lists of English and French phrases.
    pub refusals: bool,
    /// Whether insults and threats are rejected, by lists of English and French phrases.
    pub toxicity: bool,
    /// How much an answer may repeat itself; null for as much as it likes.
    pub repetition: Option<RepetitionConfig>,
    /// Which samples are near-duplicates, of which only the first stays; null keeps all.
    pub near_duplicates: Option<DedupConfig>,
}

/// A range of lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The shortest accepted.
    #[serde(default)]
    pub min: usize,
    /// The longest accepted; null for any.
    #[serde(default)]
    pub max: Option<usize>,
}

/// How much an answer may repeat itself.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RepetitionConfig {
    /// The words of the runs that are counted, at least 1.
    pub size: usize,
    /// The largest accepted share of runs that stood before in the answer, in [0, 1]. Answers of fewer than 20 runs are
    /// not judged by it.
    pub most: f64,
    /// How often the same words may come in a row, at least 2.
    pub in_a_row: usize,
}

impl Default for FilterConfig {
    fn default() -> Self {
        Self {
            format: true,
            prompt_characters: None,
            answer_characters: Some(Bounds { min: 1, max: None }),
            tokens: None,
            languages: Vec::new(),
            grounding: true,
            refusals: true,
            toxicity: true,
            repetition: Some(RepetitionConfig::default()),
            near_duplicates: Some(DedupConfig::default()),
        }
    }
}

impl Default for RepetitionConfig {
    fn default() -> Self {
        Self { size: 4, most: 0.5, in_a_row: 4 }
    }
}

impl Bounds {
    pub(super) fn hold(self, length: usize) -> bool {
        length >= self.min && self.max.is_none_or(|max| length <= max)
    }

    pub(super) fn in_words(self) -> String {
        match (self.min, self.max) {
            (0, Some(max)) => format!("at most {max}"),
            (min, None) => format!("at least {min}"),
            (min, Some(max)) => format!("{min} to {max}"),
        }
    }
}

impl FilterConfig {
    /// Checks the ranges; `key` is where the configuration stands, for example `filters`.
    ///
    /// # Errors
    /// [`DataError::Config`] with the key, the value got and what was expected.
    pub fn validate(&self, key: &str) -> Result<(), DataError> {
        let refused = |name: &str, got: String, expected: &str| {
            Err(DataError::Config { key: format!("{key}.{name}"), got, expected: expected.to_owned() })
        };
        let bounds = [
            ("prompt_characters", self.prompt_characters),
            ("answer_characters", self.answer_characters),
            ("tokens", self.tokens),
        ];
        for (name, bounds) in bounds {
            if let Some(Bounds { min, max: Some(max) }) = bounds
                && min > max
            {
                return refused(name, format!("from {min} to {max}"), "a min that is at most the max");
            }
        }
        for (i, code) in self.languages.iter().enumerate() {
            if known_language(code).is_none_or(|known| known != code) {
                let expected = "the ISO 639-1 code of a language that can be told, such as fr or en";
                return refused(&format!("languages[{i}]"), format!("{code:?}"), expected);
            }
        }
        if let Some(RepetitionConfig { size, most, in_a_row }) = self.repetition {
            if size == 0 {
                return refused("repetition.size", "0".to_owned(), "at least 1");
            }
            if !(0.0..=1.0).contains(&most) {
                return refused("repetition.most", most.to_string(), "a number from 0 to 1");
            }
            if in_a_row < 2 {
                return refused("repetition.in_a_row", in_a_row.to_string(), "at least 2");
            }
        }
        self.near_duplicates.map_or(Ok(()), |config| config.validate(&format!("{key}.near_duplicates")))
    }
}
