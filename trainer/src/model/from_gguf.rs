//! The configuration and the tokenizer in the metadata of a GGUF file; `gguf_metadata` is the way back.

use adapters::gguf::GgufFile;
use datasets::GgufVocabulary;

use super::config::{DecoderConfig, LOCAL_THETA, MOST_LAYERS};
use super::family;
use super::rotary::{RopeScaling, Rotary};
use crate::error::TrainError;

/// The tensor that stretches the rotary frequencies of Llama 3 in a GGUF file.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The configuration in a GGUF file's metadata.
pub(super) fn config(file: &GgufFile) -> Result<DecoderConfig, TrainError> {
    let fail = |reason: String| TrainError::ModelConfig { path: file.path().to_owned(), reason };
    let architecture = file.str("general.architecture")?;
    let family = family::by_gguf_architecture(architecture).ok_or_else(|| {
        fail(format!("architecture \"{architecture}\" is not supported; known families: {}", family::known()))
    })?;
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| -> Result<usize, TrainError> { Ok(file.u32(&key(name))? as usize) };
    let or = |name: &str, default: usize| if file.contains(&key(name)) { size(name) } else { Ok(default) };
    let number_or = |name: &str, default: f64| -> Result<f64, TrainError> {
        Ok(if file.contains(&key(name)) { f64::from(file.f32(&key(name))?) } else { default })
    };
    let text = |name: &str| if file.contains(&key(name)) { file.str(&key(name)) } else { Ok("none") };
    let scaling = match text("rope.scaling.type")? {
        "none" if file.tensor(ROPE_FACTORS).is_ok() => RopeScaling::Factors(file.dequantize(ROPE_FACTORS)?),
        "none" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: number_or("rope.scaling.factor", 1.0)? },
        other => return Err(fail(format!("key \"{}\" is {other}, which is not supported", key("rope.scaling.type")))),
    };
    let layers = size("block_count")?;
    let window = if file.contains(&key("attention.sliding_window")) {
        Some(size("attention.sliding_window")?).filter(|window| *window > 0)
    } else {
        None
    };
    let every = or("attention.sliding_window_pattern", family.full_attention_every)?;
    let local = (family.full_attention_every > 0).then(|| number_or("rope.freq_base_swa", LOCAL_THETA)).transpose()?;
    let hidden_size = size("embedding_length")?;
    let num_attention_heads = size("attention.head_count")?;
    let head_dim = or("attention.key_length", hidden_size / num_attention_heads.max(1))?;
    let config = DecoderConfig {
        family,
        hidden_size,
        intermediate_size: size("feed_forward_length")?,
        num_hidden_layers: layers,
        num_attention_heads,
        num_key_value_heads: or("attention.head_count_kv", num_attention_heads)?,
        head_dim,
        vocab_size: file.tensor("token_embd.weight")?.shape[0],
        rms_norm_eps: f64::from(file.f32(&key("attention.layer_norm_rms_epsilon"))?),
        rotary: Rotary { theta: number_or("rope.freq_base", family.default_rope_theta)?, scaling },
        local_rotary: local.map(Rotary::plain),
        sliding_window: window,
        is_windowed: (0..layers.min(MOST_LAYERS + 1))
            .map(|block| window.is_some() && (every == 0 || (block + 1) % every != 0))
            .collect(),
        query_pre_attn_scalar: None,
        max_position_embeddings: size("context_length")?,
        tie_word_embeddings: file.tensor("output.weight").is_err(),
    };
    config.validate().map_err(fail)?;
    Ok(config)
}

/// The tokenizer in a GGUF file's metadata.
pub(super) fn vocabulary(file: &GgufFile) -> Result<GgufVocabulary, TrainError> {
    let id = |key: &str| if file.contains(key) { file.u32(key).map(Some) } else { Ok(None) };
    let text = |key: &str| if file.contains(key) { file.str(key).map(|s| Some(s.to_owned())) } else { Ok(None) };
    Ok(GgufVocabulary {
        model: file.str("tokenizer.ggml.model")?.to_owned(),
        pre: text("tokenizer.ggml.pre")?.unwrap_or_else(|| "default".to_owned()),
        tokens: file.strings("tokenizer.ggml.tokens")?.to_vec(),
        token_types: list(file, "tokenizer.ggml.token_type", GgufFile::i32s)?,
        merges: list(file, "tokenizer.ggml.merges", GgufFile::strings)?,
        scores: list(file, "tokenizer.ggml.scores", GgufFile::f32s)?,
        bos: id("tokenizer.ggml.bos_token_id")?,
        eos: id("tokenizer.ggml.eos_token_id")?,
        eot: id("tokenizer.ggml.eot_token_id")?,
        unknown: id("tokenizer.ggml.unknown_token_id")?,
        padding: id("tokenizer.ggml.padding_token_id")?,
        add_bos: if file.contains("tokenizer.ggml.add_bos_token") {
            Some(file.bool("tokenizer.ggml.add_bos_token")?)
        } else {
            None
        },
        add_space_prefix: if file.contains("tokenizer.ggml.add_space_prefix") {
            Some(file.bool("tokenizer.ggml.add_space_prefix")?)
        } else {
            None
        },
        chat_template: text("tokenizer.chat_template")?,
    })
}

/// A list that may be absent.
fn list<T: Clone>(
    file: &GgufFile,
    key: &str,
    get: for<'f> fn(&'f GgufFile, &str) -> Result<&'f [T], adapters::AdapterError>,
) -> Result<Vec<T>, TrainError> {
    if file.contains(key) { Ok(get(file, key)?.to_vec()) } else { Ok(Vec::new()) }
}
