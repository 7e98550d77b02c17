//! What a run reports while it is under way: the lines of `metrics.jsonl`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::train::reduce::RanksRecord;

/// The file of the lines, in the run folder.
pub const METRICS: &str = "metrics.jsonl";

/// A line: what was reported, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line<R = Record> {
    /// When it was reported, UTC.
    pub time: jiff::Timestamp,
    /// What was reported.
    #[serde(flatten)]
    pub record: R,
}

/// What a line holds; its fields tell which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Record {
    /// A step.
    Step(StepRecord),
    /// A validation.
    Validation(ValidationRecord),
    /// A measurement of forgetting.
    Forgetting(ForgettingRecord),
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
    pub kwh: f64,
    /// Bytes of memory that the first rank's process holds; `None` where the system does not tell.
    pub memory: Option<u64>,
    /// The share of the machine's hardware threads that this process kept at work, 0 to 1.
    pub cpu: f64,
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

/// The lines of a run so far. A last line that is still being written, or was cut off, is left out.
///
/// # Errors
/// [`TrainError::Read`]; [`TrainError::Run`] with the line that is not one of a run.
pub fn read_metrics(run: &Path) -> Result<Vec<Line>, TrainError> {
    let path = run.join(METRICS);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.map_err(|source| TrainError::Read { path: path.clone(), source })?,
    };
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let parse = |(number, line)| {
        let not_of_a_run = |error| TrainError::Run(format!("{}, line {}: {error}", path.display(), number + 1));
        serde_json::from_str(line).map_err(not_of_a_run)
    };
    whole.enumerate().map(parse).collect()
}
