//! The frequencies of the rotary position embedding, and how models stretch them to longer texts.

use std::f64::consts::TAU;

use serde_json::{Value, json};

use crate::kernels::rope;

/// Base and stretching of the rotary frequencies.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// The base.
    pub theta: f64,
    /// What is done to the frequencies.
    pub scaling: RopeScaling,
}

/// What is done to the rotary frequencies, under the names of `rope_type`.
#[derive(Clone, Debug, PartialEq)]
pub enum RopeScaling {
    /// Nothing: `default`.
    None,
    /// All are divided: `linear`.
    ///
    /// Source: Chen et al. 2023, <https://arxiv.org/abs/2306.15595>.
    Linear {
        /// By this.
        factor: f64,
    },
    /// Low frequencies are divided, high ones kept, those between blended: `llama3`.
    ///
    /// Source: transformers, `modeling_rope_utils.py`, `_compute_llama3_parameters`.
    Llama3 {
        /// By what the low ones are divided.
        factor: f64,
        /// Wavelengths above the original length by this are low.
        low_freq_factor: f64,
        /// Wavelengths below the original length by this are high.
        high_freq_factor: f64,
        /// The length that the model was first trained for.
        original_length: f64,
    },
    /// Each is divided by a number of its own, as GGUF files hold it.
    Factors(Vec<f32>),
}

impl Rotary {
    /// Frequencies that are not stretched.
    pub fn plain(theta: f64) -> Self {
        Self { theta, scaling: RopeScaling::None }
    }

    /// The inverse frequencies, `head_dim / 2` of them.
    #[expect(clippy::cast_possible_truncation, reason = "the angles are computed in f32, as transformers does")]
    pub fn inverse_frequencies(&self, head_dim: usize) -> Vec<f32> {
        let plain = rope::inverse_frequencies(self.theta, head_dim);
        match &self.scaling {
            RopeScaling::None => plain,
            RopeScaling::Linear { factor } => plain.iter().map(|f| (f64::from(*f) / factor) as f32).collect(),
            RopeScaling::Factors(factors) => plain.iter().zip(factors).map(|(f, factor)| f / factor).collect(),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => {
                let stretch = |frequency: &f32| {
                    let frequency = f64::from(*frequency);
                    let turns = original_length * frequency / TAU;
                    let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                    (frequency * kept + frequency / factor * (1.0 - kept)) as f32
                };
                plain.iter().map(stretch).collect()
            }
        }
    }

    /// The object that a `config.json` has under `rope_parameters`.
    ///
    /// # Errors
    /// A sentence that names the key, the value and what was expected.
    pub fn from_json(object: &Value, default_theta: f64) -> Result<Self, String> {
        let number = |key: &str| match object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 && number.is_finite() => Ok(Some(number)),
                _ => Err(format!("key \"{key}\" of the rope parameters is {value}, expected a number above 0")),
            },
        };
        let needed = |key: &str| number(key)?.ok_or_else(|| format!("key \"{key}\" of the rope parameters is missing"));
        let kind = object.get("rope_type").or_else(|| object.get("type")).and_then(Value::as_str);
        if kind.is_none() && object.get("factor").is_some() {
            return Err("key \"rope_type\" of the rope parameters is missing, expected linear or llama3".to_owned());
        }
        let scaling = match kind.unwrap_or("default") {
            "default" => RopeScaling::None,
            "linear" => RopeScaling::Linear { factor: needed("factor")? },
            "llama3" => {
                let (low, high) = (needed("low_freq_factor")?, needed("high_freq_factor")?);
                if low >= high {
                    return Err(format!(
                        "\"low_freq_factor\" is {low}, expected less than \"high_freq_factor\", {high}"
                    ));
                }
                RopeScaling::Llama3 {
                    factor: needed("factor")?,
                    low_freq_factor: low,
                    high_freq_factor: high,
                    original_length: needed("original_max_position_embeddings")?,
                }
            }
            other => return Err(format!("rope type \"{other}\" is not supported, expected default, linear or llama3")),
        };
        Ok(Self { theta: number("rope_theta")?.unwrap_or(default_theta), scaling })
    }

    /// The object for a `config.json`; `None` when its form has no place for the factors.
    pub fn to_json(&self) -> Option<Value> {
        let theta = self.theta;
        match &self.scaling {
            RopeScaling::None => Some(json!({ "rope_type": "default", "rope_theta": theta })),
            RopeScaling::Linear { factor } => {
                Some(json!({ "rope_type": "linear", "rope_theta": theta, "factor": factor }))
            }
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_length } => Some(json!({
                "rope_type": "llama3",
                "rope_theta": theta,
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_length,
            })),
            RopeScaling::Factors(_) => None,
        }
    }
}
