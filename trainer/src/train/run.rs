//! A run under way: its steps, and what is done between them.

use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use adapters::{AdapterConfig, Init};
use burn::tensor::Device;
use datasets::{ExampleRef, Prepared};

use super::batch::Layout;
use super::checkpoint::{ADAPTER, Checkpoints, Progress};
use super::optimizer::{self, AdamW};
use super::penalty::Penalties;
use super::replay::Replay;
use super::schedule::learning_rate_factor;
use super::share::Share;
use super::step::{self, StepSettings};
use super::{parameters, reduce, validation};
use crate::cluster::{Collective, from_first};
use crate::device::read;
use crate::error::TrainError;
use crate::forgetting::{self, Forgetting, Watch};
use crate::model::{BaseModel, Decoder, adapter};
use crate::provenance::{self, Recorder};
use crate::recipe::Recipe;
use crate::track::{RunFolder, StepRecord, Tracker, ValidationRecord};

/// Why training ends before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyStop {
    /// Validation no longer gains.
    Validation,
    /// More was forgotten than the recipe allows.
    Forgetting,
}

/// A run under way.
pub(crate) struct Run<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) collective: &'a dyn Collective,
    pub(crate) device: Device,
    pub(crate) decoder: Decoder,
    pub(crate) peft: AdapterConfig,
    pub(crate) data: Prepared,
    pub(crate) replay: Option<Replay>,
    pub(crate) penalties: Penalties,
    pub(crate) layout: Layout,
    pub(crate) optimizer: AdamW,
    pub(crate) checkpoints: Checkpoints,
    pub(crate) progress: Progress,
    pub(crate) total_examples: u64,
    pub(crate) total_steps: u64,
    pub(crate) warmup_steps: u64,
    pub(crate) recomputed_blocks: usize,
    /// Of rank 0.
    pub(crate) recorder: Option<Recorder>,
    /// The checkpoint that is being written beside the steps.
    pub(crate) saving: Option<JoinHandle<Result<PathBuf, TrainError>>>,
}

impl Run<'_> {
    /// Makes the steps that are left. Returns why they ended early, if they did. Nothing is being written any more when
    /// it returns.
    pub(crate) fn steps(
        &mut self,
        stop: &AtomicBool,
        trackers: &mut [Box<dyn Tracker>],
        folder: &RunFolder,
        watch: Option<&Watch<'_>>,
    ) -> Result<Option<EarlyStop>, TrainError> {
        let ended = self.steps_left(stop, trackers, folder, watch);
        match (ended, self.saved(trackers)) {
            // It says that everything is saved.
            (Err(TrainError::Interrupted { .. }) | Ok(_), Err(error)) => Err(error),
            (ended, _) => ended,
        }
    }

    fn steps_left(
        &mut self,
        stop: &AtomicBool,
        trackers: &mut [Box<dyn Tracker>],
        folder: &RunFolder,
        watch: Option<&Watch<'_>>,
    ) -> Result<Option<EarlyStop>, TrainError> {
        let eval_every = self.eval_every();
        let save_every = self.recipe.train.save_every.unwrap_or(eval_every);
        let mut saved = self.progress.step;
        while self.progress.step < self.total_steps {
            if let Some(watch) = watch.filter(|watch| self.is_measured_now(watch.config.every)) {
                let passed = match self.measure(watch, stop, trackers, folder) {
                    Err(error @ TrainError::Interrupted { .. }) if saved != self.progress.step => {
                        self.save(trackers)?;
                        return Err(error);
                    }
                    passed => passed?,
                };
                if !passed && watch.config.early_stop {
                    return Ok(Some(EarlyStop::Forgetting));
                }
            }
            let Some(record) = self.step(stop)? else {
                if saved != self.progress.step {
                    self.save(trackers)?;
                }
                return Err(TrainError::Interrupted { step: self.progress.step, run: folder.path().to_owned() });
            };
            trackers.iter_mut().try_for_each(|t| t.step(&record))?;
            let last = self.progress.step == self.total_steps;
            let mut patience_over = false;
            if !self.data.validation.is_empty() && (last || self.progress.step.is_multiple_of(eval_every)) {
                self.validate(trackers)?;
                let patience = self.recipe.train.early_stopping;
                patience_over = patience.is_some_and(|p| self.progress.evaluations_without_gain >= p);
            }
            if last || patience_over || self.progress.step.is_multiple_of(save_every) {
                self.save(trackers)?;
                saved = self.progress.step;
            }
            if patience_over && !last {
                return Ok(Some(EarlyStop::Validation));
            }
        }
        Ok(None)
    }

    /// Makes one optimizer step; `None` when stopped before its end, with nothing changed.
    fn step(&mut self, stop: &AtomicBool) -> Result<Option<StepRecord>, TrainError> {
        let started = Instant::now();
        let index = self.progress.step;
        let train = &self.recipe.train;
        let position = index * train.global_batch_size as u64;
        let left = usize::try_from(self.total_examples - position).unwrap_or(usize::MAX);
        let examples = self.data.examples_at(position, train.global_batch_size.min(left));
        let replayed = self.replay.as_ref().map(|replay| (replay.examples(index), replay.objective()));
        let replayed = replayed.as_ref().map(|(examples, objective)| (&examples[..], *objective));
        let (rank, ranks) = (self.collective.rank(), self.collective.ranks());
        let share = Share::new(&examples, replayed, self.layout, rank, ranks);
        let settings = StepSettings {
            seed: train.seed,
            step: index,
            dropout: self.recipe.lora.dropout,
            recomputed_blocks: self.recomputed_blocks,
        };
        let stopped = || stop.load(Ordering::Relaxed);
        let own = step::gradient_of(&self.decoder, &share, settings, &self.device, &stopped);
        let (seconds, wire) = (started.elapsed().as_secs_f64(), self.recipe.cluster.gradients);
        let Some((result, ranks)) = reduce::sum(self.collective, own, seconds, wire)? else {
            return Ok(None);
        };
        let learning_rate = self.learning_rate(index);
        let flat = parameters::flatten(&self.decoder);
        let (penalty, gradient) = self.penalties.add(&flat, result.gradient);
        let norm = optimizer::norm(&gradient);
        for (what, value) in [("replay loss", result.replay_loss), ("divergence from the base", result.kl)] {
            let replayed = self.replay.iter().flat_map(|replay| replay.examples(index));
            self.check_finite(what, value.unwrap_or(0.0), index, replayed)?;
        }
        for (what, value) in [("loss", result.loss), ("penalty", penalty.unwrap_or(0.0)), ("gradient norm", norm)] {
            self.check_finite(what, value, index, examples.iter().cloned())?;
        }
        let scale = optimizer::clip_scale(norm, train.max_grad_norm);
        let updated = self.optimizer.step(flat, gradient, scale, learning_rate);
        parameters::assign(&mut self.decoder, &updated);
        let seconds = started.elapsed().as_secs_f64();
        self.progress.step += 1;
        self.progress.tokens += result.tokens as u64;
        self.progress.seconds += seconds;
        Ok(Some(StepRecord {
            step: self.progress.step,
            loss: result.loss,
            replay_loss: result.replay_loss,
            kl: result.kl,
            penalty,
            gradient_norm: norm,
            learning_rate,
            tokens: result.tokens,
            supervised_tokens: result.supervised,
            seconds,
            ranks,
        }))
    }

    /// Of a step, counted from 0.
    fn learning_rate(&self, step: u64) -> f64 {
        let train = &self.recipe.train;
        train.learning_rate * learning_rate_factor(train.schedule, step, self.warmup_steps, self.total_steps)
    }

    /// Refuses a figure that is not a number; `step` is counted from 0.
    fn check_finite<'e>(
        &self,
        what: &'static str,
        value: f64,
        step: u64,
        examples: impl IntoIterator<Item = ExampleRef<'e>>,
    ) -> Result<(), TrainError> {
        if value.is_finite() {
            return Ok(());
        }
        let places: Vec<String> = examples.into_iter().take(4).map(|e| e.origin.to_string()).collect();
        let (learning_rate, examples) = (self.learning_rate(step), places.join(", "));
        Err(TrainError::NotFinite { what, value, step: step + 1, learning_rate, examples })
    }

    /// Says of a failed write what is left and how to go on.
    pub(crate) fn explain(&self, error: TrainError, folder: &RunFolder) -> TrainError {
        if !error.is_write() {
            return error;
        }
        let (reason, run) = (error.with_causes(), folder.path().to_owned());
        TrainError::NotSaved { step: self.progress.step, reason, run }
    }

    /// Measures the validation loss and keeps the adapter when it is the lowest so far.
    fn validate(&mut self, trackers: &mut [Box<dyn Tracker>]) -> Result<(), TrainError> {
        let started = Instant::now();
        let loss = validation::loss_over_ranks(
            self.collective,
            &self.decoder.inner(),
            &self.data.validation,
            self.layout,
            &self.device,
        )?;
        self.check_finite("validation loss", loss, self.progress.step - 1, self.data.validation.iter())?;
        let best = self.progress.best_loss.is_none_or(|lowest| loss < lowest);
        if best {
            self.progress.best_loss = Some(loss);
            self.progress.best_step = self.progress.step;
            self.progress.evaluations_without_gain = 0;
            self.saved(trackers)?;
            self.record()?;
            if let Some(recorder) = &self.recorder {
                self.checkpoints.save_best(&self.decoder, &self.peft)?;
                recorder.carry(None, &self.checkpoints.best())?;
            }
        } else {
            self.progress.evaluations_without_gain += 1;
        }
        let seconds = started.elapsed().as_secs_f64();
        let record = ValidationRecord { step: self.progress.step, validation_loss: loss, best, seconds };
        trackers.iter_mut().try_for_each(|t| t.validation(&record))
    }

    /// Whether forgetting is to be measured before the next step.
    fn is_measured_now(&self, every: Option<u64>) -> bool {
        let step = self.progress.step;
        step > self.progress.measured_step && every.is_some_and(|every| step.is_multiple_of(every))
    }

    /// Measures forgetting between two steps, and keeps an adapter that the gate lets pass. Returns whether it does.
    fn measure(
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
            self.saved(trackers)?;
            self.record()?;
            if let Some(recorder) = &self.recorder {
                adapter::save(&self.decoder, &self.peft, &self.checkpoints.within_limits(), true)?;
                recorder.carry(None, &self.checkpoints.within_limits())?;
            }
        }
        Ok(found.verdict.passed)
    }

    /// Writes the adapter that the run is about: the best where there was a validation, else the last; after a stop by
    /// the forgetting gate the last that it let pass.
    pub(crate) fn save_result(&mut self, stopped: Option<EarlyStop>, folder: &RunFolder) -> Result<(), TrainError> {
        // The others wait for the files, which they may read.
        from_first(self.collective, || {
            let within = self.checkpoints.within_limits();
            let kept = if stopped == Some(EarlyStop::Forgetting) && within.is_dir() {
                Some(within)
            } else {
                self.progress.best_loss.map(|_| self.checkpoints.best())
            };
            if let Some(kept) = &kept {
                adapter::load(&mut self.decoder, kept, &self.device)?;
            }
            let carry = |recorder: &Recorder| recorder.carry(kept.as_deref(), &folder.adapter());
            adapter::save(&self.decoder, &self.peft, &folder.adapter(), true)
                .and_then(|()| self.recorder.as_ref().map_or(Ok(()), carry))
                .map_err(|error| self.explain(error, folder))
        })
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

    /// The lowest validation loss and its step.
    pub(crate) fn best(&self) -> Option<(f64, u64)> {
        self.progress.best_loss.map(|loss| (loss, self.progress.best_step))
    }

    /// Writes what was learned from so far into the run folder. No checkpoint is being written then: it takes a copy.
    pub(crate) fn record(&mut self) -> Result<(), TrainError> {
        match &mut self.recorder {
            Some(recorder) => recorder.write(&self.data, self.replay.as_ref(), self.progress.step),
            None => Ok(()),
        }
    }

    fn save(&mut self, trackers: &mut [Box<dyn Tracker>]) -> Result<(), TrainError> {
        let started = Instant::now();
        self.check_ranks()?;
        self.saved(trackers)?;
        self.record()?;
        let Some(recorder) = &self.recorder else { return Ok(()) };
        // The tensors are shared, not copied: the next step writes into new ones.
        let (checkpoints, decoder, peft) = (self.checkpoints.clone(), self.decoder.inner(), self.peft.clone());
        let (optimizer, progress, place) = (self.optimizer.clone(), self.progress.clone(), recorder.place());
        self.saving = Some(thread::spawn(move || {
            let path = checkpoints.save(&decoder, &peft, &optimizer, &progress)?;
            provenance::carry(&place, &path.join(ADAPTER))?;
            Ok(path)
        }));
        for tracker in trackers {
            tracker.note(&format!("saving; the steps waited {:.3} s", started.elapsed().as_secs_f64()));
        }
        Ok(())
    }

    /// Waits for the checkpoint that is being written.
    fn saved(&mut self, trackers: &mut [Box<dyn Tracker>]) -> Result<(), TrainError> {
        let Some(saving) = self.saving.take() else { return Ok(()) };
        let path = saving.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        for tracker in trackers {
            tracker.note(&format!("saved {}", path.display()));
        }
        Ok(())
    }

    /// Refuses ranks that do not train the same adapter on the same data.
    pub(crate) fn check_ranks(&self) -> Result<(), TrainError> {
        if self.collective.ranks() == 1 {
            return Ok(());
        }
        let remedy = "give all of them the same recipe, the same files and the same greffon";
        reduce::check_equal(self.collective, "the data", [&self.progress.fingerprint], remedy)?;
        let remedy = "the output folder must be one that all ranks see";
        reduce::check_equal(self.collective, "the step", [self.progress.step.to_le_bytes()], remedy)?;
        let parameters = read(parameters::flatten(&self.decoder));
        let remedy = "their processors round otherwise; run all of them on machines of one kind";
        reduce::check_equal(self.collective, "the adapters", parameters.iter().map(|p| p.to_le_bytes()), remedy)
    }

    /// Takes up the newest checkpoint; a run killed before its first one starts from its beginning.
    pub(crate) fn resume(&mut self, base: &BaseModel, fingerprint: &str) -> Result<(), TrainError> {
        if self.checkpoints.list().is_empty() {
            return Ok(());
        }
        let recipe = self.recipe;
        if recipe.model.adapter.is_none() && recipe.lora.init == Init::Pissa {
            // The adapter belongs to the base as it is, of which the start has taken parts out.
            self.decoder = base.decoder(&self.device)?.with_kernels(recipe.kernels);
        }
        let progress = self.checkpoints.resume(&mut self.decoder, &mut self.optimizer, &self.device)?;
        if self.recipe.model.adapter.is_none() {
            parameters::resume_adapter(&mut self.decoder, &self.recipe.lora)?;
        }
        adapter::require_grad(&mut self.decoder);
        if progress.fingerprint != fingerprint {
            return Err(TrainError::Run(
                "the training data is not what the run started with, or its replayed conversations or the adapters of \
                 earlier tasks are not, so it cannot be resumed exactly; restore the data, or start a new run in another \
                 output folder"
                    .to_owned(),
            ));
        }
        self.progress = progress;
        Ok(())
    }

    /// Steps between validations: as the recipe says, else an epoch.
    fn eval_every(&self) -> u64 {
        self.recipe.train.eval_every(self.data.order.len_per_epoch() as u64)
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
