//! Where a run reports to: **the one place to add a tracker**.
//!
//! A run tells a list of [`Tracker`]s what happens. A new one is a file here and its line in [`open`]. The run folder's
//! JSON lines ([`JsonLines`]) are always among them; the command line adds its progress bar.

pub mod card;
mod jsonl;
mod lock;
mod run_folder;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use jsonl::JsonLines;
pub use lock::Lock;
pub use run_folder::{REPLAY, RunFolder, RunInfo, RunStatus};

use crate::error::TrainError;
use crate::plan::Checkpointing;
use crate::train::reduce::RanksRecord;

/// The trackers of every run, in its folder, after `step` steps; a new one is opened here.
///
/// # Errors
/// When one cannot be opened.
pub fn open(folder: &Path, step: u64) -> Result<Vec<Box<dyn Tracker>>, TrainError> {
    Ok(vec![Box::new(JsonLines::open(folder, step)?)])
}

/// What a run is about to do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// Optimizer steps in all.
    pub total_steps: u64,
    /// The step the run starts from; above 0 when resumed.
    pub first_step: u64,
    /// Examples to train on.
    pub train_examples: usize,
    /// Examples held out for validation.
    pub validation_examples: usize,
    /// Numbers that are trained.
    pub trainable_parameters: usize,
    /// Modules with an adapter.
    pub adapted_modules: usize,
    /// Processes that make the run together.
    pub ranks: usize,
    /// What the forward pass keeps, and the memory that the run needs.
    pub checkpointing: Checkpointing,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepRecord {
    /// The step, counted from 1.
    pub step: u64,
    /// Mean negative log-likelihood of the task, in nats per supervised token.
    pub loss: f64,
    /// The same of what is replayed; `None` where it is not learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replay_loss: Option<f64>,
    /// Mean divergence from the base on what is replayed, in nats per supervised token; `None` where it is not held
    /// down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// The penalties on the trained numbers, with their weights; `None` where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
    /// Global norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tokens of the step, prompts and replayed ones included.
    pub tokens: usize,
    /// Supervised tokens of the task.
    pub supervised_tokens: usize,
    /// Wall-clock seconds of the step.
    pub seconds: f64,
    /// What the run has taken so far, in kilowatt-hours, of all ranks and with the data centre's part.
    #[serde(default)]
    pub kwh: f64,
    /// How the ranks waited for each other; `None` for one alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks: Option<RanksRecord>,
}

/// One validation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ValidationRecord {
    /// The step after which it was made.
    pub step: u64,
    /// Mean negative log-likelihood, in nats per supervised token.
    pub validation_loss: f64,
    /// It is the lowest so far.
    pub best: bool,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// One measurement of forgetting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForgettingRecord {
    /// The step after which it was made.
    pub step: u64,
    /// The gate lets the model pass.
    pub passed: bool,
    /// The mean accuracy over the tasks less that of the base.
    pub average_difference: Option<f64>,
    /// The divergence from the base by language, in nats per token.
    pub kl: BTreeMap<String, f64>,
    /// Wall-clock seconds.
    pub forgetting_seconds: f64,
}

/// Something that follows a run.
pub trait Tracker {
    /// The data is being tokenised; never called when its tokens come from the cache.
    fn preparing(&mut self, _progress: &datasets::Progress) {}

    /// The run is ready to start.
    ///
    /// # Errors
    /// When the tracker must not be lost and cannot record.
    fn started(&mut self, plan: &Plan) -> Result<(), TrainError>;

    /// A step was made.
    ///
    /// # Errors
    /// As for [`Self::started`].
    fn step(&mut self, record: &StepRecord) -> Result<(), TrainError>;

    /// A validation was made.
    ///
    /// # Errors
    /// As for [`Self::started`].
    fn validation(&mut self, record: &ValidationRecord) -> Result<(), TrainError>;

    /// The model is being questioned.
    fn questioning(&mut self, _progress: &crate::forgetting::Progress) {}

    /// What was forgotten was measured.
    ///
    /// # Errors
    /// As for [`Self::started`].
    fn forgetting(&mut self, record: &ForgettingRecord) -> Result<(), TrainError>;

    /// A checkpoint was written, or something else worth a line.
    fn note(&mut self, text: &str);
}
