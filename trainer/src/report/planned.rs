//! What `greffon plan --json` said of a run.

use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::TrainError;

/// The part of a plan that can be held against what happened.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Planned {
    /// Optimizer steps.
    pub steps: u64,
    /// Numbers that are trained.
    pub trainable_parameters: usize,
    /// The peak of memory, in bytes.
    pub peak_bytes: u64,
    /// The times.
    pub time: PlannedTime,
}

/// The times of a plan.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PlannedTime {
    /// Seconds of all steps.
    pub training_seconds: f64,
    /// An average step.
    pub step: PlannedStep,
}

/// A step of a plan.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct PlannedStep {
    /// Tokens a second of all processes.
    pub tokens_per_second: f64,
}

impl Planned {
    /// Reads what `greffon plan --json` printed.
    ///
    /// # Errors
    /// [`TrainError::Read`]; [`TrainError::Run`] when the file is something else.
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let text = fs::read_to_string(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
        serde_json::from_str(&text).map_err(|error| {
            let path = path.display();
            TrainError::Run(format!(
                "{path}: {error}; expected what `greffon plan --json` prints: greffon plan recipe.yaml --json > plan.json"
            ))
        })
    }
}
