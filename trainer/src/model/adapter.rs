//! Between the decoder's adapter and a PEFT folder.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use adapters::export::peft::{CONFIG_FILE, WEIGHTS_FILE};
use adapters::{AdapterConfig, LoraPair, LowRank, Magnitude, PeftAdapter};
use burn::tensor::{Device, Tensor, TensorData};

use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::places::{EMBED_TOKENS, LM_HEAD, MODULES, module_path};
use crate::device::read;
use crate::error::TrainError;

/// The adapter's matrices by module path, as PEFT files hold them.
pub fn to_pairs(decoder: &Decoder) -> BTreeMap<String, LoraPair> {
    let pair = |(path, lora): (String, &LowRank)| {
        let lora = lora.clone().inner().whole();
        let (in_features, out_features) = lora.sizes();
        let pair = LoraPair {
            rank: lora.rank(),
            in_features,
            out_features,
            a: read(lora.lora_a),
            b: read(lora.lora_b),
            magnitude: lora.magnitude.map(|magnitude| read(magnitude.vector)),
        };
        (path, pair)
    };
    decoder.adapters().map(pair).collect()
}

/// The adapter's norms by module path, as the base's checkpoint holds them; none when they are the base's.
pub fn to_norms(decoder: &Decoder) -> BTreeMap<String, Vec<f32>> {
    if decoder.base_norms.is_none() {
        return BTreeMap::new();
    }
    let less = less(decoder);
    let mut decoder = decoder.inner();
    decoder.norms_mut().into_iter().map(|(path, norm)| (path, read(norm.clone() - less))).collect()
}

/// What a checkpoint's norms are short of against the decoder's: Gemma's are held less 1.
fn less(decoder: &Decoder) -> f32 {
    if decoder.config.family.gemma_scaling { 1.0 } else { 0.0 }
}

/// The names of all norms, for `modules_to_save`.
pub fn norm_names(decoder: &mut Decoder) -> Vec<String> {
    let mut names: Vec<String> =
        decoder.norms_mut().iter().filter_map(|(path, _)| Some(path.rsplit('.').next()?.to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

/// Writes the adapter as a PEFT folder.
///
/// # Errors
/// What [`PeftAdapter::write`] says.
pub fn save(decoder: &Decoder, config: &AdapterConfig, folder: &Path, overwrite: bool) -> Result<(), TrainError> {
    let adapter = PeftAdapter { config: config.clone(), pairs: to_pairs(decoder), norms: to_norms(decoder) };
    Ok(adapter.write(folder, overwrite)?)
}

/// Loads a PEFT folder onto the decoder, replacing any adapter, and returns its configuration.
///
/// # Errors
/// What [`PeftAdapter::read`] says; [`TrainError::AdapterMismatch`] when a module does not exist in the base or has
/// another shape there.
pub fn load(decoder: &mut Decoder, folder: &Path, device: &Device) -> Result<AdapterConfig, TrainError> {
    let PeftAdapter { config, mut pairs, norms } = PeftAdapter::read(folder)?;
    let mismatch = |reason: String| TrainError::AdapterMismatch { path: folder.to_owned(), reason };
    for place in decoder.places_mut() {
        *place.lora = None;
        let Some(pair) = pairs.remove(&place.path) else { continue };
        let (d_input, d_output) = place.sizes;
        check_shape(&place.path, &pair, (d_input, d_output), folder)?;
        let matrix = |numbers, shape: [usize; 2]| Tensor::from_data(TensorData::new(numbers, shape), device);
        let (lora_a, lora_b) = (matrix(pair.a, [pair.rank, d_input]), matrix(pair.b, [d_output, pair.rank]));
        if pair.magnitude.is_some() && place.path == EMBED_TOKENS {
            return Err(mismatch(format!("{EMBED_TOKENS} has a magnitude, which is not supported on an embedding")));
        }
        let magnitude = pair.magnitude.map(|numbers| {
            let vector = Tensor::from_data(TensorData::new(numbers, [d_output]), device);
            Magnitude::new(vector, &place.weight)
        });
        *place.lora = Some(LowRank { magnitude, ..LowRank::new(lora_a, lora_b, config.scaling(&place.path)?) });
    }
    if let Some(path) = pairs.keys().next() {
        return Err(unknown_module(path, folder));
    }
    load_norms(decoder, norms, device).map_err(mismatch)?;
    Ok(config)
}

/// A PEFT folder's two files.
pub fn files(folder: &Path) -> [PathBuf; 2] {
    [CONFIG_FILE, WEIGHTS_FILE].map(|name| folder.join(name))
}

/// SHA-256 of a PEFT folder's two files.
///
/// # Errors
/// When one cannot be read.
pub fn digest(folder: &Path) -> Result<String, TrainError> {
    datasets::sha256_files(files(folder)).map_err(|source| TrainError::Read { path: folder.to_owned(), source })
}

/// Puts an adapter's norms into the decoder: all of them or none.
fn load_norms(decoder: &mut Decoder, mut own: BTreeMap<String, Vec<f32>>, device: &Device) -> Result<(), String> {
    if own.is_empty() {
        return Ok(());
    }
    let less = less(decoder);
    decoder.own_norms();
    for (path, norm) in decoder.norms_mut() {
        let values = own.remove(&path).ok_or_else(|| format!("the adapter has norms of its own, but not {path}"))?;
        let (count, expected) = (values.len(), norm.dims()[0]);
        if count != expected {
            return Err(format!(
                "norm {path} has {count} numbers in the adapter and {expected} in the base; the adapter belongs to another \
                 base"
            ));
        }
        *norm = Tensor::from_data(TensorData::new(values, [count]), device) + less;
    }
    match own.keys().next() {
        None => Ok(()),
        Some(path) => Err(format!("the base has no norm {path}; the adapter belongs to another base")),
    }
}

/// Checks that a base has the modules of an adapter, in their shapes, by its configuration alone. `source` is the
/// adapter's file or folder.
///
/// # Errors
/// [`TrainError::AdapterMismatch`] for the first module that the base does not have, or has in another shape.
pub fn check_fits(config: &DecoderConfig, pairs: &BTreeMap<String, LoraPair>, source: &Path) -> Result<(), TrainError> {
    let (vocab, hidden) = (config.vocab_size, config.hidden_size);
    let sizes: BTreeMap<String, (usize, usize)> = (0..config.num_hidden_layers)
        .flat_map(|block| MODULES.map(|name| module_path(block, name)).into_iter().zip(config.module_sizes()))
        .chain([(EMBED_TOKENS.to_owned(), (vocab, hidden)), (LM_HEAD.to_owned(), (hidden, vocab))])
        .collect();
    pairs.iter().try_for_each(|(path, pair)| match sizes.get(path) {
        Some(size) => check_shape(path, pair, *size, source),
        None => Err(unknown_module(path, source)),
    })
}

fn check_shape(path: &str, pair: &LoraPair, size: (usize, usize), source: &Path) -> Result<(), TrainError> {
    if (pair.in_features, pair.out_features) == size {
        return Ok(());
    }
    let reason = format!(
        "module {path} is {} to {} in the adapter and {} to {} in the base; the adapter belongs to another base",
        pair.in_features, pair.out_features, size.0, size.1
    );
    Err(TrainError::AdapterMismatch { path: source.to_owned(), reason })
}

fn unknown_module(path: &str, source: &Path) -> TrainError {
    let reason = format!("the base has no module {path}; the adapter belongs to another base");
    TrainError::AdapterMismatch { path: source.to_owned(), reason }
}

/// Makes a loaded adapter trainable.
pub fn require_grad(decoder: &mut Decoder) {
    for place in decoder.places_mut() {
        *place.lora = place.lora.take().map(LowRank::require_grad);
    }
    if decoder.base_norms.is_some() {
        for (_, norm) in decoder.norms_mut() {
            *norm = adapters::require_grad(norm.clone().inner());
        }
    }
}
