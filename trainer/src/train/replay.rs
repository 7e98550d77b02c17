//! Replay: general conversations that are mixed into every step, so that the model keeps what they exercise.
//!
//! They are prepared as the training data is, with an order of their own that follows from the seed and the step alone.
//! Their answers are the sources', or those of the base, see [`answers`](super::answers).

use datasets::{Cache, ChatTokenizer, DataConfig, DataError, ExampleRef, Hub, Prepared, Progress, SourceConfig};

use super::batch::Objective;
use crate::error::TrainError;
use crate::recipe::{Recipe, ReplayConfig};

/// Added to the run's seed, so that replay and task are shuffled independently.
const SEED_OFFSET: u64 = 0x5265_706c_6179_2121;

/// The conversations that are replayed, and how.
#[derive(Debug)]
pub struct Replay {
    /// The prepared conversations.
    pub data: Prepared,
    /// Conversations added to each step.
    pub per_step: usize,
    /// What they are there for.
    objective: Objective,
}

impl Replay {
    /// Prepares the replayed conversations: those of `sources` where given, else those that the recipe names.
    /// `data.system_prompt` and the validation split belong to the task alone.
    ///
    /// # Errors
    /// As [`datasets::prepare`], with the keys of `forgetting.replay`; [`TrainError::Run`] when nothing is left.
    pub fn prepare(
        recipe: &Recipe,
        config: &ReplayConfig,
        sources: Option<Vec<SourceConfig>>,
        tokenizer: &ChatTokenizer,
        hub: &Hub,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, TrainError> {
        let sources = sources.unwrap_or_else(|| config.sources.clone());
        let data = data_config(recipe, sources);
        let seed = recipe.train.seed.wrapping_add(SEED_OFFSET);
        let data = datasets::prepare(&data, tokenizer, seed, hub, &Cache::from_env(), progress).map_err(in_replay)?;
        if data.train.is_empty() {
            let text =
                "there is nothing to replay: no conversation of forgetting.replay.sources is left after preparation";
            return Err(TrainError::Run(text.to_owned()));
        }
        let objective = Objective::Replay { weight: config.weight, kl_weight: recipe.forgetting.kl_weight };
        Ok(Self { data, per_step: per_step(recipe, config), objective })
    }

    /// The replayed conversations of a step, counted from 0.
    pub fn examples(&self, step: u64) -> Vec<ExampleRef<'_>> {
        self.data.examples_at(step * self.per_step as u64, self.per_step)
    }

    /// What they are there for.
    pub fn objective(&self) -> Objective {
        self.objective
    }

    /// Whether the divergence from the base is computed.
    pub fn has_divergence(&self) -> bool {
        self.objective.kl_weight() > 0.0
    }
}

/// Conversations added to each step; at least one.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most four times the batch size")]
pub fn per_step(recipe: &Recipe, config: &ReplayConfig) -> usize {
    ((config.share * recipe.train.global_batch_size as f64).round() as usize).max(1)
}

/// The recipe's `data` section as it holds for replayed conversations.
pub(super) fn data_config(recipe: &Recipe, sources: Vec<SourceConfig>) -> DataConfig {
    let mut data = recipe.data.clone();
    // The base's own answers have no licence of their own.
    if let Some(screen) = &mut data.screen {
        screen.licences = None;
    }
    let none = DataConfig { select: None, system_prompt: None, ..data };
    DataConfig { train: sources, validation: Vec::new(), validation_fraction: 0.0, ..none }
}

/// An error's key as the recipe has it.
pub(super) fn in_replay(error: DataError) -> TrainError {
    match error {
        DataError::Config { key, got, expected } => {
            let key = key.replacen("train", "forgetting.replay.sources", 1);
            DataError::Config { key, got, expected }.into()
        }
        error => error.into(),
    }
}
