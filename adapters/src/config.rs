//! The recipe's `lora:` section: rank, alpha, dropout and the modules that get an adapter.
//!
//! Parsed by the trainer as part of the recipe, then checked with [`LoraConfig::validate`] before anything is loaded.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::AdapterError;
use crate::export::peft::{AdapterConfig, TargetNames};

/// How the word for "every linear module of the decoder layers" is written.
const ALL_LINEAR: &str = "all-linear";

/// Hyper-parameters of a LoRA adapter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoraConfig {
    /// Rank of the update, 1 to 512 (the largest that vLLM serves). Default 16.
    #[schemars(range(min = 1, max = 512))]
    pub rank: usize,
    /// Numerator of the scale `alpha / rank`, above 0. Default 32.
    #[schemars(extend("exclusiveMinimum" = 0.0))]
    pub alpha: f64,
    /// Probability that an input of the adapter is dropped in training, 0 (off) to below 1. Default 0.
    #[schemars(range(min = 0.0), extend("exclusiveMaximum" = 1.0))]
    pub dropout: f64,
    /// The modules that get an adapter: `all-linear` (those of the blocks), a list of names, or a regular expression for
    /// whole module paths such as `model\.layers\.[0-9]\.mlp\..*`. `embed_tokens` and `lm_head` can be named; few servers
    /// take such an adapter. Default `all-linear`.
    pub targets: Targets,
    /// Scale by `alpha / √rank` instead of `alpha / rank`, so that high ranks learn as fast as low ones. Default false.
    pub use_rslora: bool,
    /// Train the length of each output beside its direction (DoRA): slower, learns more at low ranks. Servers refuse such
    /// an adapter; `greffon merge` makes a model that they take. Off by default.
    pub use_dora: bool,
    /// Train the weights of all norms, too. Servers refuse such an adapter; `greffon merge` makes a model that they take.
    /// Off by default.
    pub train_norms: bool,
    /// How A and B start: random and zero, or as principal parts of the weight. The latter, `PiSSA`, takes them out of
    /// the frozen weight; its loss falls faster at first. Every file is a plain LoRA of twice the rank on the base as it was.
    pub init: Init,
    /// Ranks that differ, by a regular expression for the end of a module's path. Default none.
    pub rank_pattern: BTreeMap<String, usize>,
    /// Alphas that differ, by a regular expression for the end of a module's path. Default none.
    pub alpha_pattern: BTreeMap<String, f64>,
    /// How many times the learning rate of `A` that of `B` is (LoRA+), at least 1; 16 is what its paper takes. Default
    /// 1, the same rate.
    #[schemars(range(min = 1.0))]
    pub loraplus_lr_ratio: f64,
}

/// How an adapter starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// `A` uniform, `B` zero: at the start the model is the base.
    #[default]
    Default,
    /// The principal singular parts of the weight, as PEFT's `init_lora_weights: pissa`.
    Pissa,
}

/// What one module gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModuleAdapter {
    /// The rank.
    pub rank: usize,
    /// The factor of the update.
    pub scaling: f64,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            dropout: 0.0,
            targets: Targets::AllLinear,
            use_rslora: false,
            use_dora: false,
            train_norms: false,
            init: Init::Default,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            loraplus_lr_ratio: 1.0,
        }
    }
}

impl LoraConfig {
    /// Checks the ranges that the types cannot express.
    ///
    /// # Errors
    /// [`AdapterError::Config`] for the first value out of its range.
    pub fn validate(&self) -> Result<(), AdapterError> {
        let error = |key, value: String, expected| Err(AdapterError::Config { key, value, expected });
        if !(1..=512).contains(&self.rank) {
            return error("rank", self.rank.to_string(), "a whole number from 1 to 512");
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return error("alpha", self.alpha.to_string(), "a finite number above 0 (twice the rank is usual)");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return error("dropout", self.dropout.to_string(), "a number from 0 (off) to below 1");
        }
        if !(self.loraplus_lr_ratio >= 1.0 && self.loraplus_lr_ratio.is_finite()) {
            return error("loraplus_lr_ratio", self.loraplus_lr_ratio.to_string(), "a finite number of at least 1");
        }
        if let Some((pattern, rank)) = self.rank_pattern.iter().find(|(_, rank)| !(1..=512).contains(*rank)) {
            return error("rank_pattern", format!("{rank} for {pattern}"), "ranks from 1 to 512");
        }
        if let Some((pattern, alpha)) = self.alpha_pattern.iter().find(|(_, a)| !(**a > 0.0 && a.is_finite())) {
            return error("alpha_pattern", format!("{alpha} for {pattern}"), "finite alphas above 0");
        }
        for (key, pattern) in self.patterns() {
            if regex::Regex::new(pattern).is_err() {
                return error(key, pattern.to_owned(), "a regular expression");
            }
        }
        if let Targets::Modules(modules) = &self.targets {
            if modules.is_empty() {
                return error("targets", "an empty list".into(), "`all-linear` or at least one module name");
            }
            if let Some(twice) = first_duplicate(modules) {
                return error("targets", format!("a list with `{twice}` twice"), "each module once");
            }
            modules.iter().try_for_each(|module| self.check_end(module.name()))?;
        }
        Ok(())
    }

    /// Refuses the embedding and the head, by their names, where a method has no form for them.
    fn check_end(&self, name: &str) -> Result<(), AdapterError> {
        let is = |end: TargetModule| end.name() == name;
        let expected = if self.use_dora && is(TargetModule::EmbedTokens) {
            "linear modules, since lora.use_dora is on"
        } else if self.init == Init::Pissa && TargetModule::ENDS.into_iter().any(is) {
            "linear modules of the blocks, since lora.init is pissa"
        } else {
            return Ok(());
        };
        Err(AdapterError::Config { key: "targets", value: name.to_owned(), expected })
    }

    fn patterns(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let target = if let Targets::Pattern(pattern) = &self.targets { Some(("targets", pattern)) } else { None };
        let ranks = self.rank_pattern.keys().map(|pattern| ("rank_pattern", pattern));
        target.into_iter().chain(ranks).chain(self.alpha_pattern.keys().map(|pattern| ("alpha_pattern", pattern)))
    }

    /// What the module at a path such as `model.layers.0.self_attn.q_proj` gets; `None` when it gets no adapter.
    ///
    /// The rules are those by which PEFT reads the adapter again.
    ///
    /// # Errors
    /// [`AdapterError::PeftConfig`] when two patterns give the module different values; [`AdapterError::Config`] when
    /// the method has no form for the module.
    ///
    /// Sources: Hu et al. 2021, <https://arxiv.org/abs/2106.09685>, section 4.1; Kalajdzievski 2023,
    /// <https://arxiv.org/abs/2312.03732>, for the root.
    pub fn module(&self, path: &str) -> Result<Option<ModuleAdapter>, AdapterError> {
        if !self.targets.matches(path) {
            return Ok(None);
        }
        self.check_end(path.rsplit('.').next().unwrap_or(path))?;
        let config = AdapterConfig::new(self, "", None);
        Ok(Some(ModuleAdapter { rank: config.rank(path)?, scaling: config.scaling(path)? }))
    }
}

/// A module that can have an adapter, by the name that Hugging Face checkpoints give it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetModule {
    /// Query projection of the attention.
    QProj,
    /// Key projection of the attention.
    KProj,
    /// Value projection of the attention.
    VProj,
    /// Output projection of the attention.
    OProj,
    /// Gate projection of the feed-forward block.
    GateProj,
    /// Up projection of the feed-forward block.
    UpProj,
    /// Down projection of the feed-forward block.
    DownProj,
    /// The embedding of the tokens.
    EmbedTokens,
    /// The head, which makes the logits.
    LmHead,
}

impl TargetModule {
    /// The linear modules of a decoder layer, in the order in which it applies them.
    pub const LINEAR: [Self; 7] =
        [Self::QProj, Self::KProj, Self::VProj, Self::OProj, Self::GateProj, Self::UpProj, Self::DownProj];

    /// The modules before the first layer and behind the last.
    pub const ENDS: [Self; 2] = [Self::EmbedTokens, Self::LmHead];

    /// All modules.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::LINEAR.into_iter().chain(Self::ENDS)
    }

    /// The name in checkpoints, recipes and adapter files: `q_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
            Self::EmbedTokens => "embed_tokens",
            Self::LmHead => "lm_head",
        }
    }

    /// The module of this name, or a message with the known names and the nearest of them.
    fn parse(name: &str) -> Result<Self, String> {
        if let Some(module) = Self::all().find(|module| module.name() == name) {
            return Ok(module);
        }
        let known: Vec<&str> = Self::all().map(Self::name).collect();
        let nearest =
            nearest(name, known.iter().copied()).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Err(format!("unknown module `{name}`, expected one of {}{nearest}", known.join(", ")))
    }
}

impl fmt::Display for TargetModule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The linear modules that get an adapter, in every decoder layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// All seven of [`TargetModule::LINEAR`]; written `all-linear`.
    AllLinear,
    /// These; written as a list of names.
    Modules(Vec<TargetModule>),
    /// Those whose whole path a regular expression matches.
    Pattern(String),
}

impl Targets {
    /// Whether the module at a path such as `model.layers.0.self_attn.q_proj` gets an adapter.
    pub fn matches(&self, path: &str) -> bool {
        let name = path.rsplit('.').next().unwrap_or(path);
        match self {
            Self::AllLinear => TargetModule::LINEAR.iter().any(|module| module.name() == name),
            Self::Modules(modules) => modules.iter().any(|module| module.name() == name),
            Self::Pattern(pattern) => regex::Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|r| r.is_match(path)),
        }
    }

    /// As `target_modules` of an adapter's configuration.
    pub(crate) fn names(&self) -> TargetNames {
        let names = |modules: &[TargetModule]| {
            let mut names: Vec<String> = modules.iter().map(ToString::to_string).collect();
            names.sort();
            TargetNames::Names(names)
        };
        match self {
            Self::AllLinear => names(&TargetModule::LINEAR),
            Self::Modules(modules) => names(modules),
            Self::Pattern(pattern) => TargetNames::Pattern(pattern.clone()),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |modules: &[TargetModule]| modules.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ");
        match self {
            Self::AllLinear => formatter.write_str(&names(&TargetModule::LINEAR)),
            Self::Modules(modules) => formatter.write_str(&names(modules)),
            Self::Pattern(pattern) => write!(formatter, "modules like {pattern}"),
        }
    }
}

impl Serialize for Targets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::AllLinear => serializer.serialize_str(ALL_LINEAR),
            Self::Modules(modules) => serializer.collect_seq(modules.iter().map(|module| module.name())),
            Self::Pattern(pattern) => serializer.serialize_str(pattern),
        }
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TargetsVisitor)
    }
}

struct TargetsVisitor;

impl<'de> Visitor<'de> for TargetsVisitor {
    type Value = Targets;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("`all-linear` or a list of module names such as [q_proj, v_proj]")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Targets, E> {
        if text == ALL_LINEAR {
            return Ok(Targets::AllLinear);
        }
        // A name has letters, underscores and perhaps a dash; anything else is meant as a pattern.
        if text.contains(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))) {
            return Ok(Targets::Pattern(text.to_owned()));
        }
        match TargetModule::parse(text) {
            Ok(_) => Err(E::custom(format!("a single module is written as a list: [{text}]"))),
            Err(_) if nearest(text, [ALL_LINEAR]).is_some() => {
                Err(E::custom(format!("unknown targets `{text}`; did you mean `{ALL_LINEAR}`?")))
            }
            Err(unknown) => Err(E::custom(format!("{unknown}, as a list, or `{ALL_LINEAR}`"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Targets, A::Error> {
        let mut modules = Vec::new();
        while let Some(name) = list.next_element::<String>()? {
            let module = TargetModule::parse(&name).map_err(A::Error::custom)?;
            if modules.contains(&module) {
                return Err(A::Error::custom(format!("module `{name}` is listed twice")));
            }
            modules.push(module);
        }
        if modules.is_empty() {
            return Err(A::Error::custom(format!("the list is empty, expected module names or `{ALL_LINEAR}`")));
        }
        Ok(Targets::Modules(modules))
    }
}

impl JsonSchema for Targets {
    fn schema_name() -> Cow<'static, str> {
        "Targets".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "The linear modules that get an adapter.",
            "anyOf": [
                { "const": ALL_LINEAR },
                {
                    "type": "array",
                    "items": { "enum": TargetModule::all().map(TargetModule::name).collect::<Vec<_>>() },
                    "minItems": 1,
                    "uniqueItems": true
                },
                { "type": "string", "format": "regex", "pattern": "[^A-Za-z0-9_-]" }
            ]
        })
    }
}

fn first_duplicate(modules: &[TargetModule]) -> Option<TargetModule> {
    modules.iter().enumerate().find(|(i, module)| modules[..*i].contains(module)).map(|(_, module)| *module)
}

/// The candidate most like `name`, if any is near enough for a suggestion.
///
/// Jaro-Winkler favours names that begin alike, as misspelt tensor and module names do.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json, to_value};

    use super::*;

    #[track_caller]
    fn refused(value: serde_json::Value, expected: &str) {
        let message = match from_value::<LoraConfig>(value) {
            Ok(config) => config.validate().expect_err("the value must be refused").to_string(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn defaults_are_visible_when_written() {
        let written = to_value(LoraConfig::default()).expect("plain data");
        assert_eq!(
            written,
            json!({
                "rank": 16, "alpha": 32.0, "dropout": 0.0, "targets": "all-linear",
                "use_rslora": false, "use_dora": false, "train_norms": false, "init": "default", "rank_pattern": {}, "alpha_pattern": {}, "loraplus_lr_ratio": 1.0,
            })
        );
        let read: LoraConfig = from_value(json!({})).expect("all defaults");
        read.validate().expect("defaults are valid");
        let module = read.module("model.layers.0.self_attn.q_proj").expect("no patterns").expect("a target");
        assert!((module.scaling - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_list_of_targets_round_trips() {
        let read: LoraConfig = from_value(json!({"targets": ["v_proj", "q_proj"]})).expect("two modules");
        assert_eq!(read.targets.to_string(), "v_proj, q_proj");
        assert_eq!(to_value(&read).expect("plain data")["targets"], json!(["v_proj", "q_proj"]));
        assert!(
            TargetModule::LINEAR
                .iter()
                .all(|module| Targets::AllLinear.matches(&format!("model.layers.0.mlp.{module}")))
        );
        assert!(read.targets.matches("model.layers.0.self_attn.q_proj"));
        assert!(!read.targets.matches("model.layers.0.self_attn.k_proj"));
        assert!(!Targets::AllLinear.matches("lm_head") && !Targets::AllLinear.matches("model.embed_tokens"));
    }

    #[test]
    fn each_value_out_of_range_is_named_with_its_range() {
        refused(json!({"rank": 0}), "lora.rank is 0, expected a whole number from 1 to 512");
        refused(json!({"rank": 513}), "lora.rank is 513");
        refused(json!({"alpha": 0.0}), "lora.alpha is 0, expected a finite number above 0");
        refused(json!({"alpha": -1.0}), "lora.alpha is -1");
        refused(json!({"dropout": 1.0}), "lora.dropout is 1, expected a number from 0 (off) to below 1");
        refused(json!({"dropout": -0.1}), "lora.dropout is -0.1");
        refused(json!({"rnak": 4}), "unknown field `rnak`");
        let not_a_number = LoraConfig { alpha: f64::NAN, ..LoraConfig::default() };
        assert!(not_a_number.validate().is_err());
        let not_a_number = LoraConfig { dropout: f64::NAN, ..LoraConfig::default() };
        assert!(not_a_number.validate().is_err());
    }

    #[test]
    fn unknown_and_doubled_targets_are_refused_with_a_suggestion() {
        refused(json!({"targets": ["q_porj"]}), "did you mean `q_proj`?");
        refused(json!({"targets": ["head"]}), "unknown module `head`, expected one of q_proj, k_proj");
        let (dora, pissa) = ("linear modules, since lora.use_dora is on", "of the blocks, since lora.init is pissa");
        refused(json!({"targets": ["q_proj", "embed_tokens"], "use_dora": true}), dora);
        refused(json!({"targets": ["lm_head"], "init": "pissa"}), pissa);
        refused(json!({"targets": ["q_proj", "q_proj"]}), "module `q_proj` is listed twice");
        refused(json!({"targets": []}), "the list is empty");
        refused(json!({"targets": "all_linear"}), "did you mean `all-linear`?");
        refused(json!({"targets": "q_proj"}), "a single module is written as a list: [q_proj]");
        refused(json!({"targets": 3}), "expected `all-linear` or a list of module names");
        let built = LoraConfig { targets: Targets::Modules(vec![]), ..LoraConfig::default() };
        assert!(built.validate().is_err());
        let built = LoraConfig { targets: Targets::Modules(vec![TargetModule::QProj; 2]), ..LoraConfig::default() };
        assert!(built.validate().is_err());
    }

    #[test]
    fn the_schema_names_every_module() {
        let schema = to_value(schemars::schema_for!(LoraConfig)).expect("a schema is JSON");
        let text = schema.to_string();
        for module in TargetModule::all() {
            assert!(text.contains(module.name()), "{text}");
        }
        assert_eq!(schema["properties"]["rank"]["minimum"], 1);
        assert_eq!(schema["properties"]["rank"]["maximum"], 512);
        assert_eq!(schema["properties"]["dropout"]["exclusiveMaximum"], 1.0);
        assert_eq!(schema["properties"]["rank"]["default"], 16);
    }
}
