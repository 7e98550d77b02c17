//! `adapter_config.json`: what an adapter is, for PEFT and the servers.
//!
//! Every key that a server looks at is written, sorted, so that equal adapters are equal files. Reading keeps keys it
//! does not know, and refuses those that would make the adapter mean something else than a plain LoRA.
//! Source: PEFT's `LoraConfig`, <https://github.com/huggingface/peft/blob/main/src/peft/tuners/lora/config.py>.

use std::collections::BTreeMap;
use std::path::Path;

use regex::Regex;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use super::CONFIG_FILE;
use super::keys::is_norm;
use crate::{AdapterError, Init, LoraConfig};

/// The version of PEFT whose form is written.
const PEFT_VERSION: &str = "0.21.2";
/// What stands for every linear module in `target_modules`.
const ALL_LINEAR: &str = "all-linear";

/// Initialisations after which the base model is still the base model; the others move a part of it into the adapter.
const PLAIN_INITS: [&str; 3] = ["gaussian", "orthogonal", "eva"];

/// Keys that make an adapter more than `B A` on linear modules, and why each cannot be honoured.
const REFUSED: [(&str, &str); 11] = [
    ("alora_invocation_tokens", "the adapter only acts after certain tokens"),
    ("arrow_config", "it routes between several adapters"),
    ("kasa_config", "it has a third matrix and changes the base weights"),
    ("layer_replication", "it changes the layers of the base model"),
    ("lora_bias", "B has a bias"),
    ("monteclora_config", "its weights are sampled"),
    ("target_parameters", "it adapts parameters outside linear modules"),
    ("trainable_token_indices", "it holds embeddings of tokens"),
    ("use_bdlora", "its matrices are block-diagonal"),
    ("use_qalora", "A works on pooled inputs"),
    ("velora_config", "its inputs are compressed"),
];

/// Keys of PEFT that only matter while an adapter is made, or repeat what the tensors say.
const HARMLESS: [&str; 12] = [
    "auto_mapping",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
];

/// The content of `adapter_config.json`, under PEFT's names; keys that are left out get PEFT's defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "the switches are PEFT's")]
pub struct AdapterConfig {
    /// Always `LORA`.
    pub peft_type: String,
    /// Always `CAUSAL_LM` in what is written.
    #[serde(default)]
    pub task_type: Option<String>,
    /// The base model's folder or its name on the hub.
    #[serde(default)]
    pub base_model_name_or_path: Option<String>,
    /// The base model's revision on the hub.
    #[serde(default)]
    pub revision: Option<String>,
    /// The rank of modules without an entry in `rank_pattern`, at least 1.
    pub r: usize,
    /// The alpha of modules without an entry in `alpha_pattern`.
    #[serde(serialize_with = "whole_as_integer")]
    pub lora_alpha: f64,
    /// Dropout of the adapter's input in training, 0 to below 1.
    #[serde(default)]
    pub lora_dropout: f64,
    /// The modules that have an adapter.
    pub target_modules: TargetNames,
    /// Always `none`: no bias is trained.
    #[serde(default = "none")]
    pub bias: String,
    /// True in a finished adapter; a trainer sets it to false while it goes on.
    #[serde(default)]
    pub inference_mode: bool,
    /// Whether the scale is `alpha / sqrt(r)` instead of `alpha / r`.
    #[serde(default)]
    pub use_rslora: bool,
    /// Whether every module has a magnitude (`DoRA`).
    #[serde(default)]
    pub use_dora: bool,
    /// The names of the norms, where they are trained and saved whole.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// Ranks that differ from `r`, by a regular expression for the end of the module's path.
    #[serde(default)]
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas that differ from `lora_alpha`, by a regular expression for the end of the module's path.
    #[serde(default, serialize_with = "whole_values_as_integers")]
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Always false: weights are stored `[out, in]`.
    #[serde(default)]
    pub fan_in_fan_out: bool,
    /// How A and B were initialised.
    #[serde(default)]
    pub init_lora_weights: InitLoraWeights,
    /// The version of PEFT whose form the file has.
    #[serde(default)]
    pub peft_version: Option<String>,
    /// Keys of the file beyond these, kept as they are.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// `target_modules`: names, or one regular expression.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetNames {
    /// Each a module's path or the end of one: `q_proj`.
    Names(Vec<String>),
    /// `all-linear`, or a regular expression for whole paths.
    Pattern(String),
}

/// `init_lora_weights`: a switch, or the name of a scheme.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InitLoraWeights {
    /// True for the default, B zero and A uniform; false for both random.
    Default(bool),
    /// A scheme by name.
    Named(String),
}

impl Default for InitLoraWeights {
    fn default() -> Self {
        Self::Default(true)
    }
}

impl AdapterConfig {
    /// The configuration of a finished adapter for a base model.
    pub fn new(lora: &LoraConfig, base_model: impl Into<String>, revision: Option<String>) -> Self {
        Self {
            peft_type: "LORA".into(),
            task_type: Some("CAUSAL_LM".into()),
            base_model_name_or_path: Some(base_model.into()),
            revision,
            r: lora.rank,
            lora_alpha: lora.alpha,
            lora_dropout: lora.dropout,
            target_modules: lora.targets.names(),
            bias: none(),
            inference_mode: true,
            use_rslora: lora.use_rslora,
            use_dora: lora.use_dora,
            modules_to_save: None,
            rank_pattern: lora.rank_pattern.clone(),
            alpha_pattern: lora.alpha_pattern.clone(),
            fan_in_fan_out: false,
            init_lora_weights: InitLoraWeights::default(),
            peft_version: Some(PEFT_VERSION.into()),
            other: BTreeMap::new(),
        }
    }

    /// The configuration of the files of an adapter: with `PiSSA` all ranks are twice the trained ones, see
    /// [`LowRank::whole`](crate::LowRank::whole), with the alphas that leave the scales as they were.
    ///
    /// Source: PEFT `peft_model.py`, `save_pretrained`.
    pub fn of_files(lora: &LoraConfig, base_model: impl Into<String>, revision: Option<String>) -> Self {
        let mut config = Self::new(lora, base_model, revision);
        if lora.init == Init::Pissa {
            let factor = if lora.use_rslora { 2_f64.sqrt() } else { 2.0 };
            config.r *= 2;
            config.lora_alpha *= factor;
            config.rank_pattern.values_mut().for_each(|rank| *rank *= 2);
            config.alpha_pattern.values_mut().for_each(|alpha| *alpha *= factor);
        }
        config
    }

    /// The configuration of an adapter of which only the modules' ranks and one alpha are known.
    ///
    /// The most frequent rank becomes `r`, the others go into `rank_pattern`.
    pub(crate) fn of_ranks(ranks: &BTreeMap<String, usize>, alpha: f64, base_model: &str) -> Self {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        for rank in ranks.values() {
            *counts.entry(*rank).or_default() += 1;
        }
        let most = counts.iter().max_by_key(|(_, count)| **count).map_or(1, |(rank, _)| *rank);
        let mut names: Vec<String> =
            ranks.keys().map(|module| module.rsplit('.').next().unwrap_or(module).to_owned()).collect();
        names.sort();
        names.dedup();
        let others = ranks.iter().filter(|(_, rank)| **rank != most);
        Self {
            r: most,
            lora_alpha: alpha,
            target_modules: TargetNames::Names(names),
            rank_pattern: others.map(|(module, rank)| (regex::escape(module), *rank)).collect(),
            ..Self::new(&LoraConfig::default(), base_model, None)
        }
    }

    /// The rank of a module's adapter.
    ///
    /// # Errors
    /// [`AdapterError::PeftConfig`] when a pattern is malformed, or several match with different ranks.
    pub fn rank(&self, module: &str) -> Result<usize, AdapterError> {
        Rules::new(Path::new(CONFIG_FILE), self)?.rank(module)
    }

    /// The factor of a module's update `B A`: `alpha / r`, or `alpha / sqrt(r)` with `use_rslora`.
    ///
    /// # Errors
    /// As [`AdapterConfig::rank`].
    pub fn scaling(&self, module: &str) -> Result<f64, AdapterError> {
        let rules = Rules::new(Path::new(CONFIG_FILE), self)?;
        let (rank, alpha) = (rules.rank(module)? as f64, rules.alpha(module)?);
        Ok(if self.use_rslora { alpha / rank.sqrt() } else { alpha / rank })
    }

    /// The scheme that initialised the adapter, where it is not PEFT's default.
    pub(crate) fn named_init(&self) -> Option<&str> {
        match &self.init_lora_weights {
            InitLoraWeights::Named(name) => Some(name),
            InitLoraWeights::Default(_) => None,
        }
    }

    /// The scheme that initialised the adapter, where it moved a part of the base's weights into it.
    pub(crate) fn changes_base(&self) -> Option<&str> {
        self.named_init().filter(|name| !PLAIN_INITS.contains(name))
    }

    /// The file's text: keys sorted, two spaces, a newline at the end.
    pub(super) fn to_json(&self) -> String {
        let mut value = serde_json::to_value(self).expect("strings, numbers and maps with string keys are JSON");
        value.sort_all_objects();
        let mut text = format!("{value:#}");
        text.push('\n');
        text
    }

    /// Refuses what cannot be honoured.
    pub(super) fn check(&self, path: &Path) -> Result<(), AdapterError> {
        let refuse =
            |key: &str, problem: String| Err(AdapterError::PeftConfig { path: path.into(), key: key.into(), problem });
        if self.peft_type != "LORA" {
            return refuse("peft_type", format!("is {:?}, only LORA is supported", self.peft_type));
        }
        if self.task_type.as_deref().is_some_and(|task| task != "CAUSAL_LM") {
            return refuse("task_type", format!("is {:?}, only CAUSAL_LM is supported", self.task_type));
        }
        if self.r == 0 {
            return refuse("r", "is 0, expected a rank of at least 1".into());
        }
        if let Some((pattern, _)) = self.rank_pattern.iter().find(|(_, rank)| **rank == 0) {
            return refuse("rank_pattern", format!("gives `{pattern}` the rank 0, expected at least 1"));
        }
        if !(0.0..1.0).contains(&self.lora_dropout) {
            return refuse("lora_dropout", format!("is {}, expected 0 to below 1", self.lora_dropout));
        }
        if self.bias != "none" {
            return refuse(
                "bias",
                format!(
                    "is {:?}: biases of the base would change with the adapter, which servers \
                                           refuse; train with bias none",
                    self.bias
                ),
            );
        }
        if !self.modules_to_save.as_deref().unwrap_or_default().iter().all(|module| is_norm(module)) {
            let modules = self.modules_to_save.as_deref().unwrap_or_default().join(", ");
            return refuse(
                "modules_to_save",
                format!(
                    "names {modules}: whole weights other than norms are not \
                                                      supported, and vLLM refuses them; train without new tokens"
                ),
            );
        }
        if self.fan_in_fan_out {
            return refuse("fan_in_fan_out", "is true: weights stored [in, out] (GPT-2) are not supported".into());
        }
        if let Some(name) = self.changes_base() {
            return refuse(
                "init_lora_weights",
                format!(
                    "is {name:?}: the adapter belongs to a changed base model; save it again with PEFT's \
                 path_initial_model_for_weight_conversion, which makes it a plain LoRA"
                ),
            );
        }
        for (key, reason) in REFUSED {
            if self.other.get(key).is_some_and(is_active) {
                return refuse(key, format!("is set: {reason}, which is not supported"));
            }
        }
        for (key, value) in &self.other {
            if is_active(value) && !HARMLESS.contains(&key.as_str()) {
                tracing::warn!("{}: key `{key}` is not known and has no effect", path.display());
            }
        }
        Ok(())
    }
}

/// The patterns of a configuration, compiled, with the place for messages.
pub(super) struct Rules<'a> {
    path: &'a Path,
    config: &'a AdapterConfig,
    ranks: Vec<(Regex, usize)>,
    alphas: Vec<(Regex, f64)>,
    /// `target_modules` where it is a regular expression.
    targets: Option<Regex>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(path: &'a Path, config: &'a AdapterConfig) -> Result<Self, AdapterError> {
        // PEFT's own: `re.match(rf"(.*\.)?({pattern})$", module)`.
        let ending = |pattern: &str| format!(r"^(?:.*\.)?(?:{pattern})$");
        let ranks = config
            .rank_pattern
            .iter()
            .map(|(pattern, rank)| Ok((compile(path, "rank_pattern", pattern, &ending(pattern))?, *rank)))
            .collect::<Result<_, _>>()?;
        let alphas = config
            .alpha_pattern
            .iter()
            .map(|(pattern, alpha)| Ok((compile(path, "alpha_pattern", pattern, &ending(pattern))?, *alpha)))
            .collect::<Result<_, _>>()?;
        let targets = match &config.target_modules {
            TargetNames::Pattern(pattern) if !pattern.eq_ignore_ascii_case(ALL_LINEAR) => {
                Some(compile(path, "target_modules", pattern, &format!("^(?:{pattern})$"))?)
            }
            _ => None,
        };
        Ok(Self { path, config, ranks, alphas, targets })
    }

    pub(super) fn rank(&self, module: &str) -> Result<usize, AdapterError> {
        Ok(self.only_match("rank_pattern", &self.ranks, module)?.unwrap_or(self.config.r))
    }

    pub(super) fn alpha(&self, module: &str) -> Result<f64, AdapterError> {
        Ok(self.only_match("alpha_pattern", &self.alphas, module)?.unwrap_or(self.config.lora_alpha))
    }

    /// Whether PEFT would give this module an adapter when it loads the file; the tensors of others it drops silently.
    pub(super) fn is_target(&self, module: &str) -> bool {
        match (&self.config.target_modules, &self.targets) {
            (TargetNames::Names(names), _) => names.iter().any(|name| {
                module.strip_suffix(name.as_str()).is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }),
            (TargetNames::Pattern(_), Some(regex)) => regex.is_match(module),
            (TargetNames::Pattern(_), None) => true,
        }
    }

    /// Whether PEFT would take this module's whole weight from the file.
    pub(super) fn is_saved(&self, module: &str) -> bool {
        self.config.modules_to_save.iter().flatten().any(|name| module.ends_with(name.as_str()))
    }

    /// The value of the patterns that match. PEFT takes the first in the order of the file, other readers another, so
    /// patterns that disagree are refused.
    fn only_match<T: Copy + PartialEq>(
        &self,
        key: &str,
        patterns: &[(Regex, T)],
        module: &str,
    ) -> Result<Option<T>, AdapterError> {
        let mut matching = patterns.iter().filter(|(regex, _)| regex.is_match(module)).map(|(_, value)| *value);
        let first = matching.next();
        if matching.any(|value| Some(value) != first) {
            let problem = format!("has several patterns with different values for module `{module}`; let one match");
            return Err(AdapterError::PeftConfig { path: self.path.into(), key: key.into(), problem });
        }
        Ok(first)
    }
}

fn compile(path: &Path, key: &str, pattern: &str, anchored: &str) -> Result<Regex, AdapterError> {
    Regex::new(anchored).map_err(|error| {
        // The last line of the message is the reason, those before it show the pattern with our anchors.
        let error = error.to_string();
        let reason = error.lines().last().unwrap_or_default();
        let problem = format!("cannot use the regular expression `{pattern}` ({reason}); list the modules' names");
        AdapterError::PeftConfig { path: path.into(), key: key.into(), problem }
    })
}

/// Whether a key says anything: not null, false or empty.
fn is_active(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn none() -> String {
    "none".into()
}

/// Writes 32.0 as 32: PEFT's type for alpha is an integer, and strict readers want one.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn whole_as_integer<S: Serializer>(number: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    Number(*number).serialize(serializer)
}

fn whole_values_as_integers<S: Serializer>(map: &BTreeMap<String, f64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(key, number)| (key, Number(*number))))
}

struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Below 2^53 every whole number is exact in both types.
        if self.0.fract() == 0.0 && self.0.abs() < 9_007_199_254_740_992.0 {
            #[expect(clippy::cast_possible_truncation, reason = "whole and small, as just checked")]
            return serializer.serialize_i64(self.0 as i64);
        }
        serializer.serialize_f64(self.0)
    }
}
