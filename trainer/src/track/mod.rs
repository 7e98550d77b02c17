//! Where a run reports to: **the one place to add a tracker**.
//!
//! A run tells a list of [`Tracker`]s what happens. A new one is a file here and its line in [`open`]. The run folder's
//! JSON lines ([`JsonLines`]) are always among them; the command line adds its progress bar.

pub mod card;
mod contents;
mod jsonl;
mod lock;
mod metrics;
pub mod mlflow;
mod prometheus;
mod run_folder;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use jsonl::JsonLines;
pub use lock::Lock;
pub use metrics::{ForgettingRecord, Line, METRICS, Record, StepRecord, ValidationRecord, read_metrics};
pub(crate) use run_folder::BURN_VERSION;
pub use run_folder::{DataCounts, REPLAY, RunFolder, RunInfo, RunStatus, SELECTED};

use crate::error::TrainError;
use crate::plan::Checkpointing;
use crate::recipe::TrackingConfig;

/// The trackers of a run, in its folder, after `step` steps; a new one is opened here. What reads the folder after the run
/// has ended keeps its lock.
///
/// # Errors
/// When one cannot be opened.
pub fn open(
    folder: &RunFolder,
    config: &TrackingConfig,
    step: u64,
    lock: Option<Arc<Lock>>,
) -> Result<Vec<Box<dyn Tracker>>, TrainError> {
    let TrackingConfig { mlflow, prometheus } = config;
    // The lines come first: others deliver from them.
    let mut trackers: Vec<Box<dyn Tracker>> = vec![Box::new(JsonLines::open(folder.path(), step)?)];
    if let Some(config) = mlflow {
        trackers.push(Box::new(mlflow::Mlflow::open(folder.clone(), config.clone(), lock)?));
    }
    if let Some(config) = prometheus {
        trackers.push(Box::new(prometheus::Prometheus::new(config.textfile.clone(), folder.name())));
    }
    Ok(trackers)
}

/// What a run is about to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

/// Something that follows a run.
pub trait Tracker {
    /// The data is being tokenised; never called when its tokens come from the cache.
    fn preparing(&mut self, _progress: &datasets::Progress) {}

    /// The base does something before the first step: so many of so many are done.
    fn getting_ready(&mut self, _what: &'static str, _done: usize, _total: usize) {}

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
