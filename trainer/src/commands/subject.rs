//! The model that `generate`, `chat`, `eval` and `merge` work on.

use std::path::Path;

use burn::tensor::Device;

use super::progress;
use crate::cli::ModelArgs;
use crate::device;
use crate::error::TrainError;
use crate::model::{BaseModel, Decoder, adapter};
use crate::recipe::{Loaded, ModelConfig, Recipe};
use crate::track::RunFolder;

/// A loaded model.
pub(super) struct Loading {
    pub(super) base: BaseModel,
    pub(super) decoder: Decoder,
    pub(super) device: Device,
}

impl Loading {
    /// Loads the model that the arguments name.
    pub(super) fn from_args(args: &ModelArgs) -> Result<Self, TrainError> {
        let (model, template, adapter) = match (&args.run, &args.model) {
            (Some(run), _) => {
                let folder = RunFolder::open(run.clone())?;
                let loaded = run_recipe(&folder, &[])?;
                let adapter = args.adapter.clone().unwrap_or_else(|| folder.adapter());
                (loaded.recipe.model, loaded.recipe.data.chat_template, Some(adapter))
            }
            (None, Some(name)) => {
                let model = ModelConfig { revision: args.revision.clone(), ..ModelConfig::new(name) };
                (model, None, args.adapter.clone())
            }
            (None, None) => return Err(TrainError::Run("name a model with --model or a run with --run".to_owned())),
        };
        let device = device::open(&args.device)?;
        let base = BaseModel::open(&model, template.as_deref(), &progress::hub())?;
        let mut decoder = base.decoder(&device)?;
        if let Some(folder) = adapter.filter(|_| !args.base) {
            adapter::load(&mut decoder, &folder, &device)?;
        }
        Ok(Self { base, decoder, device })
    }
}

/// The resolved recipe of a run, with its paths as the run saw them.
pub(super) fn run_recipe(folder: &RunFolder, overrides: &[String]) -> Result<Loaded, TrainError> {
    Ok(Recipe::load(&folder.recipe(), overrides)?)
}

/// Whether a path is a run folder rather than a recipe.
pub(super) fn is_run(path: &Path) -> bool {
    path.is_dir()
}
