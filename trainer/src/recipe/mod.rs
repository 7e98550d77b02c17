//! The recipe: a complete run as one YAML file.
//!
//! `load` reads the file into a `tree` that remembers lines, lays `overrides` over it and has `typed` turn it into a
//! [`Recipe`]; `ranges` checks the values, `check` the files. Every later part of a run takes its settings from here.
//! The sections of `data` and `lora` belong to their crates; the doc comments of all fields are also the descriptions
//! in the JSON Schema and the comments of `greffon init`.

mod check;
mod cluster;
mod device_name;
mod difference;
mod energy;
mod error;
mod eval;
mod forgetting;
mod hints;
mod init;
mod key_path;
mod load;
mod memory_size;
mod model;
mod overrides;
mod plan;
mod ranges;
mod schema;
mod synth;
#[cfg(test)]
mod tests;
mod tracking;
mod train;
mod tree;
mod typed;

use std::path::{Path, PathBuf};

use adapters::LoraConfig;
use datasets::{DataConfig, SourceConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kernels::Kernels;

pub use check::Report;
pub use cluster::ClusterConfig;
pub use device_name::DeviceName;
pub use difference::{Difference, Differing, differences, first_difference};
pub use energy::EnergyConfig;
pub use error::{FileProblem, Place, Problem, RecipeError};
pub use eval::EvalConfig;
pub use forgetting::{Answers, ForgettingConfig, LimitsConfig, OrthogonalConfig, ReplayConfig, SuiteName};
pub use init::init_recipe;
pub use load::Loaded;
pub(crate) use load::run_name;
pub use memory_size::MemorySize;
pub use model::{ModelConfig, WeightType, is_hub_name, without_folder};
pub use plan::{DeviceConfig, PlanConfig};
pub use schema::{schema, synth_schema};
pub use synth::load_synth;
pub use tracking::{MlflowConfig, PrometheusConfig, TrackingConfig};
pub use train::{ActivationCheckpointing, Schedule, TrainConfig};

/// A complete run: what is trained, on what, how, and where the result goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The base model.
    pub model: ModelConfig,
    /// What the model is trained and validated on.
    pub data: DataConfig,
    /// The adapter.
    #[serde(default)]
    pub lora: LoraConfig,
    /// How the adapter is trained.
    #[serde(default)]
    pub train: TrainConfig,
    /// How base and adapter are compared once the run is over.
    #[serde(default)]
    pub eval: EvalConfig,
    /// How forgetting is measured against the base, limited and held back.
    #[serde(default)]
    pub forgetting: ForgettingConfig,
    /// Where the model runs: flex (the CPU), cuda, cuda:N, vulkan, vulkan:N, webgpu or libtorch; N counts from 0.
    #[serde(default = "default_device")]
    pub device: String,
    /// Which implementation of the hot operators computes the run: fused is fast; bf16 is the fused one with
    /// matrix products in bfloat16 in training (their sums, the adapter, its gradient and the optimizer stay in float32),
    /// up to twice as fast on processors with AVX512-BF16; reference is ordinary tensor operators, slow and
    /// independent of the fused ones, to check them by. A device without fused operators takes the reference.
    #[serde(default)]
    pub kernels: Kernels,
    /// How the processes of one run work together.
    #[serde(default)]
    pub cluster: ClusterConfig,
    /// What the run's energy is reckoned by, and how much it may take.
    #[serde(default)]
    pub energy: EnergyConfig,
    /// What `greffon plan` reckons with. It changes no run.
    #[serde(default)]
    pub plan: PlanConfig,
    /// Where the run reports to beside its own folder: an MLflow server, a file for Prometheus.
    #[serde(default)]
    pub tracking: TrackingConfig,
    /// The folder for the run; relative to the recipe. Without it: `runs/` and the recipe's name (its folder's, when
    /// the file is called recipe.yaml), in the folder where the command is run.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub output: PathBuf,
}

fn default_device() -> String {
    "flex".to_owned()
}

fn is_empty(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl Recipe {
    /// Checks that every value is within its range.
    ///
    /// # Errors
    /// [`RecipeError::OutOfRange`] with every value that is not.
    pub fn validate(&self) -> Result<(), RecipeError> {
        let problems = ranges::Ranges::problems(self);
        if problems.is_empty() { Ok(()) } else { Err(RecipeError::OutOfRange { problems }) }
    }

    /// The questions that base and adapter are compared on: those set aside for it, else the validation data.
    pub fn test_sources(&self) -> &[SourceConfig] {
        if self.eval.test.is_empty() { &self.data.validation } else { &self.eval.test }
    }

    /// The same recipe with every path of a file that it reads as `to` says: the base where it is one, data, adapters,
    /// templates and questions. What is on the hub stays, and so does `output`.
    ///
    /// # Errors
    /// Those of `to`, which gets the key and the path.
    pub fn with_paths<E>(mut self, mut to: impl FnMut(&str, &Path) -> Result<PathBuf, E>) -> Result<Self, E> {
        for (key, path) in load::paths(&mut self) {
            *path = to(&key, path)?;
        }
        if !self.model.is_on_hub() {
            let base = to("model.base", Path::new(&self.model.base))?;
            self.model.base = base.to_string_lossy().into_owned();
        }
        Ok(self)
    }

    /// The recipe as YAML with every default written out. It loads back to an equal recipe from any folder, since
    /// loading has made the paths absolute.
    ///
    /// # Panics
    /// When a path is not UTF-8, which loading refuses.
    pub fn resolved_yaml(&self) -> String {
        let body = serde_saphyr::to_string(self).expect("a loaded recipe is plain data with UTF-8 paths");
        format!("# The recipe as it ran: overrides applied, paths made absolute, every default written out.\n{body}")
    }
}
