//! The decoder as named tensors with a `config.json`, for [`adapters::export::merged`].

use std::path::Path;

use adapters::Weight;
use adapters::export::merged::write_merged;
use adapters::export::safetensors::NamedTensor;
use burn::tensor::Tensor;
use serde_json::{Value, json};

use super::base::BaseModel;
use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::rotary::{RopeScaling, Rotary};
use crate::device::read;
use crate::error::TrainError;

/// Writes the weights of a decoder without adapter, in float32, with its configuration and tokenizer.
///
/// # Errors
/// What [`write_merged`] says.
pub fn write_folder(decoder: &Decoder, base: &BaseModel, folder: &Path, overwrite: bool) -> Result<(), TrainError> {
    let config = config_json(&decoder.config, base)
        .map_err(|reason| TrainError::ModelConfig { path: folder.to_owned(), reason })?;
    write_merged(folder, tensors(decoder), &config, overwrite, |folder| Ok(base.tokenizer.save(folder)?))
}

/// Every weight by its Hugging Face name.
fn tensors(decoder: &Decoder) -> Vec<NamedTensor<'static>> {
    // Blocks become numbers on the device that the norms lie on.
    let device = decoder.norm.device();
    let matrix = |name: String, weight: &Weight| named(name, &weight.dense(&device));
    let mut all = vec![matrix("model.embed_tokens.weight".to_owned(), &decoder.embed_tokens)];
    if let Some(head) = &decoder.lm_head {
        all.push(matrix("lm_head.weight".to_owned(), head));
    }
    // Gemma's checkpoints hold the norms' weights less 1.
    let norm = |name: String, weight: &Tensor<1>| {
        let less_one = decoder.config.family.gemma_scaling;
        named(name, &if less_one { weight.clone() - 1.0 } else { weight.clone() })
    };
    all.push(norm("model.norm.weight".to_owned(), &decoder.norm));
    for (index, layer) in decoder.layers.iter().enumerate() {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        all.push(norm(name("input_layernorm"), &layer.input_layernorm));
        all.push(norm(name("post_attention_layernorm"), &layer.post_attention_layernorm));
        if let Some(norms) = &layer.feedforward_norms {
            all.push(norm(name("pre_feedforward_layernorm"), &norms.pre_feedforward_layernorm));
            all.push(norm(name("post_feedforward_layernorm"), &norms.post_feedforward_layernorm));
        }
        if let Some(norms) = &layer.self_attn.head_norms {
            all.push(norm(name("self_attn.q_norm"), &norms.q_norm));
            all.push(norm(name("self_attn.k_norm"), &norms.k_norm));
        }
    }
    for (path, linear) in decoder.linears() {
        all.push(matrix(format!("{path}.weight"), &linear.weight));
        if let Some(bias) = &linear.bias {
            all.push(named(format!("{path}.bias"), bias));
        }
    }
    all
}

fn named<const D: usize>(name: String, tensor: &Tensor<D>) -> NamedTensor<'static> {
    NamedTensor { name, shape: tensor.dims().to_vec(), values: read(tensor.clone()).into() }
}

/// `config.json` as transformers reads it.
///
/// # Errors
/// A sentence that names what the file has no form for.
fn config_json(config: &DecoderConfig, base: &BaseModel) -> Result<Value, String> {
    let rope = |rotary: &Rotary| {
        rotary.to_json().ok_or_else(|| {
            "its rotary frequencies are stretched one by one, which config.json has no form for; merge into GGUF"
                .to_owned()
        })
    };
    let mut json = json!({
        "architectures": [config.family.architecture],
        "model_type": config.family.model_type,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "hidden_act": config.family.activation.name(),
        "rms_norm_eps": config.rms_norm_eps,
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "eos_token_id": base.tokenizer.eos_token_ids(),
        "torch_dtype": "float32",
    });
    let mut set = |key: &str, value: Value| json[key] = value;
    let full = rope(&config.rotary)?;
    match &config.local_rotary {
        Some(local) => {
            // Both forms, for readers before and after transformers 5.
            set("rope_local_base_freq", local.theta.into());
            set("rope_parameters", json!({ "full_attention": full, "sliding_attention": rope(local)? }));
        }
        None => set("rope_parameters", full.clone()),
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
        set("query_pre_attn_scalar", config.query_pre_attn_scalar.unwrap_or(config.head_dim as f64).into());
    }
    Ok(json)
}
