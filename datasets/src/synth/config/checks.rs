//! What of a set is asked back: of the teacher, and of the model that will learn it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LocalConfig;

/// The teacher answers each question several times; a sample stays where enough of the answers agree with its own.
///
/// Source: Wang et al. 2022, <https://arxiv.org/abs/2203.11171>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ConsistencyConfig {
    /// Answers to each question, at least 1.
    pub answers: usize,
    /// The least share of them that agree, above 0 to 1.
    pub share: f64,
    /// The least F1 of answers that agree, above 0 to 1.
    pub f1: f64,
    /// 0 to 5; above 0 where there are several answers.
    pub temperature: f64,
}

impl Default for ConsistencyConfig {
    fn default() -> Self {
        Self { answers: 3, share: 0.5, f1: 0.5, temperature: 0.7 }
    }
}

/// The teacher grades each sample from 1 to 5 by a written grid: whether the answer is faithful to the passage, or right
/// where there is none, and whether the question is relevant and can be understood.
///
/// Source: Zheng et al. 2023, <https://arxiv.org/abs/2306.05685>; Liu et al. 2023, <https://arxiv.org/abs/2303.16634>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// The least grade for faithfulness, 1 to 5.
    pub faithfulness: u8,
    /// The least grade for relevance, 1 to 5.
    pub relevance: u8,
    /// Also compares what was made from another sample with that one, in both orders, and leaves it out where it is the
    /// worse one both times.
    pub pairwise: bool,
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self { faithfulness: 4, relevance: 4, pairwise: false }
    }
}

/// The loss of a base model on the answer, in nats per token: what it says by itself teaches nothing, and what it finds
/// impossible is mostly wrong.
///
/// Source: Marion et al. 2023, <https://arxiv.org/abs/2309.04564>; Li et al. 2023, <https://arxiv.org/abs/2308.12032>.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DifficultyConfig {
    /// The model that will learn the set.
    pub model: LocalConfig,
    /// The least loss, at least 0.
    #[serde(default)]
    pub least: f64,
    /// The greatest loss; null for any.
    #[serde(default)]
    pub most: Option<f64>,
}
