//! The trainable numbers of a run as one flat vector, in module path order.
//!
//! Optimizer, clipping, checkpoints and a cluster's all-reduce see this one vector and know nothing of modules.

use adapters::{AdapterError, LoraConfig, LowRank};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::model::{Decoder, DecoderLayer};

/// Puts a freshly initialised adapter on every module that the configuration names, and returns how many there are.
///
/// Each module draws from its own generator, so that the set of targets does not change another module's start.
///
/// # Errors
/// When two patterns give a module different values.
pub fn attach_adapter(
    decoder: &mut Decoder,
    config: &LoraConfig,
    seed: u64,
    device: &Device,
) -> Result<usize, AdapterError> {
    let mut attached = 0;
    for (index, (path, linear)) in decoder.linears_mut().enumerate() {
        let Some(module) = config.module(&path)? else { continue };
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&(index as u64).to_le_bytes());
        let mut rng = ChaCha8Rng::from_seed(key);
        let (d_input, d_output) = linear.sizes();
        linear.lora = Some(LowRank::init(module, d_input, d_output, &mut || rng.random(), device).require_grad());
        attached += 1;
    }
    Ok(attached)
}

/// All parameters, `A` before `B`, modules in path order. Shape `[count]`, outside autodiff.
pub fn flatten(decoder: &Decoder) -> Tensor<1> {
    Tensor::cat(matrices(decoder).map(|matrix| matrix.clone().inner().flatten(0, 1)).collect(), 0)
}

/// LoRA+: the learning rates of all parameters as multiples of the run's, 1 for every `A` and `ratio` for every `B`, in
/// the layout of [`flatten`]; `None` for a ratio of 1.
///
/// Source: Hayou et al. 2024, <https://arxiv.org/abs/2402.12354>, section 4; PEFT `optimizers/loraplus.py`.
#[expect(clippy::float_cmp, clippy::cast_possible_truncation, reason = "exactly 1 is the way to switch it off")]
pub fn learning_rates(decoder: &Decoder, ratio: f64, device: &Device) -> Option<Tensor<1>> {
    if ratio == 1.0 {
        return None;
    }
    let rates: Vec<f32> = matrices(decoder)
        .zip([1.0, ratio as f32].into_iter().cycle())
        .flat_map(|(matrix, rate)| std::iter::repeat_n(rate, matrix.dims().iter().product()))
        .collect();
    let count = rates.len();
    Some(Tensor::from_data(TensorData::new(rates, [count]), device))
}

/// The gradients of one block, in the layout of [`flatten`]; `None` for a block without adapter.
///
/// # Panics
/// When a parameter got no gradient: it did not take part in the loss, which is a fault of the model's definition.
pub fn block_gradient(layer: &DecoderLayer, gradients: &mut Gradients) -> Option<Tensor<1>> {
    let pairs = layer.linears().into_iter().filter_map(|linear| linear.lora.as_ref());
    let parts = pairs.flat_map(|lora| [&lora.lora_a, &lora.lora_b]).map(|matrix| {
        let gradient = matrix.grad_remove(gradients).expect("every adapter matrix takes part in the loss");
        gradient.flatten(0, 1)
    });
    let parts: Vec<Tensor<1>> = parts.collect();
    (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
}

/// Sets every parameter from a vector in the layout of [`flatten`].
///
/// # Panics
/// When the vector is shorter than the parameters.
pub fn assign(decoder: &mut Decoder, flat: &Tensor<1>) {
    let mut offset = 0;
    let mut take = |shape: [usize; 2]| {
        let count = shape[0] * shape[1];
        let part = flat.clone().narrow(0, offset, count).reshape(shape);
        offset += count;
        adapters::require_grad(part)
    };
    for (_, linear) in decoder.linears_mut() {
        if let Some(lora) = &mut linear.lora {
            lora.lora_a = take(lora.lora_a.dims());
            lora.lora_b = take(lora.lora_b.dims());
        }
    }
}

/// How many numbers are trained.
pub fn count(decoder: &Decoder) -> usize {
    matrices(decoder).map(|matrix| matrix.dims().iter().product::<usize>()).sum()
}

fn matrices(decoder: &Decoder) -> impl Iterator<Item = &Tensor<2>> {
    decoder.linears().filter_map(|(_, linear)| linear.lora.as_ref()).flat_map(|lora| [&lora.lora_a, &lora.lora_b])
}
