//! Questions that score any model: items of a few kinds, read from JSON Lines, one item a line.
//!
//! The kinds and their scores follow lm-evaluation-harness (Gao et al., <https://doi.org/10.5281/zenodo.5371628>). Here
//! is what is asked and what is right; the trainer does the asking.

pub mod instructions;
mod read;

use serde::{Deserialize, Serialize};

use crate::conversation::Origin;

pub use read::{parse_items, read_items};

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

/// The kinds of question, by the `kind` of their records.
#[derive(Clone, Debug, PartialEq)]
pub enum Question {
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
    /// `gen`: an answer that is generated and compared.
    Generation {
        /// What is asked, as a user's turn where the model has a chat template.
        prompt: String,
        /// The accepted answers, at least one.
        answers: Vec<String>,
        /// How they are compared.
        compare: Compare,
    },
    /// `ifeval`: an answer that is generated and checked against instructions.
    Instructions {
        /// What is asked.
        prompt: String,
        /// What must hold of the answer.
        instructions: Vec<instructions::Instruction>,
    },
    /// `ppl`: a text whose bits per byte are measured.
    Text {
        /// The text.
        text: String,
    },
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
