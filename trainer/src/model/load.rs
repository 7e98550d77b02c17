//! From weight files to the decoder. Strict: a tensor that is missing, misshapen or left over is an error.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use adapters::gguf::names::Norms;
use adapters::{BlockForm, BlockMatrix, LoraLinear, Weight};
use burn::tensor::{DType, Device, Tensor, TensorData, bf16, f16};
use rayon::prelude::*;

use super::config::DecoderConfig;
use super::decoder::{Decoder, DecoderLayer, FeedforwardNorms, HeadNorms, Mlp, SelfAttention};
use super::weights::Weights;
use crate::device;
use crate::error::TrainError;
use crate::recipe::WeightType;

/// Loads every weight of the decoder.
pub(super) fn decoder(
    config: &DecoderConfig,
    weights: &Weights,
    path: &Path,
    dtype: WeightType,
    device: &Device,
) -> Result<Decoder, TrainError> {
    let loader =
        Loader { config, weights, path, dtype, device, left: RefCell::new(weights.names(config.family.norms)) };
    let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
    let heads = config.num_attention_heads * config.head_dim;
    let kv_heads = config.num_key_value_heads * config.head_dim;
    let family = config.family;
    let layers = (0..config.num_hidden_layers).map(|index| {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let linear = |part: &str, shape| {
            let weight = loader.linear(&name(&format!("{part}.weight")), shape)?;
            let has_bias =
                family.qkv_bias && matches!(part, "self_attn.q_proj" | "self_attn.k_proj" | "self_attn.v_proj");
            let bias = has_bias.then(|| loader.vector(&name(&format!("{part}.bias")), shape[0])).transpose()?;
            Ok::<_, TrainError>(LoraLinear::frozen(weight, bias))
        };
        let norm = |part: &str, size| loader.norm(&name(&format!("{part}.weight")), size);
        let head_norms = || {
            let (q_norm, k_norm) =
                (norm("self_attn.q_norm", config.head_dim)?, norm("self_attn.k_norm", config.head_dim)?);
            Ok::<_, TrainError>(HeadNorms { q_norm, k_norm })
        };
        let feedforward_norms = || {
            Ok::<_, TrainError>(FeedforwardNorms {
                pre_feedforward_layernorm: norm("pre_feedforward_layernorm", hidden)?,
                post_feedforward_layernorm: norm("post_feedforward_layernorm", hidden)?,
            })
        };
        Ok(DecoderLayer {
            input_layernorm: norm("input_layernorm", hidden)?,
            self_attn: SelfAttention {
                q_proj: linear("self_attn.q_proj", [heads, hidden])?,
                k_proj: linear("self_attn.k_proj", [kv_heads, hidden])?,
                v_proj: linear("self_attn.v_proj", [kv_heads, hidden])?,
                o_proj: linear("self_attn.o_proj", [hidden, heads])?,
                head_norms: family.qk_norm.then(head_norms).transpose()?,
            },
            post_attention_layernorm: norm("post_attention_layernorm", hidden)?,
            mlp: Mlp {
                gate_proj: linear("mlp.gate_proj", [intermediate, hidden])?,
                up_proj: linear("mlp.up_proj", [intermediate, hidden])?,
                down_proj: linear("mlp.down_proj", [hidden, intermediate])?,
            },
            feedforward_norms: (family.norms == Norms::Around).then(feedforward_norms).transpose()?,
        })
    });
    let decoder = Decoder {
        config: config.clone(),
        kernels: device::kernels(device),
        embed_tokens: loader.matrix("model.embed_tokens.weight", [config.vocab_size, hidden])?,
        layers: layers.collect::<Result<_, TrainError>>()?,
        norm: loader.norm("model.norm.weight", hidden)?,
        embed_tokens_lora: None,
        lm_head_lora: None,
        base_norms: None,
        lm_head: if config.tie_word_embeddings {
            None
        } else {
            Some(loader.matrix("lm_head.weight", [config.vocab_size, hidden])?)
        },
    };
    loader.finish()?;
    Ok(decoder)
}

/// Reads tensors and remembers which are left.
struct Loader<'a> {
    config: &'a DecoderConfig,
    weights: &'a Weights,
    path: &'a Path,
    dtype: WeightType,
    device: &'a Device,
    left: RefCell<BTreeSet<String>>,
}

impl Loader<'_> {
    /// A vector is small and always float32.
    fn vector(&self, name: &str, size: usize) -> Result<Tensor<1>, TrainError> {
        self.take(name, &[size])?;
        Ok(Tensor::from_data(self.read(name)?, (self.device, DType::F32)))
    }

    /// The weight of a normalisation, as the decoder multiplies with it. Gemma's checkpoints hold it less 1; its GGUF
    /// files do not.
    fn norm(&self, name: &str, size: usize) -> Result<Tensor<1>, TrainError> {
        let weight = self.vector(name, size)?;
        let less_one = self.config.family.gemma_scaling && matches!(self.weights, Weights::Folder(_));
        Ok(if less_one { weight + 1.0 } else { weight })
    }

    /// The weight of a linear module.
    fn linear(&self, name: &str, shape: [usize; 2]) -> Result<Weight, TrainError> {
        if self.dtype != WeightType::Nf4 {
            return self.matrix(name, shape);
        }
        self.take(name, &shape)?;
        if !device::reads_blocks(self.device) {
            return Err(self.fail("only the device flex reads nf4; set model.dtype to bf16 here".to_owned()));
        }
        if let Some(blocks) = self.weights.blocks(name, self.config)? {
            let BlockForm::Ggml(form) = blocks.form() else { unreachable!("no file holds {:?}", blocks.form()) };
            return Err(self.fail(format!(
                "tensor {name} is stored in {form} blocks, and nf4 is made from a floating-point checkpoint; set \
                 model.dtype to stored to train on the blocks as they are"
            )));
        }
        let data = self.read(name)?.convert::<f32>();
        let values: &[f32] = data.as_slice().expect("converted to float32");
        let blocks = BlockMatrix::nf4(values, shape).ok_or_else(|| {
            self.fail(format!("the rows of tensor {name} are {} long, and nf4 needs multiples of 64", shape[1]))
        })?;
        Ok(blocks.into())
    }

    /// Any matrix; in blocks where it is stored in blocks and the device reads them.
    fn matrix(&self, name: &str, shape: [usize; 2]) -> Result<Weight, TrainError> {
        self.take(name, &shape)?;
        if self.dtype == WeightType::Stored
            && device::reads_blocks(self.device)
            && let Some(blocks) = self.weights.blocks(name, self.config)?
        {
            return match blocks.first_non_finite() {
                None => Ok(blocks.into()),
                Some((index, value)) => Err(self.not_finite(name, index, value)),
            };
        }
        let data = self.read(name)?;
        let dtype = match self.dtype {
            WeightType::Stored | WeightType::Nf4 if self.device.supports_dtype(data.dtype()) => data.dtype(),
            WeightType::Stored | WeightType::Nf4 | WeightType::F32 => DType::F32,
            WeightType::Bf16 => DType::BF16,
            WeightType::F16 => DType::F16,
        };
        if !self.device.supports_dtype(dtype) {
            return Err(self.fail(format!("this device cannot hold {dtype:?}; set model.dtype to f32 or stored")));
        }
        let converted = data.convert_dtype(dtype);
        if dtype == DType::F16 && !is_finite(&converted) {
            return Err(self.fail(format!("tensor {name} holds a number too large for f16; keep it as bf16 or f32")));
        }
        Ok(Tensor::from_data(converted, (self.device, dtype)).into())
    }

    /// Takes a tensor that must be there in this shape.
    fn take(&self, name: &str, expected: &[usize]) -> Result<(), TrainError> {
        if !self.left.borrow_mut().remove(name) {
            return Err(self.fail(format!("tensor {name} is missing, expected shape {expected:?}")));
        }
        let shape = self.weights.shape(name, self.config)?;
        if shape != expected {
            return Err(self.fail(format!(
                "tensor {name} has shape {shape:?}, expected {expected:?} by the model's configuration"
            )));
        }
        Ok(())
    }

    /// A tensor as [`Weights::read`] gives it, all of whose numbers are finite.
    fn read(&self, name: &str) -> Result<TensorData, TrainError> {
        let data = self.weights.read(name, self.config)?;
        if !is_finite(&data) {
            let place = data.iter::<f32>().enumerate().find(|(_, value)| !value.is_finite());
            let (index, value) = place.unwrap_or((0, f32::NAN));
            return Err(self.not_finite(name, index, value));
        }
        Ok(data)
    }

    fn not_finite(&self, name: &str, index: usize, value: f32) -> TrainError {
        self.fail(format!("tensor {name} holds {value} at element {index}"))
    }

    fn finish(self) -> Result<(), TrainError> {
        self.weights.check_left(self.left.into_inner(), self.config, self.path)
    }

    fn fail(&self, reason: String) -> TrainError {
        TrainError::Weights { path: self.path.to_owned(), reason }
    }
}

/// Whether every number is one; 16-bit floats are judged by their exponent.
fn is_finite(data: &TensorData) -> bool {
    match data.dtype() {
        DType::BF16 => data.as_slice::<bf16>().is_ok_and(|numbers| numbers.par_iter().all(|n| n.is_finite())),
        DType::F16 => data.as_slice::<f16>().is_ok_and(|numbers| numbers.par_iter().all(|n| n.is_finite())),
        _ => data.as_slice::<f32>().is_ok_and(|numbers| numbers.par_iter().all(|n| n.is_finite())),
    }
}
