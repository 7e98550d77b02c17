//! A base model as a GGUF file of another type, with an adapter folded into its weights or without.
//!
//! Metadata, with tokenizer and chat template, is the base's own. Tensors are read, changed and written one by one, so
//! that the model is never in memory as a whole.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rayon::prelude::*;

use super::gguf_lora::GgufBase;
use super::peft::{AdapterConfig, LoraPair};
use crate::gguf::{GgmlType, GgufFile, GgufValue, GgufWriter, names, quantize, type_of_rows};
use crate::{AdapterError, write_atomic};

/// An adapter to be folded in.
pub type Adapter<'a> = (&'a AdapterConfig, &'a BTreeMap<String, LoraPair>);

/// The numbers of `general.file_type`, llama.cpp's `enum llama_ftype`.
const FILE_TYPES: [(GgmlType, u32); 5] =
    [(GgmlType::F32, 0), (GgmlType::F16, 1), (GgmlType::Q4_0, 2), (GgmlType::Q8_0, 7), (GgmlType::Q4K, 14)];

/// Writes the model, as a whole or not at all. Matrices become `ggml_type`, or the next type that fits their rows;
/// vectors become F32.
///
/// # Errors
/// [`AdapterError::Exists`] when the file is there and `overwrite` is off; [`AdapterError::Tensor`] when a module of the
/// adapter is not in the base or has another shape there; what reading the base says; [`AdapterError::Io`] when writing
/// fails.
pub fn write_gguf_merged(
    path: &Path,
    source: &GgufFile,
    adapter: Option<Adapter<'_>>,
    base: &GgufBase,
    ggml_type: GgmlType,
    overwrite: bool,
) -> Result<(), AdapterError> {
    let updates = adapter.map(|adapter| updates(path, source, adapter, base)).transpose()?.unwrap_or_default();
    let mut writer = GgufWriter::new();
    for (key, value) in source.metadata() {
        writer.metadata(key, value.clone());
    }
    if let Some((_, number)) = FILE_TYPES.iter().find(|(of, _)| *of == ggml_type) {
        writer.metadata("general.file_type", GgufValue::U32(*number));
    }
    if ggml_type.block_size() > 1 {
        writer.metadata("general.quantization_version", GgufValue::U32(2));
    }
    for tensor in source.tensors() {
        let own_type = match tensor.shape.as_slice() {
            [_, columns] => type_of_rows(ggml_type, *columns),
            _ => GgmlType::F32,
        };
        let update = updates.get(tensor.name.as_str());
        let bytes = move || {
            let mut values = source.dequantize(&tensor.name).map_err(io::Error::other)?;
            if let Some(update) = update {
                update.add_to(&mut values);
            }
            quantize(own_type, &values).ok_or_else(|| io::Error::other(format!("{own_type} cannot be written")))
        };
        writer.tensor_with(&tensor.name, &tensor.shape, own_type, bytes);
    }
    write_atomic(path, overwrite, |out| writer.write(out))
}

/// The dense update of one weight, as its factors.
struct Update<'a> {
    scale: f32,
    a: &'a [f32],
    /// In the order of the file's rows.
    b: Vec<f32>,
    /// The length of each row, in the order of the file's; `None` but for `DoRA`.
    magnitude: Option<Vec<f32>>,
    rank: usize,
    in_features: usize,
}

impl Update<'_> {
    /// Adds `scale · B A` to `[out, in]`, and brings the rows to their length.
    fn add_to(&self, values: &mut [f32]) {
        values.par_chunks_exact_mut(self.in_features).zip(self.b.par_chunks_exact(self.rank)).for_each(|(row, b)| {
            for (b, a) in b.iter().zip(self.a.chunks_exact(self.in_features)) {
                let factor = self.scale * b;
                for (value, a) in row.iter_mut().zip(a) {
                    *value += factor * a;
                }
            }
        });
        let Some(magnitude) = &self.magnitude else { return };
        values.par_chunks_exact_mut(self.in_features).zip(magnitude).for_each(|(row, length)| {
            let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            #[expect(clippy::cast_possible_truncation, reason = "the weights are in single precision")]
            let factor = (f64::from(*length) / squares.sqrt()) as f32;
            row.iter_mut().for_each(|value| *value *= factor);
        });
    }
}

/// The updates by the names of the file's tensors.
fn updates<'a>(
    path: &Path,
    source: &GgufFile,
    (config, pairs): Adapter<'a>,
    base: &GgufBase,
) -> Result<BTreeMap<String, Update<'a>>, AdapterError> {
    let mut updates = BTreeMap::new();
    for (module, pair) in pairs {
        let refuse =
            |problem: &str| AdapterError::Tensor { path: path.into(), tensor: module.clone(), problem: problem.into() };
        let name = names::to_gguf(&format!("{module}.weight"), names::Norms::Before)
            .ok_or_else(|| refuse("has no name in GGUF"))?;
        let shape = source.tensor(&name).ok().map(|tensor| tensor.shape.as_slice());
        if shape != Some(&[pair.out_features, pair.in_features]) {
            return Err(refuse(&format!(
                "is {} to {} in the adapter, but {name} is {shape:?} in the base; the adapter belongs to another base",
                pair.in_features, pair.out_features
            )));
        }
        let b = base.b_of(module, pair)?;
        #[expect(clippy::cast_possible_truncation, reason = "the matrices are in single precision")]
        let scale = config.scaling(module)? as f32;
        let magnitude = pair.magnitude.as_ref().map(|m| base.rows_of(module, m, 1)).transpose()?;
        let (rank, in_features) = (pair.rank, pair.in_features);
        updates.insert(name, Update { scale, a: &pair.a, b, magnitude, rank, in_features });
    }
    Ok(updates)
}
