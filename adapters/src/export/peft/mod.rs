//! Adapters as PEFT folders: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Training ends here with [`write_peft`], and continuing, evaluating or merging an adapter begins with
//! [`read_peft`]. Both hold the folder to the same rules, so that what is written can be read by PEFT, vLLM and
//! llama.cpp's converter, and what is read means what they take it to mean.

mod clean;
mod config;
mod fold;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;

pub use clean::clean;
pub use config::{AdapterConfig, InitLoraWeights, TargetNames};
pub use fold::fold_patterns;

use super::safetensors::{self, NamedTensor};
use crate::atomic::{write_atomic, write_folder_atomic};
use crate::{AdapterError, SafetensorsFile, file};
use config::Rules;

/// The configuration's file name.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The weights' file name.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// What older versions of PEFT wrote instead.
const PICKLE_FILE: &str = "adapter_model.bin";
/// What PEFT puts before every module's path.
const KEY_PREFIX: &str = "base_model.model.";

/// The two matrices of one module's adapter, `y = W x + scaling · B A x`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraPair {
    /// The rank `r`, at least 1.
    pub rank: usize,
    /// Inputs of the linear module.
    pub in_features: usize,
    /// Outputs of the linear module.
    pub out_features: usize,
    /// A, row-major `[rank, in_features]`.
    pub a: Vec<f32>,
    /// B, row-major `[out_features, rank]`.
    pub b: Vec<f32>,
}

/// Writes an adapter folder, as a whole or not at all.
///
/// `tensors` maps a module's path, such as `model.layers.0.self_attn.q_proj`, to its matrices. Equal arguments give
/// equal bytes. With `overwrite`, an existing adapter folder is replaced with everything in it; a folder that holds
/// anything else is never replaced.
///
/// # Errors
/// [`AdapterError::Exists`] or [`AdapterError::File`] when something is in the way; [`AdapterError::PeftConfig`] and
/// [`AdapterError::Tensor`] when configuration and tensors do not fit each other or a value is not finite;
/// [`AdapterError::Io`] when writing fails. What was there before stays in each case.
pub fn write_peft(
    folder: &Path,
    config: &AdapterConfig,
    tensors: &BTreeMap<String, LoraPair>,
    overwrite: bool,
) -> Result<(), AdapterError> {
    let (config_path, weights_path) = (folder.join(CONFIG_FILE), folder.join(WEIGHTS_FILE));
    config.check(&config_path)?;
    check(&config_path, &weights_path, config, tensors)?;
    if overwrite && holds_something_else(folder) {
        let problem = format!("is not empty and has no {CONFIG_FILE}, so it is not replaced; choose another folder");
        return Err(AdapterError::File { path: folder.into(), problem });
    }

    let matrices = tensors.iter().flat_map(|(module, pair)| {
        let (a, b) = (vec![pair.rank, pair.in_features], vec![pair.out_features, pair.rank]);
        [
            NamedTensor { name: key(module, Side::A), shape: a, values: (&pair.a).into() },
            NamedTensor { name: key(module, Side::B), shape: b, values: (&pair.b).into() },
        ]
    });
    write_folder_atomic(folder, overwrite, |folder| {
        safetensors::write(&folder.join(WEIGHTS_FILE), matrices.collect(), Some("pt"))?;
        write_atomic(&folder.join(CONFIG_FILE), false, |out| out.write_all(config.to_json().as_bytes()))
    })
}

/// Reads an adapter folder: the configuration, and the matrices by module path.
///
/// Keys with an adapter's name in them (`lora_A.default.weight`) are taken as if it were not there, with a warning.
///
/// # Errors
/// [`AdapterError::Io`] or [`AdapterError::File`] when a file is missing; [`AdapterError::Json`] and
/// [`AdapterError::PeftConfig`] for a configuration that is malformed or cannot be honoured;
/// [`AdapterError::Tensor`] for tensors that are not a plain LoRA, do not fit the configuration or are not finite;
/// and what [`SafetensorsFile::open`] finds.
pub fn read_peft(folder: &Path) -> Result<(AdapterConfig, BTreeMap<String, LoraPair>), AdapterError> {
    let (config_path, weights_path) = (folder.join(CONFIG_FILE), folder.join(WEIGHTS_FILE));
    if !file::is_file(&weights_path) && file::is_file(&folder.join(PICKLE_FILE)) {
        let problem = format!(
            "has {PICKLE_FILE} but no {WEIGHTS_FILE}; a Python pickle can run any code when it is read and is \
             refused; load it with PEFT and save it again"
        );
        return Err(AdapterError::File { path: folder.into(), problem });
    }
    let config: AdapterConfig = file::read_json(&config_path)?;
    config.check(&config_path)?;
    let tensors = read_pairs(&SafetensorsFile::open(&weights_path)?)?;
    check(&config_path, &weights_path, &config, &tensors)?;
    Ok((config, tensors))
}

/// A or B.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    A,
    B,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Self::A => "lora_A",
            Self::B => "lora_B",
        }
    }
}

/// PEFT's key for a matrix.
fn key(module: &str, side: Side) -> String {
    format!("{KEY_PREFIX}{module}.{}.weight", side.name())
}

/// A key taken apart.
struct ParsedKey<'a> {
    module: &'a str,
    side: Side,
    /// The adapter's name, where the key has one that should not be there.
    adapter: Option<&'a str>,
}

/// Takes a key apart, or says why it is not one of a plain LoRA.
fn parse_key(key: &str) -> Result<ParsedKey<'_>, String> {
    let expected = format!("expected {KEY_PREFIX}<module>.lora_A.weight or .lora_B.weight");
    let Some(path) = key.strip_prefix(KEY_PREFIX) else {
        return Err(format!("does not begin with {KEY_PREFIX}, as PEFT's keys do; {expected}"));
    };
    for side in [Side::A, Side::B] {
        let Some((module, rest)) = path.split_once(&format!(".{}.", side.name())) else { continue };
        let adapter = if rest == "weight" { Some(None) } else { rest.strip_suffix(".weight").map(Some) };
        return match adapter {
            Some(adapter) if !module.is_empty() && adapter != Some("") => Ok(ParsedKey { module, side, adapter }),
            _ if rest.ends_with("bias") => Err("is a bias of the adapter, which is not supported".into()),
            _ => Err(expected),
        };
    }
    if path.contains("lora_magnitude_vector") {
        Err("belongs to DoRA, which is not supported yet".into())
    } else if path.contains("lora_embedding_") {
        Err("adapts an embedding; only linear modules are supported".into())
    } else {
        Err(format!("is not part of a LoRA; whole weights beside the adapter are not supported; {expected}"))
    }
}

/// Reads all matrices and pairs them by module; ranks are only compared within a pair.
fn read_pairs(file: &SafetensorsFile) -> Result<BTreeMap<String, LoraPair>, AdapterError> {
    let problem =
        |key: &str, problem: String| AdapterError::Tensor { path: file.path().into(), tensor: key.into(), problem };
    let mut keys = BTreeMap::new();
    let mut repaired = 0;
    for key in file.names() {
        let parsed = parse_key(key).map_err(|reason| problem(key, reason))?;
        repaired += usize::from(parsed.adapter.is_some());
        if let Some(other) = keys.insert((parsed.module, parsed.side), key) {
            return Err(problem(key, format!("and `{other}` are the same matrix of the same module")));
        }
    }
    if repaired > 0 {
        tracing::warn!(
            "{}: {repaired} keys have an adapter's name in them, which is taken out; servers refuse or ignore such a file",
            file.path().display()
        );
    }

    let mut pairs = BTreeMap::new();
    for (&(module, side), &own_key) in &keys {
        let other_side = if side == Side::A { Side::B } else { Side::A };
        let Some(&other_key) = keys.get(&(module, other_side)) else {
            let reason = format!("has no counterpart `{}`", key(module, other_side));
            return Err(problem(own_key, reason));
        };
        if side == Side::B {
            continue;
        }
        let shape = |key: &str| match *file.shape(key)? {
            [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
            ref shape => Err(problem(key, format!("has the shape {shape:?}, expected two dimensions of at least 1"))),
        };
        let ((rank, in_features), (out_features, b_rank)) = (shape(own_key)?, shape(other_key)?);
        if rank != b_rank {
            let reason = format!("has {rank} rows, but B has {b_rank} columns; both must be the rank");
            return Err(problem(own_key, reason));
        }
        let pair = LoraPair { rank, in_features, out_features, a: file.f32(own_key)?, b: file.f32(other_key)? };
        pairs.insert(module.to_owned(), pair);
    }
    Ok(pairs)
}

/// What must hold of every adapter, read or about to be written.
fn check(
    config_path: &Path,
    weights_path: &Path,
    config: &AdapterConfig,
    tensors: &BTreeMap<String, LoraPair>,
) -> Result<(), AdapterError> {
    if tensors.is_empty() {
        let problem = "holds no adapter: there is no matrix in it".into();
        return Err(AdapterError::File { path: weights_path.into(), problem });
    }
    let rules = Rules::new(config_path, config)?;
    for (module, pair) in tensors {
        let problem =
            |side, problem| AdapterError::Tensor { path: weights_path.into(), tensor: key(module, side), problem };
        let rank = rules.rank(module)?;
        rules.alpha(module)?;
        if pair.rank != rank {
            let reason = format!("has rank {}, but {CONFIG_FILE} says {rank}", pair.rank);
            return Err(problem(Side::A, reason));
        }
        if !rules.is_target(module) {
            let reason = format!(
                "is for a module that target_modules of {CONFIG_FILE} does not name; PEFT would drop it without a word"
            );
            return Err(problem(Side::A, reason));
        }
        let (in_features, out_features) = (pair.in_features, pair.out_features);
        for (side, values, [rows, cols]) in
            [(Side::A, &pair.a, [rank, in_features]), (Side::B, &pair.b, [out_features, rank])]
        {
            if rows.checked_mul(cols) != Some(values.len()) || values.is_empty() {
                let reason = format!("has {} values, expected {rows} by {cols}", values.len());
                return Err(problem(side, reason));
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let reason =
                    format!("is {} at row {}, column {}, expected finite values", values[at], at / cols, at % cols);
                return Err(problem(side, reason));
            }
        }
    }
    Ok(())
}

/// Whether the folder is neither absent, nor empty, nor an adapter.
fn holds_something_else(folder: &Path) -> bool {
    let occupied = folder.read_dir().is_ok_and(|mut entries| entries.next().is_some());
    occupied && !file::is_file(&folder.join(CONFIG_FILE))
}
