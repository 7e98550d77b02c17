//! The recipe of a set of samples: documents, teacher, steps, filters.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::teacher::{Budget, Price};

/// A set of samples: from what, by whom, how, and where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SynthConfig {
    /// The documents that samples are grounded in; at least one source.
    pub documents: Vec<DocumentsConfig>,
    /// Who writes.
    pub teacher: TeacherConfig,
    /// The most that may be spent.
    #[serde(default)]
    pub budget: Budget,
    /// What is made, one after the other; at least one.
    pub steps: Vec<StepConfig>,
    /// What is kept.
    #[serde(default)]
    pub filters: FiltersConfig,
    /// The seed of all that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// The folder of the set.
    #[serde(default)]
    pub output: PathBuf,
}

/// Documents: a file of JSON Lines (`text`, and optionally `id`, `title`, `lang`, `url`, `licence`), a text or Markdown
/// file, or a folder of such.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DocumentsConfig {
    /// The file or folder.
    pub path: PathBuf,
    /// Their licence, where they do not say themselves, such as `etalab-2.0` or `CC-BY-SA-4.0`.
    #[serde(default)]
    pub licence: Option<String>,
    /// Their language by its ISO 639-1 code, where they do not say themselves.
    #[serde(default)]
    pub lang: Option<String>,
    /// The most documents taken, from the first; null for all.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// Who writes the samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// A server with an OpenAI-compatible interface.
    #[serde(default)]
    pub endpoint: Option<EndpointConfig>,
    /// A model that runs in this program.
    #[serde(default)]
    pub local: Option<LocalConfig>,
    /// Whether it is asked in turns, or given a text to go on with, as base models must be.
    #[serde(default)]
    pub style: Style,
    /// What its terms allow for its outputs, as a licence's name; kept with each sample.
    #[serde(default)]
    pub outputs_licence: Option<String>,
}

/// How a teacher is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Style {
    /// In turns.
    #[default]
    Chat,
    /// By the beginning of a text, with examples.
    Completion,
}

/// A server that speaks OpenAI's interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EndpointConfig {
    /// Its address, such as `http://127.0.0.1:8080`, with or without `/v1`.
    pub url: String,
    /// The model, as the server names it.
    pub model: String,
    /// The model's revision, for the record.
    #[serde(default)]
    pub revision: Option<String>,
    /// The environment variable that holds the key; null for a server that wants none.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// Requests at a time, 1 to 256.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// The most requests a minute, above 0; null for as many as it takes.
    #[serde(default)]
    pub requests_per_minute: Option<f64>,
    /// Seconds after which a request has failed, above 0.
    #[serde(default = "default_timeout")]
    pub timeout: f64,
    /// Further attempts at a request that failed, 0 to 20.
    #[serde(default = "default_retries")]
    pub retries: u32,
    /// What a million tokens cost.
    #[serde(default)]
    pub price: Price,
}

/// A model that runs in this program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// A folder, a .gguf file or a name on the hub.
    pub base: String,
    /// The hub's revision.
    #[serde(default)]
    pub revision: Option<String>,
    /// A PEFT folder.
    #[serde(default)]
    pub adapter: Option<PathBuf>,
    /// Requests answered together, 1 to 256.
    #[serde(default = "default_batch")]
    pub batch_size: usize,
}

/// One step: exactly one of its keys.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StepConfig {
    /// Questions and answers about the documents.
    pub grounded: Option<GroundedConfig>,
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
    /// What the answer to those is.
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
            temperature: 0.7,
        }
    }
}

/// What is kept of what was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FiltersConfig {
    /// The language that question and answer must be in, by its ISO 639-1 code; null for any.
    pub lang: Option<String>,
    /// Words of a question, at least and at most.
    pub question_words: (usize, usize),
    /// Words of an answer, at least and at most.
    pub answer_words: (usize, usize),
}

impl Default for FiltersConfig {
    fn default() -> Self {
        Self { lang: None, question_words: (3, 60), answer_words: (1, 400) }
    }
}

fn default_concurrency() -> usize {
    4
}

fn default_timeout() -> f64 {
    120.0
}

fn default_retries() -> u32 {
    5
}

fn default_batch() -> usize {
    16
}
