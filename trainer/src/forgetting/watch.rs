//! The measurements of one run: its questions, its base and its limits, held together.

use burn::tensor::Device;
use datasets::{ChatTokenizer, Hub};

use super::cache::ScoreCache;
use super::suite::Questions;
use super::{Forgetting, Keys, Models, Progress, contaminated, measure};
use crate::error::TrainError;
use crate::model::{BaseModel, Decoder};
use crate::recipe::{ForgettingConfig, Recipe};

/// What a run is measured by.
pub struct Watch<'a> {
    /// What the recipe says.
    pub config: &'a ForgettingConfig,
    questions: Questions,
    /// Questions that the training data holds, by name.
    contaminated: Vec<String>,
    base: Decoder,
    tokenizer: &'a ChatTokenizer,
    device: &'a Device,
    cache: ScoreCache,
    keys: Keys,
}

impl<'a> Watch<'a> {
    /// Reads the questions and compares them with the training data. `decoder` is the base without adapter.
    ///
    /// # Errors
    /// The first line of a file that is no question; a source that cannot be read.
    pub fn open(
        recipe: &Recipe,
        config: &'a ForgettingConfig,
        base: &'a BaseModel,
        decoder: Decoder,
        device: &'a Device,
        hub: &Hub,
    ) -> Result<Self, TrainError> {
        let questions = Questions::open(config)?;
        let contaminated = contaminated(&questions, recipe, hub)?;
        Ok(Self {
            config,
            contaminated,
            questions,
            base: decoder,
            tokenizer: &base.tokenizer,
            device,
            cache: ScoreCache::from_env(),
            keys: Keys::new(recipe, base)?,
        })
    }

    /// The base.
    pub fn base(&self) -> &Decoder {
        &self.base
    }

    /// Measures an adapted model, outside autodiff. With the digest of the adapter's files its answers are kept.
    ///
    /// # Errors
    /// When a text cannot be tokenised; whatever `progress` ends the work with.
    pub fn measure(
        &self,
        adapted: &Decoder,
        adapter_digest: Option<&str>,
        progress: &mut dyn FnMut(Progress) -> Result<(), TrainError>,
    ) -> Result<Forgetting, TrainError> {
        let keys = self.keys.with_adapter(adapter_digest);
        let models = Models { base: &self.base, adapted, tokenizer: self.tokenizer, device: self.device };
        let found = measure(models, &self.questions, self.config, &self.contaminated, (&self.cache, &keys), progress)?;
        Ok(Forgetting { adapter_digest: adapter_digest.map(str::to_owned), ..found })
    }
}
