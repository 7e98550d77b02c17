//! The steps of a recipe: one method each.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::SourceConfig;
use crate::synth::template::config::TemplateConfig;

/// One step: the name of its method, and how it is done. Steps that begin with samples take those of the steps before
/// them, and the seeds where there are none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepConfig {
    /// Questions and answers about the documents.
    Grounded(GroundedConfig),
    /// New instructions after the example of the seeds, and their answers.
    SelfInstruct(SelfInstructConfig),
    /// Samples made harder, or wider.
    Evolve(EvolveConfig),
    /// Instructions that the teacher makes up from the beginning of its own template.
    Magpie(MagpieConfig),
    /// The same questions in other words or another style.
    Paraphrase(ParaphraseConfig),
    /// Samples in another language.
    Translate(TranslateConfig),
    /// Instructions that given persons would write.
    Personas(PersonasConfig),
    /// The teacher's own answers to given prompts.
    SelfReplay(SelfReplayConfig),
    /// Documents made from a schema and layouts, and questions about them; nobody is asked.
    Template(TemplateConfig),
}

impl StepConfig {
    /// Whether a teacher is asked.
    pub fn asks(&self) -> bool {
        !matches!(self, Self::Template(_))
    }

    /// The name used in recipes.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Grounded(_) => "grounded",
            Self::SelfInstruct(_) => "self_instruct",
            Self::Evolve(_) => "evolve",
            Self::Magpie(_) => "magpie",
            Self::Paraphrase(_) => "paraphrase",
            Self::Translate(_) => "translate",
            Self::Personas(_) => "personas",
            Self::SelfReplay(_) => "self_replay",
            Self::Template(_) => "template",
        }
    }
}

/// Questions about passages of the documents, whose answers are spans of them.
///
/// An answer is chosen first and a question asked for it (Alberti et al. 2019, <https://arxiv.org/abs/1906.05416>; Lewis et
/// al. 2021, <https://arxiv.org/abs/2102.07033>), so that a small teacher cannot invent one; the question is kept where the
/// teacher, asked it, finds the answer again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GroundedConfig {
    /// Questions to each passage, at least 1.
    pub per_passage: usize,
    /// The most tokens of a passage, at least 16.
    pub passage_tokens: usize,
    /// The most passages, drawn from all documents; null for all.
    pub passages: Option<usize>,
    /// The share of questions that are put to another document's passage, where they have no answer, 0 to below 1.
    pub unanswerable: f64,
    /// What the answer to those is; null takes the program's own words in the document's language.
    pub no_answer: Option<String>,
    /// The least F1 between the answer and what the teacher finds when it is asked, 0 to 1; null leaves the check out.
    pub roundtrip: Option<f64>,
    /// The user's turn, with `{context}` and `{question}`.
    pub prompt: String,
    /// 0 takes the most probable token.
    pub temperature: f64,
}

impl Default for GroundedConfig {
    fn default() -> Self {
        Self {
            per_passage: 2,
            passage_tokens: 200,
            passages: None,
            unanswerable: 0.0,
            no_answer: None,
            roundtrip: None,
            prompt: "{context}\n\nQuestion: {question}".to_owned(),
            temperature: 0.3,
        }
    }
}

/// New instructions after the example of the seeds and of earlier ones, each different from all before it by ROUGE-L.
///
/// Source: Wang et al. 2023 (Self-Instruct), <https://arxiv.org/abs/2212.10560>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfInstructConfig {
    /// Instructions wanted, at least 1; at most three times as many are asked for.
    pub count: usize,
    /// Examples shown, at least 1: three quarters of them seeds, the others made before.
    pub examples: usize,
    /// The greatest ROUGE-L F1 with any instruction before it, 0 to 1.
    pub most_alike: f64,
    /// Their language, by its ISO 639-1 code.
    pub lang: String,
    /// 0 to 5.
    pub temperature: f64,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

impl Default for SelfInstructConfig {
    fn default() -> Self {
        let lang = "en".to_owned();
        Self { count: 100, examples: 8, most_alike: 0.7, lang, temperature: 0.8, max_tokens: 512 }
    }
}

/// Instructions rewritten to be harder (another constraint, more depth, something concrete in place of something general,
/// several steps of reasoning), or to ask something else of the same field. Samples that rest on a passage are left alone.
///
/// Source: Xu et al. 2023 (`WizardLM`), <https://arxiv.org/abs/2304.12244>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvolveConfig {
    /// Rounds, each on what the round before made, 1 to 10.
    pub rounds: usize,
    /// The share that becomes something else of the same field and not harder, 0 to 1.
    pub wider: f64,
    /// 0 to 5.
    pub temperature: f64,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

impl Default for EvolveConfig {
    fn default() -> Self {
        Self { rounds: 1, wider: 0.2, temperature: 0.7, max_tokens: 512 }
    }
}

/// Instructions that a model writes when it is given nothing but what its template puts before a user's turn.
///
/// Source: Xu et al. 2024 (Magpie), <https://arxiv.org/abs/2406.08464>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MagpieConfig {
    /// Instructions asked for, at least 1.
    pub count: usize,
    /// What stands before the user's turn, such as `<|im_start|>user` and an end of line; null takes it from the template
    /// of a local teacher.
    pub prefix: Option<String>,
    /// What ends the user's turn, beside the end of the text, such as `<|im_end|>`.
    pub stop: Vec<String>,
    /// 0 to 5.
    pub temperature: f64,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

impl Default for MagpieConfig {
    fn default() -> Self {
        let stop = vec!["<|im_end|>".to_owned(), "<end_of_turn>".to_owned()];
        Self { count: 100, prefix: None, stop, temperature: 1.0, max_tokens: 512 }
    }
}

/// The last question of a sample in other words, with the same answer.
///
/// Source: Yu et al. 2023 (`MetaMath`, rephrasing), <https://arxiv.org/abs/2309.12284>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ParaphraseConfig {
    /// Ways of speaking, one drawn for each sample, such as `formal`; empty for none in particular.
    pub styles: Vec<String>,
    /// Other questions to each sample, at least 1.
    pub per_sample: usize,
    /// 0 to 5.
    pub temperature: f64,
}

impl Default for ParaphraseConfig {
    fn default() -> Self {
        Self { styles: Vec::new(), per_sample: 1, temperature: 0.7 }
    }
}

/// Question and answer in another language; of a sample that rests on a passage the question alone, since its answer is a
/// span of the passage. Numbers must be the same.
///
/// Source: Li et al. 2023 (Bactrian-X), <https://arxiv.org/abs/2305.15011>; Lewis et al. 2020 (MLQA),
/// <https://arxiv.org/abs/1910.07475>.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TranslateConfig {
    /// The language, `fr` or `en`.
    pub to: String,
}

/// Instructions that given persons would write, with answers.
///
/// Source: Ge et al. 2024 (Persona Hub), <https://arxiv.org/abs/2406.20094>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PersonasConfig {
    /// The persons, each in a few words.
    pub personas: Vec<String>,
    /// A file with one a line, beside those named here; null for none.
    pub file: Option<PathBuf>,
    /// Instructions of each, at least 1.
    pub per_persona: usize,
    /// What they are about; null for anything.
    pub subject: Option<String>,
    /// Their language, by its ISO 639-1 code.
    pub lang: String,
    /// 0 to 5.
    pub temperature: f64,
    /// The most tokens of an answer.
    pub max_tokens: usize,
}

impl Default for PersonasConfig {
    fn default() -> Self {
        Self {
            personas: Vec::new(),
            file: None,
            per_persona: 1,
            subject: None,
            lang: "en".to_owned(),
            temperature: 0.8,
            max_tokens: 512,
        }
    }
}

/// The teacher's own answers to the first question of each conversation: with the base model as teacher, what a
/// fine-tuning replays against forgetting.
///
/// Source: Huang et al. 2024 (Self-Synthesized Rehearsal), <https://arxiv.org/abs/2403.01244>; Yang et al. 2024
/// (self-distillation), <https://arxiv.org/abs/2402.13669>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SelfReplayConfig {
    /// The conversations whose first questions are asked.
    pub prompts: Vec<SourceConfig>,
    /// 0 to 5.
    #[serde(default)]
    pub temperature: f64,
    /// The most tokens of an answer.
    #[serde(default = "default_max_tokens")]
    pub max_tokens: usize,
}

fn default_max_tokens() -> usize {
    512
}
