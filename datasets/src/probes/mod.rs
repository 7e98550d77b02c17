//! Questions that score any model: items of a few kinds, read from JSON Lines, one item a line.
//!
//! The kinds and their scores follow lm-evaluation-harness (Gao et al., <https://doi.org/10.5281/zenodo.5371628>). Here
//! is what is asked and what is right; the trainer does the asking.

pub mod instructions;
mod read;
mod squad;

use serde::{Deserialize, Serialize};

use crate::conversation::Origin;

pub use read::{parse_items, read_items};
pub use squad::{exact_match, f1};

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeItem {
    /// Its name, unique in its file.
    pub id: String,
    /// The task that it belongs to, such as `hellaswag`.
    pub task: String,
    /// The language, by its ISO 639-1 code, where the file tells.
    pub lang: Option<String>,
    /// What is asked.
    pub question: Question,
    /// Where it was read.
    pub origin: Origin,
}

/// What is asked, by how the model is made to answer: lm-evaluation-harness's `output_type`.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
    /// By what the model finds probable.
    LogLikelihood(LogLikelihood),
    /// By what it writes.
    Generation(Generation),
}

/// The kinds that are answered by log-likelihoods, by the `kind` of their records.
#[derive(Clone, Debug, PartialEq)]
pub enum LogLikelihood {
    /// `mc`: which choice is the most probable after the query. Choices follow it after a space.
    MultipleChoice {
        /// What comes before.
        query: String,
        /// At least two.
        choices: Vec<String>,
        /// The right one, as an index.
        gold: usize,
    },
    /// `partial`: after which context is the continuation the most probable.
    Partial {
        /// At least two.
        contexts: Vec<String>,
        /// Follows each after a space.
        continuation: String,
        /// The right context, as an index.
        gold: usize,
    },
    /// `pair`: which of two sentences is the more probable.
    Pair {
        /// The right one.
        good: String,
        /// The wrong one.
        bad: String,
    },
    /// `cloze`: whether the target is what the model would write next.
    Cloze {
        /// What comes before.
        context: String,
        /// Follows after a space.
        target: String,
    },
    /// `ppl`: a text whose bits per byte are measured.
    Text {
        /// The text.
        text: String,
    },
}

/// An answer that is written, then checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// What is asked, as a user's turn where the model has a chat template.
    pub prompt: String,
    /// What must hold of the answer.
    pub check: Check,
}

/// How a written answer is checked, by the `kind` of the records.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// `gen`: against accepted answers.
    Answers {
        /// At least one.
        answers: Vec<String>,
        /// How they are compared.
        compare: Compare,
    },
    /// `ifeval`: against instructions, all of which must be followed.
    Instructions(Vec<instructions::Instruction>),
}

impl Question {
    /// The text whose bits per byte are measured, of a question that is one.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::LogLikelihood(LogLikelihood::Text { text }) => Some(text),
            _ => None,
        }
    }
}

impl From<LogLikelihood> for Question {
    fn from(question: LogLikelihood) -> Self {
        Self::LogLikelihood(question)
    }
}

impl From<Generation> for Question {
    fn from(question: Generation) -> Self {
        Self::Generation(question)
    }
}

/// How a generated answer is compared with the accepted ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compare {
    /// The last number in the answer is the accepted one.
    #[default]
    Number,
    /// The same after normalising, as SQuAD does.
    ExactMatch,
    /// The F1 of the words, as SQuAD does.
    F1,
}
