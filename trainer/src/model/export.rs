//! The decoder as a Hugging Face folder: weights, configuration, tokenizer.

use std::path::Path;

use burn::tensor::Tensor;
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::json;

use super::base::BaseModel;
use super::config::DecoderConfig;
use super::decoder::Decoder;
use crate::device::read;
use crate::error::TrainError;

const WEIGHTS: &str = "model.safetensors";

/// Writes the weights of a decoder without adapter, in float32, with its configuration and tokenizer.
///
/// # Errors
/// When the folder is there and `overwrite` is off or it holds something else than a model, or a file cannot be written; nothing is left half-written.
pub fn write_folder(decoder: &Decoder, base: &BaseModel, folder: &Path, overwrite: bool) -> Result<(), TrainError> {
    let occupied = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if overwrite && occupied && !folder.join(WEIGHTS).is_file() {
        // The folder is replaced with everything in it, so it must be a model's.
        let reason = format!("is not empty and has no {WEIGHTS}, so it is not replaced; choose another folder");
        return Err(TrainError::Weights { path: folder.to_owned(), reason });
    }
    adapters::write_folder_atomic(folder, overwrite, |folder| {
        let path = folder.join(WEIGHTS);
        adapters::write_atomic(&path, false, |out| out.write_all(&weights(decoder)?))?;
        let text = format!("{:#}\n", config_json(&decoder.config, base));
        adapters::write_atomic(&folder.join("config.json"), false, |out| out.write_all(text.as_bytes()))?;
        base.tokenizer.save(folder)?;
        Ok(())
    })
}

/// The bytes of the weight file.
fn weights(decoder: &Decoder) -> std::io::Result<Vec<u8>> {
    let tensors = tensors(decoder);
    let views = tensors.iter().map(|(name, shape, data)| Ok((name, TensorView::new(Dtype::F32, shape.clone(), data)?)));
    let views: Vec<_> = views.collect::<Result<_, SafeTensorError>>().map_err(std::io::Error::other)?;
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize(views, Some(metadata)).map_err(std::io::Error::other)
}

/// Every weight by its Hugging Face name, as little-endian bytes.
fn tensors(decoder: &Decoder) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let mut all = vec![
        matrix("model.embed_tokens.weight".to_owned(), &decoder.embed_tokens),
        vector("model.norm.weight".to_owned(), &decoder.norm),
    ];
    if let Some(head) = &decoder.lm_head {
        all.push(matrix("lm_head.weight".to_owned(), head));
    }
    for (index, layer) in decoder.layers.iter().enumerate() {
        let name = |part: &str| format!("model.layers.{index}.{part}.weight");
        all.push(vector(name("input_layernorm"), &layer.input_layernorm));
        all.push(vector(name("post_attention_layernorm"), &layer.post_attention_layernorm));
    }
    for (path, linear) in decoder.linears() {
        all.push(matrix(format!("{path}.weight"), &linear.weight));
    }
    all
}

fn matrix(name: String, tensor: &Tensor<2>) -> (String, Vec<usize>, Vec<u8>) {
    (name, tensor.dims().to_vec(), bytes(tensor.clone().flatten(0, 1)))
}

fn vector(name: String, tensor: &Tensor<1>) -> (String, Vec<usize>, Vec<u8>) {
    (name, tensor.dims().to_vec(), bytes(tensor.clone()))
}

fn bytes(tensor: Tensor<1>) -> Vec<u8> {
    let values = read(tensor);
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
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
