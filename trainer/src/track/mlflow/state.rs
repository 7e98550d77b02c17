//! `mlflow.json` in the run folder: which MLflow run this is, and how far it has got.
//!
//! It is written before anything is sent and after the server has said yes. A process that is killed in between leaves
//! `unsure` behind, and the next one asks the server what it has.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::server::MlflowRun;
use crate::error::TrainError;

/// The file.
pub(super) const STATE: &str = "mlflow.json";

/// How far the delivery has got.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// The server.
    pub(super) url: String,
    /// The experiment's name.
    pub(super) experiment: String,
    /// Its id and the run, once they are known.
    pub(super) run: Option<Known>,
    /// The bytes of `metrics.jsonl` that are delivered.
    pub(super) delivered: u64,
    /// The time of the last line in them, by which they are known again.
    pub(super) last: Option<jiff::Timestamp>,
    /// Whether the server may have more than that.
    pub(super) unsure: bool,
    /// The files that are uploaded, with their SHA-256.
    pub(super) files: BTreeMap<String, String>,
    /// The version of the registered model.
    pub(super) version: Option<String>,
}

/// A run by its names on the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Known {
    pub(super) experiment_id: String,
    pub(super) run_id: String,
    pub(super) artifacts: String,
}

impl Known {
    pub(super) fn new(experiment_id: String, run: MlflowRun) -> Self {
        Self { experiment_id, run_id: run.id, artifacts: run.artifacts }
    }
}

impl State {
    /// How far a run has got with a server and an experiment; at its beginning for another than before.
    pub(super) fn read(run: &Path, url: &str, experiment: &str) -> Result<Self, TrainError> {
        let found = Self::of_run(run)?.filter(|state| state.url == url && state.experiment == experiment);
        let fresh = || Self { url: url.to_owned(), experiment: experiment.to_owned(), ..Self::default() };
        Ok(found.unwrap_or_else(fresh))
    }

    /// What the folder holds; `None` where there is nothing.
    pub(super) fn of_run(run: &Path) -> Result<Option<Self>, TrainError> {
        let path = run.join(STATE);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| TrainError::Read { path: path.clone(), source })?,
        };
        let unreadable = |error| {
            TrainError::Run(format!(
                "{}: {error}; expected what a delivery to MLflow leaves; delete it, and the run is looked for on the server",
                path.display()
            ))
        };
        serde_json::from_str(&text).map(Some).map_err(unreadable)
    }

    pub(super) fn save(&self, run: &Path) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(self).expect("the state is plain data") + "\n";
        Ok(adapters::write_atomic(&run.join(STATE), true, |out| out.write_all(text.as_bytes()))?)
    }
}
