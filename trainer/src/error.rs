//! Everything that can go wrong in a run, named with its place.

use std::path::{Path, PathBuf};

use crate::recipe::RecipeError;

/// An error of the trainer.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The data.
    #[error(transparent)]
    Data(#[from] datasets::DataError),
    /// An adapter or a weight file.
    #[error(transparent)]
    Adapter(#[from] adapters::AdapterError),
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder could not be written.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The model's configuration cannot be used.
    #[error("{}: {reason}", path.display())]
    ModelConfig {
        /// The file.
        path: PathBuf,
        /// Key, value, expectation.
        reason: String,
    },
    /// The base's weights are not what its configuration says.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The folder or file.
        path: PathBuf,
        /// Tensor, value, expectation.
        reason: String,
    },
    /// The base was not found.
    #[error("base model \"{base}\": {reason}")]
    Base {
        /// As the recipe names it.
        base: String,
        /// What was looked for, and the remedy.
        reason: String,
    },
    /// The device cannot be used by this build.
    #[error("device \"{device}\": {reason}")]
    Device {
        /// As the recipe names it.
        device: String,
        /// Why, and the remedy.
        reason: String,
    },
    /// The adapter does not fit the base.
    #[error("adapter {}: {reason}", path.display())]
    AdapterMismatch {
        /// The adapter's folder.
        path: PathBuf,
        /// Module, value, expectation.
        reason: String,
    },
    /// The loss or a gradient is not a number.
    #[error(
        "{what} is {value} at step {step} (learning rate {learning_rate:e}); first examples: {examples}. \
             lower train.learning_rate, or look at these examples with `greffon data preview`"
    )]
    NotFinite {
        /// `loss`, `gradient norm`, `validation loss` and the like.
        what: &'static str,
        /// NaN or an infinity.
        value: f64,
        /// The optimizer step.
        step: u64,
        /// The learning rate of the step.
        learning_rate: f64,
        /// The first examples that took part, by place.
        examples: String,
    },
    /// A check does not let something pass.
    #[error("{0}")]
    Refused(String),
    /// A run cannot start or go on.
    #[error("{0}")]
    Run(String),
    /// A checkpoint cannot be used.
    #[error("checkpoint {}: {reason}", path.display())]
    Checkpoint {
        /// The checkpoint's folder.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A server does not answer, or not as expected.
    #[error("server {address}: {reason}")]
    Server {
        /// Its address.
        address: String,
        /// What it does, what was expected, and the remedy.
        reason: String,
    },
    /// A server did not take what a run has for it; nothing is lost.
    #[error(
        "server {address}: {reason}, {attempts} times; nothing is lost, try again later: greffon track sync {}",
        run.display()
    )]
    NotDelivered {
        /// Its address.
        address: String,
        /// What it does.
        reason: String,
        /// How often it was tried.
        attempts: u32,
        /// The run folder.
        run: PathBuf,
    },
    /// The processes of a run cannot work together.
    #[error("rank {rank} of {ranks}: {reason}")]
    Cluster {
        /// The process that says so, counted from 0.
        rank: usize,
        /// How many were started.
        ranks: usize,
        /// Why, and the remedy.
        reason: String,
    },
    /// A scheduler does not answer, or not as expected.
    #[error("{program}: {reason}")]
    Scheduler {
        /// Its program.
        program: &'static str,
        /// What it says.
        reason: String,
    },
    /// The state of a run could not be written; what was saved before is whole.
    #[error(
        "could not save after step {step}: {reason}; what was saved before is whole. {remedy}, then go on: \
         greffon train --resume {}",
        run.display()
    )]
    NotSaved {
        /// The last optimizer step made.
        step: u64,
        /// What could not be written, and why.
        reason: String,
        /// What to do about it.
        remedy: &'static str,
        /// The run folder.
        run: PathBuf,
    },
    /// Ctrl-C, before there was a state to save.
    #[error("stopped before the first step; nothing was saved, start the run again")]
    StoppedBeforeStart,
    /// Another process of the run was stopped.
    #[error("stopped")]
    Stopped,
    /// Ctrl-C, after the state was saved.
    #[error("stopped after step {step}; everything is saved. to go on: greffon train --resume {}", run.display())]
    Interrupted {
        /// The last finished optimizer step.
        step: u64,
        /// The run folder.
        run: PathBuf,
    },
}

impl TrainError {
    /// Whether it says that somebody wanted an end.
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Interrupted { .. } | Self::StoppedBeforeStart | Self::Stopped)
    }

    /// The process's exit code: 2 for input that must be mended, 3 for what a check refuses, 130 after Ctrl-C, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        match self {
            error if error.is_stop() => 130,
            Self::Refused(_)
            | Self::Adapter(adapters::AdapterError::Signature { .. })
            | Self::Data(datasets::DataError::Screen(
                datasets::ScreenError::Refused { .. } | datasets::ScreenError::Licence { .. },
            )) => 3,
            Self::NotFinite { .. }
            | Self::NotSaved { .. }
            | Self::NotDelivered { .. }
            | Self::Scheduler { .. }
            | Self::Data(datasets::DataError::Synth(datasets::SynthError::Teacher { .. })) => 1,
            error if error.is_write() => 1,
            _ => 2,
        }
    }

    /// Whether something could not be written, such as on a full disk.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Write { .. } | Self::Data(datasets::DataError::Write { .. }) => true,
            Self::Adapter(error) => error.is_write(),
            _ => false,
        }
    }

    /// A failed write of a run's state as such, and whatever fails when the run's folder is gone; other errors as they
    /// are.
    #[must_use]
    pub fn not_saved(self, step: u64, run: &Path) -> Self {
        if matches!(self, Self::NotSaved { .. }) || !self.is_write() && run.is_dir() {
            return self;
        }
        let remedy = if run.is_dir() { "make room" } else { "its folder is gone: bring it back, or mount it again" };
        Self::NotSaved { step, reason: self.with_causes(), remedy, run: run.to_owned() }
    }

    /// The message with its causes, as the command prints it.
    pub fn with_causes(&self) -> String {
        datasets::with_causes(self)
    }
}
