//! The metadata of a GGUF file: what llama.cpp must know of a model to compute it, and its tokenizer.
//!
//! A GGUF base keeps its own; for a Hugging Face folder it is made from the configuration. What llama.cpp does not
//! compute for a family is refused, or said where it only matters for long texts.
//! Source of the keys: llama.cpp's `gguf-py/gguf/constants.py` and its converter; of what is done with them,
//! `src/llama-model.cpp`.

use std::collections::BTreeMap;

use adapters::gguf::{GgufArray, GgufValue};
use datasets::GgufVocabulary;

use super::base::BaseModel;
use super::config::DecoderConfig;
use super::rotary::{RopeScaling, Rotary};
use crate::error::TrainError;

type Metadata = BTreeMap<String, GgufValue>;

/// Where the chat template stands.
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

/// All of a merged model's metadata but the types of its tensors.
///
/// # Errors
/// [`TrainError::ModelConfig`] when llama.cpp does not compute what the configuration says; [`TrainError::Data`] when
/// the tokenizer has no form in GGUF.
pub(super) fn metadata(base: &BaseModel) -> Result<Metadata, TrainError> {
    if let Some(file) = base.gguf_file() {
        let mut metadata = file.metadata().clone();
        if let Ok(template) = base.tokenizer.template() {
            metadata.insert(CHAT_TEMPLATE.to_owned(), GgufValue::String(template.source().to_owned()));
        }
        return Ok(metadata);
    }
    let fail = |reason: String| TrainError::ModelConfig { path: base.path().join("config.json"), reason };
    let mut metadata = architecture(&base.config).map_err(fail)?;
    let name = base.name.trim_end_matches('/').rsplit('/').next().unwrap_or(&base.name);
    metadata.insert("general.name".to_owned(), GgufValue::String(name.to_owned()));
    metadata.extend(tokenizer(base.tokenizer.gguf_vocabulary(base.config.vocab_size)?));
    Ok(metadata)
}

/// The keys of the architecture.
///
/// # Errors
/// A sentence that names the key of `config.json` for which llama.cpp has none.
fn architecture(config: &DecoderConfig) -> Result<Metadata, String> {
    let name = config.family.gguf_architecture;
    let mut metadata = Metadata::new();
    let mut text = |key: &str, value: &str| metadata.insert(key.to_owned(), GgufValue::String(value.to_owned()));
    text("general.type", "model");
    text("general.architecture", name);
    for (key, value) in [
        ("context_length", config.max_position_embeddings),
        ("embedding_length", config.hidden_size),
        ("block_count", config.num_hidden_layers),
        ("feed_forward_length", config.intermediate_size),
        ("attention.head_count", config.num_attention_heads),
        ("attention.head_count_kv", config.num_key_value_heads),
        ("attention.key_length", config.head_dim),
        ("attention.value_length", config.head_dim),
        ("rope.dimension_count", config.head_dim),
        ("vocab_size", config.vocab_size),
    ] {
        metadata.insert(format!("{name}.{key}"), whole(value)?);
    }
    for (key, value) in
        [("attention.layer_norm_rms_epsilon", config.rms_norm_eps), ("rope.freq_base", config.rotary.theta)]
    {
        metadata.insert(format!("{name}.{key}"), single(value));
    }
    match &config.rotary.scaling {
        RopeScaling::Linear { factor } => {
            metadata.insert(format!("{name}.rope.scaling.type"), GgufValue::String("linear".to_owned()));
            metadata.insert(format!("{name}.rope.scaling.factor"), single(*factor));
        }
        RopeScaling::Llama3 { .. } | RopeScaling::Factors(_) if name != "llama" => {
            return Err(format!(
                "the rope type llama3 has no form in a GGUF file of the architecture {name}; merge into a folder \
                 instead (--as safetensors)"
            ));
        }
        _ => {}
    }
    if config.family.full_attention_every > 0 {
        window(config, &mut metadata)?;
    } else if let Some(window) = config.sliding_window.filter(|_| config.is_windowed.contains(&true)) {
        tracing::warn!(
            "llama.cpp has no attention window for the architecture {name}, the model has one of {window} tokens: on \
             longer texts the two differ"
        );
    }
    Ok(metadata)
}

/// The window of families in which every so many blocks see all tokens.
fn window(config: &DecoderConfig, metadata: &mut Metadata) -> Result<(), String> {
    let name = config.family.gguf_architecture;
    if let Some(local) = &config.local_rotary {
        if local.scaling != RopeScaling::None {
            return Err(
                "the rotary frequencies of sliding_attention are scaled, which llama.cpp does not do".to_owned()
            );
        }
        metadata.insert(format!("{name}.rope.freq_base_swa"), single(local.theta));
    }
    let Some(window) = config.sliding_window.filter(|_| config.is_windowed.contains(&true)) else { return Ok(()) };
    // 0 says that no block sees all tokens.
    let period = config.is_windowed.iter().position(|windowed| !windowed).map_or(0, |full| full + 1);
    let is_periodic = (1..).zip(&config.is_windowed).all(|(n, windowed)| *windowed == (period == 0 || n % period != 0));
    if !is_periodic {
        return Err("key \"layer_types\" does not repeat with one period, as llama.cpp needs it; merge into a folder \
                    instead (--as safetensors)"
            .to_owned());
    }
    metadata.insert(format!("{name}.attention.sliding_window"), whole(window)?);
    metadata.insert(format!("{name}.attention.sliding_window_pattern"), whole(period)?);
    Ok(())
}

/// What the norms of queries are multiplied with, so that the scores are scaled as the model's own `config.json` says:
/// llama.cpp has no key for it, and takes the head's width, or for 62 blocks the width of the model by its heads. `None`
/// where they are the same.
#[expect(clippy::cast_possible_truncation, reason = "norms are in single precision")]
pub(super) fn q_norm_factor(config: &DecoderConfig) -> Option<f32> {
    let own = config.query_pre_attn_scalar.filter(|_| config.family.gemma_scaling)?;
    let theirs = match config.num_hidden_layers {
        62 => config.hidden_size / config.num_attention_heads,
        _ => config.head_dim,
    };
    let factor = (theirs as f64 / own).sqrt() as f32;
    ((factor - 1.0).abs() > f32::EPSILON).then_some(factor)
}

/// By what each rotary frequency is divided, for the tensor that llama.cpp reads; `None` where nothing is, or all by one
/// number.
pub(super) fn rope_factors(config: &DecoderConfig) -> Option<Vec<f32>> {
    match &config.rotary.scaling {
        RopeScaling::None | RopeScaling::Linear { .. } => None,
        RopeScaling::Factors(factors) => Some(factors.clone()),
        RopeScaling::Llama3 { .. } => {
            let plain = Rotary::plain(config.rotary.theta).inverse_frequencies(config.head_dim);
            let stretched = config.rotary.inverse_frequencies(config.head_dim);
            Some(plain.iter().zip(stretched).map(|(plain, stretched)| plain / stretched).collect())
        }
    }
}

/// The keys of the tokenizer.
fn tokenizer(vocabulary: GgufVocabulary) -> Metadata {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let mut metadata = Metadata::from([
        (key("model"), GgufValue::String(vocabulary.model)),
        (key("pre"), GgufValue::String(vocabulary.pre)),
        (key("tokens"), GgufValue::Array(GgufArray::String(vocabulary.tokens))),
        (key("token_type"), GgufValue::Array(GgufArray::I32(vocabulary.token_types))),
    ]);
    if !vocabulary.merges.is_empty() {
        metadata.insert(key("merges"), GgufValue::Array(GgufArray::String(vocabulary.merges)));
    }
    if !vocabulary.scores.is_empty() {
        metadata.insert(key("scores"), GgufValue::Array(GgufArray::F32(vocabulary.scores)));
    }
    for (name, id) in [
        ("bos_token_id", vocabulary.bos),
        ("eos_token_id", vocabulary.eos),
        ("eot_token_id", vocabulary.eot),
        ("unknown_token_id", vocabulary.unknown),
        ("padding_token_id", vocabulary.padding),
    ] {
        metadata.extend(id.map(|id| (key(name), GgufValue::U32(id))));
    }
    for (name, truth) in [("add_bos_token", vocabulary.add_bos), ("add_space_prefix", vocabulary.add_space_prefix)] {
        metadata.extend(truth.map(|truth| (key(name), GgufValue::Bool(truth))));
    }
    metadata.extend(vocabulary.chat_template.map(|source| (CHAT_TEMPLATE.to_owned(), GgufValue::String(source))));
    metadata
}

fn whole(number: usize) -> Result<GgufValue, String> {
    u32::try_from(number).map(GgufValue::U32).map_err(|_| format!("{number} is too large for a GGUF file's metadata"))
}

#[expect(clippy::cast_possible_truncation, reason = "the format's precision")]
fn single(number: f64) -> GgufValue {
    GgufValue::F32(number as f32)
}
