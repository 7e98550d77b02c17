//! The recipe of a set of samples: documents and seeds, teacher, steps, and what is kept.

mod checks;
mod steps;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::teacher::{Budget, Price};
use crate::config::SourceConfig;
use crate::filter::FilterConfig;
use crate::screen::ScreenConfig;

pub use super::template::config::{Mode, NoiseConfig, TemplateConfig};
pub use checks::{ConsistencyConfig, DifficultyConfig, JudgeConfig};
pub use steps::{
    EvolveConfig, GroundedConfig, MagpieConfig, ParaphraseConfig, PersonasConfig, SelfInstructConfig, SelfReplayConfig,
    StepConfig, TranslateConfig,
};

/// A set of samples: from what, by whom, how, and where it goes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SynthConfig {
    /// The documents that samples are grounded in.
    #[serde(default)]
    pub documents: Vec<DocumentsConfig>,
    /// A handful of examples that steps begin with.
    #[serde(default)]
    pub seeds: Vec<SourceConfig>,
    /// Who writes; null where no step asks anybody.
    #[serde(default)]
    pub teacher: Option<TeacherConfig>,
    /// The most that may be spent.
    #[serde(default)]
    pub budget: Budget,
    /// What is made, one after the other; at least one.
    pub steps: Vec<StepConfig>,
    /// What is kept, as far as rules can tell.
    #[serde(default)]
    pub filters: FilterConfig,
    /// Test files, none of whose questions may stand in the set. The program's own questions are always looked for.
    #[serde(default)]
    pub held_out: Vec<PathBuf>,
    /// Keeps a sample where the teacher, asked its question several times, mostly gives its answer; null asks nothing.
    #[serde(default)]
    pub consistency: Option<ConsistencyConfig>,
    /// Keeps a sample that the teacher grades well; null asks nothing.
    #[serde(default)]
    pub judge: Option<JudgeConfig>,
    /// Keeps what is neither too easy nor too hard for the model that will learn it; null keeps both.
    #[serde(default)]
    pub difficulty: Option<DifficultyConfig>,
    /// What is done with personal data in documents and seeds, before a teacher sees them. Samples that have personal data
    /// which their sources do not have are left out, unless the action is `report`.
    #[serde(default)]
    pub screen: ScreenConfig,
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
    /// Requests at a time, 1 to 256; of all processes together.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// The most requests a minute, above 0, of all processes together; null for as many as it takes.
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

impl EndpointConfig {
    /// The part of one process. Where there are more processes than `concurrency`, some have none of it and ask nothing.
    #[must_use]
    pub fn shared(&self, rank: usize, ranks: usize) -> Self {
        let before = |rank| self.concurrency * rank / ranks;
        let concurrency = before(rank + 1) - before(rank);
        let part = concurrency.max(1) as f64 / self.concurrency as f64;
        let requests_per_minute = self.requests_per_minute.map(|rate| rate * part);
        Self { concurrency, requests_per_minute, ..self.clone() }
    }
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
