//! Between the decoder's adapter and a PEFT folder.

use std::collections::BTreeMap;
use std::path::Path;

use adapters::{AdapterConfig, LoraPair, LowRank};
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
            let lora = linear.lora.as_ref()?;
            let (d_input, d_output) = linear.sizes();
            let pair = LoraPair {
                a: values(&lora.lora_a),
                b: values(&lora.lora_b),
                rank: lora.rank(),
                in_features: d_input,
                out_features: d_output,
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
        linear.lora = Some(LowRank {
            lora_a: Tensor::from_data(TensorData::new(pair.a, [pair.rank, d_input]), device),
            lora_b: Tensor::from_data(TensorData::new(pair.b, [d_output, pair.rank]), device),
            scaling: config.scaling(&path)?,
        });
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

fn values(tensor: &Tensor<2>) -> Vec<f32> {
    read(tensor.clone().inner())
}
