//! What is measured between the steps of a run and at its end: validation and forgetting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Run;
use super::saving::Kept;
use crate::error::TrainError;
use crate::forgetting::{self, Forgetting, Watch};
use crate::model::adapter;
use crate::track::{RunFolder, Tracker, ValidationRecord};
use crate::train::batch::Layout;
use crate::train::validation;

impl Run<'_> {
    /// Measures the validation loss. Returns whether it is the lowest so far.
    pub(super) fn validate(&mut self, trackers: &mut [Box<dyn Tracker>]) -> Result<bool, TrainError> {
        let started = Instant::now();
        let loss = validation::loss_over_ranks(
            self.collective,
            &self.decoder.inner(),
            &self.data.validation,
            Layout::of_reading(self.recipe),
            &self.device,
        )?;
        self.check_finite("validation loss", loss, self.progress.step - 1, self.data.validation.iter())?;
        let best = self.progress.best_loss.is_none_or(|lowest| loss < lowest);
        if best {
            self.progress.best_loss = Some(loss);
            self.progress.best_step = self.progress.step;
            self.progress.evaluations_without_gain = 0;
        } else {
            self.progress.evaluations_without_gain += 1;
        }
        let seconds = started.elapsed().as_secs_f64();
        let record = ValidationRecord { step: self.progress.step, validation_loss: loss, best, seconds };
        trackers.iter_mut().try_for_each(|t| t.validation(&record))?;
        Ok(best)
    }

    /// Whether forgetting is to be measured before the next step.
    pub(super) fn is_measured_now(&self, every: Option<u64>) -> bool {
        let step = self.progress.step;
        step > self.progress.measured_step && every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Measures forgetting between two steps, and keeps an adapter that the gate lets pass. Returns whether it does.
    pub(super) fn measure(
        &mut self,
        watch: &Watch<'_>,
        stop: &AtomicBool,
        trackers: &mut [Box<dyn Tracker>],
        folder: &RunFolder,
    ) -> Result<bool, TrainError> {
        let step = self.progress.step;
        let adapted = self.decoder.inner();
        let found = watch.measure(&adapted, None, &mut |at| told(at, step, stop, trackers, folder));
        let found = found.map_err(|error| stopped(error, step, folder))?;
        trackers.iter_mut().try_for_each(|t| t.forgetting(&found.record(step)))?;
        self.progress.measured_step = step;
        if found.verdict.passed {
            self.keep(vec![Kept::WithinLimits], trackers)?;
        }
        Ok(found.verdict.passed)
    }

    /// Measures what the result lost, and keeps the figures in the run folder.
    pub(crate) fn forgetting(
        &self,
        watch: &Watch<'_>,
        folder: &RunFolder,
        stop: &AtomicBool,
        trackers: &mut [Box<dyn Tracker>],
    ) -> Result<Forgetting, TrainError> {
        // As it was written, so that it is the model that others load.
        let mut adapted = watch.base().clone();
        adapter::load(&mut adapted, &folder.adapter(), &self.device)?;
        let digest = adapter::digest(&folder.adapter())?;
        let step = self.progress.step;
        let found = watch.measure(&adapted, Some(&digest), &mut |at| told(at, step, stop, trackers, folder));
        let found = found.map_err(|error| self::stopped(error, step, folder))?;
        trackers.iter_mut().try_for_each(|t| t.forgetting(&found.record(step)))?;
        if self.collective.is_first() {
            found.save(folder).map_err(|error| self.explain(error, folder))?;
        }
        Ok(found)
    }
}

/// An error of the questioning: a stop of another rank is one of this.
fn stopped(error: TrainError, step: u64, folder: &RunFolder) -> TrainError {
    match error {
        TrainError::Stopped => TrainError::Interrupted { step, run: folder.path().to_owned() },
        error => error,
    }
}

/// Tells of the questioning, or ends it.
fn told(
    at: forgetting::Progress,
    step: u64,
    stop: &AtomicBool,
    trackers: &mut [Box<dyn Tracker>],
    folder: &RunFolder,
) -> Result<(), TrainError> {
    if stop.load(Ordering::Relaxed) {
        return Err(TrainError::Interrupted { step, run: folder.path().to_owned() });
    }
    for tracker in trackers {
        tracker.questioning(&at);
    }
    Ok(())
}
