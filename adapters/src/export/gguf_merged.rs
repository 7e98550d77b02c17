//! A model as a GGUF file of any type that can be written.
//!
//! Tensors are read, changed and written one by one, so that the model is never in memory as a whole.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::safetensors::{LazyTensor, too_large_for};
use crate::gguf::{GgmlType, GgufValue, GgufWriter, quantize, type_of_rows};
use crate::{AdapterError, write_atomic};

/// The numbers of `general.file_type`, llama.cpp's `enum llama_ftype`.
const FILE_TYPES: [(GgmlType, u32); 6] = [
    (GgmlType::F32, 0),
    (GgmlType::F16, 1),
    (GgmlType::Q4_0, 2),
    (GgmlType::Q8_0, 7),
    (GgmlType::Q4K, 14),
    (GgmlType::Bf16, 32),
];

/// The tensors of which one makes the logits.
const HEAD: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";

/// The types with which the head is written in eight bits, since its errors go straight into the logits; llama.cpp's
/// quantiser gives it six there.
const FOUR_BITS: [GgmlType; 2] = [GgmlType::Q4_0, GgmlType::Q4K];

/// Writes a model as a GGUF file, as a whole or not at all. Matrices become `ggml_type`, or the next type that fits
/// their rows; the head of a model in four bits becomes `Q8_0`, and vectors F32. What `metadata` says of the types of
/// the file is set here.
///
/// # Errors
/// [`AdapterError::Exists`] when the file is there and `overwrite` is off; [`AdapterError::File`] when it is a folder;
/// [`AdapterError::Tensor`] when a number is too large for half precision; what making a tensor says;
/// [`AdapterError::Io`] when writing fails.
pub fn write_gguf(
    path: &Path,
    metadata: BTreeMap<String, GgufValue>,
    tensors: Vec<LazyTensor<'_>>,
    ggml_type: GgmlType,
    overwrite: bool,
) -> Result<(), AdapterError> {
    if path.is_dir() {
        return Err(AdapterError::File {
            path: path.into(),
            problem: "is a folder, expected a file or nothing".into(),
        });
    }
    let mut writer = GgufWriter::new();
    for (key, value) in metadata {
        writer.metadata(key, value);
    }
    if let Some((_, number)) = FILE_TYPES.iter().find(|(of, _)| *of == ggml_type) {
        writer.metadata("general.file_type", GgufValue::U32(*number));
    }
    if ggml_type.block_size() > 1 {
        writer.metadata("general.quantization_version", GgufValue::U32(2));
    }
    // Where the head is the embedding, there is only the embedding.
    let has_head = tensors.iter().any(|tensor| tensor.name == HEAD);
    for LazyTensor { name, shape, values } in tensors {
        let is_head = name == if has_head { HEAD } else { EMBEDDING };
        let own_type = match shape.as_slice() {
            [_, columns] if is_head && FOUR_BITS.contains(&ggml_type) => type_of_rows(GgmlType::Q8_0, *columns),
            [_, columns] => type_of_rows(ggml_type, *columns),
            _ => GgmlType::F32,
        };
        let tensor = name.clone();
        let bytes = move || {
            let values = values().map_err(io::Error::other)?;
            if let Some(value) = too_large_for(own_type, &values) {
                let problem = format!("holds {value}, which is too large for F16; write the file as F32 or BF16");
                let error = AdapterError::Tensor { path: path.into(), tensor: tensor.clone(), problem };
                return Err(io::Error::other(error));
            }
            quantize(own_type, &values).ok_or_else(|| io::Error::other(format!("{own_type} cannot be written")))
        };
        writer.tensor_with(name, &shape, own_type, bytes);
    }
    write_atomic(path, overwrite, |out| writer.write(out))
}
