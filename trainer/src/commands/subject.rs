//! The model that `generate`, `chat`, `eval` and `merge` work on.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use datasets::Hub;

use super::progress;
use crate::cli::ModelArgs;
use crate::device;
use crate::error::TrainError;
use crate::kernels::Kernels;
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
        let (model, template, adapter, kernels) = match (&args.run, &args.model) {
            (Some(run), _) => {
                let folder = RunFolder::open(run.clone())?;
                let loaded = run_recipe(&folder, &[])?;
                let adapter = args.adapter.clone().unwrap_or_else(|| folder.adapter());
                let Recipe { model, data, kernels, .. } = loaded.recipe;
                (model, data.chat_template, Some(adapter), kernels)
            }
            (None, Some(name)) => {
                let model = ModelConfig { revision: args.revision.clone(), ..ModelConfig::new(name) };
                (model, None, args.adapter.clone(), Kernels::default())
            }
            (None, None) => return Err(TrainError::Run("name a model with --model or a run with --run".to_owned())),
        };
        let device = device::open(&args.device)?;
        let base = BaseModel::open(&model, template.as_deref(), &progress::hub())?;
        let mut decoder = base.decoder(&device)?.with_kernels(kernels.for_questions());
        if let Some(folder) = adapter.filter(|_| !args.base) {
            adapter::load(&mut decoder, &folder, &device)?;
        }
        Ok(Self { base, decoder, device })
    }
}

/// A recipe whose adapter is compared with its base: `eval` and `forgetting`.
pub(super) struct Comparing {
    /// The run folder, where one was named.
    pub(super) run: Option<RunFolder>,
    pub(super) recipe: Recipe,
    /// The folder of the adapter.
    pub(super) adapter: PathBuf,
}

impl Comparing {
    /// The recipe or run folder `subject`; `adapter` instead of the run's own.
    pub(super) fn open(subject: &Path, adapter: Option<&PathBuf>, overrides: &[String]) -> Result<Self, TrainError> {
        let run = if subject.is_dir() { Some(RunFolder::open(subject.to_owned())?) } else { None };
        let loaded = match &run {
            Some(run) => run_recipe(run, overrides)?,
            None => Recipe::load(subject, overrides)?,
        };
        let Some(adapter) = adapter.cloned().or_else(|| Some(run.as_ref()?.adapter())) else {
            let reason = "a recipe alone has no adapter to compare; name one with --adapter, or give the run folder";
            return Err(TrainError::Run(reason.to_owned()));
        };
        if let Some(run) = run.as_ref().filter(|run| run.adapter() == adapter && !adapter.exists()) {
            let path = run.path().display();
            let reason = format!(
                "{path} has no adapter yet, since the run is not over; go on with greffon train --resume {path}"
            );
            return Err(TrainError::Run(reason));
        }
        Ok(Self { run, recipe: loaded.recipe, adapter })
    }

    /// The base of the recipe.
    pub(super) fn base(&self, hub: &Hub) -> Result<BaseModel, TrainError> {
        BaseModel::open(&self.recipe.model, self.recipe.data.chat_template.as_deref(), hub)
    }

    /// The base's decoder, then the adapted one.
    pub(super) fn decoders(&self, base: &BaseModel, device: &Device) -> Result<(Decoder, Decoder), TrainError> {
        let plain = base.decoder(device)?.with_kernels(self.recipe.kernels.for_questions());
        let mut adapted = plain.clone();
        adapter::load(&mut adapted, &self.adapter, device)?;
        Ok((plain, adapted))
    }
}

/// The resolved recipe of a run, with its paths as the run saw them.
pub(super) fn run_recipe(folder: &RunFolder, overrides: &[String]) -> Result<Loaded, TrainError> {
    Ok(Recipe::load(&folder.recipe(), overrides)?)
}
