//! The trainable numbers of a run as one flat vector, in module path order.
//!
//! Optimizer, clipping, checkpoints and a cluster's all-reduce see this one vector and know nothing of modules.

use adapters::{AdapterError, Init, LoraConfig, LoraLinear, LowRank, Magnitude, ModuleAdapter, Weight};
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::model::{Decoder, DecoderLayer, EMBED_TOKENS, Place, adapter};

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
    let mut attached = starts.len();
    starts.into_par_iter().for_each(|Start { index, module, linear, .. }| {
        // The weight's own length, also where its principal parts are about to be taken out of it.
        let magnitude = config.use_dora.then(|| Magnitude::of(&linear.weight, device));
        let lora = match config.init {
            Init::Pissa => LowRank::principal(module, &linear.weight, device),
            Init::Default => {
                let mut rng = generator(seed, index as u64);
                let (d_input, d_output) = linear.sizes();
                LowRank::init(module, d_input, d_output, &mut || rng.random(), device)
            }
        };
        linear.attach(LowRank { magnitude, ..lora }.require_grad());
    });
    for (index, place) in decoder.places_mut().into_iter().filter(Place::is_end).enumerate() {
        let Some(module) = config.module(&place.path)? else { continue };
        let mut rng = generator(seed, u64::MAX - index as u64);
        let (d_input, d_output) = place.sizes;
        let lora = if place.path == EMBED_TOKENS {
            LowRank::init_embedding(module, [d_input, d_output], &mut || rng.random(), device)
        } else {
            LowRank::init(module, d_input, d_output, &mut || rng.random(), device)
        };
        let magnitude = config.use_dora.then(|| Magnitude::of(&place.weight, device));
        *place.lora = Some(LowRank { magnitude, ..lora }.require_grad());
        attached += 1;
    }
    if config.train_norms {
        decoder.own_norms();
        adapter::require_grad(decoder);
    }
    Ok(attached)
}

/// The generator of a module's random numbers.
fn generator(seed: u64, module: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&module.to_le_bytes());
    ChaCha8Rng::from_seed(key)
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

/// What a trained tensor is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    A,
    B,
    Magnitude,
    /// The embedding's `A`.
    EmbeddingA,
    /// The embedding's `B`.
    EmbeddingB,
    Norm,
}

/// A trained tensor where it lies in the decoder.
enum Slot<'a> {
    Matrix(Kind, &'a mut Tensor<2>),
    Vector(Kind, &'a mut Tensor<1>),
}

impl Slot<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Matrix(kind, _) | Self::Vector(kind, _) => *kind,
        }
    }

    fn count(&self) -> usize {
        match self {
            Self::Matrix(_, matrix) => matrix.dims().iter().product(),
            Self::Vector(_, vector) => vector.dims()[0],
        }
    }

    /// Its numbers, outside autodiff.
    fn flat(&self) -> Tensor<1> {
        match self {
            Self::Matrix(_, matrix) => (**matrix).clone().inner().flatten(0, 1),
            Self::Vector(_, vector) => (**vector).clone().inner(),
        }
    }

    fn gradient(&self, gradients: &mut Gradients) -> Tensor<1> {
        let reason = "every parameter takes part in the loss";
        match self {
            Self::Matrix(_, matrix) => matrix.grad_remove(gradients).expect(reason).flatten(0, 1),
            Self::Vector(_, vector) => vector.grad_remove(gradients).expect(reason),
        }
    }

    fn set(self, flat: Tensor<1>) {
        match self {
            Self::Matrix(_, matrix) => *matrix = adapters::require_grad(flat.reshape(matrix.dims())),
            Self::Vector(_, vector) => *vector = adapters::require_grad(flat),
        }
    }
}

/// Of an adapter: `A`, `B`, and the magnitude where there is one.
fn slots_of(lora: &mut LowRank) -> impl Iterator<Item = Slot<'_>> {
    let magnitude = lora.magnitude.as_mut().map(|magnitude| {
        // Whoever asks for the slots may change the matrices.
        magnitude.forget_norm();
        Slot::Vector(Kind::Magnitude, &mut magnitude.vector)
    });
    let pair = [Slot::Matrix(Kind::A, &mut lora.lora_a), Slot::Matrix(Kind::B, &mut lora.lora_b)];
    pair.into_iter().chain(magnitude)
}

fn embedding_slots(lora: Option<&mut LowRank>) -> impl Iterator<Item = Slot<'_>> {
    lora.into_iter().flat_map(|LowRank { lora_a, lora_b, .. }| {
        [Slot::Matrix(Kind::EmbeddingA, lora_a), Slot::Matrix(Kind::EmbeddingB, lora_b)]
    })
}

/// Of a block: the adapters of its modules in path order, then its norms where they are trained.
fn block_slots(layer: &mut DecoderLayer, norms: bool) -> impl Iterator<Item = Slot<'_>> {
    let (linears, own) = layer.parts_mut();
    let adapters = linears.into_iter().filter_map(|linear| linear.lora.as_mut()).flat_map(slots_of);
    let norms = own.into_iter().filter(move |_| norms).map(|(_, norm)| Slot::Vector(Kind::Norm, norm));
    adapters.chain(norms)
}

/// Behind the blocks: the last norm where it is trained, then the head's adapter.
fn head_slots<'a>(
    norm: &'a mut Tensor<1>,
    norms: bool,
    lora: Option<&'a mut LowRank>,
) -> impl Iterator<Item = Slot<'a>> {
    let norm = norms.then_some(Slot::Vector(Kind::Norm, norm));
    norm.into_iter().chain(lora.into_iter().flat_map(slots_of))
}

/// Everything that is trained, in the order of all vectors here.
fn slots(decoder: &mut Decoder) -> impl Iterator<Item = Slot<'_>> {
    let norms = decoder.base_norms.is_some();
    let blocks = decoder.layers.iter_mut().flat_map(move |layer| block_slots(layer, norms));
    let head = head_slots(&mut decoder.norm, norms, decoder.lm_head_lora.as_mut());
    embedding_slots(decoder.embed_tokens_lora.as_mut()).chain(blocks).chain(head)
}

/// All parameters: of the embedding, of block after block, of the head; modules in path order, of each module `A`, `B`
/// and the magnitude, and after a block's modules its norms. Shape `[count]`, outside autodiff.
pub fn flatten(decoder: &Decoder) -> Tensor<1> {
    // The tensors are handles: a decoder's copy shares its numbers.
    Tensor::cat(slots(&mut decoder.clone()).map(|slot| slot.flat()).collect(), 0)
}

/// LoRA+: the learning rates of all parameters as multiples of the run's, `ratio` for every `B`, magnitude and norm, 1
/// for the others, in the layout of [`flatten`]; `None` for a ratio of 1.
///
/// Source: Hayou et al. 2024, <https://arxiv.org/abs/2402.12354>, section 4; PEFT `optimizers/loraplus.py`, but for the
/// embedding, which has a rate of its own there.
#[expect(clippy::float_cmp, reason = "exactly 1 is the way to switch it off")]
pub fn learning_rates(decoder: &Decoder, ratio: f64, device: &Device) -> Option<Tensor<1>> {
    let has_ratio = |kind| matches!(kind, Kind::B | Kind::Magnitude | Kind::Norm);
    (ratio != 1.0).then(|| by_kind(decoder, device, |kind| if has_ratio(kind) { ratio } else { 1.0 }))
}

/// The parameters that do not decay, the norms: their learning rates as multiples of the run's, 0 for all others, in the
/// layout of [`flatten`]; `None` when no norms are trained.
///
/// Source: transformers `trainer.py`, `get_decay_parameter_names`.
pub fn spared(decoder: &Decoder, ratio: f64, device: &Device) -> Option<Tensor<1>> {
    let spared = |kind| if kind == Kind::Norm { ratio } else { 0.0 };
    decoder.base_norms.as_ref().map(|_| by_kind(decoder, device, spared))
}

#[expect(clippy::cast_possible_truncation, reason = "the parameters are f32")]
fn by_kind(decoder: &Decoder, device: &Device, value: impl Fn(Kind) -> f64) -> Tensor<1> {
    let values: Vec<f32> = slots(&mut decoder.clone())
        .flat_map(|slot| std::iter::repeat_n(value(slot.kind()) as f32, slot.count()))
        .collect();
    let count = values.len();
    Tensor::from_data(TensorData::new(values, [count]), device)
}

/// Where the `A` of a module's adapter lies in the layout of [`flatten`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceOfA {
    /// The module's path.
    pub path: String,
    /// Its first number.
    pub first: usize,
    /// `[rank, in]`.
    pub shape: [usize; 2],
}

/// Where the `A` of every adapter lies.
pub fn places_of_a(decoder: &Decoder) -> Vec<PlaceOfA> {
    let mut end = 0;
    let mut copy = decoder.clone();
    let matrices = slots(&mut copy).filter_map(|slot| {
        let first = end;
        end += slot.count();
        match slot {
            Slot::Matrix(Kind::A | Kind::EmbeddingA, a) => Some((first, a.dims())),
            _ => None,
        }
    });
    // Both go through the modules in the order of parameters everywhere.
    decoder.adapters().zip(matrices).map(|((path, _), (first, shape))| PlaceOfA { path, first, shape }).collect()
}

/// The gradients of one block, in the layout of [`flatten`]; `None` for a block of which nothing is trained.
///
/// # Panics
/// When a parameter got no gradient: it did not take part in the loss, which is a fault of the model's definition.
pub fn block_gradient(decoder: &Decoder, index: usize, gradients: &mut Gradients) -> Option<Tensor<1>> {
    gradient(block_slots(&mut decoder.layers[index].clone(), decoder.base_norms.is_some()), gradients)
}

/// As [`block_gradient`], of the embedding.
///
/// # Panics
/// As [`block_gradient`].
pub fn embedding_gradient(decoder: &Decoder, gradients: &mut Gradients) -> Option<Tensor<1>> {
    gradient(embedding_slots(decoder.embed_tokens_lora.clone().as_mut()), gradients)
}

/// As [`block_gradient`], of what is behind the blocks.
///
/// # Panics
/// As [`block_gradient`].
pub fn head_gradient(decoder: &Decoder, gradients: &mut Gradients) -> Option<Tensor<1>> {
    let (mut norm, mut lora) = (decoder.norm.clone(), decoder.lm_head_lora.clone());
    gradient(head_slots(&mut norm, decoder.base_norms.is_some(), lora.as_mut()), gradients)
}

fn gradient<'a>(slots: impl Iterator<Item = Slot<'a>>, gradients: &mut Gradients) -> Option<Tensor<1>> {
    let parts: Vec<Tensor<1>> = slots.map(|slot| slot.gradient(gradients)).collect();
    (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
}

/// How many numbers each part of a gradient has, in the order in which a backward pass makes them: the head's, the blocks'
/// from the last to the first, the embedding's; those of which nothing is trained have none.
pub fn parts(decoder: &Decoder) -> Vec<usize> {
    let mut copy = decoder.clone();
    let norms = decoder.base_norms.is_some();
    let count = |slots: &mut dyn Iterator<Item = Slot<'_>>| slots.map(|slot| slot.count()).sum::<usize>();
    let head = count(&mut head_slots(&mut copy.norm, norms, copy.lm_head_lora.as_mut()));
    let blocks = copy.layers.iter_mut().rev().map(|layer| count(&mut block_slots(layer, norms)));
    let embedding = count(&mut embedding_slots(copy.embed_tokens_lora.as_mut()));
    [head].into_iter().chain(blocks).chain([embedding]).filter(|count| *count > 0).collect()
}

/// The parts of a gradient in the order of [`parts`] as one vector in the layout of [`flatten`].
pub fn join(mut parts: Vec<Tensor<1>>) -> Tensor<1> {
    parts.reverse();
    Tensor::cat(parts, 0)
}

/// Sets every parameter from a vector in the layout of [`flatten`].
///
/// # Panics
/// When the vector is shorter than the parameters.
pub fn assign(decoder: &mut Decoder, flat: &Tensor<1>) {
    let mut offset = 0;
    for slot in slots(decoder) {
        let count = slot.count();
        slot.set(flat.clone().narrow(0, offset, count));
        offset += count;
    }
}

/// How many numbers are trained.
pub fn count(decoder: &Decoder) -> usize {
    slots(&mut decoder.clone()).map(|slot| slot.count()).sum()
}
