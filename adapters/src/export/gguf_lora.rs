//! Adapters as GGUF files, for llama.cpp and what is built on it.
//!
//! llama.cpp multiplies each update with `alpha / rank`, where `alpha` is one number for the file and the rank is the
//! tensor's own. So an adapter whose scale is not of that form (`rank_pattern`, `alpha_pattern`) has the rest of it
//! folded into B; rsLoRA only needs another `alpha`.
//! Source: llama.cpp's `convert_lora_to_gguf.py` and `src/llama-adapter.cpp`.

use std::collections::BTreeMap;
use std::path::Path;

use super::peft::{AdapterConfig, LoraPair};
use crate::gguf::{GgmlType, GgufFile, GgufValue, GgufWriter, names, permute, quantize, type_of_rows, unpermute};
use crate::{AdapterError, TargetModule, TensorSource as _, write_atomic};

/// What follows the weight's name in the name of a matrix.
const ENDINGS: [&str; 2] = [".lora_a", ".lora_b"];

/// What a GGUF adapter must know of its base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufBase {
    /// `general.architecture` of the base's GGUF file: `llama`, `qwen2`.
    pub architecture: String,
    /// Its name, for people.
    pub name: Option<String>,
    /// The heads by which llama.cpp interleaves the rows of q and of k; `None` for architectures where it does not.
    pub interleaved_heads: Option<[usize; 2]>,
}

impl GgufBase {
    /// The heads by which the rows of a module's output are interleaved.
    fn heads_of(&self, module: &str) -> Option<usize> {
        let [q, k] = self.interleaved_heads?;
        match module.rsplit('.').next() {
            Some("q_proj") => Some(q),
            Some("k_proj") => Some(k),
            _ => None,
        }
    }

    /// A module's B with its rows in the order of the base's GGUF file.
    fn b_of(&self, module: &str, pair: &LoraPair) -> Result<Vec<f32>, AdapterError> {
        match self.heads_of(module) {
            Some(heads) => permute(&pair.b, pair.out_features, pair.rank, heads),
            None => Ok(pair.b.clone()),
        }
    }
}

/// Writes an adapter as a GGUF file, as a whole or not at all. `ggml_type` is F32, F16 or `Q8_0`; a matrix whose rows are
/// no whole number of blocks is written as F16.
///
/// # Errors
/// [`AdapterError::Exists`] when the file is there and `overwrite` is off; [`AdapterError::Tensor`] for a module that
/// GGUF has no name for or whose rows do not fit the heads; [`AdapterError::PeftConfig`] for patterns that contradict
/// each other; [`AdapterError::Io`] when writing fails.
pub fn write_gguf_lora(
    path: &Path,
    config: &AdapterConfig,
    tensors: &BTreeMap<String, LoraPair>,
    base: &GgufBase,
    ggml_type: GgmlType,
    overwrite: bool,
) -> Result<(), AdapterError> {
    let refuse =
        |tensor: &str, problem: String| AdapterError::Tensor { path: path.into(), tensor: tensor.into(), problem };
    let alphas: Vec<f64> = tensors
        .iter()
        .map(|(module, pair)| Ok(config.scaling(module)? * pair.rank as f64))
        .collect::<Result<_, AdapterError>>()?;
    let Some(&alpha) = alphas.first() else {
        return Err(AdapterError::File {
            path: path.into(),
            problem: "would hold no adapter: it has no matrix".into(),
        });
    };

    let mut writer = GgufWriter::new();
    writer
        .metadata("general.type", GgufValue::String("adapter".into()))
        .metadata("general.architecture", GgufValue::String(base.architecture.clone()))
        .metadata("adapter.type", GgufValue::String("lora".into()))
        .metadata("adapter.lora.alpha", GgufValue::F32(single(alpha)));
    if let Some(name) = &base.name {
        writer.metadata("general.base_model.count", GgufValue::U32(1));
        writer.metadata("general.base_model.0.name", GgufValue::String(name.clone()));
    }
    if ggml_type.block_size() > 1 {
        writer.metadata("general.quantization_version", GgufValue::U32(2));
    }
    for ((module, pair), own) in tensors.iter().zip(alphas) {
        let Some(name) = names::to_gguf(&format!("{module}.weight"), names::Norms::Before) else {
            return Err(refuse(module, "has no name in GGUF; llama.cpp adapts the linear modules of blocks".into()));
        };
        if !is_block_module(module) {
            let problem = "is outside the blocks, for which no GGUF adapter is written; merge the adapter into its base \
                           with `greffon merge`";
            return Err(refuse(module, problem.into()));
        }
        if pair.magnitude.is_some() {
            let problem = "has a magnitude (DoRA), which GGUF has no form for; merge the adapter into its base with \
                           `greffon merge`";
            return Err(refuse(module, problem.into()));
        }
        let mut b = base.b_of(module, pair)?;
        let factor = single(own / alpha);
        for value in &mut b {
            *value *= factor;
        }
        let sides = [([pair.rank, pair.in_features], &pair.a), ([pair.out_features, pair.rank], &b)];
        for (ending, (shape, values)) in ENDINGS.into_iter().zip(sides) {
            let ggml_type = type_of_rows(ggml_type, shape[1]);
            let bytes = quantize(ggml_type, values).ok_or_else(|| refuse(&name, format!("cannot be {ggml_type}")))?;
            writer.tensor(format!("{name}{ending}"), &shape, ggml_type, bytes);
        }
    }
    write_atomic(path, overwrite, |out| writer.write(out))
}

/// Reads an adapter from a GGUF file; `base` is the base that it is for, under `base_model` in the configuration.
///
/// # Errors
/// What [`GgufFile::open`] finds; [`AdapterError::File`] when it is not a LoRA, is empty, or is for another architecture;
/// [`AdapterError::Tensor`] for a matrix that is unknown, alone, of a wrong shape or not finite.
pub fn read_gguf_lora(
    path: &Path,
    base: &GgufBase,
    base_model: &str,
) -> Result<(AdapterConfig, BTreeMap<String, LoraPair>), AdapterError> {
    let file = GgufFile::open(path)?;
    let problem = |problem: String| AdapterError::File { path: path.into(), problem };
    let kind = [file.str("general.type").unwrap_or("model"), file.str("adapter.type").unwrap_or("none")];
    if kind != ["adapter", "lora"] {
        return Err(problem(format!("is a {} of type {}, expected an adapter of type lora", kind[0], kind[1])));
    }
    let architecture = file.str("general.architecture")?;
    if architecture != base.architecture {
        let reason = format!("is for the architecture {architecture}, but the base is of {}", base.architecture);
        return Err(problem(reason));
    }
    let alpha = f64::from(file.f32("adapter.lora.alpha")?);
    if !alpha.is_finite() || alpha == 0.0 {
        return Err(problem(format!("has the adapter.lora.alpha {alpha}, expected a finite number that is not 0")));
    }
    let mut pairs = BTreeMap::new();
    for tensor in file.tensors() {
        let refuse = |problem: String| AdapterError::Tensor { path: path.into(), tensor: tensor.name.clone(), problem };
        let Some(weight) = tensor.name.strip_suffix(ENDINGS[0]) else {
            if tensor.name.ends_with(ENDINGS[1]) && file.shape(&tensor.name.replace(ENDINGS[1], ENDINGS[0])).is_ok() {
                continue;
            }
            return Err(refuse(format!("is no matrix of a LoRA, or has no counterpart; expected {ENDINGS:?}")));
        };
        let module = names::to_hugging_face(weight, names::Norms::Before)
            .and_then(|name| Some(name.strip_suffix(".weight")?.to_owned()))
            .ok_or_else(|| refuse("is for a tensor that no known family has".into()))?;
        let other = format!("{weight}{}", ENDINGS[1]);
        let (&[rank, in_features], &[out_features, b_rank]) = (tensor.shape.as_slice(), file.shape(&other)?) else {
            return Err(refuse(format!("has the shape {:?}, expected two dimensions", tensor.shape)));
        };
        if rank != b_rank {
            return Err(refuse(format!("has {rank} rows, but `{other}` has {b_rank} columns; both must be the rank")));
        }
        if rank == 0 || in_features == 0 || out_features == 0 {
            return Err(refuse(format!("has the shape {:?}, expected dimensions of at least 1", tensor.shape)));
        }
        let a = finite(&file, &tensor.name)?;
        let mut b = finite(&file, &other)?;
        if let Some(heads) = base.heads_of(&module) {
            b = unpermute(&b, out_features, rank, heads)?;
        }
        pairs.insert(module, LoraPair { rank, in_features, out_features, a, b, magnitude: None });
    }
    if pairs.is_empty() {
        return Err(problem("holds no adapter: there is no matrix in it".into()));
    }
    let ranks: BTreeMap<String, usize> = pairs.iter().map(|(module, pair)| (module.clone(), pair.rank)).collect();
    Ok((AdapterConfig::of_ranks(&ranks, alpha, base_model), pairs))
}

/// A tensor's values, none of them infinite or NaN.
fn finite(file: &GgufFile, name: &str) -> Result<Vec<f32>, AdapterError> {
    let values = file.dequantize(name)?;
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(at) => {
            let problem = format!("is {} at index {at}, expected finite values", values[at]);
            Err(AdapterError::Tensor { path: file.path().into(), tensor: name.into(), problem })
        }
    }
}

fn is_block_module(module: &str) -> bool {
    TargetModule::LINEAR.iter().any(|own| module.rsplit('.').next() == Some(own.name()))
}

/// GGUF keeps the alpha, and matrices their numbers, in single precision.
#[expect(clippy::cast_possible_truncation, reason = "the format's precision")]
fn single(number: f64) -> f32 {
    number as f32
}
