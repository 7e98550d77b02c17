//! `config.json` and `generation_config.json` of a merged model.
//!
//! A base that is a Hugging Face folder keeps its own, but for the type of its numbers; for a GGUF base they are made
//! from what its metadata says.

use std::path::Path;

use adapters::export::safetensors::FloatType;
use serde_json::{Map, Value, json};

use super::base::BaseModel;
use super::config::DecoderConfig;
use super::rotary::{RopeScaling, Rotary};
use crate::error::TrainError;

/// `config.json` as transformers reads it, for weights of a type.
///
/// # Errors
/// [`TrainError::ModelConfig`] when it has no form for what the base is.
pub(super) fn config_json(base: &BaseModel, float: FloatType) -> Result<Value, TrainError> {
    let path = base.path().join("config.json");
    let mut json = if base.gguf_file().is_some() {
        let fail = |reason: String| TrainError::ModelConfig { path: base.path().to_owned(), reason };
        Value::Object(described(&base.config, base).map_err(fail)?)
    } else {
        own(&path)?
    };
    // The name since transformers 5, and the one before.
    let names = ["dtype", "torch_dtype"];
    let known = names.into_iter().filter(|name| json.get(name).is_some()).collect::<Vec<_>>();
    for name in if known.is_empty() { &names[1..] } else { &known } {
        json[name] = float.torch_name().into();
    }
    Ok(json)
}

/// The base's own file.
fn own(path: &Path) -> Result<Value, TrainError> {
    let text = std::fs::read_to_string(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
    let fail = |error: serde_json::Error| TrainError::ModelConfig {
        path: path.to_owned(),
        reason: format!("not valid JSON: {error}"),
    };
    serde_json::from_str(&text).map_err(fail)
}

/// `generation_config.json` of a base that has none: the tokens that begin, end and fill a text.
pub(super) fn generation_config(base: &BaseModel) -> Value {
    let mut config = special_ids(base);
    config.insert("_from_model_config".to_owned(), true.into());
    config.into()
}

/// The ids of special tokens, under the names that both files have for them.
fn special_ids(base: &BaseModel) -> Map<String, Value> {
    let special = base.tokenizer.special_tokens();
    let id = |token: &Option<String>| token.as_deref().and_then(|token| base.tokenizer.id(token));
    let mut ids = Map::new();
    for (key, token) in [("bos_token_id", &special.bos), ("pad_token_id", &special.padding)] {
        ids.extend(id(token).map(|id| (key.to_owned(), id.into())));
    }
    let eos = match base.tokenizer.eos_token_ids() {
        [] => Value::Null,
        [id] => (*id).into(),
        ids => ids.into(),
    };
    ids.insert("eos_token_id".to_owned(), eos);
    ids
}

/// The configuration of a GGUF base.
///
/// # Errors
/// A sentence that names what the file has no form for.
fn described(config: &DecoderConfig, base: &BaseModel) -> Result<Map<String, Value>, String> {
    let rope = |rotary: &Rotary| {
        rotary.to_json().ok_or_else(|| {
            "its rotary frequencies are stretched one by one, which config.json has no form for; merge into GGUF"
                .to_owned()
        })
    };
    let mut json = special_ids(base);
    let mut set = |key: &str, value: Value| json.insert(key.to_owned(), value);
    set("architectures", json!([config.family.architecture]));
    set("model_type", config.family.model_type.into());
    set("hidden_size", config.hidden_size.into());
    set("intermediate_size", config.intermediate_size.into());
    set("num_hidden_layers", config.num_hidden_layers.into());
    set("num_attention_heads", config.num_attention_heads.into());
    set("num_key_value_heads", config.num_key_value_heads.into());
    set("head_dim", config.head_dim.into());
    set("vocab_size", config.vocab_size.into());
    set("hidden_act", config.family.activation.name().into());
    set("rms_norm_eps", config.rms_norm_eps.into());
    set("max_position_embeddings", config.max_position_embeddings.into());
    set("tie_word_embeddings", config.tie_word_embeddings.into());
    let full = rope(&config.rotary)?;
    match &config.local_rotary {
        Some(local) => {
            // Both forms, for readers before and after transformers 5.
            set("rope_local_base_freq", local.theta.into());
            set("rope_parameters", json!({ "full_attention": full, "sliding_attention": rope(local)? }));
        }
        None => {
            set("rope_parameters", full.clone());
        }
    }
    set("rope_theta", config.rotary.theta.into());
    if config.rotary.scaling != RopeScaling::None {
        set("rope_scaling", full);
    }
    if let Some(window) = config.sliding_window {
        let kind = |windowed: &bool| if *windowed { "sliding_attention" } else { "full_attention" };
        set("sliding_window", window.into());
        set("layer_types", config.is_windowed.iter().map(kind).collect());
    }
    if config.family.gemma_scaling {
        set("hidden_activation", config.family.activation.name().into());
        // transformers takes a whole number here and refuses 256.0.
        let scalar = config.query_pre_attn_scalar.map_or_else(|| config.head_dim.into(), Value::from);
        set("query_pre_attn_scalar", scalar);
    }
    Ok(json)
}
