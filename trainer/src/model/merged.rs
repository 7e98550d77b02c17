//! The decoder as named tensors with a `config.json`, for [`adapters::export::merged`].

use std::path::Path;

use adapters::export::merged::write_merged;
use adapters::export::safetensors::NamedTensor;
use burn::tensor::Tensor;
use serde_json::json;

use super::base::BaseModel;
use super::config::DecoderConfig;
use super::decoder::Decoder;
use crate::device::read;
use crate::error::TrainError;

/// Writes the weights of a decoder without adapter, in float32, with its configuration and tokenizer.
///
/// # Errors
/// What [`write_merged`] says.
pub fn write_folder(decoder: &Decoder, base: &BaseModel, folder: &Path, overwrite: bool) -> Result<(), TrainError> {
    let config = config_json(&decoder.config, base);
    write_merged(folder, tensors(decoder), &config, overwrite, |folder| Ok(base.tokenizer.save(folder)?))
}

/// Every weight by its Hugging Face name.
fn tensors(decoder: &Decoder) -> Vec<NamedTensor<'static>> {
    let mut all = vec![
        named("model.embed_tokens.weight".to_owned(), &decoder.embed_tokens),
        named("model.norm.weight".to_owned(), &decoder.norm),
    ];
    if let Some(head) = &decoder.lm_head {
        all.push(named("lm_head.weight".to_owned(), head));
    }
    for (index, layer) in decoder.layers.iter().enumerate() {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        all.push(named(name("input_layernorm"), &layer.input_layernorm));
        all.push(named(name("post_attention_layernorm"), &layer.post_attention_layernorm));
    }
    for (path, linear) in decoder.linears() {
        all.push(named(format!("{path}.weight"), &linear.weight));
    }
    all
}

fn named<const D: usize>(name: String, tensor: &Tensor<D>) -> NamedTensor<'static> {
    NamedTensor { name, shape: tensor.dims().to_vec(), values: read(tensor.clone()).into() }
}

/// `config.json` as transformers reads it.
fn config_json(config: &DecoderConfig, base: &BaseModel) -> serde_json::Value {
    json!({
        "architectures": [config.family.architecture],
        "model_type": config.family.model_type,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "hidden_act": "silu",
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "eos_token_id": base.tokenizer.eos_token_ids(),
        "torch_dtype": "float32",
    })
}
