//! A run under way: its steps, and what is done between them.

mod measuring;
mod saving;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use adapters::AdapterConfig;
use burn::tensor::Device;
use datasets::{ExampleRef, Prepared};

use self::saving::Kept;
use super::batch::Layout;
use super::checkpoint::{Checkpoints, Progress};
use super::optimizer::{self, AdamW};
use super::pace::Pace;
use super::penalty::Penalties;
use super::replay::Replay;
use super::schedule::learning_rate_factor;
use super::share::{Division, examples_of_step};
use super::step::{self, StepLosses, StepSettings};
use super::{parameters, reduce};
use crate::cluster::Collective;
use crate::energy::{Account, Load, Stage, memory_bytes};
use crate::error::TrainError;
use crate::forgetting::Watch;
use crate::model::Decoder;
use crate::provenance::Recorder;
use crate::recipe::Recipe;
use crate::track::{RunFolder, StepRecord, Tracker};

/// Why training ends before its last step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EarlyStop {
    /// Validation no longer gains.
    Validation,
    /// More was forgotten than the recipe allows.
    Forgetting,
    /// The next step would take more energy than the recipe allows.
    Energy,
}

/// A run under way.
pub(crate) struct Run<'a> {
    pub(crate) recipe: &'a Recipe,
    pub(crate) collective: &'a dyn Collective,
    pub(crate) device: Device,
    pub(crate) decoder: Decoder,
    pub(crate) peft: AdapterConfig,
    pub(crate) data: Arc<Prepared>,
    pub(crate) replay: Option<Arc<Replay>>,
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
    pub(crate) recorder: Option<Arc<Mutex<Recorder>>>,
    pub(crate) pace: Pace,
    pub(crate) energy: Account,
    /// The most kilowatt-hours that a step of this start took, with what was done between it and the one before.
    pub(crate) largest_step: f64,
    /// How busy the steps keep the machine.
    pub(crate) load: Load,
    /// What is being written beside the steps.
    pub(crate) saving: Option<JoinHandle<Result<(), TrainError>>>,
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
                        self.keep(vec![Kept::Checkpoint], trackers)?;
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
                    self.keep(vec![Kept::Checkpoint], trackers)?;
                }
                return Err(TrainError::Interrupted { step: self.progress.step, run: folder.path().to_owned() });
            };
            trackers.iter_mut().try_for_each(|t| t.step(&record))?;
            let slow = record.ranks.as_ref().and_then(|ranks| self.pace.add(ranks, record.seconds));
            if let Some(slow) = slow.filter(|_| self.collective.is_first()) {
                tracing::warn!("{slow}");
            }
            if self.saving.as_ref().is_some_and(JoinHandle::is_finished) {
                // A full disk is told now, not at the next checkpoint.
                self.saved(trackers)?;
            }
            let last = self.progress.step == self.total_steps;
            let (mut patience_over, mut kept) = (false, Vec::new());
            if !self.data.validation.is_empty() && (last || self.progress.step.is_multiple_of(eval_every)) {
                if self.validate(trackers)? {
                    kept.push(Kept::Best);
                }
                let patience = self.recipe.train.early_stopping;
                patience_over = patience.is_some_and(|p| self.progress.evaluations_without_gain >= p);
            }
            let budget_over = !last && self.is_budget_over(record.kwh);
            if last || patience_over || budget_over || self.progress.step.is_multiple_of(save_every) {
                kept.push(Kept::Checkpoint);
                saved = self.progress.step;
            }
            if !kept.is_empty() {
                self.keep(kept, trackers)?;
            }
            if patience_over && !last {
                return Ok(Some(EarlyStop::Validation));
            }
            if budget_over {
                return Ok(Some(EarlyStop::Energy));
            }
        }
        Ok(None)
    }

    /// Makes one optimizer step; `None` when stopped before its end, with nothing changed.
    fn step(&mut self, stop: &AtomicBool) -> Result<Option<StepRecord>, TrainError> {
        let started = Instant::now();
        let index = self.progress.step;
        let train = &self.recipe.train;
        let examples = examples_of_step(&self.data, train.global_batch_size, self.total_examples, index);
        let replayed = self.replay.as_ref().map(|replay| (replay.examples(index), replay.objective()));
        let replayed = replayed.as_ref().map(|(examples, objective)| (&examples[..], *objective));
        let division = Division::new(&examples, replayed, self.collective.ranks(), self.layout);
        let share = division.share(self.collective.rank());
        let settings = StepSettings {
            seed: train.seed,
            step: index,
            dropout: self.recipe.lora.dropout,
            recomputed_blocks: self.recomputed_blocks,
        };
        let stopped = || stop.load(Ordering::Relaxed);
        let Self { decoder, device, .. } = &*self;
        let compute =
            |hand_out: &mut dyn FnMut(_)| step::gradient_parts(decoder, &share, settings, device, &stopped, hand_out);
        let (wire, parts) = (self.recipe.cluster.gradients, parameters::parts(decoder));
        let Some((result, ranks)) = reduce::sum(self.collective, &parts, wire, device, compute)? else {
            return Ok(None);
        };
        let StepLosses { loss, replay_loss, kl } = result.losses;
        let learning_rate = self.learning_rate(index);
        let flat = parameters::flatten(&self.decoder);
        let (penalty, gradient) = self.penalties.add(&flat, result.gradient);
        let norm = optimizer::norm(&gradient);
        for (what, value) in [("replay loss", replay_loss), ("divergence from the base", kl)] {
            let replayed = self.replay.iter().flat_map(|replay| replay.examples(index));
            self.check_finite(what, value.unwrap_or(0.0), index, replayed)?;
        }
        for (what, value) in [("loss", loss), ("penalty", penalty.unwrap_or(0.0)), ("gradient norm", norm)] {
            self.check_finite(what, value, index, examples.iter().cloned())?;
        }
        let scale = optimizer::clip_scale(norm, train.max_grad_norm);
        let updated = self.optimizer.step(flat, gradient, scale, learning_rate);
        parameters::assign(&mut self.decoder, &updated);
        let seconds = started.elapsed().as_secs_f64();
        self.progress.step += 1;
        self.progress.tokens += share.size.tokens as u64;
        self.progress.seconds += seconds;
        let before = self.energy.kwh(&self.recipe.energy);
        self.energy.book(Stage::Train, self.collective)?;
        self.progress.energy = self.energy.of(Stage::Train);
        let kwh = self.energy.kwh(&self.recipe.energy);
        self.largest_step = self.largest_step.max(kwh - before);
        Ok(Some(StepRecord {
            step: self.progress.step,
            loss,
            replay_loss,
            kl,
            penalty,
            gradient_norm: norm,
            learning_rate,
            tokens: share.size.tokens,
            supervised_tokens: share.size.supervised,
            seconds,
            kwh,
            memory: memory_bytes(),
            cpu: self.load.since().1,
            ranks,
        }))
    }

    /// Whether another step could go beyond what the recipe allows, after so many kilowatt-hours.
    fn is_budget_over(&self, kwh: f64) -> bool {
        self.recipe.energy.max_kwh.is_some_and(|most| kwh + self.largest_step > most)
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

    /// The lowest validation loss and its step.
    pub(crate) fn best(&self) -> Option<(f64, u64)> {
        self.progress.best_loss.map(|loss| (loss, self.progress.best_step))
    }

    /// Steps between validations: as the recipe says, else an epoch.
    fn eval_every(&self) -> u64 {
        self.recipe.train.eval_every(self.data.order.len_per_epoch() as u64)
    }
}
