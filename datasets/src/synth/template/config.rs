//! The configuration of documents made by templates.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;

/// Documents made from a schema and layouts, with questions whose answers are known since the values are; no teacher is
/// asked.
///
/// The document is made from the values, so that the labels are exact, as in synthetic data for document understanding
/// (Kim et al. 2022, <https://arxiv.org/abs/2111.15664>); its layouts and noise are drawn widely, so that what is learned
/// holds for documents that were not made (domain randomisation, Tobin et al. 2017, <https://arxiv.org/abs/1703.06907>).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TemplateConfig {
    /// The schema: a YAML or JSON file with fields, layouts and questions.
    pub schema: PathBuf,
    /// How many documents, at least 1.
    pub documents: usize,
    /// Questions to each document, at least 1; a document is never asked the same twice.
    #[serde(default = "default_questions")]
    pub questions_per_document: usize,
    /// The share of the values asked for that a document leaves out, so that their question has no answer in it, 0 to
    /// below 1.
    #[serde(default = "default_omit")]
    pub omit: f64,
    /// What happens to some of the documents, as when paper is read by a machine.
    #[serde(default)]
    pub noise: NoiseConfig,
}

/// Noise in documents. An answer is what stands in the document then.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NoiseConfig {
    /// The share of documents that have noise, 0 to 1.
    pub share: f64,
    /// Letters lose their accents.
    pub accents: Mode,
    /// Lines are in upper case.
    pub upper_case: Mode,
    /// Letters and digits are taken for such as look alike: O and 0, l and 1, S and 5, rn and m.
    pub confusions: Mode,
    /// Spaces are doubled or lost; never inside of values.
    pub spaces: Mode,
    /// Lines are broken at spaces; never inside of values.
    pub line_breaks: Mode,
}

/// One way in which a document is spoiled.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mode {
    /// The share of the documents with noise that are spoiled in this way, 0 to 1.
    pub share: f64,
    /// The share of the places where it may happen at which it does, 0 to 1.
    #[serde(default = "everywhere")]
    pub rate: f64,
    /// Whether it happens in values too, and not only in the words around them.
    #[serde(default)]
    pub values: bool,
}

impl TemplateConfig {
    /// Checks the ranges; `key` is where the configuration stands, for example `steps[0].template`.
    ///
    /// # Errors
    /// [`DataError::Config`] with the key, the value got and what was expected.
    pub fn validate(&self, key: &str) -> Result<(), DataError> {
        let bad = |name: &str, got: String, expected: &str| {
            Err(DataError::Config { key: format!("{key}.{name}"), got, expected: expected.to_owned() })
        };
        let Self { documents, questions_per_document, omit, noise, .. } = self;
        for (name, count) in [("documents", documents), ("questions_per_document", questions_per_document)] {
            if *count == 0 {
                return bad(name, count.to_string(), "at least 1");
            }
        }
        if !(0.0..1.0).contains(omit) {
            return bad("omit", omit.to_string(), "a share from 0 to below 1");
        }
        let modes = noise.modes().into_iter().flat_map(|(name, mode)| {
            [(format!("noise.{name}.share"), mode.share), (format!("noise.{name}.rate"), mode.rate)]
        });
        for (name, share) in modes.chain([("noise.share".to_owned(), noise.share)]) {
            if !(0.0..=1.0).contains(&share) {
                return bad(&name, share.to_string(), "a share from 0 to 1");
            }
        }
        Ok(())
    }
}

impl Default for NoiseConfig {
    fn default() -> Self {
        let mode = |share, rate, values| Mode { share, rate, values };
        Self {
            share: 0.0,
            accents: mode(0.5, 1.0, true),
            upper_case: mode(0.2, 1.0, true),
            confusions: mode(0.6, 0.04, false),
            spaces: mode(0.3, 0.03, false),
            line_breaks: mode(0.2, 0.02, false),
        }
    }
}

impl NoiseConfig {
    /// The modes with their keys.
    pub(super) fn modes(&self) -> [(&'static str, Mode); 5] {
        [
            ("accents", self.accents),
            ("upper_case", self.upper_case),
            ("confusions", self.confusions),
            ("spaces", self.spaces),
            ("line_breaks", self.line_breaks),
        ]
    }
}

fn default_questions() -> usize {
    4
}

fn default_omit() -> f64 {
    0.1
}

fn everywhere() -> f64 {
    1.0
}
