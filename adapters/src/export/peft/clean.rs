//! Adapters of other tools in the form of ours: a configuration that says what its matrices need, and nothing else.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{AdapterConfig, InitLoraWeights, LoraPair, TargetNames};
use crate::LoraConfig;

/// Keys by which PEFT leaves out modules that `target_modules` names.
const RESTRICTIONS: [&str; 3] = ["layers_to_transform", "layers_pattern", "exclude_modules"];

impl AdapterConfig {
    /// The one key beyond the known ones that says something of a finished adapter: the class of its base.
    pub(crate) fn base_class(&self) -> BTreeMap<String, Value> {
        let key = "auto_mapping";
        self.other
            .get(key)
            .filter(|value| !value.is_null())
            .map(|value| (key.to_owned(), value.clone()))
            .into_iter()
            .collect()
    }
}

/// A configuration for the same matrices with the same effect, without keys that only mattered in training.
///
/// Where such a key left out modules, `target_modules` lists whole paths instead, so that PEFT makes no others.
pub fn clean(config: &AdapterConfig, tensors: &BTreeMap<String, LoraPair>) -> AdapterConfig {
    let is_restricted = RESTRICTIONS.iter().any(|key| config.other.get(*key).is_some_and(|value| !value.is_null()));
    let target_modules = match &config.target_modules {
        _ if is_restricted => TargetNames::Names(tensors.keys().cloned().collect()),
        TargetNames::Names(names) => {
            let mut names = names.clone();
            names.sort();
            names.dedup();
            TargetNames::Names(names)
        }
        pattern @ TargetNames::Pattern(_) => pattern.clone(),
    };
    let plain = AdapterConfig::new(&LoraConfig::default(), "", None);
    AdapterConfig {
        task_type: plain.task_type,
        target_modules,
        inference_mode: true,
        init_lora_weights: InitLoraWeights::default(),
        peft_version: plain.peft_version,
        other: config.base_class(),
        ..config.clone()
    }
}
