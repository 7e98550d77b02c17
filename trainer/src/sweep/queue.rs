//! Runs trials as processes of this program, some at a time.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::space::Axis;
use super::{Made, REFUSED, Runner, Told, Trial, Tried};
use crate::error::TrainError;

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

impl Runner for Queue<'_> {
    fn run(&self, trials: &[Trial], stop: &AtomicBool, tell: &(dyn Fn(Told<'_>) + Sync)) -> Result<Made, TrainError> {
        let next = AtomicUsize::new(0);
        let made: Mutex<Vec<Result<Tried, TrainError>>> = Mutex::default();
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let work = || {
            while let Some(trial) = trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let error = self.train(trial, (cores / self.jobs).max(1));
                let tried = error.map(|error| Tried::ended(trial, error));
                if let Ok(tried) = &tried {
                    tell(Told::Tried(tried));
                }
                made.lock().unwrap_or_else(PoisonError::into_inner).push(tried);
            }
        };
        thread::scope(|scope| (0..self.jobs).for_each(|_| drop(scope.spawn(work))));
        if stop.load(Ordering::Relaxed) {
            return Ok(Made::Stopped("stopped; everything is saved. to go on: the same command again".to_owned()));
        }
        let made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        made.into_iter().collect::<Result<_, _>>().map(Made::All)
    }
}

impl Queue<'_> {
    /// Trains a trial to its end; what it says goes to a file beside its folder. Returns why it failed, if it did.
    fn train(&self, trial: &Trial, threads: usize) -> Result<Option<String>, TrainError> {
        let log = trial.log();
        let failed = |source| TrainError::Write { path: log.clone(), source };
        let greffon = std::env::current_exe().map_err(failed)?;
        let mut command = Command::new(greffon);
        command.arg("train").arg(self.recipe).arg("--or-resume");
        for value in self.set.iter().cloned().chain(trial.set(self.axes)) {
            command.arg("--set").arg(value);
        }
        let file = File::create(&log).map_err(failed)?;
        command.env("RAYON_NUM_THREADS", threads.to_string()).stdin(Stdio::null());
        command.stdout(file.try_clone().map_err(failed)?).stderr(file);
        let status = command.status().map_err(failed)?;
        if status.success() || status.code() == Some(REFUSED.into()) {
            return Ok(None);
        }
        Ok(Some(trial.last_words().unwrap_or_else(|| "it was killed".to_owned())))
    }
}
