//! The recipe's `eval` section: the questions that `greffon eval` asks, and how.

use datasets::SourceConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ranges::Ranges;

/// How base and adapter are compared once the run is over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// The sources of the test questions, which must not be trained on. When empty, the validation sources are asked.
    pub test: Vec<SourceConfig>,
    /// The most tokens of an answer, at least 1.
    pub max_new_tokens: usize,
    /// Prompts answered at a time, at least 1. It costs memory and buys speed.
    pub batch_size: usize,
    /// 0 takes the most probable token each time; above it, up to 10, tokens are drawn.
    pub temperature: f64,
    /// Asks only the first n questions, at least 1. Without it: all.
    pub limit: Option<usize>,
    /// Keys of the questions' records, such as `layout`: answers are compared for each value by itself too. Those of several
    /// files are compared file by file in any case.
    pub group_by: Vec<String>,
    /// Training conversations that the base is shown before each question, at most 64: what a prompt can do without
    /// training. The adapter is shown none, and the loss is not compared.
    pub num_fewshot: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            test: Vec::new(),
            max_new_tokens: 64,
            batch_size: 8,
            temperature: 0.0,
            limit: None,
            group_by: Vec::new(),
            num_fewshot: 0,
        }
    }
}

impl EvalConfig {
    pub(super) fn validate(&self, ranges: &mut Ranges) {
        ranges.check("max_new_tokens", self.max_new_tokens, "at least 1", self.max_new_tokens > 0);
        ranges.check("batch_size", self.batch_size, "at least 1", self.batch_size > 0);
        let temperature = self.temperature;
        ranges.check("temperature", temperature, "a number from 0 to 10", (0.0..=10.0).contains(&temperature));
        let num_fewshot = self.num_fewshot;
        ranges.check("num_fewshot", num_fewshot, "at most 64 conversations", num_fewshot <= 64);
        ranges.check_some("limit", self.limit, "at least 1, or null", |n| n > 0);
    }
}
