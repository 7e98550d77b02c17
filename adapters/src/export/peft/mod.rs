//! Adapters as PEFT folders: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! Training ends here with [`PeftAdapter::write`], and continuing, evaluating or merging an adapter begins with
//! [`PeftAdapter::read`]. Both hold the folder to the same rules, so that what is written can be read by PEFT, vLLM and
//! llama.cpp's converter, and what is read means what they take it to mean.

mod clean;
mod config;
mod fold;
mod keys;
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
pub(super) use keys::is_embedding;
use keys::{Part, key, norm_key, parse_key, parse_norm_key};

/// The configuration's file name.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The weights' file name.
pub const WEIGHTS_FILE: &str = "adapter_model.safetensors";
/// What older versions of PEFT wrote instead.
const PICKLE_FILE: &str = "adapter_model.bin";

/// The two matrices of one module's adapter, `y = W x + scaling · B A x`, and its magnitude if it has one.
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
    /// `DoRA`: the length of each output, `[out_features]`.
    pub magnitude: Option<Vec<f32>>,
}

impl LoraPair {
    /// Its tensors, each with its rows and columns; a magnitude is one row.
    fn parts(&self) -> impl Iterator<Item = (Part, &Vec<f32>, [usize; 2])> {
        let magnitude = self.magnitude.as_ref().map(|values| (Part::Magnitude, values, [1, self.out_features]));
        let a = (Part::A, &self.a, [self.rank, self.in_features]);
        let b = (Part::B, &self.b, [self.out_features, self.rank]);
        [a, b].into_iter().chain(magnitude)
    }
}

/// What an adapter folder holds.
#[derive(Clone, Debug, PartialEq)]
pub struct PeftAdapter {
    /// `adapter_config.json`.
    pub config: AdapterConfig,
    /// The matrices by module path, such as `model.layers.0.self_attn.q_proj`.
    pub pairs: BTreeMap<String, LoraPair>,
    /// The whole weights of norms by module path, such as `model.norm`, as in the base's checkpoint.
    pub norms: BTreeMap<String, Vec<f32>>,
}

impl PeftAdapter {
    /// Writes an adapter folder, as a whole or not at all.
    ///
    /// Equal adapters give equal bytes. With `overwrite`, an existing adapter folder is replaced with everything in it; a
    /// folder that holds anything else is never replaced.
    ///
    /// # Errors
    /// [`AdapterError::Exists`] or [`AdapterError::File`] when something is in the way; [`AdapterError::PeftConfig`] and
    /// [`AdapterError::Tensor`] when configuration and tensors do not fit each other or a value is not finite;
    /// [`AdapterError::Io`] when writing fails. What was there before stays in each case.
    pub fn write(&self, folder: &Path, overwrite: bool) -> Result<(), AdapterError> {
        self.check(folder)?;
        if overwrite && holds_something_else(folder) {
            let problem =
                format!("is not empty and has no {CONFIG_FILE}, so it is not replaced; choose another folder");
            return Err(AdapterError::File { path: folder.into(), problem });
        }
        let matrices = self.pairs.iter().flat_map(|(module, pair)| {
            pair.parts().map(|(part, values, [rows, columns])| {
                let shape = if part == Part::Magnitude { vec![columns] } else { vec![rows, columns] };
                NamedTensor { name: key(module, part), shape, values: values.into() }
            })
        });
        let norms = self.norms.iter().map(|(module, values)| NamedTensor {
            name: norm_key(module),
            shape: vec![values.len()],
            values: values.into(),
        });
        write_folder_atomic(folder, overwrite, |folder| {
            safetensors::write(&folder.join(WEIGHTS_FILE), matrices.chain(norms).collect(), Some("pt"))?;
            let text = self.config.to_json();
            write_atomic(&folder.join(CONFIG_FILE), false, |out| out.write_all(text.as_bytes()))
        })
    }

    /// Reads an adapter folder.
    ///
    /// Keys with an adapter's name in them (`lora_A.default.weight`) are taken as if it were not there, with a warning.
    ///
    /// # Errors
    /// [`AdapterError::Io`] or [`AdapterError::File`] when a file is missing; [`AdapterError::Json`] and
    /// [`AdapterError::PeftConfig`] for a configuration that is malformed or cannot be honoured;
    /// [`AdapterError::Tensor`] for tensors that are not of a LoRA, do not fit the configuration or are not finite;
    /// and what [`SafetensorsFile::open`] finds.
    pub fn read(folder: &Path) -> Result<Self, AdapterError> {
        let weights_path = folder.join(WEIGHTS_FILE);
        if !file::is_file(&weights_path) && file::is_file(&folder.join(PICKLE_FILE)) {
            let problem = format!(
                "has {PICKLE_FILE} but no {WEIGHTS_FILE}; a Python pickle can run any code when it is read and is \
                 refused; load it with PEFT and save it again"
            );
            return Err(AdapterError::File { path: folder.into(), problem });
        }
        let config_path = folder.join(CONFIG_FILE);
        let config: AdapterConfig = file::read_json(&config_path)?;
        config.check(&config_path)?;
        let weights = SafetensorsFile::open(&weights_path)?;
        let norms = read_norms(&weights, &Rules::new(&config_path, &config)?)?;
        let adapter = Self { pairs: read_pairs(&weights, &norms)?, config, norms };
        adapter.check(folder)?;
        Ok(adapter)
    }

    /// Its parts for those who have no place for norms; `folder` is where it was read.
    ///
    /// # Errors
    /// [`AdapterError::PeftConfig`] when the adapter has norms of its own.
    pub fn without_norms(&self, folder: &Path) -> Result<(&AdapterConfig, &BTreeMap<String, LoraPair>), AdapterError> {
        match self.norms.keys().next() {
            None => Ok((&self.config, &self.pairs)),
            Some(norm) => Err(AdapterError::PeftConfig {
                path: folder.join(CONFIG_FILE),
                key: "modules_to_save".into(),
                problem: format!(
                    "the adapter has norms of its own, such as {norm}, which this form has no place for; merge it into \
                     its base with `greffon merge`"
                ),
            }),
        }
    }

    /// What must hold of every adapter, read or about to be written.
    fn check(&self, folder: &Path) -> Result<(), AdapterError> {
        let (config_path, weights_path) = (folder.join(CONFIG_FILE), folder.join(WEIGHTS_FILE));
        self.config.check(&config_path)?;
        check(&config_path, &weights_path, &self.config, &self.pairs)?;
        let rules = Rules::new(&config_path, &self.config)?;
        for (module, values) in &self.norms {
            let problem =
                |problem| AdapterError::Tensor { path: weights_path.clone(), tensor: norm_key(module), problem };
            if !rules.is_saved(module) {
                return Err(problem(format!("is a norm that modules_to_save of {CONFIG_FILE} does not name")));
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(problem(format!("is {} at {at}, expected finite values", values[at])));
            }
        }
        Ok(())
    }
}

/// [`PeftAdapter::write`] for an adapter without norms.
///
/// # Errors
/// As [`PeftAdapter::write`].
pub fn write_peft(
    folder: &Path,
    config: &AdapterConfig,
    tensors: &BTreeMap<String, LoraPair>,
    overwrite: bool,
) -> Result<(), AdapterError> {
    let adapter = PeftAdapter { config: config.clone(), pairs: tensors.clone(), norms: BTreeMap::new() };
    adapter.write(folder, overwrite)
}

/// [`PeftAdapter::read`] for those who have no place for norms: the configuration, and the matrices by module path.
///
/// # Errors
/// As [`PeftAdapter::read`]; [`AdapterError::PeftConfig`] when the adapter has norms of its own.
pub fn read_peft(folder: &Path) -> Result<(AdapterConfig, BTreeMap<String, LoraPair>), AdapterError> {
    let adapter = PeftAdapter::read(folder)?;
    adapter.without_norms(folder)?;
    Ok((adapter.config, adapter.pairs))
}

/// Reads the norms that the configuration names.
fn read_norms(file: &SafetensorsFile, rules: &Rules<'_>) -> Result<BTreeMap<String, Vec<f32>>, AdapterError> {
    let mut norms = BTreeMap::new();
    for key in file.names() {
        let Some(module) = parse_norm_key(key).filter(|module| rules.is_saved(module)) else { continue };
        if let [_] = file.shape(key)? {
            norms.insert(module.to_owned(), file.f32(key)?);
        } else {
            let problem = format!("has the shape {:?}, expected one dimension", file.shape(key)?);
            return Err(AdapterError::Tensor { path: file.path().into(), tensor: key.into(), problem });
        }
    }
    Ok(norms)
}

/// Reads all matrices, which is everything but the norms, and pairs them by module; ranks are only compared within a pair.
fn read_pairs(
    file: &SafetensorsFile,
    norms: &BTreeMap<String, Vec<f32>>,
) -> Result<BTreeMap<String, LoraPair>, AdapterError> {
    let problem =
        |key: &str, problem: String| AdapterError::Tensor { path: file.path().into(), tensor: key.into(), problem };
    let mut keys = BTreeMap::new();
    let mut repaired = 0;
    let is_norm = |key: &&str| parse_norm_key(key).is_some_and(|module| norms.contains_key(module));
    for key in file.names().filter(|key| !is_norm(key)) {
        let parsed = parse_key(key).map_err(|reason| problem(key, reason))?;
        repaired += usize::from(parsed.adapter.is_some());
        if let Some(other) = keys.insert((parsed.module, parsed.part), key) {
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
    for (&(module, part), &own_key) in &keys {
        let find = |part| {
            let found = keys.get(&(module, part)).copied();
            found.ok_or_else(|| problem(own_key, format!("has no counterpart `{}`", key(module, part))))
        };
        // A comes first, so that every other part is reached only when it is alone.
        if part != Part::A {
            find(Part::A)?;
            continue;
        }
        let other_key = find(Part::B)?;
        let shape = |key: &str| match *file.shape(key)? {
            [rows, cols] if rows > 0 && cols > 0 => Ok((rows, cols)),
            ref shape => Err(problem(key, format!("has the shape {shape:?}, expected two dimensions of at least 1"))),
        };
        let ((rank, in_features), (out_features, b_rank)) = (shape(own_key)?, shape(other_key)?);
        if rank != b_rank {
            let reason = format!("has {rank} rows, but B has {b_rank} columns; both must be the rank");
            return Err(problem(own_key, reason));
        }
        let magnitude = keys.get(&(module, Part::Magnitude)).map(|key| {
            if file.shape(key)? != [out_features] {
                let reason = format!("has the shape {:?}, expected [{out_features}], as B has rows", file.shape(key)?);
                return Err(problem(key, reason));
            }
            file.f32(key)
        });
        let (a, b, magnitude) = (file.f32(own_key)?, file.f32(other_key)?, magnitude.transpose()?);
        pairs.insert(module.to_owned(), LoraPair { rank, in_features, out_features, a, b, magnitude });
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
            |part, problem| AdapterError::Tensor { path: weights_path.into(), tensor: key(module, part), problem };
        let rank = rules.rank(module)?;
        rules.alpha(module)?;
        if pair.rank != rank {
            let reason = format!("has rank {}, but {CONFIG_FILE} says {rank}", pair.rank);
            return Err(problem(Part::A, reason));
        }
        if !rules.is_target(module) {
            let reason = format!(
                "is for a module that target_modules of {CONFIG_FILE} does not name; PEFT would drop it without a word"
            );
            return Err(problem(Part::A, reason));
        }
        match (config.use_dora, &pair.magnitude) {
            (true, None) => {
                let reason = format!("is missing, but {CONFIG_FILE} says use_dora");
                return Err(problem(Part::Magnitude, reason));
            }
            (false, Some(_)) => {
                let reason = format!("belongs to DoRA, but {CONFIG_FILE} does not say use_dora");
                return Err(problem(Part::Magnitude, reason));
            }
            _ => {}
        }
        for (part, values, [rows, cols]) in pair.parts() {
            if rows.checked_mul(cols) != Some(values.len()) || values.is_empty() {
                let reason = format!("has {} values, expected {rows} by {cols}", values.len());
                return Err(problem(part, reason));
            }
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                let reason =
                    format!("is {} at row {}, column {}, expected finite values", values[at], at / cols, at % cols);
                return Err(problem(part, reason));
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
