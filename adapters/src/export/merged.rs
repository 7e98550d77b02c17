//! A merged model as a Hugging Face folder: `model.safetensors` and `config.json`.

use std::path::Path;

use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;

use crate::{AdapterError, write_atomic, write_folder_atomic};

/// The weights' file name.
const WEIGHTS_FILE: &str = "model.safetensors";

/// One weight of a model.
#[derive(Clone, Debug)]
pub struct NamedTensor {
    /// The name in Hugging Face checkpoints.
    pub name: String,
    /// The row-major shape.
    pub shape: Vec<usize>,
    /// The values, as many as the shape says.
    pub values: Vec<f32>,
}

/// Writes a model's folder, as a whole or not at all. `companions` writes the tokenizer's files into the folder.
///
/// # Errors
/// [`AdapterError::Exists`] when the folder is there and `overwrite` is off; [`AdapterError::File`] when it is there
/// and holds something else than a model; [`AdapterError::Io`] when a file cannot be written. What was there before
/// stays in each case. And what `companions` returns.
pub fn write_merged<E: From<AdapterError>>(
    folder: &Path,
    tensors: &[NamedTensor],
    config: &Value,
    overwrite: bool,
    companions: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), E> {
    let occupied = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if overwrite && occupied && !folder.join(WEIGHTS_FILE).is_file() {
        // The folder is replaced with everything in it, so it must be a model's.
        let problem = format!("is not empty and has no {WEIGHTS_FILE}, so it is not replaced; choose another folder");
        return Err(AdapterError::File { path: folder.into(), problem }.into());
    }
    write_folder_atomic(folder, overwrite, |folder| {
        let path = folder.join(WEIGHTS_FILE);
        let weights =
            weights(tensors).map_err(|error| AdapterError::File { path: path.clone(), problem: error.to_string() })?;
        write_atomic(&path, false, |out| out.write_all(&weights))?;
        let text = format!("{config:#}\n");
        write_atomic(&folder.join("config.json"), false, |out| out.write_all(text.as_bytes()))?;
        companions(folder)
    })
}

/// The bytes of `model.safetensors`.
fn weights(tensors: &[NamedTensor]) -> Result<Vec<u8>, SafeTensorError> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|tensor| tensor.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|(tensor, bytes)| Ok((tensor.name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into()))
}
