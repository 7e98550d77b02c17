//! The recipe's `forgetting` section: what the base could do and the adapted model must still be able to, and how the
//! training holds it back.

use std::path::PathBuf;

use datasets::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// How forgetting is measured against the base, limited and held back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ForgettingConfig {
    /// What base and adapted model are questioned on when the training is over: quick (English and French, a minute or
    /// two a model of 135 M), standard, french, or none.
    pub suite: SuiteName,
    /// Files of further questions, one JSON object a line.
    pub probes: Vec<PathBuf>,
    /// Steps between two measurements during training, at least 1. Without it: at the end only.
    pub every: Option<u64>,
    /// Whether the training ends at the first measurement that is beyond the limits.
    pub early_stop: bool,
    /// What may be lost.
    pub limits: LimitsConfig,
    /// How sure the gate must be that a limit is passed, over all limits together, 0.5 to below 1.
    pub confidence: f64,
    /// General conversations mixed into the training.
    pub replay: Option<ReplayConfig>,
    /// The weight of the Kullback-Leibler divergence from the base, in nats per token, on the replayed conversations; at
    /// least 0, and 0 without `replay`. Learning without forgetting: Li and Hoiem 2016, <https://arxiv.org/abs/1606.09282>.
    pub kl_weight: f64,
    /// The weight of half the squared distance of all trained numbers from their start; at least 0. L2-SP: Li et al. 2018,
    /// <https://arxiv.org/abs/1802.01483>.
    pub l2_weight: f64,
    /// Keeps the adapter's directions apart from those of earlier tasks.
    pub orthogonal: Option<OrthogonalConfig>,
}

/// A set of questions that comes with the program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SuiteName {
    /// English and French, chosen to show forgetting in little time.
    #[default]
    Quick,
    /// English and French, more tasks and more questions.
    Standard,
    /// French alone.
    French,
    /// No questions of the program's own.
    None,
}

impl SuiteName {
    /// As recipes write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::French => "french",
            Self::None => "none",
        }
    }
}

/// What may be lost; null switches a limit off.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The largest drop of a task's accuracy, as a share: 0.05 is five points.
    pub task: Option<f64>,
    /// The largest drop of the mean accuracy over the tasks, as a share.
    pub average: Option<f64>,
    /// The largest rise of a text's bits per byte, as a share of the base's.
    pub bits_per_byte: Option<f64>,
    /// The largest Kullback-Leibler divergence from the base on general text, in nats per token.
    pub kl: Option<f64>,
}

/// General conversations mixed into the training, so that the model keeps what they exercise.
///
/// Sources: Robins 1995, <https://doi.org/10.1080/09540099550039318> (rehearsal); Scialom et al. 2022,
/// <https://arxiv.org/abs/2205.12393>; Huang et al. 2024, <https://arxiv.org/abs/2403.01244> (answers of the model itself).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplayConfig {
    /// The sources of the conversations; at least one.
    pub sources: Vec<SourceConfig>,
    /// How many conversations are added to each step, as a share of `train.global_batch_size`; above 0 and at most 4. At
    /// least one is added.
    #[serde(default = "default_share")]
    pub share: f64,
    /// The weight of their loss beside that of the task, each a mean over its own supervised tokens; at least 0. With 0
    /// they serve `kl_weight` alone.
    #[serde(default = "default_weight")]
    pub weight: f64,
    /// Whose answers are learned: the sources' own, or those that the base gives to their questions before training.
    #[serde(default)]
    pub answers: Answers,
    /// The most tokens of an answer of the base, at least 1.
    #[serde(default = "default_max_new_tokens")]
    pub max_new_tokens: usize,
}

/// Whose answers are replayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Answers {
    /// Those of the sources.
    #[default]
    Own,
    /// Those that the base gives to the last question of each conversation.
    Base,
}

/// O-LoRA: the rows of `A` are held orthogonal to those of adapters of earlier tasks, which the base has folded in.
///
/// Source: Wang et al. 2023, <https://arxiv.org/abs/2310.14152>, equation 7.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OrthogonalConfig {
    /// The PEFT folders of the earlier tasks; at least one.
    pub adapters: Vec<PathBuf>,
    /// The weight of the sum of squares of all products of rows, above 0.
    #[serde(default = "default_orthogonal_weight")]
    pub weight: f64,
}

fn default_share() -> f64 {
    0.25
}

fn default_weight() -> f64 {
    1.0
}

fn default_max_new_tokens() -> usize {
    128
}

fn default_orthogonal_weight() -> f64 {
    0.5
}

impl Default for ForgettingConfig {
    fn default() -> Self {
        Self {
            suite: SuiteName::Quick,
            probes: Vec::new(),
            every: None,
            early_stop: false,
            limits: LimitsConfig::default(),
            confidence: 0.95,
            replay: None,
            kl_weight: 0.0,
            l2_weight: 0.0,
            orthogonal: None,
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { task: Some(0.05), average: Some(0.03), bits_per_byte: Some(0.1), kl: Some(0.5) }
    }
}

impl ForgettingConfig {
    /// Whether anything is asked.
    pub fn is_measured(&self) -> bool {
        self.suite != SuiteName::None || !self.probes.is_empty()
    }

    pub(super) fn validate(&self, ranges: &mut Ranges) {
        let at_least_0 = |value: f64| value >= 0.0 && value.is_finite();
        ranges.check_some("every", self.every, "at least 1, or null", |n| n > 0);
        let expected = "false, since nothing is measured during training; set forgetting.every";
        ranges.check("early_stop", self.early_stop, expected, !self.early_stop || self.every.is_some());
        let LimitsConfig { task, average, bits_per_byte, kl } = self.limits;
        for (key, limit) in [("limits.task", task), ("limits.average", average)] {
            ranges.check_some(key, limit, "a number from 0 to below 1, or null", |limit| (0.0..1.0).contains(&limit));
        }
        for (key, limit) in [("limits.bits_per_byte", bits_per_byte), ("limits.kl", kl)] {
            ranges.check_some(key, limit, "a number of at least 0, or null", at_least_0);
        }
        let confidence = self.confidence;
        ranges.check("confidence", confidence, "a number from 0.5 to below 1", (0.5..1.0).contains(&confidence));
        if let Some(replay) = &self.replay {
            replay.validate(ranges);
        }
        let expected = "a number of at least 0";
        ranges.check("kl_weight", self.kl_weight, expected, at_least_0(self.kl_weight));
        let expected_without = "0, since there is nothing to measure it on; set forgetting.replay";
        let has_texts = self.kl_weight <= 0.0 || self.replay.is_some();
        ranges.check("kl_weight", self.kl_weight, expected_without, has_texts);
        if let Some(replay) = &self.replay {
            let expected = "above 0, since without kl_weight the replayed conversations would serve nothing";
            let serves = replay.weight > 0.0 || self.kl_weight > 0.0;
            ranges.check("replay.weight", replay.weight, expected, serves || replay.weight < 0.0);
        }
        ranges.check("l2_weight", self.l2_weight, expected, at_least_0(self.l2_weight));
        if let Some(OrthogonalConfig { adapters, weight }) = &self.orthogonal {
            ranges.check("orthogonal.adapters", adapters, "at least one folder", !adapters.is_empty());
            ranges.check("orthogonal.weight", *weight, "a number above 0", *weight > 0.0 && weight.is_finite());
        }
    }
}

impl ReplayConfig {
    fn validate(&self, ranges: &mut Ranges) {
        ranges.check("replay.sources", self.sources.len(), "at least one source", !self.sources.is_empty());
        let (share, weight) = (self.share, self.weight);
        ranges.check("replay.share", share, "a number above 0 and at most 4", share > 0.0 && share <= 4.0);
        ranges.check("replay.weight", weight, "a number of at least 0", weight >= 0.0 && weight.is_finite());
        ranges.check("replay.max_new_tokens", self.max_new_tokens, "at least 1", self.max_new_tokens > 0);
    }
}
