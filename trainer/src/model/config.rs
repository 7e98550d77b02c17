//! The sizes and flags of a decoder, read from `config.json` or from a GGUF file's metadata.

use std::path::Path;

use serde_json::Value;

use super::family::{self, Family};
use super::rotary::Rotary;
use crate::error::TrainError;
use crate::kernels::attention::Heads;

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
    /// The rotary frequencies of blocks that see all tokens.
    pub rotary: Rotary,
    /// Those of blocks with a window, where they are others.
    pub local_rotary: Option<Rotary>,
    /// How many tokens a block with a window sees, its own included.
    pub sliding_window: Option<usize>,
    /// Which blocks have the window; as many as there are blocks.
    pub is_windowed: Vec<bool>,
    /// The scores' factor is the inverse root of this; of `head_dim` where it is not given.
    pub query_pre_attn_scalar: Option<f64>,
    /// Positions the model was trained for.
    pub max_position_embeddings: usize,
    /// The head is the embedding.
    pub tie_word_embeddings: bool,
}

/// Blocks of a decoder, at most.
pub(super) const MOST_LAYERS: usize = 1 << 10;

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
        refuse_unsupported(json, family)?;
        let hidden_size = size(json, "hidden_size")?;
        let num_attention_heads = size(json, "num_attention_heads")?;
        let num_hidden_layers = size(json, "num_hidden_layers")?;
        let sliding_window = sliding_window(json)?;
        let (rotary, local_rotary) = rotaries(json, family)?;
        let config = Self {
            family,
            hidden_size,
            intermediate_size: size(json, "intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads: optional_size(json, "num_key_value_heads")?.unwrap_or(num_attention_heads),
            head_dim: optional_size(json, "head_dim")?.unwrap_or(hidden_size / num_attention_heads),
            vocab_size: size(json, "vocab_size")?,
            rms_norm_eps: number(json, "rms_norm_eps")?,
            rotary,
            local_rotary,
            sliding_window,
            is_windowed: windowed(json, family, num_hidden_layers, sliding_window)?,
            query_pre_attn_scalar: optional_number(json, "query_pre_attn_scalar")?,
            max_position_embeddings: size(json, "max_position_embeddings")?,
            tie_word_embeddings: json
                .get("tie_word_embeddings")
                .and_then(Value::as_bool)
                .unwrap_or(family.gemma_scaling),
        };
        config.validate()?;
        Ok(config)
    }

    /// The rotary frequencies of each kind of block, `head_dim / 2` each; [`Self::rotation`] says whose they are.
    pub fn inverse_frequencies(&self) -> Vec<Vec<f32>> {
        let rotaries = std::iter::once(&self.rotary).chain(&self.local_rotary);
        rotaries.map(|rotary| rotary.inverse_frequencies(self.head_dim)).collect()
    }

    /// Which of the rotary frequencies a block has.
    pub fn rotation(&self, block: usize) -> usize {
        usize::from(self.local_rotary.is_some() && self.is_windowed[block])
    }

    /// The shape of a block's attention.
    #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
    pub fn heads(&self, block: usize) -> Heads {
        let scalar = self.query_pre_attn_scalar.unwrap_or(self.head_dim as f64);
        Heads {
            heads: self.num_attention_heads,
            kv_heads: self.num_key_value_heads,
            head_dim: self.head_dim,
            scale: (1.0 / scalar.sqrt()) as f32,
            window: self.sliding_window.filter(|_| self.is_windowed[block]),
            soft_cap: None,
        }
    }

    /// Inputs and outputs of the linear modules of a block, in the order of [`MODULES`](super::MODULES).
    pub fn module_sizes(&self) -> [(usize, usize); 7] {
        let (hidden, intermediate) = (self.hidden_size, self.intermediate_size);
        let (heads, kv) = (self.num_attention_heads * self.head_dim, self.num_key_value_heads * self.head_dim);
        [
            (hidden, heads),
            (hidden, kv),
            (hidden, kv),
            (heads, hidden),
            (hidden, intermediate),
            (hidden, intermediate),
            (intermediate, hidden),
        ]
    }

    /// What the embedding is multiplied with.
    pub fn embedding_scale(&self) -> Option<f64> {
        self.family.gemma_scaling.then(|| (self.hidden_size as f64).sqrt())
    }

    /// Checks what the decoder's shapes rely on.
    ///
    /// # Errors
    /// A sentence that names the key, the value and what was expected.
    pub fn validate(&self) -> Result<(), String> {
        let bounds = [
            ("hidden_size", self.hidden_size, 1 << 16),
            ("intermediate_size", self.intermediate_size, 1 << 18),
            ("num_hidden_layers", self.num_hidden_layers, MOST_LAYERS),
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
        if !(self.rms_norm_eps > 0.0 && self.rotary.theta > 0.0) {
            return Err(format!(
                "\"rms_norm_eps\" is {} and \"rope_theta\" is {}, expected numbers above 0",
                self.rms_norm_eps, self.rotary.theta
            ));
        }
        if self.is_windowed.len() != self.num_hidden_layers {
            return Err(format!(
                "key \"layer_types\" names {} layers, expected {}",
                self.is_windowed.len(),
                self.num_hidden_layers
            ));
        }
        Ok(())
    }
}

/// Refuses what would make the decoder silently wrong.
fn refuse_unsupported(json: &Value, family: &Family) -> Result<(), String> {
    let is_set = |key: &str| json.get(key).is_some_and(|v| !v.is_null() && v != &Value::Bool(false));
    // Gemma 3 writes the switch for queries, keys, values and output at once; Qwen 2 has a bias and no switch.
    let switches = ["attention_bias", "mlp_bias", "quantization_config", "attn_logit_softcapping"];
    for key in switches.into_iter().chain(["final_logit_softcapping", "use_bidirectional_attention"]) {
        if is_set(key) {
            return Err(format!(
                "key \"{key}\" is {}, which the decoder does not support yet; use a base without it",
                json[key]
            ));
        }
    }
    let activation = json.get("hidden_activation").or_else(|| json.get("hidden_act")).and_then(Value::as_str);
    let expected = family.activation.name();
    match activation {
        None => Ok(()),
        Some(name) if name == expected => Ok(()),
        Some(other) => Err(format!("key \"hidden_act\" is \"{other}\", expected \"{expected}\"")),
    }
}

/// The rotary frequencies, and those of blocks with a window where they are others.
///
/// transformers 5 writes `rope_parameters`, with an object for each kind of block where there are several; earlier
/// versions `rope_theta`, `rope_scaling` and `rope_local_base_freq`.
fn rotaries(json: &Value, family: &Family) -> Result<(Rotary, Option<Rotary>), String> {
    let default = family.default_rope_theta;
    if let Some(parameters) = json.get("rope_parameters").filter(|v| !v.is_null()) {
        return match (parameters.get("full_attention"), parameters.get("sliding_attention")) {
            (Some(full), local) => {
                let local = local.map(|local| Rotary::from_json(local, LOCAL_THETA)).transpose()?;
                Ok((Rotary::from_json(full, default)?, local))
            }
            (None, _) => Ok((Rotary::from_json(parameters, default)?, None)),
        };
    }
    let mut rotary = match json.get("rope_scaling").filter(|v| !v.is_null()) {
        Some(scaling) => Rotary::from_json(scaling, default)?,
        None => Rotary::plain(default),
    };
    if let Some(theta) = optional_number(json, "rope_theta")? {
        rotary.theta = theta;
    }
    let local = optional_number(json, "rope_local_base_freq")?;
    let local = local.or((family.full_attention_every > 0).then_some(LOCAL_THETA));
    Ok((rotary, local.map(Rotary::plain)))
}

/// The base of Gemma 3's blocks with a window.
pub(super) const LOCAL_THETA: f64 = 10_000.0;

/// The window, unless it is switched off.
fn sliding_window(json: &Value) -> Result<Option<usize>, String> {
    if json.get("use_sliding_window") == Some(&Value::Bool(false)) {
        return Ok(None);
    }
    optional_size(json, "sliding_window")
}

/// Which blocks have the window.
fn windowed(json: &Value, family: &Family, layers: usize, window: Option<usize>) -> Result<Vec<bool>, String> {
    // More than a decoder may have is refused afterwards; the list need not be as long.
    let layers = layers.min(MOST_LAYERS + 1);
    if window.is_none() {
        return Ok(vec![false; layers]);
    }
    if let Some(types) = json.get("layer_types").and_then(Value::as_array) {
        let is_windowed = |kind: &Value| match kind.as_str() {
            Some("sliding_attention") => Ok(true),
            Some("full_attention") => Ok(false),
            _ => Err(format!("key \"layer_types\" has {kind}, expected full_attention or sliding_attention")),
        };
        return types.iter().map(is_windowed).collect();
    }
    let every = optional_size(json, "sliding_window_pattern")?.unwrap_or(family.full_attention_every);
    // Qwen 2 has the window from a block on.
    let first =
        json.get("max_window_layers").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    Ok((0..layers).map(|block| block >= first && (every == 0 || (block + 1) % every != 0)).collect())
}

fn optional_number(json: &Value, key: &str) -> Result<Option<f64>, String> {
    match json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
            _ => Err(format!("key \"{key}\" is {value}, expected a number above 0")),
        },
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
