//! What a run writes, and how it takes it up again.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use adapters::Init;
use rayon::ThreadPoolBuilder;

use super::{EarlyStop, Run};
use crate::cluster::from_first;
use crate::device::read;
use crate::energy::{EnergyRecord, Stage};
use crate::error::TrainError;
use crate::model::{BaseModel, adapter};
use crate::provenance::Recorder;
use crate::track::{RunFolder, RunInfo, RunStatus, Tracker};
use crate::train::checkpoint::ADAPTER;
use crate::train::{parameters, reduce};

/// An adapter that is kept during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// With all that the run goes on from.
    Checkpoint,
    /// That with the lowest validation loss so far.
    Best,
    /// The last that the forgetting gate let pass.
    WithinLimits,
}

impl Run<'_> {
    /// Writes what was learned from so far into the run folder.
    pub(crate) fn record(&mut self) -> Result<(), TrainError> {
        let Some(recorder) = &self.recorder else { return Ok(()) };
        locked(recorder).write(&self.data, self.replay.as_deref(), self.progress.step)
    }

    /// Writes the adapter as it is now beside the steps that follow, in this order for each of what it is kept; before it
    /// what it learned from, so that no adapter ever knows more than the record says.
    pub(super) fn keep(&mut self, kept: Vec<Kept>, trackers: &mut [Box<dyn Tracker>]) -> Result<(), TrainError> {
        let started = Instant::now();
        if kept.contains(&Kept::Checkpoint) {
            self.check_ranks()?;
        }
        self.saved(trackers)?;
        let Some(recorder) = self.recorder.clone() else { return Ok(()) };
        // The tensors are shared, not copied: the next step writes into new ones.
        let (checkpoints, decoder, peft) = (self.checkpoints.clone(), self.decoder.inner(), self.peft.clone());
        let (optimizer, progress) = (self.optimizer.clone(), self.progress.clone());
        let (data, replay) = (Arc::clone(&self.data), self.replay.clone());
        self.saving = Some(thread::spawn(move || {
            // A pool of its own: the threads of the steps are busy, and the one that waits for this is among them.
            let pool = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
            pool.expect("this thread is new, so in no pool");
            let mut recorder = locked(&recorder);
            let write = || {
                recorder.write(&data, replay.as_deref(), progress.step)?;
                kept.into_iter().try_for_each(|kept| {
                    let adapter = match kept {
                        Kept::Checkpoint => checkpoints.save(&decoder, &peft, &optimizer, &progress)?.join(ADAPTER),
                        Kept::Best => checkpoints.save_adapter(checkpoints.best(), &decoder, &peft)?,
                        Kept::WithinLimits => checkpoints.save_adapter(checkpoints.within_limits(), &decoder, &peft)?,
                    };
                    recorder.carry(None, &adapter)
                })
            };
            write().map_err(|error| error.not_saved(progress.step, checkpoints.run()))
        }));
        for tracker in trackers {
            let (step, seconds) = (self.progress.step, started.elapsed().as_secs_f64());
            tracker.note(&format!("saving step {step}; the steps waited {seconds:.3} s"));
        }
        Ok(())
    }

    /// Waits for what is being written.
    pub(super) fn saved(&mut self, trackers: &mut [Box<dyn Tracker>]) -> Result<(), TrainError> {
        let Some(saving) = self.saving.take() else { return Ok(()) };
        saving.join().unwrap_or_else(|panic| resume_unwind(panic))?;
        for tracker in trackers {
            tracker.note("saved");
        }
        Ok(())
    }

    /// Notes how the steps ended.
    pub(crate) fn note_end(
        &mut self,
        ended: &Result<Option<EarlyStop>, TrainError>,
        info: &mut RunInfo,
        folder: &RunFolder,
    ) -> Result<(), TrainError> {
        let (status, reason) = match ended {
            Ok(_) => (RunStatus::Finished, None),
            Err(TrainError::Interrupted { .. }) => (RunStatus::Interrupted, None),
            Err(error) => (RunStatus::Failed, Some(error.with_causes())),
        };
        info.update(status, self.progress.step, self.best(), reason);
        self.record()?;
        if status == RunStatus::Failed {
            // The others may not know of it, and wait for nothing more.
            return if self.collective.is_first() { folder.save_info(info) } else { Ok(()) };
        }
        // What came after the last step, such as its validation.
        self.note_energy(Stage::Train, info, folder).map(drop)
    }

    /// Books what all ranks took since the last time, and notes all that is booked.
    pub(crate) fn note_energy(
        &mut self,
        stage: Stage,
        info: &mut RunInfo,
        folder: &RunFolder,
    ) -> Result<EnergyRecord, TrainError> {
        self.energy.book(stage, self.collective)?;
        let record = self.energy.record(&self.recipe.energy, self.progress.tokens);
        info.energy = Some(record.clone());
        if self.collective.is_first() {
            folder.save_info(info)?;
        }
        Ok(record)
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
            let carry = |recorder: &Arc<_>| locked(recorder).carry(kept.as_deref(), &folder.adapter());
            adapter::save(&self.decoder, &self.peft, &folder.adapter(), true)
                .and_then(|()| self.recorder.as_ref().map_or(Ok(()), carry))
                .map_err(|error| self.explain(error, folder))
        })
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

    /// Says of a failed write what is left and how to go on.
    pub(crate) fn explain(&self, error: TrainError, folder: &RunFolder) -> TrainError {
        error.not_saved(self.progress.step, folder.path())
    }
}

/// One at a time asks for it: whatever is being written is waited for before more is.
fn locked(recorder: &Mutex<Recorder>) -> MutexGuard<'_, Recorder> {
    recorder.lock().unwrap_or_else(PoisonError::into_inner)
}
