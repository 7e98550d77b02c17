//! The trainable numbers of a run as one flat vector, in module path order.
//!
//! Optimizer, clipping, checkpoints and a cluster's all-reduce see this one vector and know nothing of modules.

use adapters::{AdapterError, Init, LoraConfig, LoraLinear, LowRank, Magnitude, ModuleAdapter, Weight};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::model::{Decoder, DecoderLayer};

/// Puts a freshly initialised adapter on every module that the configuration names, and returns how many there are.
///
/// Each module draws from its own generator, so that the set of targets does not change another module's start.
///
/// # Errors
/// When two patterns give a module different values; when the rank is too large for a start from principal parts.
pub fn attach_adapter(
    decoder: &mut Decoder,
    config: &LoraConfig,
    seed: u64,
    device: &Device,
) -> Result<usize, AdapterError> {
    let mut starts = Vec::new();
    for (index, (path, linear)) in decoder.linears_mut().enumerate() {
        let Some(module) = config.module(&path)? else { continue };
        starts.push(Start { index, module, path, linear });
    }
    if config.init == Init::Pissa {
        starts.iter().try_for_each(Start::check_principal)?;
    }
    let attached = starts.len();
    starts.into_par_iter().for_each(|Start { index, module, linear, .. }| {
        // The weight's own length, also where its principal parts are about to be taken out of it.
        let magnitude = config.use_dora.then(|| Magnitude::of(&linear.weight, device));
        let lora = match config.init {
            Init::Pissa => LowRank::principal(module, &linear.weight, device),
            Init::Default => {
                let mut key = [0; 32];
                key[..8].copy_from_slice(&seed.to_le_bytes());
                key[8..16].copy_from_slice(&(index as u64).to_le_bytes());
                let mut rng = ChaCha8Rng::from_seed(key);
                let (d_input, d_output) = linear.sizes();
                LowRank::init(module, d_input, d_output, &mut || rng.random(), device)
            }
        };
        linear.attach(LowRank { magnitude, ..lora }.require_grad());
    });
    Ok(attached)
}

/// A module that gets an adapter.
struct Start<'a> {
    index: usize,
    module: ModuleAdapter,
    path: String,
    linear: &'a mut LoraLinear,
}

impl Start<'_> {
    /// A weight has no more principal parts than its smaller side, and they can be taken out of numbers only.
    fn check_principal(&self) -> Result<(), AdapterError> {
        let error = |key, value, expected| Err(AdapterError::Config { key, value, expected });
        let (d_input, d_output) = self.linear.sizes();
        if self.module.rank > d_input.min(d_output) {
            let value = format!("{} for {}, which is {d_input} to {d_output}", self.module.rank, self.path);
            return error("rank", value, "at most the module's smaller side, since lora.init is pissa");
        }
        if let Weight::Blocks(_) = self.linear.weight {
            let value = format!("pissa on {}, which is kept in blocks", self.path);
            return error("init", value, "default, or model.dtype: f32");
        }
        Ok(())
    }
}

/// Brings an adapter that was loaded onto the base into the form in which the configuration trains it.
///
/// # Errors
/// When two patterns give a module different values.
pub fn resume_adapter(decoder: &mut Decoder, config: &LoraConfig) -> Result<(), AdapterError> {
    if config.init == Init::Pissa {
        for (path, linear) in decoder.linears_mut() {
            let (Some(module), Some(lora)) = (config.module(&path)?, linear.lora.take()) else { continue };
            linear.attach(lora.with_initial(module.scaling));
        }
    }
    Ok(())
}

/// A trained tensor where it lies in the decoder.
enum Slot<'a> {
    Matrix(&'a mut Tensor<2>),
    Vector(&'a mut Tensor<1>),
}

impl Slot<'_> {
    fn count(&self) -> usize {
        match self {
            Self::Matrix(matrix) => matrix.dims().iter().product(),
            Self::Vector(vector) => vector.dims()[0],
        }
    }

    /// Its numbers, outside autodiff.
    fn flat(&self) -> Tensor<1> {
        match self {
            Self::Matrix(matrix) => (**matrix).clone().inner().flatten(0, 1),
            Self::Vector(vector) => (**vector).clone().inner(),
        }
    }

    fn gradient(&self, gradients: &mut Gradients) -> Tensor<1> {
        let reason = "every parameter takes part in the loss";
        match self {
            Self::Matrix(matrix) => matrix.grad_remove(gradients).expect(reason).flatten(0, 1),
            Self::Vector(vector) => vector.grad_remove(gradients).expect(reason),
        }
    }

    fn set(self, flat: Tensor<1>) {
        match self {
            Self::Matrix(matrix) => *matrix = adapters::require_grad(flat.reshape(matrix.dims())),
            Self::Vector(vector) => *vector = adapters::require_grad(flat),
        }
    }
}

/// What is trained of a block, modules in path order: `A`, `B`, and the magnitude where there is one.
fn slots(layer: &mut DecoderLayer) -> impl Iterator<Item = Slot<'_>> {
    layer.linears_mut().into_iter().filter_map(|linear| linear.lora.as_mut()).flat_map(|lora| {
        let magnitude = lora.magnitude.as_mut().map(|magnitude| {
            // Whoever asks for the slots may change the matrices.
            magnitude.forget_norm();
            Slot::Vector(&mut magnitude.vector)
        });
        [Slot::Matrix(&mut lora.lora_a), Slot::Matrix(&mut lora.lora_b)].into_iter().chain(magnitude)
    })
}

/// What `each` makes of every parameter, in the order of all vectors here. The tensors are handles: copying the layers
/// copies no numbers.
fn of_slots<T>(layers: &[DecoderLayer], mut each: impl FnMut(Slot<'_>) -> T) -> Vec<T> {
    layers.iter().flat_map(|layer| slots(&mut layer.clone()).map(&mut each).collect::<Vec<_>>()).collect()
}

/// All parameters, modules in path order, and of each module `A`, `B` and the magnitude. Shape `[count]`, outside
/// autodiff.
pub fn flatten(decoder: &Decoder) -> Tensor<1> {
    Tensor::cat(of_slots(&decoder.layers, |slot| slot.flat()), 0)
}

/// LoRA+: the learning rates of all parameters as multiples of the run's, 1 for every `A` and `ratio` for every `B` and
/// every magnitude, in the layout of [`flatten`]; `None` for a ratio of 1.
///
/// Source: Hayou et al. 2024, <https://arxiv.org/abs/2402.12354>, section 4; PEFT `optimizers/loraplus.py`.
#[expect(clippy::float_cmp, clippy::cast_possible_truncation, reason = "exactly 1 is the way to switch it off")]
pub fn learning_rates(decoder: &Decoder, ratio: f64, device: &Device) -> Option<Tensor<1>> {
    if ratio == 1.0 {
        return None;
    }
    let mut rates = Vec::new();
    for (_, linear) in decoder.linears() {
        let Some(lora) = &linear.lora else { continue };
        let magnitude = lora.magnitude.as_ref().map_or(0, |magnitude| magnitude.vector.dims()[0]);
        let count = |matrix: &Tensor<2>| matrix.dims().iter().product::<usize>();
        rates.extend(std::iter::repeat_n(1.0, count(&lora.lora_a)));
        rates.extend(std::iter::repeat_n(ratio as f32, count(&lora.lora_b) + magnitude));
    }
    let count = rates.len();
    Some(Tensor::from_data(TensorData::new(rates, [count]), device))
}

/// The gradients of one block, in the layout of [`flatten`]; `None` for a block without adapter.
///
/// # Panics
/// When a parameter got no gradient: it did not take part in the loss, which is a fault of the model's definition.
pub fn block_gradient(layer: &DecoderLayer, gradients: &mut Gradients) -> Option<Tensor<1>> {
    let parts = of_slots(std::slice::from_ref(layer), |slot| slot.gradient(gradients));
    (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
}

/// Sets every parameter from a vector in the layout of [`flatten`].
///
/// # Panics
/// When the vector is shorter than the parameters.
pub fn assign(decoder: &mut Decoder, flat: &Tensor<1>) {
    let mut offset = 0;
    for slot in decoder.layers.iter_mut().flat_map(slots) {
        let count = slot.count();
        slot.set(flat.clone().narrow(0, offset, count));
        offset += count;
    }
}

/// How many numbers are trained.
pub fn count(decoder: &Decoder) -> usize {
    of_slots(&decoder.layers, |slot| slot.count()).into_iter().sum()
}
