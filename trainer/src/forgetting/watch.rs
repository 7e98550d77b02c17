//! The measurements of one run: its questions, its base and its limits, held together.

use burn::tensor::Device;
use datasets::probes::ProbeItem;
use datasets::{ChatTokenizer, Hub};

use super::cache::{Keys, ScoreCache};
use super::divergence::divergences;
use super::suite::Questions;
use super::{Forgetting, Models, Progress, contaminated, measure};
use crate::cluster::Collective;
use crate::error::TrainError;
use crate::eval::Subject;
use crate::model::{BaseModel, Decoder};
use crate::recipe::{ForgettingConfig, Recipe};

/// Of so many texts one is looked at where a sign of the divergence is enough.
const EVERY: usize = 8;

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
    collective: &'a dyn Collective,
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
        collective: &'a dyn Collective,
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
            collective,
            cache: ScoreCache::from_env(),
            keys: Keys::new(recipe, base)?,
        })
    }

    /// The base.
    pub fn base(&self) -> &Decoder {
        &self.base
    }

    /// A model in training, computed as the base is.
    fn as_asked(&self, adapted: &Decoder) -> Decoder {
        adapted.clone().with_kernels(self.base.kernels)
    }

    /// The mean divergence of a model from the base over some of the texts, in nats per token; 0 without texts.
    ///
    /// # Errors
    /// When a text cannot be tokenised.
    pub fn divergence(&self, adapted: &Decoder) -> Result<f64, TrainError> {
        let texts = self.questions.items.iter().filter(|item| item.question.text().is_some());
        let some: Vec<ProbeItem> = texts.step_by(EVERY).cloned().collect();
        let Self { tokenizer, device, collective, .. } = *self;
        let adapted = self.as_asked(adapted);
        let subject = Subject { decoder: &adapted, tokenizer, device, collective };
        let found = divergences(&subject, &self.base, &some, &mut |_| Ok(()))?;
        let tokens: usize = found.iter().map(|text| text.tokens).sum();
        Ok(found.iter().map(|text| text.sum).sum::<f64>() / tokens.max(1) as f64)
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
        let Self { tokenizer, device, collective, .. } = *self;
        let adapted = &self.as_asked(adapted);
        let models = Models { base: &self.base, adapted, tokenizer, device, collective };
        let found = measure(models, &self.questions, self.config, &self.contaminated, (&self.cache, &keys), progress)?;
        Ok(Forgetting { adapter_digest: adapter_digest.map(str::to_owned), ..found })
    }
}
