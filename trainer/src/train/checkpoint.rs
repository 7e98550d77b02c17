//! Checkpoints: the adapter as a PEFT folder, and the optimizer's state beside it.
//!
//! Every file of a checkpoint is written into a temporary folder, synced, and the folder renamed into place, so a
//! checkpoint is there as a whole or not at all. Data order and dropout follow from the seed and the step, so this is
//! all that a resumed run needs.

use std::fs;
use std::path::{Path, PathBuf};

use adapters::export::safetensors::NamedTensor;
use adapters::{AdapterConfig, SafetensorsFile, export};
use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::optimizer::AdamW;
use crate::device::read;
use crate::energy::Energy;
use crate::error::TrainError;
use crate::model::{Decoder, adapter};

/// What a run knows of itself between two steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Optimizer steps made.
    pub step: u64,
    /// Tokens trained on, prompts included.
    pub tokens: u64,
    /// Seconds spent in steps.
    pub seconds: f64,
    /// The lowest validation loss so far, in nats per supervised token.
    pub best_loss: Option<f64>,
    /// The step of the lowest validation loss.
    pub best_step: u64,
    /// Evaluations since the lowest validation loss.
    pub evaluations_without_gain: u64,
    /// The step after which forgetting was measured last.
    #[serde(default)]
    pub measured_step: u64,
    /// What the steps took.
    #[serde(default)]
    pub energy: Energy,
    /// Digest of the examples and of the settings that decide the numbers.
    pub fingerprint: String,
}

/// The folder of a checkpoint's adapter.
pub(crate) const ADAPTER: &str = "adapter";
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.safetensors";
const BEST: &str = "best";
const WITHIN_LIMITS: &str = "within-limits";

/// Whether a name is one of what lies among checkpoints.
pub(crate) fn is_kept(name: &str) -> bool {
    is_step(name) || [BEST, WITHIN_LIMITS].contains(&name)
}

/// Whether a name is a checkpoint's.
fn is_step(name: &str) -> bool {
    name.strip_prefix("step-").is_some_and(|step| step.bytes().all(|b| b.is_ascii_digit()))
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
}

impl Checkpoints {
    /// The checkpoints in a folder, of which the newest `keep` stay.
    pub fn new(folder: PathBuf, keep: usize) -> Self {
        Self { folder, keep }
    }

    /// The folder of the run.
    pub fn run(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    /// The adapter with the lowest validation loss.
    pub fn best(&self) -> PathBuf {
        self.folder.join(BEST)
    }

    /// The last adapter that the forgetting gate let pass.
    pub fn within_limits(&self) -> PathBuf {
        self.folder.join(WITHIN_LIMITS)
    }

    /// Writes an adapter that is kept beside the checkpoints, and gives its folder.
    ///
    /// # Errors
    /// When a file cannot be written; the previous one stays.
    pub fn save_adapter(&self, to: PathBuf, decoder: &Decoder, config: &AdapterConfig) -> Result<PathBuf, TrainError> {
        adapter::save(decoder, config, &to, true)?;
        Ok(to)
    }

    /// Writes a checkpoint, then removes those beyond `keep`.
    ///
    /// # Errors
    /// When a file cannot be written; the previous checkpoints stay.
    pub fn save(
        &self,
        decoder: &Decoder,
        config: &AdapterConfig,
        optimizer: &AdamW,
        progress: &Progress,
    ) -> Result<PathBuf, TrainError> {
        let target = self.folder.join(format!("step-{:08}", progress.step));
        adapters::write_folder_atomic(&target, true, |folder| {
            adapter::save(decoder, config, &folder.join(ADAPTER), false)?;
            export::safetensors::write(&folder.join(OPTIMIZER), moments(optimizer), None)?;
            let state = serde_json::to_vec_pretty(progress)
                .map_err(|e| TrainError::Write { path: folder.join(STATE), source: e.into() })?;
            Ok::<_, TrainError>(adapters::write_atomic(&folder.join(STATE), false, |out| out.write_all(&state))?)
        })?;
        for old in self.list().into_iter().rev().skip(self.keep.max(1)) {
            fs::remove_dir_all(&old).map_err(|source| TrainError::Write { path: old.clone(), source })?;
        }
        Ok(target)
    }

    /// The checkpoints, oldest first.
    pub fn list(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(&self.folder)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(is_step))
            .map(|entry| entry.path())
            .collect();
        found.sort();
        found
    }

    /// The adapter of the newest checkpoint.
    pub fn last_adapter(&self) -> Option<PathBuf> {
        self.list().pop().map(|folder| folder.join(ADAPTER))
    }

    /// Loads the newest checkpoint that is whole; a damaged one is passed over with a warning.
    ///
    /// # Errors
    /// The error of the newest checkpoint when none can be loaded; [`TrainError::Checkpoint`] when there is none.
    pub fn resume(
        &self,
        decoder: &mut Decoder,
        optimizer: &mut AdamW,
        device: &Device,
    ) -> Result<Progress, TrainError> {
        let mut first_error = None;
        for folder in self.list().into_iter().rev() {
            match load(&folder, decoder, optimizer, device) {
                Ok(progress) => return Ok(progress),
                Err(error) => {
                    tracing::warn!(
                        "checkpoint {} is damaged, trying the one before: {}",
                        folder.display(),
                        error.with_causes()
                    );
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(|| TrainError::Checkpoint {
            path: self.folder.clone(),
            reason: "there is no checkpoint to resume from; start the run again with --force".to_owned(),
        }))
    }
}

fn load(folder: &Path, decoder: &mut Decoder, optimizer: &mut AdamW, device: &Device) -> Result<Progress, TrainError> {
    let fail = |reason: String| TrainError::Checkpoint { path: folder.to_owned(), reason };
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map_err(|source| TrainError::Read { path, source })
    };
    let progress: Progress =
        serde_json::from_slice(&read(STATE)?).map_err(|e| fail(format!("{STATE} is not readable: {e}")))?;
    let moments = SafetensorsFile::open(folder.join(OPTIMIZER))?;
    let count = optimizer.exp_avg.dims()[0];
    let moment = |name: &str| {
        let shape = moments.shape(name)?;
        if shape != [count] {
            return Err(fail(format!(
                "{OPTIMIZER}: {name} has shape {shape:?}, expected [{count}] for this recipe's adapter"
            )));
        }
        Ok(Tensor::from_data(TensorData::new(moments.f32(name)?, [count]), device))
    };
    let (exp_avg, exp_avg_sq) = (moment("exp_avg")?, moment("exp_avg_sq")?);
    adapter::load(decoder, &folder.join(ADAPTER), device)?;
    optimizer.exp_avg = exp_avg;
    optimizer.exp_avg_sq = exp_avg_sq;
    optimizer.updates = progress.step;
    Ok(progress)
}

fn moments(optimizer: &AdamW) -> Vec<NamedTensor<'static>> {
    let moment = |name: &str, tensor: &Tensor<1>| {
        let values = read(tensor.clone());
        NamedTensor { name: name.to_owned(), shape: vec![values.len()], values: values.into() }
    };
    vec![moment("exp_avg", &optimizer.exp_avg), moment("exp_avg_sq", &optimizer.exp_avg_sq)]
}
