//! What counts as a near-duplicate, as recipes and the command line say it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// The lowest threshold: below it, most texts of one language would be compared with each other.
const LOWEST: f64 = 0.2;
/// The largest shingle.
const LARGEST: usize = 16;

/// Which texts count as near-duplicates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DedupConfig {
    /// The share of shingles that two texts have in common (Jaccard similarity) from which they are near-duplicates, from
    /// 0.2 to 1; 1 means equal but for case, punctuation and white space.
    #[serde(default = "default_threshold")]
    pub threshold: f64,
    /// What a shingle is a run of.
    #[serde(default)]
    pub shingle: Shingle,
    /// How many words or characters a shingle has, from 1 to 16. A text of fewer is one shingle.
    #[serde(default = "default_size")]
    pub size: usize,
    /// Which turns of a conversation are compared.
    #[serde(default)]
    pub compare: Compare,
}

/// What a shingle is a run of. Words are runs of letters and digits in lower case with their accents; all between them
/// counts as one space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shingle {
    /// Of words.
    #[default]
    Words,
    /// Of characters: for languages that do not set words apart, and for very short texts.
    Characters,
}

/// Which turns of a conversation are compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compare {
    /// Those of the user and those of the assistant; a near-duplicate is one in both.
    #[default]
    Both,
    /// Those of the user: different answers to the same question are near-duplicates.
    Prompt,
    /// Those of the assistant.
    Answer,
}

fn default_threshold() -> f64 {
    0.8
}

fn default_size() -> usize {
    3
}

impl Default for DedupConfig {
    fn default() -> Self {
        Self {
            threshold: default_threshold(),
            shingle: Shingle::default(),
            size: default_size(),
            compare: Compare::default(),
        }
    }
}

impl DedupConfig {
    /// Checks the ranges; `key` is where the configuration stands, for example `dedup`.
    ///
    /// # Errors
    /// [`DataError::Config`] with the key, the value got and what was expected.
    pub fn validate(&self, key: &str) -> Result<(), DataError> {
        let refused = |name: &str, got: String, expected: String| {
            Err(DataError::Config { key: format!("{key}.{name}"), got, expected })
        };
        if !(LOWEST..=1.0).contains(&self.threshold) {
            return refused("threshold", self.threshold.to_string(), format!("a number from {LOWEST} to 1"));
        }
        if !(1..=LARGEST).contains(&self.size) {
            return refused("size", self.size.to_string(), format!("a number from 1 to {LARGEST}"));
        }
        Ok(())
    }
}
