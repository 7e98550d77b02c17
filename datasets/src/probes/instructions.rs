//! Instructions whose keeping a program can check.
//!
//! Source: Zhou et al. 2023, <https://arxiv.org/abs/2311.07911> (IFEval).

use serde_json::{Map, Value};

use crate::error::{InstructionError, closest, did_you_mean};
use crate::source::shorten;

/// The names of the instructions, as IFEval's `instruction_id_list` has them.
const IDS: [&str; 25] = [
    "change_case:capital_word_frequency",
    "change_case:english_capital",
    "change_case:english_lowercase",
    "combination:repeat_prompt",
    "combination:two_responses",
    "detectable_content:number_placeholders",
    "detectable_content:postscript",
    "detectable_format:constrained_response",
    "detectable_format:json_format",
    "detectable_format:multiple_sections",
    "detectable_format:number_bullet_lists",
    "detectable_format:number_highlighted_sections",
    "detectable_format:title",
    "keywords:existence",
    "keywords:forbidden_words",
    "keywords:frequency",
    "keywords:letter_frequency",
    "language:response_language",
    "length_constraints:nth_paragraph_first_word",
    "length_constraints:number_paragraphs",
    "length_constraints:number_sentences",
    "length_constraints:number_words",
    "punctuation:no_comma",
    "startend:end_checker",
    "startend:quotation",
];

/// One instruction with its arguments.
#[derive(Clone, Debug, PartialEq)]
pub struct Instruction {
    id: &'static str,
    kwargs: Map<String, Value>,
}

impl Instruction {
    /// The instruction named `id`, an entry of IFEval's `instruction_id_list`, with its entry of `kwargs`.
    ///
    /// # Errors
    /// When no instruction has this name.
    pub fn new(id: &str, kwargs: &Map<String, Value>) -> Result<Self, InstructionError> {
        match IDS.into_iter().find(|known| *known == id) {
            Some(id) => Ok(Self { id, kwargs: kwargs.clone() }),
            None => Err(InstructionError::Unknown { id: shorten(id), hint: did_you_mean(closest(id, IDS)) }),
        }
    }

    /// Its name, such as `punctuation:no_comma`.
    pub fn id(&self) -> &'static str {
        self.id
    }
}

impl Instruction {
    /// Placeholder.
    pub fn is_followed(&self, _: &str) -> bool {
        false
    }
}

/// Placeholder.
pub fn loose_variants(response: &str) -> Vec<String> {
    vec![response.to_owned()]
}

/// Placeholder.
pub fn language_of(_: &str) -> Option<&'static str> {
    None
}
