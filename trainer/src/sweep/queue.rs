//! Runs trials as processes of this program, some at a time.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::space::Axis;
use super::{Trial, Tried};
use crate::error::TrainError;
use crate::track::{RunFolder, RunStatus};

/// The exit code of a run that forgot more than its recipe allows.
const REFUSED: i32 = 3;

/// What all trials have in common.
#[derive(Clone, Copy, Debug)]
pub struct Queue<'a> {
    /// The recipe's file.
    pub recipe: &'a Path,
    /// Further values, for all trials.
    pub set: &'a [String],
    /// The keys of the trials' values.
    pub axes: &'a [Axis],
    /// Trials at a time.
    pub jobs: usize,
}

impl Queue<'_> {
    /// Makes the trials, in order; one that is finished already is taken as it is. `done` is told of each. `None` when
    /// stopped: what was begun is saved.
    ///
    /// # Errors
    /// When a process cannot be started or a file not be written. A trial that fails is no error.
    pub fn run(
        &self,
        trials: &[Trial],
        stop: &AtomicBool,
        done: &(dyn Fn(&Tried) + Sync),
    ) -> Result<Option<Vec<Tried>>, TrainError> {
        let next = AtomicUsize::new(0);
        let made: Mutex<Vec<Result<Tried, TrainError>>> = Mutex::default();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            while let Some(trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let tried = self.make(trial, (cores / self.jobs).max(1));
                tried.iter().for_each(done);
                made.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(tried);
            }
        };
        thread::scope(|scope| (0..self.jobs).for_each(|_| drop(scope.spawn(work))));
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let made = made.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut tried = made.into_iter().collect::<Result<Vec<_>, _>>()?;
        tried.sort_by_key(|tried| tried.trial.number);
        Ok(Some(tried))
    }

    fn make(&self, trial: &Trial, threads: usize) -> Result<Tried, TrainError> {
        let finished = |folder: &Path| {
            let run = RunFolder::open(folder.to_owned()).ok()?;
            let info = run.info().ok().filter(|info| info.status == RunStatus::Finished)?;
            run.adapter().is_dir().then_some((run, info))
        };
        let mut error = None;
        if finished(&trial.folder).is_none() {
            error = self.train(trial, threads)?;
        }
        let Some((run, info)) = finished(&trial.folder).filter(|_| error.is_none()) else {
            let error = error.or_else(|| Some("it has no result".to_owned()));
            return Ok(Tried { trial: trial.clone(), best: None, tokens_per_second: None, within_limits: None, error });
        };
        let forgetting = fs::read(run.forgetting()).ok();
        let within_limits = forgetting
            .and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok())
            .and_then(|found| found["verdict"]["passed"].as_bool());
        let tokens_per_second = speed(&fs::read_to_string(run.path().join("metrics.jsonl")).unwrap_or_default());
        Ok(Tried { trial: trial.clone(), best: info.best, tokens_per_second, within_limits, error: None })
    }

    /// Trains a trial to its end; what it says goes to a file beside its folder. Returns why it failed, if it did.
    fn train(&self, trial: &Trial, threads: usize) -> Result<Option<String>, TrainError> {
        let log = trial.folder.with_extension("log");
        let failed = |source| TrainError::Write { path: log.clone(), source };
        let greffon = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(greffon);
        command.arg("train").arg(self.recipe).arg("--or-resume");
        let own = self.axes.iter().zip(&trial.point).map(|(axis, value)| format!("{}={value}", axis.key));
        let steps = trial.max_steps.map(|steps| format!("train.max_steps={steps}"));
        let output = format!("output={}", trial.folder.display());
        for value in self.set.iter().cloned().chain(own).chain(steps).chain([output]) {
            command.arg("--set").arg(value);
        }
        let file = File::create(&log).map_err(failed)?;
        command.env("RAYON_NUM_THREADS", threads.to_string()).stdin(Stdio::null());
        command.stdout(file.try_clone().map_err(failed)?).stderr(file);
        let status = command.status().map_err(failed)?;
        if status.success() || status.code() == Some(REFUSED) {
            return Ok(None);
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it was killed");
        Ok(Some(last.trim_start_matches("error: ").to_owned()))
    }
}

/// Tokens a second over the steps of a run.
fn speed(metrics: &str) -> Option<f64> {
    let lines = metrics.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let steps = lines.filter_map(|line| Some((line["tokens"].as_f64()?, line["seconds"].as_f64()?)));
    let (tokens, seconds) = steps.fold((0.0, 0.0), |sum, step| (sum.0 + step.0, sum.1 + step.1));
    (seconds > 0.0).then(|| tokens / seconds)
}
