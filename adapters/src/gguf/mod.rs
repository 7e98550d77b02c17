//! GGUF files as base models: metadata, tensors, and their values as 32-bit floats.
//!
//! [`GgufFile`] maps the file and checks its header once, in `header` over `cursor`; afterwards every tensor is known to
//! lie inside it. `types` and `value` are the format's vocabulary, `dequantize` turns blocks into numbers and `quantize` numbers into blocks, `permute` and
//! [`names`] translate to Hugging Face's order and names, and `write` is the way out.

mod cursor;
mod dequantize;
mod header;
pub mod names;
mod permute;
mod quantize;
#[cfg(test)]
mod tests;
mod types;
mod value;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use dequantize::{SUPPORTED, dequantize, dequantize_row};
pub use header::GgufTensor;
pub use permute::{permute, unpermute, unpermuted_row};
pub use quantize::{WRITABLE, quantize, type_of_rows};
pub use types::GgmlType;
pub use value::{GgufArray, GgufValue};
pub use write::GgufWriter;

use crate::{AdapterError, TensorSource, file};

/// A GGUF file of version 2 or 3, little-endian, mapped into memory.
#[derive(Debug)]
pub struct GgufFile {
    path: PathBuf,
    /// The mapped file; parts of it can be handed out without copying.
    map: Bytes,
    version: u32,
    metadata: BTreeMap<String, GgufValue>,
    tensors: Vec<GgufTensor>,
    /// From a name to its place in `tensors`.
    by_name: BTreeMap<String, usize>,
}

impl GgufFile {
    /// Maps the file and checks its header; no tensor is read yet.
    ///
    /// # Errors
    /// [`AdapterError::Io`] or [`AdapterError::File`] when it cannot be opened; [`AdapterError::Header`] with the byte
    /// offset, or [`AdapterError::Tensor`] with the name, for a file that is truncated, malformed or hostile.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, AdapterError> {
        let path = path.into();
        let map = file::map(&path)?;
        let header = header::parse(&path, &map)?;
        let by_name = header.tensors.iter().enumerate().map(|(i, tensor)| (tensor.name.clone(), i)).collect();
        let map = Bytes::from_owner(map);
        Ok(Self { path, map, version: header.version, metadata: header.metadata, tensors: header.tensors, by_name })
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The version of the format, 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// All metadata, by key.
    pub fn metadata(&self) -> &BTreeMap<String, GgufValue> {
        &self.metadata
    }

    /// The tensors in the order of the file.
    pub fn tensors(&self) -> &[GgufTensor] {
        &self.tensors
    }

    /// Whether the metadata has this key.
    pub fn contains(&self, key: &str) -> bool {
        self.metadata.contains_key(key)
    }

    /// The `u32` under a key.
    ///
    /// # Errors
    /// [`AdapterError::MetadataMissing`], or [`AdapterError::MetadataType`] with the type found.
    pub fn u32(&self, key: &str) -> Result<u32, AdapterError> {
        self.typed(key, "u32", |value| if let GgufValue::U32(number) = value { Some(*number) } else { None })
    }

    /// The `f32` under a key.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn f32(&self, key: &str) -> Result<f32, AdapterError> {
        self.typed(key, "f32", |value| if let GgufValue::F32(number) = value { Some(*number) } else { None })
    }

    /// The `bool` under a key.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn bool(&self, key: &str) -> Result<bool, AdapterError> {
        self.typed(key, "bool", |value| if let GgufValue::Bool(truth) = value { Some(*truth) } else { None })
    }

    /// The string under a key.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn str(&self, key: &str) -> Result<&str, AdapterError> {
        self.typed(key, "string", |value| if let GgufValue::String(text) = value { Some(text.as_str()) } else { None })
    }

    /// The array of strings under a key, such as the tokens of a vocabulary.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn strings(&self, key: &str) -> Result<&[String], AdapterError> {
        self.typed(key, "array of string", |value| match value {
            GgufValue::Array(GgufArray::String(list)) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// The array of `i32` under a key, such as the types of tokens.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn i32s(&self, key: &str) -> Result<&[i32], AdapterError> {
        self.typed(key, "array of i32", |value| match value {
            GgufValue::Array(GgufArray::I32(list)) => Some(list.as_slice()),
            _ => None,
        })
    }

    /// The array of `f32` under a key, such as the scores of tokens.
    ///
    /// # Errors
    /// As [`GgufFile::u32`].
    pub fn f32s(&self, key: &str) -> Result<&[f32], AdapterError> {
        self.typed(key, "array of f32", |value| match value {
            GgufValue::Array(GgufArray::F32(list)) => Some(list.as_slice()),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        pick: impl FnOnce(&'a GgufValue) -> Option<T>,
    ) -> Result<T, AdapterError> {
        let value = self
            .metadata
            .get(key)
            .ok_or_else(|| AdapterError::MetadataMissing { path: self.path.clone(), key: key.into() })?;
        pick(value).ok_or_else(|| AdapterError::MetadataType {
            path: self.path.clone(),
            key: key.into(),
            found: value.type_name(),
            expected,
        })
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`], with the nearest name there is.
    pub fn tensor(&self, name: &str) -> Result<&GgufTensor, AdapterError> {
        let tensor = self.by_name.get(name).map(|index| &self.tensors[*index]);
        tensor.ok_or_else(|| AdapterError::tensor_missing(&self.path, name, self.names().into_iter()))
    }

    /// The bytes of a tensor, as blocks of its type.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`].
    pub fn bytes(&self, name: &str) -> Result<&[u8], AdapterError> {
        Ok(&self.map[self.tensor(name)?.range.clone()])
    }

    /// The bytes of a tensor in the mapped file itself.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`].
    pub fn mapped(&self, name: &str) -> Result<Bytes, AdapterError> {
        Ok(self.map.slice(self.tensor(name)?.range.clone()))
    }

    /// The values of a tensor as 32-bit floats, row-major.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`], or [`AdapterError::UnsupportedType`] when its type is not in [`SUPPORTED`].
    pub fn dequantize(&self, name: &str) -> Result<Vec<f32>, AdapterError> {
        let tensor = self.tensor(name)?;
        if !SUPPORTED.contains(&tensor.ggml_type) {
            return Err(self.unsupported(tensor));
        }
        let mut values = vec![0.0; tensor.len()];
        self.dequantize_into(name, &mut values)?;
        Ok(values)
    }

    /// Writes the values of a tensor as 32-bit floats, row-major, into a slice of exactly their number.
    ///
    /// # Errors
    /// As [`GgufFile::dequantize`], and [`AdapterError::Tensor`] when the slice has another length.
    pub fn dequantize_into(&self, name: &str, out: &mut [f32]) -> Result<(), AdapterError> {
        let tensor = self.tensor(name)?;
        if out.len() != tensor.len() {
            let problem = format!("holds {} values of shape {:?}, expected {}", tensor.len(), tensor.shape, out.len());
            return Err(AdapterError::Tensor { path: self.path.clone(), tensor: name.into(), problem });
        }
        if dequantize(tensor.ggml_type, &self.map[tensor.range.clone()], out) {
            Ok(())
        } else {
            Err(self.unsupported(tensor))
        }
    }

    fn unsupported(&self, tensor: &GgufTensor) -> AdapterError {
        AdapterError::UnsupportedType {
            path: self.path.clone(),
            tensor: tensor.name.clone(),
            found: tensor.ggml_type.name().into(),
            supported: SUPPORTED.map(GgmlType::name).join(", "),
        }
    }
}

impl TensorSource for GgufFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> Vec<&str> {
        self.tensors.iter().map(|tensor| tensor.name.as_str()).collect()
    }

    fn shape(&self, name: &str) -> Result<&[usize], AdapterError> {
        Ok(&self.tensor(name)?.shape)
    }

    fn read_f32_into(&self, name: &str, out: &mut [f32]) -> Result<(), AdapterError> {
        self.dequantize_into(name, out)
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>, AdapterError> {
        self.dequantize(name)
    }
}
