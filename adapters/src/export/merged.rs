//! A merged model as a Hugging Face folder: `model.safetensors` and `config.json`.

use std::path::Path;

use serde_json::Value;

use super::safetensors::{self, NamedTensor};
use crate::{AdapterError, write_atomic, write_folder_atomic};

/// The weights' file name.
const WEIGHTS_FILE: &str = "model.safetensors";

/// Writes a model's folder, as a whole or not at all. `companions` writes the tokenizer's files into the folder.
///
/// # Errors
/// [`AdapterError::Exists`] when the folder is there and `overwrite` is off; [`AdapterError::File`] when it is there
/// and holds something else than a model; [`AdapterError::Io`] when a file cannot be written. What was there before
/// stays in each case. And what `companions` returns.
pub fn write_merged<E: From<AdapterError>>(
    folder: &Path,
    tensors: Vec<NamedTensor<'_>>,
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
        safetensors::write(&folder.join(WEIGHTS_FILE), tensors, Some("pt"))?;
        let text = format!("{config:#}\n");
        write_atomic(&folder.join("config.json"), false, |out| out.write_all(text.as_bytes()))?;
        companions(folder)
    })
}
