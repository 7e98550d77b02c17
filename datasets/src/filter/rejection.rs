//! Why a sample is not learned from.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::grounding::shown;

/// The filters, in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// The turns are in order and none is empty.
    Format,
    /// The lengths in characters are within their bounds.
    Length,
    /// The answer of an extractive sample stands in its passage.
    Grounding,
    /// The answer is no refusal.
    Refusal,
    /// No phrase of the list of insults and threats is said.
    Toxicity,
    /// The answer does not repeat itself.
    Repetition,
    /// The languages are among those wanted.
    Language,
    /// No held-out question stands in the sample.
    Contamination,
    /// The length in tokens is within its bounds.
    Tokens,
    /// No earlier sample says almost the same.
    NearDuplicate,
}

impl Filter {
    /// All filters, in the order in which they are asked.
    pub const ALL: [Self; 10] = [
        Self::Format,
        Self::Length,
        Self::Grounding,
        Self::Refusal,
        Self::Toxicity,
        Self::Repetition,
        Self::Language,
        Self::Contamination,
        Self::Tokens,
        Self::NearDuplicate,
    ];

    /// The name that records and reports use, for example `near-duplicate`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Length => "length",
            Self::Grounding => "grounding",
            Self::Refusal => "refusal",
            Self::Toxicity => "toxicity",
            Self::Repetition => "repetition",
            Self::Language => "language",
            Self::Contamination => "contamination",
            Self::Tokens => "tokens",
            Self::NearDuplicate => "near-duplicate",
        }
    }
}

/// Why a sample is rejected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Rejection {
    /// There is no message.
    #[error("it has no message")]
    NoMessage,
    /// A message has no text.
    #[error("message {message} is empty")]
    Empty {
        /// The message, counted from 1.
        message: usize,
    },
    /// A message is not of the role whose turn it is.
    #[error("message {message} is of the {got}, expected the {expected}")]
    Turn {
        /// The message, counted from 1.
        message: usize,
        /// The role found.
        got: &'static str,
        /// The roles that may speak here.
        expected: &'static str,
    },
    /// The last message is not an answer.
    #[error("the last message is of the {got}, expected the assistant")]
    NoAnswer {
        /// The role found.
        got: &'static str,
    },
    /// A length is out of its bounds.
    #[error("the {what} has {got} {unit}, expected {expected}")]
    Length {
        /// `prompt`, `answer` or `sample`.
        what: &'static str,
        /// The length.
        got: usize,
        /// `characters` or `tokens`.
        unit: &'static str,
        /// The bounds, in words.
        expected: String,
    },
    /// An extractive answer does not stand in its passage.
    #[error("the answer \"{answer}\" does not stand in its passage")]
    NotGrounded {
        /// The beginning of the answer.
        answer: String,
    },
    /// The answer refuses.
    #[error("the answer refuses: \"{phrase}\"")]
    Refusal {
        /// The words that tell.
        phrase: String,
    },
    /// An insult or a threat.
    #[error("message {message} says \"{phrase}\"")]
    Toxicity {
        /// The message, counted from 1.
        message: usize,
        /// The words that tell.
        phrase: String,
    },
    /// The same words come again and again in a row.
    #[error("the answer says \"{words}\" {times} times in a row")]
    Loop {
        /// The words.
        words: String,
        /// How often.
        times: usize,
    },
    /// Too many runs of four words were said before.
    #[error("{:.0} % of the answer's runs of {size} words are repeated, expected at most {:.0} %", 100.0 * share, 100.0 * most)]
    Repetition {
        /// The words of a run.
        size: usize,
        /// The share of the runs that stood before.
        share: f64,
        /// The largest share accepted.
        most: f64,
    },
    /// A message is in another language.
    #[error("message {message} is in the language {got}, expected {expected}")]
    Language {
        /// The message, counted from 1.
        message: usize,
        /// The ISO 639-1 code found.
        got: &'static str,
        /// Those wanted.
        expected: String,
    },
    /// A held-out question stands in the sample.
    #[error("it holds the question {name}: \"{words}\"")]
    Contamination {
        /// The question's name or place.
        name: String,
        /// The words that they share, as the sample writes them.
        words: String,
    },
    /// An earlier sample says almost the same.
    #[error("it says almost the same as sample {}", of + 1)]
    NearDuplicate {
        /// The sample that stays, as an index.
        of: usize,
    },
}

impl Rejection {
    /// The filter that gives this reason.
    pub fn filter(&self) -> Filter {
        match self {
            Self::NoMessage | Self::Empty { .. } | Self::Turn { .. } | Self::NoAnswer { .. } => Filter::Format,
            Self::Length { unit: "tokens", .. } => Filter::Tokens,
            Self::Length { .. } => Filter::Length,
            Self::NotGrounded { .. } => Filter::Grounding,
            Self::Refusal { .. } => Filter::Refusal,
            Self::Toxicity { .. } => Filter::Toxicity,
            Self::Loop { .. } | Self::Repetition { .. } => Filter::Repetition,
            Self::Language { .. } => Filter::Language,
            Self::Contamination { .. } => Filter::Contamination,
            Self::NearDuplicate { .. } => Filter::NearDuplicate,
        }
    }

    pub(super) fn not_grounded(answer: &str) -> Self {
        Self::NotGrounded { answer: shown(answer, 80) }
    }
}
