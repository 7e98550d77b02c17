//! Sweeps: one recipe with several values, each a run of its own, and what came of them side by side.
//!
//! `space` has the combinations, `halving` how long each is tried, `plot` draws them. A [`Runner`] makes them: `queue` as
//! processes of this program, `array` as the tasks of a job of Slurm. A trial is an ordinary run folder: it can be resumed,
//! evaluated and exported like any other.

pub mod array;
pub mod halving;
pub mod plot;
pub mod queue;
pub mod space;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TrainError;
use crate::track::{Record, RunFolder, RunInfo, RunStatus, read_metrics};
use space::{Axis, Point};

/// The exit code of a run that forgot more than its recipe allows.
const REFUSED: u8 = 3;

/// A way to make trials.
pub trait Runner {
    /// Makes these trials, and tells of each, and of what happens.
    ///
    /// # Errors
    /// When one cannot be started or a file not be written. A trial that fails is no error.
    fn run(&self, trials: &[Trial], stop: &AtomicBool, tell: &(dyn Fn(Told<'_>) + Sync)) -> Result<Made, TrainError>;
}

/// What is told while trials are made.
#[derive(Clone, Copy, Debug)]
pub enum Told<'a> {
    /// One is done.
    Tried(&'a Tried),
    /// How it stands.
    Note(&'a str),
}

/// What came of trials.
#[derive(Clone, Debug, PartialEq)]
pub enum Made {
    /// All are done.
    All(Vec<Tried>),
    /// It was stopped; what was begun, and how to go on.
    Stopped(String),
}

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Counted from 1, in the order of the combinations.
    pub number: usize,
    /// A value for each key.
    pub point: Point,
    /// The steps that it is given; `None` for the recipe's own.
    pub max_steps: Option<u64>,
    /// Its run folder.
    pub folder: PathBuf,
}

impl Trial {
    /// What is set on top of the recipe for this trial alone: its values, its steps, its folder.
    pub fn set(&self, axes: &[Axis]) -> Vec<String> {
        let own = axes.iter().zip(&self.point).map(|(axis, value)| format!("{}={value}", axis.key));
        let steps = self.max_steps.map(|steps| format!("train.max_steps={steps}"));
        own.chain(steps).chain([format!("output={}", self.folder.display())]).collect()
    }

    /// The file of what it says, beside its folder.
    pub fn log(&self) -> PathBuf {
        self.folder.with_extension("log")
    }

    /// Why it failed, in its last words; what its launcher says after them is less.
    fn last_words(&self) -> Option<String> {
        let said = fs::read(self.log()).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let mut lines = said.lines().rev().filter(|line| !line.trim().is_empty());
        let last = lines.clone().next()?;
        let own = lines.find(|line| line.starts_with("error: ") || line.starts_with("greffon: "));
        Some(own.unwrap_or(last).trim_start_matches("error: ").to_owned())
    }
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The trial.
    #[serde(flatten)]
    pub trial: Trial,
    /// The lowest validation loss, in nats per supervised token, and its step; `None` for a trial that failed.
    pub best: Option<(f64, u64)>,
    /// Tokens a second.
    pub tokens_per_second: Option<f64>,
    /// Whether it forgot no more than the recipe allows; `None` where nothing is measured.
    pub within_limits: Option<bool>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Tried {
    /// What is in the folder of a trial, where it is finished.
    pub fn finished(trial: &Trial) -> Option<Self> {
        let run = RunFolder::open(trial.folder.clone()).ok()?;
        let info: RunInfo = run.info().ok().filter(|info| info.status == RunStatus::Finished)?;
        let forgetting = run.adapter().is_dir().then(|| fs::read(run.forgetting()).ok())?;
        let within_limits = forgetting
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok())
            .and_then(|found| found["verdict"]["passed"].as_bool());
        let tokens_per_second = speed(run.path());
        Some(Self { trial: trial.clone(), best: info.best, tokens_per_second, within_limits, error: None })
    }

    /// A trial that has ended: as it is in its folder, unless it failed for this reason.
    fn ended(trial: &Trial, error: Option<String>) -> Self {
        let finished = if error.is_none() { Self::finished(trial) } else { None };
        finished.unwrap_or_else(|| {
            let error = error.or_else(|| Some("it has no result".to_owned()));
            Self { trial: trial.clone(), best: None, tokens_per_second: None, within_limits: None, error }
        })
    }
}

/// Tokens a second over the steps of a run.
fn speed(run: &Path) -> Option<f64> {
    let (mut tokens, mut seconds) = (0, 0.0);
    for line in read_metrics(run).ok()? {
        if let Record::Step(step) = line.record {
            tokens += step.tokens;
            seconds += step.seconds;
        }
    }
    (seconds > 0.0).then(|| tokens as f64 / seconds)
}

/// The folder of a trial, in that of the sweep.
pub fn folder(sweep: &Path, number: &str, max_steps: Option<u64>) -> PathBuf {
    sweep.join(match max_steps {
        Some(steps) => format!("trial-{number}-{steps}-steps"),
        None => format!("trial-{number}"),
    })
}

/// The trials with the lowest loss first; those that failed come last.
pub fn ranked(mut tried: Vec<Tried>) -> Vec<Tried> {
    let loss = |tried: &Tried| tried.best.map_or(f64::INFINITY, |(loss, _)| loss);
    tried.sort_by(|a, b| loss(a).total_cmp(&loss(b)).then(a.trial.number.cmp(&b.trial.number)));
    tried
}
