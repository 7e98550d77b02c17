//! Between the decoder's adapter and a PEFT folder.

use std::collections::BTreeMap;
use std::path::Path;

use adapters::{AdapterConfig, LoraPair, LowRank, Magnitude};
use burn::tensor::{Device, Tensor, TensorData};

use super::config::DecoderConfig;
use super::decoder::{Decoder, MODULES, module_path};
use crate::device::read;
use crate::error::TrainError;

/// The adapter's matrices by module path, as PEFT files hold them.
pub fn to_pairs(decoder: &Decoder) -> BTreeMap<String, LoraPair> {
    decoder
        .linears()
        .filter_map(|(path, linear)| {
            let lora = linear.lora.clone()?.inner().whole();
            let (d_input, d_output) = linear.sizes();
            let pair = LoraPair {
                rank: lora.rank(),
                in_features: d_input,
                out_features: d_output,
                a: read(lora.lora_a),
                b: read(lora.lora_b),
                magnitude: lora.magnitude.map(|magnitude| read(magnitude.vector)),
            };
            Some((path, pair))
        })
        .collect()
}

/// Writes the adapter as a PEFT folder.
///
/// # Errors
/// What [`adapters::write_peft`] says.
pub fn save(decoder: &Decoder, config: &AdapterConfig, folder: &Path, overwrite: bool) -> Result<(), TrainError> {
    Ok(adapters::write_peft(folder, config, &to_pairs(decoder), overwrite)?)
}

/// Loads a PEFT folder onto the decoder, replacing any adapter, and returns its configuration.
///
/// # Errors
/// What [`adapters::read_peft`] says; [`TrainError::AdapterMismatch`] when a module does not exist in the base or has
/// another shape there.
pub fn load(decoder: &mut Decoder, folder: &Path, device: &Device) -> Result<AdapterConfig, TrainError> {
    let (config, mut pairs) = adapters::read_peft(folder)?;
    for (path, linear) in decoder.linears_mut() {
        linear.lora = None;
        let Some(pair) = pairs.remove(&path) else { continue };
        let (d_input, d_output) = linear.sizes();
        check_shape(&path, &pair, (d_input, d_output), folder)?;
        let matrix = |numbers, shape: [usize; 2]| Tensor::from_data(TensorData::new(numbers, shape), device);
        let (lora_a, lora_b) = (matrix(pair.a, [pair.rank, d_input]), matrix(pair.b, [d_output, pair.rank]));
        let magnitude = pair.magnitude.map(|numbers| {
            let vector = Tensor::from_data(TensorData::new(numbers, [d_output]), device);
            Magnitude::new(vector, &linear.weight)
        });
        linear.lora = Some(LowRank { magnitude, ..LowRank::new(lora_a, lora_b, config.scaling(&path)?) });
    }
    match pairs.keys().next() {
        Some(path) => Err(unknown_module(path, folder)),
        None => Ok(config),
    }
}

/// Checks that a base has the modules of an adapter, in their shapes, by its configuration alone. `source` is the
/// adapter's file or folder.
///
/// # Errors
/// [`TrainError::AdapterMismatch`] for the first module that the base does not have, or has in another shape.
pub fn check_fits(config: &DecoderConfig, pairs: &BTreeMap<String, LoraPair>, source: &Path) -> Result<(), TrainError> {
    let sizes: BTreeMap<String, (usize, usize)> = (0..config.num_hidden_layers)
        .flat_map(|block| MODULES.map(|name| module_path(block, name)).into_iter().zip(config.module_sizes()))
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
    for (_, linear) in decoder.linears_mut() {
        linear.lora = linear.lora.take().map(LowRank::require_grad);
    }
}
