//! The `data` part of a recipe: which files to read, how to mix them, how long an example may be.
//!
//! The doc comments of the fields are also the descriptions in the recipe's JSON Schema. Every
//! default is written out when a configuration is saved, so that a run folder tells all.

use std::fmt::Display;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::DataError;
use crate::near_duplicates::DedupConfig;
use crate::screen::ScreenConfig;
use crate::select::SelectConfig;
use crate::source::{Format, prompt};

/// The largest accepted [`SourceConfig::weight`]: a bound on the memory that one epoch's order takes.
pub const MAX_WEIGHT: f64 = 1000.0;

/// What the model is trained and validated on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The sources of the training examples; at least one.
    pub train: Vec<SourceConfig>,
    /// The sources of the validation examples. When empty, `validation_fraction` decides.
    #[serde(default)]
    pub validation: Vec<SourceConfig>,
    /// The share of the training conversations set aside for validation, in [0, 1). The split is
    /// made by content hash, so the same conversation is always on the same side. Used only when
    /// `validation` is empty.
    #[serde(default)]
    pub validation_fraction: f64,
    /// The most tokens an example or a packed row may have; at least 2.
    #[serde(default = "default_max_length")]
    pub max_length: usize,
    /// What happens to an example of more than `max_length` tokens.
    #[serde(default)]
    pub overlong: Overlong,
    /// Whether several short examples share a row of `max_length` tokens. They never see each other.
    #[serde(default = "default_packing")]
    pub packing: bool,
    /// Examples that begin with the same tokens, such as questions about one document, are drawn together, so many at
    /// most (at least 2), and what they have in common is computed once: the same losses and gradients (without LoRA
    /// dropout) for fewer tokens. Null draws every example by itself. It needs packing; what a group takes is at most
    /// `max_length`.
    #[serde(default)]
    pub share_prefix: Option<usize>,
    /// Trains on a part of the examples: see `by`. Null trains on all.
    #[serde(default)]
    pub select: Option<SelectConfig>,
    /// A system message put before each conversation that has none.
    #[serde(default)]
    pub system_prompt: Option<String>,
    /// A Jinja file used instead of the model's own chat template; relative to the recipe.
    #[serde(default)]
    pub chat_template: Option<PathBuf>,
    /// Whether the tokens are kept for the next run with the same data, tokenizer and settings: in the
    /// folder `data` of `GREFFON_CACHE`, by default `~/.cache/greffon`. A file that changed is always
    /// tokenised again.
    #[serde(default = "default_cache")]
    pub cache: bool,
    /// Leaves out the near-duplicates among the training conversations: of each group the first stays, in the order of the
    /// sources. Null keeps all. The training files are then read twice.
    #[serde(default)]
    pub dedup: Option<DedupConfig>,
    /// What is done with personal data and secrets in the conversations, before anything else sees them; null leaves
    /// them as they are.
    #[serde(default)]
    pub screen: Option<ScreenConfig>,
}

/// What happens to an example that is longer than `max_length`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Overlong {
    /// Leave the example out, and count it.
    #[default]
    Drop,
    /// Keep the first `max_length` tokens, and count it.
    Truncate,
    /// Stop with an error that names the example.
    Error,
}

/// One file of conversations, on disk or on the hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// A `.jsonl`, `.json` or `.parquet` file; relative to the recipe. Either this or `hub`.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// A file of a data set on the Hugging Face hub. Either this or `path`.
    #[serde(default)]
    pub hub: Option<HubSource>,
    /// The form of the records. `auto` looks at the keys of the first record.
    #[serde(default)]
    pub format: Format,
    /// The share of the source drawn in each epoch, above 0 and at most 1000: 0.5 takes a seeded
    /// half (the other half comes in the next epoch), 2.0 takes each conversation twice.
    #[serde(default = "default_weight")]
    pub weight: f64,
    /// Reads only the first n conversations of the file; at least 1.
    #[serde(default)]
    pub limit: Option<usize>,
    /// The user's text for the forms `alpaca` (placeholders `{instruction}` and `{input}`, by default
    /// `{instruction}`, an empty line, `{input}`) and `squad` (placeholders `{context}` and
    /// `{question}`, by default `{context}`, an empty line, `{question}`). White space at its two
    /// ends is removed, so an empty `{input}` at the end leaves no gap.
    #[serde(default)]
    pub prompt: Option<String>,
    /// The licence of the source, by its SPDX name such as `CC-BY-4.0`, for `data.screen.licences`.
    #[serde(default)]
    pub licence: Option<String>,
}

/// A file of a data set on the Hugging Face hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// The data set's name, `owner/name`.
    pub dataset: String,
    /// A branch, a tag or a commit. A commit pins the data: a run can then be repeated.
    #[serde(default = "default_revision")]
    pub revision: String,
    /// The file inside the data set, for example `data/train-00000-of-00001.parquet`.
    pub file: String,
}

fn default_max_length() -> usize {
    1024
}

fn default_packing() -> bool {
    true
}

fn default_cache() -> bool {
    true
}

fn default_weight() -> f64 {
    1.0
}

fn default_revision() -> String {
    "main".to_owned()
}

impl DataConfig {
    /// Training on sources, with every other key at its default.
    pub fn from_sources(train: Vec<SourceConfig>) -> Self {
        Self {
            train,
            validation: Vec::new(),
            validation_fraction: 0.0,
            max_length: default_max_length(),
            overlong: Overlong::default(),
            packing: default_packing(),
            share_prefix: None,
            select: None,
            system_prompt: None,
            chat_template: None,
            cache: default_cache(),
            dedup: None,
            screen: None,
        }
    }

    /// Checks what the types cannot say: ranges, and exactly one of `path` and `hub` for each source.
    ///
    /// # Errors
    /// [`DataError::Config`] with the key (relative to `data`), the value got and what was expected.
    pub fn validate(&self) -> Result<(), DataError> {
        if self.train.is_empty() {
            return Err(invalid("train", "an empty list", "at least one source"));
        }
        if !(0.0..1.0).contains(&self.validation_fraction) {
            let got = self.validation_fraction;
            return Err(invalid("validation_fraction", got, "a number in [0, 1)"));
        }
        if self.max_length < 2 {
            let expected = "at least 2 tokens: one to read and one to predict";
            return Err(invalid("max_length", self.max_length, expected));
        }
        match self.share_prefix {
            Some(most) if most < 2 => {
                return Err(invalid("share_prefix", most, "at least 2 examples, or null"));
            }
            Some(most) if !self.packing => {
                let expected = "null where packing is false: examples that share a beginning share a row";
                return Err(invalid("share_prefix", most, expected));
            }
            _ => {}
        }
        if let Some(dedup) = &self.dedup {
            dedup.validate("dedup")?;
        }
        if let Some(select) = &self.select {
            select.validate("select")?;
        }
        if self.screen.as_ref().is_some_and(|screen| screen.kinds.is_empty()) {
            return Err(invalid("screen.kinds", "an empty list", "at least one kind, or no list for all kinds"));
        }
        for (list, sources) in [("train", &self.train), ("validation", &self.validation)] {
            for (i, source) in sources.iter().enumerate() {
                source.validate(&format!("{list}[{i}]"))?;
            }
        }
        Ok(())
    }
}

impl SourceConfig {
    /// A source of the file at `path`, with every other key at its default.
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Some(path.into()),
            hub: None,
            format: Format::Auto,
            weight: default_weight(),
            limit: None,
            prompt: None,
            licence: None,
        }
    }

    /// Checks one source; `at` is its place in the recipe, for example `train[0]`.
    fn validate(&self, at: &str) -> Result<(), DataError> {
        match (&self.path, &self.hub) {
            (Some(_), Some(_)) => {
                return Err(invalid(at, "both path and hub", "exactly one of them"));
            }
            (None, None) => {
                return Err(invalid(at, "neither path nor hub", "exactly one of them"));
            }
            (Some(path), None) if path.as_os_str().is_empty() => {
                return Err(invalid(format!("{at}.path"), "an empty text", "the path of a file"));
            }
            _ => {}
        }
        if !(self.weight > 0.0 && self.weight <= MAX_WEIGHT) {
            let expected = format!("a number above 0 and at most {MAX_WEIGHT}");
            return Err(invalid(format!("{at}.weight"), self.weight, expected));
        }
        if self.limit == Some(0) {
            return Err(invalid(format!("{at}.limit"), 0, "at least 1, or null for the whole file"));
        }
        self.validate_prompt(&format!("{at}.prompt"))
    }

    /// Checks that the prompt uses placeholders, and only those that the format fills.
    fn validate_prompt(&self, key: &str) -> Result<(), DataError> {
        let Some(template) = &self.prompt else {
            return Ok(());
        };
        let known = self.format.placeholders();
        if known.is_empty() {
            let expected = "no prompt, it is for alpaca and squad records only";
            return Err(invalid(key, format!("a prompt with format {}", self.format), expected));
        }
        let expected = || {
            let known: Vec<_> = known.iter().map(|name| format!("{{{name}}}")).collect();
            format!("a text with placeholders among {}", known.join(", "))
        };
        let used = prompt::placeholders(template);
        if let Some(name) = used.iter().find(|name| !known.contains(name)) {
            return Err(invalid(key, format!("the placeholder {{{name}}}"), expected()));
        }
        if used.is_empty() {
            return Err(invalid(key, "a text without a placeholder", expected()));
        }
        Ok(())
    }
}

fn invalid(key: impl Into<String>, got: impl Display, expected: impl Into<String>) -> DataError {
    DataError::Config { key: key.into(), got: format!("{got}"), expected: expected.into() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn parse(value: Value) -> DataConfig {
        serde_json::from_value(value).unwrap()
    }

    #[track_caller]
    fn refused(value: Value, expected: &str) {
        assert_eq!(parse(value).validate().unwrap_err().to_string(), expected);
    }

    #[test]
    fn every_default_is_written_out() {
        let config = parse(json!({"train": [{"path": "a.jsonl"}]}));
        config.validate().unwrap();
        let expected = json!({
            "train": [{
                "path": "a.jsonl", "hub": null, "format": "auto", "weight": 1.0, "limit": null, "prompt": null,
                "licence": null
            }],
            "validation": [],
            "validation_fraction": 0.0,
            "max_length": 1024,
            "overlong": "drop",
            "packing": true,
            "share_prefix": null,
            "select": null,
            "system_prompt": null,
            "chat_template": null,
            "cache": true,
            "dedup": null,
            "screen": null
        });
        assert_eq!(serde_json::to_value(&config).unwrap(), expected);
        assert_eq!(parse(expected), config);
        assert_eq!(config.train[0], SourceConfig::from_path("a.jsonl"));
    }

    #[test]
    fn unknown_and_missing_keys_keep_serdes_plain_words() {
        let unknown = serde_json::from_value::<DataConfig>(json!({"train": [], "pakcing": true}));
        assert!(unknown.unwrap_err().to_string().starts_with("unknown field `pakcing`, expected one of"));
        let missing = serde_json::from_value::<DataConfig>(json!({}));
        assert_eq!(missing.unwrap_err().to_string(), "missing field `train`");
        let hub = serde_json::from_value::<SourceConfig>(json!({"hub": {"dataset": "a/b"}}));
        assert_eq!(hub.unwrap_err().to_string(), "missing field `file`");
    }

    #[test]
    fn the_hub_revision_defaults_to_main() {
        let hub: HubSource = serde_json::from_value(json!({"dataset": "a/b", "file": "x.parquet"})).unwrap();
        assert_eq!(hub.revision, "main");
    }

    #[test]
    fn values_out_of_range_are_refused() {
        refused(json!({"train": []}), "train: got an empty list, expected at least one source");
        let with = |key: &str, value: Value| json!({"train": [{"path": "a.jsonl"}], key: value});
        refused(with("validation_fraction", json!(1.0)), "validation_fraction: got 1, expected a number in [0, 1)");
        refused(
            with("max_length", json!(1)),
            "max_length: got 1, expected at least 2 tokens: one to read and one to predict",
        );
        refused(with("share_prefix", json!(1)), "share_prefix: got 1, expected at least 2 examples, or null");
        refused(
            json!({"train": [{"path": "a.jsonl"}], "packing": false, "share_prefix": 4}),
            "share_prefix: got 4, expected null where packing is false: examples that share a beginning share a row",
        );
        refused(with("dedup", json!({"threshold": 2.0})), "dedup.threshold: got 2, expected a number from 0.2 to 1");
        let source = |key: &str, value: Value| json!({"train": [{"path": "a.jsonl", key: value}]});
        refused(source("weight", json!(0.0)), "train[0].weight: got 0, expected a number above 0 and at most 1000");
        refused(
            source("weight", json!(1e300)),
            &format!("train[0].weight: got {}, expected a number above 0 and at most 1000", 1e300),
        );
        refused(source("limit", json!(0)), "train[0].limit: got 0, expected at least 1, or null for the whole file");
        refused(source("path", json!("")), "train[0].path: got an empty text, expected the path of a file");
        let mut config = parse(json!({"train": [{"path": "a.jsonl"}]}));
        config.train[0].weight = f64::NAN;
        assert!(config.validate().unwrap_err().to_string().starts_with("train[0].weight: got NaN"));
    }

    #[test]
    fn a_source_is_a_path_or_a_hub_file() {
        refused(json!({"train": [{}]}), "train[0]: got neither path nor hub, expected exactly one of them");
        let hub = json!({"dataset": "a/b", "file": "x.parquet"});
        refused(
            json!({"train": [{"path": "a.jsonl"}], "validation": [{"path": "a.jsonl", "hub": hub}]}),
            "validation[0]: got both path and hub, expected exactly one of them",
        );
    }

    #[test]
    fn prompts_use_the_placeholders_of_their_format() {
        let with =
            |format: &str, prompt: &str| json!({"train": [{"path": "a.jsonl", "format": format, "prompt": prompt}]});
        parse(with("squad", "{context}\nQuestion: {question} Reply as {\"answer\": ...}")).validate().unwrap();
        parse(with("auto", "{instruction}")).validate().unwrap();
        refused(
            with("squad", "{contxt}"),
            "train[0].prompt: got the placeholder {contxt}, \
             expected a text with placeholders among {context}, {question}",
        );
        refused(
            with("alpaca", "Answer."),
            "train[0].prompt: got a text without a placeholder, \
             expected a text with placeholders among {instruction}, {input}",
        );
        refused(
            with("messages", "{question}"),
            "train[0].prompt: got a prompt with format messages, \
             expected no prompt, it is for alpaca and squad records only",
        );
    }

    #[test]
    fn the_schema_describes_every_key() {
        let schema = serde_json::to_value(schemars::schema_for!(DataConfig)).unwrap();
        for (part, at) in [
            ("DataConfig", "/properties"),
            ("SourceConfig", "/$defs/SourceConfig/properties"),
            ("DedupConfig", "/$defs/DedupConfig/properties"),
        ] {
            for (key, property) in schema.pointer(at).unwrap().as_object().unwrap() {
                assert!(property.get("description").is_some(), "{part}.{key} has no description");
            }
        }
        assert_eq!(schema.pointer("/properties/max_length/default"), Some(&json!(1024)));
        assert_eq!(schema.pointer("/required"), Some(&json!(["train"])));
    }
}
