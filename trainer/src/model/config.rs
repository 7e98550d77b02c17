//! The sizes and flags of a decoder, read from `config.json` or from a GGUF file's metadata.

use std::path::Path;

use serde_json::Value;

use super::family::{self, Family};
use crate::error::TrainError;
use crate::kernels::attention::Heads;
use crate::kernels::rope;

/// The architecture of a decoder. Names are those of Hugging Face's `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct DecoderConfig {
    /// The row of the family table.
    pub family: &'static Family,
    /// Width of the residual path.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Number of query heads.
    pub num_attention_heads: usize,
    /// Number of key and value heads; divides the number of query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; even.
    pub head_dim: usize,
    /// Number of tokens the embedding knows.
    pub vocab_size: usize,
    /// Added to the mean square before the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Positions the model was trained for.
    pub max_position_embeddings: usize,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
}

impl DecoderConfig {
    /// Reads a Hugging Face `config.json`.
    ///
    /// # Errors
    /// [`TrainError::ModelConfig`] when the file is not JSON, a key is missing or of a wrong type, the family is not
    /// known, or a feature that the decoder does not compute is switched on.
    pub fn from_file(path: &Path) -> Result<Self, TrainError> {
        let fail = |reason: String| TrainError::ModelConfig { path: path.to_owned(), reason };
        let text =
            std::fs::read_to_string(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
        let json: Value = serde_json::from_str(&text).map_err(|e| fail(format!("not valid JSON: {e}")))?;
        Self::from_json(&json).map_err(fail)
    }

    fn from_json(json: &Value) -> Result<Self, String> {
        let model_type = json
            .get("model_type")
            .and_then(Value::as_str)
            .ok_or("key \"model_type\" is missing, expected the name of a model family")?;
        let family = family::by_model_type(model_type).ok_or_else(|| {
            format!("model family \"{model_type}\" is not supported; known families: {}", family::known())
        })?;
        refuse_unsupported(json)?;
        let hidden_size = size(json, "hidden_size")?;
        let num_attention_heads = size(json, "num_attention_heads")?;
        let config = Self {
            family,
            hidden_size,
            intermediate_size: size(json, "intermediate_size")?,
            num_hidden_layers: size(json, "num_hidden_layers")?,
            num_attention_heads,
            num_key_value_heads: optional_size(json, "num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: optional_size(json, "head_dim")?.unwrap_or(hidden_size / num_attention_heads),
            vocab_size: size(json, "vocab_size")?,
            rms_norm_eps: number(json, "rms_norm_eps")?,
            rope_theta: rope_theta(json)?,
            max_position_embeddings: size(json, "max_position_embeddings")?,
            tie_word_embeddings: json.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(false),
        };
        config.validate()?;
        Ok(config)
    }

    /// The rotary frequencies, `head_dim / 2` of them.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        rope::inverse_frequencies(self.rope_theta, self.head_dim)
    }

    /// The shape of the attention.
    #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
    pub fn heads(&self) -> Heads {
        Heads {
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            scale: (1.0 / (self.head_dim as f64).sqrt()) as f32,
            window: None,
            soft_cap: None,
        }
    }

    /// Checks what the decoder's shapes rely on.
    ///
    /// # Errors
    /// A sentence that names the key, the value and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 10),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 10),
            ("head_dim", self.head_dim, 1 << 12),
            ("vocab_size", self.vocab_size, 1 << 22),
        ];
        for (key, value, limit) in bounds {
            if value == 0 || value > limit {
                return Err(format!("key \"{key}\" is {value}, expected 1 to {limit}"));
            }
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(format!("key \"head_dim\" is {}, expected an even number", self.head_dim));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(format!(
                "\"num_attention_heads\" is {}, expected a multiple of \"num_key_value_heads\", {}",
                self.num_attention_heads, self.num_key_value_heads
            ));
        }
        if !(self.rms_norm_eps > 0.0 && self.rope_theta > 0.0) {
            return Err(format!(
                "\"rms_norm_eps\" is {} and \"rope_theta\" is {}, expected numbers above 0",
                self.rms_norm_eps, self.rope_theta
            ));
        }
        Ok(())
    }
}

/// Refuses what would make the decoder silently wrong.
fn refuse_unsupported(json: &Value) -> Result<(), String> {
    let is_set = |key: &str| json.get(key).is_some_and(|v| !v.is_null() && v != &Value::Bool(false));
    for key in ["attention_bias", "mlp_bias", "rope_scaling", "sliding_window", "quantization_config"] {
        if is_set(key) {
            return Err(format!(
                "key \"{key}\" is {}, which the decoder does not support yet; use a base without it",
                json[key]
            ));
        }
    }
    if let Some(kind) = json.pointer("/rope_parameters/rope_type").and_then(Value::as_str)
        && kind != "default"
    {
        return Err(format!("rope type \"{kind}\" is not supported yet, expected \"default\""));
    }
    match json.get("hidden_act").and_then(Value::as_str) {
        None | Some("silu") => Ok(()),
        Some(other) => Err(format!("key \"hidden_act\" is \"{other}\", expected \"silu\"")),
    }
}

/// transformers 5 writes `rope_parameters.rope_theta`, earlier versions `rope_theta`; 10000 where neither is written.
fn rope_theta(json: &Value) -> Result<f64, String> {
    let value = json.pointer("/rope_parameters/rope_theta").or_else(|| json.get("rope_theta"));
    match value {
        None => Ok(10_000.0),
        Some(v) => v.as_f64().ok_or_else(|| format!("key \"rope_theta\" is {v}, expected a number")),
    }
}

fn number(json: &Value, key: &str) -> Result<f64, String> {
    let value = json.get(key).ok_or_else(|| format!("key \"{key}\" is missing, expected a number"))?;
    value.as_f64().ok_or_else(|| format!("key \"{key}\" is {value}, expected a number"))
}

fn size(json: &Value, key: &str) -> Result<usize, String> {
    optional_size(json, key)?.ok_or_else(|| format!("key \"{key}\" is missing, expected a whole number"))
}

fn optional_size(json: &Value, key: &str) -> Result<Option<usize>, String> {
    match json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_u64()
            .and_then(|v| usize::try_from(v).ok())
            .filter(|&v| v > 0)
            .map(Some)
            .ok_or_else(|| format!("key \"{key}\" is {value}, expected a whole number above 0")),
    }
}
