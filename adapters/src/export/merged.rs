//! A merged model as a Hugging Face folder: weights in one file or in shards with an index, and `config.json`.
//!
//! Source of the shards and the index: transformers' `save_pretrained` and
//! `huggingface_hub/serialization/_base.py`, whose files these are byte for byte.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::safetensors::{self, FloatType, LazyTensor};
use crate::{AdapterError, write_atomic, write_folder_atomic};

/// The weights' file name when they are one file.
const WEIGHTS_FILE: &str = "model.safetensors";
/// The index when they are several.
const INDEX_FILE: &str = "model.safetensors.index.json";

/// How the weights are written.
#[derive(Clone, Copy, Debug)]
pub struct MergedForm {
    /// The type of every tensor.
    pub float: FloatType,
    /// The most bytes of tensors in a file; a tensor that is larger has a file to itself.
    pub max_shard_size: u64,
}

/// Writes a model's folder, as a whole or not at all. The order of `tensors` decides which shard each is in.
/// `companions` writes the tokenizer's files into the folder.
///
/// # Errors
/// [`AdapterError::Exists`] when the folder is there and `overwrite` is off; [`AdapterError::File`] when it is there
/// and holds something else than a model; [`AdapterError::Io`] when a file cannot be written. What was there before
/// stays in each case. And what making a tensor and `companions` return.
pub fn write_merged<E: From<AdapterError>>(
    folder: &Path,
    tensors: Vec<LazyTensor<'_>>,
    form: MergedForm,
    config: &Value,
    overwrite: bool,
    companions: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let occupied = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    let is_model = || [WEIGHTS_FILE, INDEX_FILE].iter().any(|name| folder.join(name).is_file());
    if overwrite && occupied && !is_model() {
        // The folder is replaced with everything in it, so it must be a model's.
        let problem = format!("is not empty and has no {WEIGHTS_FILE}, so it is not replaced; choose another folder");
        return Err(AdapterError::File { path: folder.into(), problem }.into());
    }
    write_folder_atomic(folder, overwrite, |folder| {
        write_weights(folder, tensors, form)?;
        write_json(&folder.join("config.json"), config)?;
        companions(folder)
    })
}

/// Writes a JSON file with two spaces and a newline at the end.
///
/// # Errors
/// As [`write_atomic`], without overwriting.
pub fn write_json(path: &Path, value: &Value) -> Result<(), AdapterError> {
    let text = format!("{value:#}\n");
    write_atomic(path, false, |out| out.write_all(text.as_bytes()))
}

fn write_weights(folder: &Path, tensors: Vec<LazyTensor<'_>>, form: MergedForm) -> Result<(), AdapterError> {
    let parameters: usize = tensors.iter().map(LazyTensor::len).sum();
    let mut shards = shards(tensors, form);
    if shards.len() <= 1 {
        let all = shards.pop().unwrap_or_default();
        return safetensors::write_lazy(&folder.join(WEIGHTS_FILE), all, form.float, Some("pt"));
    }
    let count = shards.len();
    let mut weight_map = BTreeMap::new();
    for (index, shard) in (1..).zip(shards) {
        let name = format!("model-{index:05}-of-{count:05}.safetensors");
        weight_map.extend(shard.iter().map(|tensor| (tensor.name.clone(), name.clone())));
        safetensors::write_lazy(&folder.join(name), shard, form.float, Some("pt"))?;
    }
    let metadata = json!({ "total_parameters": parameters, "total_size": parameters * form.float.bytes() });
    write_json(&folder.join(INDEX_FILE), &json!({ "metadata": metadata, "weight_map": weight_map }))
}

/// Which tensors share a file: as many as fit, in their order; one that is too large alone goes before those that were
/// being collected.
fn shards(tensors: Vec<LazyTensor<'_>>, form: MergedForm) -> Vec<Vec<LazyTensor<'_>>> {
    let (mut shards, mut current, mut size) = (Vec::new(), Vec::new(), 0);
    for tensor in tensors {
        let own = (tensor.len() * form.float.bytes()) as u64;
        if own > form.max_shard_size {
            shards.push(vec![tensor]);
            continue;
        }
        if size + own > form.max_shard_size {
            shards.push(std::mem::take(&mut current));
            size = 0;
        }
        size += own;
        current.push(tensor);
    }
    if !current.is_empty() {
        shards.push(current);
    }
    shards
}
