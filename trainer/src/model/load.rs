//! From weight files to the decoder. Strict: a tensor that is missing, misshapen or left over is an error.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use adapters::gguf::names::{self, Norms};
use adapters::gguf::{GgufFile, unpermute, unpermuted_row};
use adapters::{
    AdapterError, BlockForm, BlockMatrix, GgmlType, LoraLinear, SafetensorsFolder, TensorSource as _, Weight,
};
use burn::tensor::{AllocationProperty, Bytes, DType, Device, Tensor, TensorData, bf16, f16};
use datasets::GgufVocabulary;
use rayon::prelude::*;
use safetensors::Dtype;

use super::config::{DecoderConfig, LOCAL_THETA, MOST_LAYERS};
use super::decoder::{Decoder, DecoderLayer, FeedforwardNorms, HeadNorms, Mlp, SelfAttention};
use super::rotary::{RopeScaling, Rotary};
use super::{family, layout};
use crate::device;
use crate::error::TrainError;
use crate::recipe::WeightType;

/// Mapped weight files, read by the names of a Hugging Face checkpoint.
pub(super) enum Weights {
    /// `model.safetensors`, or its shards.
    Folder(SafetensorsFolder),
    /// A GGUF file.
    Gguf(GgufFile),
}

impl Weights {
    pub(super) fn open(path: &Path) -> Result<Self, TrainError> {
        Ok(if path.is_dir() { Self::Folder(SafetensorsFolder::open(path)?) } else { Self::Gguf(GgufFile::open(path)?) })
    }

    /// Every tensor, by its Hugging Face name; one that has none keeps its own, and so counts as left over.
    fn names(&self, norms: Norms) -> BTreeSet<String> {
        match self {
            Self::Folder(folder) => folder.names().into_iter().map(ToOwned::to_owned).collect(),
            Self::Gguf(file) => {
                let name = |own: &str| names::to_hugging_face(own, norms).unwrap_or_else(|| own.to_owned());
                file.tensors().iter().map(|tensor| name(&tensor.name)).collect()
            }
        }
    }

    /// A tensor as it is stored; blocks in float32.
    fn read(&self, name: &str, config: &DecoderConfig) -> Result<TensorData, TrainError> {
        match self {
            Self::Folder(folder) => {
                let shape = folder.shape(name)?.to_vec();
                match dtype(folder.dtype(name)?) {
                    Some(dtype) => mapped(folder.mapped(name)?, shape, dtype, || folder.read_f32(name)),
                    None => Ok(TensorData::new(folder.read_f32(name)?, shape)),
                }
            }
            Self::Gguf(file) => {
                let own = gguf_name(name, config);
                let tensor = file.tensor(&own)?;
                let shape = tensor.shape.clone();
                if let Some(heads) = interleaved_heads(name, config).filter(|_| shape.len() == 2) {
                    let values = unpermute(&file.dequantize(&own)?, shape[0], shape[1], heads)?;
                    return Ok(TensorData::new(values, shape));
                }
                match gguf_dtype(tensor.ggml_type) {
                    Some(dtype) => mapped(file.mapped(&own)?, shape, dtype, || file.dequantize(&own)),
                    None => Ok(TensorData::new(file.dequantize(&own)?, shape)),
                }
            }
        }
    }

    /// The values of a tensor in float32, with its rows in the order of a checkpoint.
    pub(super) fn read_f32(&self, name: &str, config: &DecoderConfig) -> Result<Vec<f32>, AdapterError> {
        match self {
            Self::Folder(folder) => folder.read_f32(name),
            Self::Gguf(file) => {
                let own = gguf_name(name, config);
                let values = file.dequantize(&own)?;
                match (interleaved_heads(name, config), file.shape(&own)?) {
                    (Some(heads), &[rows, columns]) => unpermute(&values, rows, columns, heads),
                    _ => Ok(values),
                }
            }
        }
    }

    /// A tensor's shape.
    fn shape(&self, name: &str, config: &DecoderConfig) -> Result<Vec<usize>, TrainError> {
        Ok(match self {
            Self::Folder(folder) => folder.shape(name)?.to_vec(),
            Self::Gguf(file) => file.tensor(&gguf_name(name, config))?.shape.clone(),
        })
    }

    /// A matrix that is stored in blocks, as it is stored.
    fn blocks(&self, name: &str, config: &DecoderConfig) -> Result<Option<BlockMatrix>, TrainError> {
        let Self::Gguf(file) = self else { return Ok(None) };
        let own = gguf_name(name, config);
        let tensor = file.tensor(&own)?;
        let &[rows, columns] = tensor.shape.as_slice() else { return Ok(None) };
        if gguf_dtype(tensor.ggml_type).is_some() {
            return Ok(None);
        }
        let form = BlockForm::Ggml(tensor.ggml_type);
        let Some(blocks) = BlockMatrix::new(form, [rows, columns], file.mapped(&own)?) else { return Ok(None) };
        Ok(Some(match interleaved_heads(name, config) {
            Some(heads) => blocks.reordered(unpermuted_row(rows, heads)?),
            None => blocks,
        }))
    }

    /// Bytes in memory once the decoder is loaded: the files, which are mapped, and what is made of their tensors.
    pub(super) fn bytes(
        &self,
        config: &DecoderConfig,
        dtype: WeightType,
        reads_blocks: bool,
    ) -> Result<u64, TrainError> {
        let size = |path: PathBuf| {
            let metadata = path.metadata().map_err(|source| TrainError::Read { path: path.clone(), source });
            metadata.map(|metadata| metadata.len())
        };
        let mut bytes = self.files().into_iter().map(size).sum::<Result<u64, TrainError>>()?;
        for name in self.names(config.family.norms) {
            // Vectors are small, and what the decoder does not know is refused when it is loaded.
            let Ok(&[rows, columns]) = self.shape(&name, config).as_deref() else { continue };
            let blocks = self.blocks(&name, config)?;
            let is_reordered = interleaved_heads(&name, config).is_some() && matches!(self, Self::Gguf(_));
            let numbers = rows * columns;
            bytes += match (dtype, blocks) {
                (WeightType::Stored, Some(blocks)) if reads_blocks => {
                    if is_reordered {
                        blocks.len()
                    } else {
                        0
                    }
                }
                (WeightType::Stored, None) => {
                    if is_reordered {
                        numbers * 4
                    } else {
                        0
                    }
                }
                (WeightType::Stored | WeightType::F32, _) => numbers * 4,
                (WeightType::Bf16 | WeightType::F16, _) => numbers * 2,
                (WeightType::Nf4, _) if name.contains(".layers.") => {
                    numbers / BlockForm::Nf4.block_size() * BlockForm::Nf4.block_bytes()
                }
                (WeightType::Nf4, _) => 0,
            } as u64;
        }
        Ok(bytes)
    }

    /// Checks names and shapes against what the configuration says, without reading a tensor.
    pub(super) fn check(&self, config: &DecoderConfig, path: &Path) -> Result<(), TrainError> {
        let fail = |reason: String| TrainError::Weights { path: path.to_owned(), reason };
        let mut left = self.names(config.family.norms);
        for (name, expected) in layout::weights(config) {
            if !left.remove(&name) {
                return Err(fail(format!("tensor {name} is missing, expected shape {expected:?}")));
            }
            let shape = self.shape(&name, config)?;
            if shape != expected {
                return Err(fail(format!(
                    "tensor {name} has shape {shape:?}, expected {expected:?} by the model's configuration"
                )));
            }
        }
        self.check_left(left, config, path)
    }

    /// Nothing may be left over, but for what old checkpoints carry and every reader computes anew, and a head that is
    /// the embedding once more.
    fn check_left(&self, mut left: BTreeSet<String>, config: &DecoderConfig, path: &Path) -> Result<(), TrainError> {
        left.retain(|name| !name.ends_with(".rotary_emb.inv_freq") && name != ROPE_FACTORS);
        if config.tie_word_embeddings && left.contains("lm_head.weight") {
            let head = self.read("lm_head.weight", config)?;
            let embedding = self.read("model.embed_tokens.weight", config)?;
            if head.dtype() == embedding.dtype() && head.as_bytes() == embedding.as_bytes() {
                left.remove("lm_head.weight");
            }
        }
        let Some(name) = left.first() else { return Ok(()) };
        let reason = format!(
            "{} tensors are not used by this decoder, the first is {name}; the configuration does not describe these \
             weights",
            left.len()
        );
        Err(TrainError::Weights { path: path.to_owned(), reason })
    }

    /// The weight files.
    fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Folder(folder) => folder.files(),
            Self::Gguf(file) => vec![file.path().to_owned()],
        }
    }

    /// SHA-256 over the weight files, one after the other in the order of their names.
    pub(super) fn digest(&self) -> Result<String, TrainError> {
        let path = || self.files().swap_remove(0);
        datasets::sha256_files(self.files()).map_err(|source| TrainError::Read { path: path(), source })
    }
}

/// The tensor that stretches the rotary frequencies of Llama 3 in a GGUF file.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The configuration in a GGUF file's metadata.
pub(super) fn gguf_config(file: &GgufFile) -> Result<DecoderConfig, TrainError> {
    let fail = |reason: String| TrainError::ModelConfig { path: file.path().to_owned(), reason };
    let architecture = file.str("general.architecture")?;
    let family = family::by_gguf_architecture(architecture).ok_or_else(|| {
        fail(format!("architecture \"{architecture}\" is not supported; known families: {}", family::known()))
    })?;
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| -> Result<usize, TrainError> { Ok(file.u32(&key(name))? as usize) };
    let or = |name: &str, default: usize| if file.contains(&key(name)) { size(name) } else { Ok(default) };
    let number_or = |name: &str, default: f64| -> Result<f64, TrainError> {
        Ok(if file.contains(&key(name)) { f64::from(file.f32(&key(name))?) } else { default })
    };
    let text = |name: &str| if file.contains(&key(name)) { file.str(&key(name)) } else { Ok("none") };
    let scaling = match text("rope.scaling.type")? {
        "none" if file.tensor(ROPE_FACTORS).is_ok() => RopeScaling::Factors(file.dequantize(ROPE_FACTORS)?),
        "none" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: number_or("rope.scaling.factor", 1.0)? },
        other => return Err(fail(format!("key \"{}\" is {other}, which is not supported", key("rope.scaling.type")))),
    };
    let layers = size("block_count")?;
    let window = if file.contains(&key("attention.sliding_window")) {
        Some(size("attention.sliding_window")?).filter(|window| *window > 0)
    } else {
        None
    };
    let every = or("attention.sliding_window_pattern", family.full_attention_every)?;
    let local = (family.full_attention_every > 0).then(|| number_or("rope.freq_base_swa", LOCAL_THETA)).transpose()?;
    let hidden_size = size("embedding_length")?;
    let num_attention_heads = size("attention.head_count")?;
    let head_dim = or("attention.key_length", hidden_size / num_attention_heads.max(1))?;
    let config = DecoderConfig {
        family,
        hidden_size,
        intermediate_size: size("feed_forward_length")?,
        num_hidden_layers: layers,
        num_attention_heads,
        num_key_value_heads: or("attention.head_count_kv", num_attention_heads)?,
        head_dim,
        vocab_size: file.tensor("token_embd.weight")?.shape[0],
        rms_norm_eps: f64::from(file.f32(&key("attention.layer_norm_rms_epsilon"))?),
        rotary: Rotary { theta: number_or("rope.freq_base", family.default_rope_theta)?, scaling },
        local_rotary: local.map(Rotary::plain),
        sliding_window: window,
        is_windowed: (0..layers.min(MOST_LAYERS + 1))
            .map(|block| window.is_some() && (every == 0 || (block + 1) % every != 0))
            .collect(),
        query_pre_attn_scalar: None,
        max_position_embeddings: size("context_length")?,
        tie_word_embeddings: file.tensor("output.weight").is_err(),
    };
    config.validate().map_err(fail)?;
    Ok(config)
}

/// The tokenizer in a GGUF file's metadata.
pub(super) fn gguf_vocabulary(file: &GgufFile) -> Result<GgufVocabulary, TrainError> {
    let id = |key: &str| if file.contains(key) { file.u32(key).map(Some) } else { Ok(None) };
    let text = |key: &str| if file.contains(key) { file.str(key).map(|s| Some(s.to_owned())) } else { Ok(None) };
    Ok(GgufVocabulary {
        model: file.str("tokenizer.ggml.model")?.to_owned(),
        pre: text("tokenizer.ggml.pre")?.unwrap_or_else(|| "default".to_owned()),
        tokens: file.strings("tokenizer.ggml.tokens")?.to_vec(),
        token_types: list(file, "tokenizer.ggml.token_type", GgufFile::i32s)?,
        merges: list(file, "tokenizer.ggml.merges", GgufFile::strings)?,
        scores: list(file, "tokenizer.ggml.scores", GgufFile::f32s)?,
        bos: id("tokenizer.ggml.bos_token_id")?,
        eos: id("tokenizer.ggml.eos_token_id")?,
        eot: id("tokenizer.ggml.eot_token_id")?,
        unknown: id("tokenizer.ggml.unknown_token_id")?,
        padding: id("tokenizer.ggml.padding_token_id")?,
        add_bos: if file.contains("tokenizer.ggml.add_bos_token") {
            Some(file.bool("tokenizer.ggml.add_bos_token")?)
        } else {
            None
        },
        add_space_prefix: if file.contains("tokenizer.ggml.add_space_prefix") {
            Some(file.bool("tokenizer.ggml.add_space_prefix")?)
        } else {
            None
        },
        chat_template: text("tokenizer.chat_template")?,
    })
}

/// A list that may be absent.
fn list<T: Clone>(
    file: &GgufFile,
    key: &str,
    get: for<'f> fn(&'f GgufFile, &str) -> Result<&'f [T], adapters::AdapterError>,
) -> Result<Vec<T>, TrainError> {
    if file.contains(key) { Ok(get(file, key)?.to_vec()) } else { Ok(Vec::new()) }
}

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

/// A tensor's name in a GGUF file; one that has none there keeps its own.
fn gguf_name(name: &str, config: &DecoderConfig) -> String {
    names::to_gguf(name, config.family.norms).unwrap_or_else(|| name.to_owned())
}

/// The heads whose rows llama.cpp's converter interleaved, where it did.
fn interleaved_heads(name: &str, config: &DecoderConfig) -> Option<usize> {
    let heads = match name.rsplit_once(".self_attn.")?.1 {
        "q_proj.weight" => config.num_attention_heads,
        "k_proj.weight" => config.num_key_value_heads,
        _ => return None,
    };
    config.family.gguf_permutes_q_k.then_some(heads)
}

/// Numbers of a mapped file, which are used where they lie if they lie where numbers may; else they are read.
fn mapped(
    bytes: bytes::Bytes,
    shape: Vec<usize>,
    dtype: DType,
    read: impl FnOnce() -> Result<Vec<f32>, AdapterError>,
) -> Result<TensorData, TrainError> {
    if cfg!(target_endian = "little") && is_aligned(&bytes, dtype) {
        let bytes = Bytes::from_shared(bytes, AllocationProperty::File);
        return Ok(TensorData::from_bytes(bytes, shape, dtype));
    }
    Ok(TensorData::new(read()?, shape))
}

/// The dtype of a GGUF tensor that is not in blocks.
fn gguf_dtype(stored: GgmlType) -> Option<DType> {
    match stored {
        GgmlType::F32 => Some(DType::F32),
        GgmlType::F16 => Some(DType::F16),
        GgmlType::Bf16 => Some(DType::BF16),
        _ => None,
    }
}

/// The dtype of a stored tensor that the kernels read as it is.
fn dtype(stored: Dtype) -> Option<DType> {
    match stored {
        Dtype::F32 => Some(DType::F32),
        Dtype::BF16 => Some(DType::BF16),
        Dtype::F16 => Some(DType::F16),
        _ => None,
    }
}

fn is_aligned(bytes: &[u8], dtype: DType) -> bool {
    bytes.as_ptr().align_offset(dtype.size()) == 0
}

/// Whether every number is one; 16-bit floats are judged by their exponent.
fn is_finite(data: &TensorData) -> bool {
    match data.dtype() {
        DType::BF16 => data.as_slice::<bf16>().is_ok_and(|numbers| numbers.par_iter().all(|n| n.is_finite())),
        DType::F16 => data.as_slice::<f16>().is_ok_and(|numbers| numbers.par_iter().all(|n| n.is_finite())),
        _ => data.as_slice::<f32>().is_ok_and(|numbers| numbers.par_iter().all(|n| n.is_finite())),
    }
}
