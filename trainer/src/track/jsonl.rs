//! The embedded tracker: `metrics.jsonl` and `log.txt` in the run folder.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::{ForgettingRecord, Line, METRICS, Plan, StepRecord, Tracker, ValidationRecord};
use crate::error::TrainError;

/// The log of a run.
const LOG: &str = "log.txt";

/// Writes one JSON object a line, flushed line by line.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    metrics: File,
    log: File,
}

impl JsonLines {
    /// Opens the files of a run folder. Lines of steps after `step` are dropped first: a resumed run makes them again.
    ///
    /// # Errors
    /// When a file cannot be read or written.
    pub fn open(folder: &Path, step: u64) -> Result<Self, TrainError> {
        let path = folder.join(METRICS);
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(|source| TrainError::Read { path: path.clone(), source })?;
            let kept: String =
                text.split_inclusive('\n').filter(|line| line_step(line).is_some_and(|s| s <= step)).collect();
            adapters::write_atomic(&path, true, |out| out.write_all(kept.as_bytes()))?;
        }
        let append = |path: &Path| {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|source| TrainError::Write { path: path.to_owned(), source })
        };
        Ok(Self { metrics: append(&path)?, log: append(&folder.join(LOG))?, path })
    }

    fn write(&mut self, record: &impl Serialize) -> Result<(), TrainError> {
        let line = Line { time: jiff::Timestamp::now(), record };
        let mut line = serde_json::to_string(&line).expect("records are plain data");
        line.push('\n');
        self.metrics.write_all(line.as_bytes()).map_err(|source| TrainError::Write { path: self.path.clone(), source })
    }
}

/// The step of a whole line; `None` for one that was cut off.
fn line_step(line: &str) -> Option<u64> {
    let value: Value = serde_json::from_str(line).ok()?;
    value.get("step")?.as_u64()
}

impl Tracker for JsonLines {
    fn started(&mut self, plan: &Plan) -> Result<(), TrainError> {
        let plan = serde_json::to_string(plan).expect("the plan is plain data");
        self.note(&format!("started: {plan}"));
        Ok(())
    }

    fn step(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        self.write(record)
    }

    fn validation(&mut self, record: &ValidationRecord) -> Result<(), TrainError> {
        self.write(record)
    }

    fn forgetting(&mut self, record: &ForgettingRecord) -> Result<(), TrainError> {
        self.write(record)
    }

    fn note(&mut self, text: &str) {
        note(&self.log, text);
    }
}

/// Adds a line to the log of a run folder, whoever else writes to it.
pub(super) fn append_note(folder: &Path, text: &str) {
    if let Ok(log) = OpenOptions::new().create(true).append(true).open(folder.join(LOG)) {
        note(&log, text);
    }
}

/// The log is a convenience for people: a line that cannot be written must not end a run.
fn note(mut log: &File, text: &str) {
    let line = format!("{} {text}\n", jiff::Timestamp::now());
    // At once, so that lines of several writers stay whole.
    let _ = log.write_all(line.as_bytes());
}
