//! Mapped weight files of a base, whatever their form: read by the names and in the order of a Hugging Face checkpoint.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use adapters::gguf::names::{self, Norms};
use adapters::gguf::{GgufFile, unpermute, unpermuted_row};
use adapters::{AdapterError, BlockForm, BlockMatrix, GgmlType, SafetensorsFolder, TensorSource as _};
use burn::tensor::{AllocationProperty, Bytes, DType, TensorData};
use safetensors::Dtype;

use super::config::DecoderConfig;
use super::from_gguf::ROPE_FACTORS;
use super::layout;
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
    pub(super) fn names(&self, norms: Norms) -> BTreeSet<String> {
        match self {
            Self::Folder(folder) => folder.names().into_iter().map(ToOwned::to_owned).collect(),
            Self::Gguf(file) => {
                let name = |own: &str| names::to_hugging_face(own, norms).unwrap_or_else(|| own.to_owned());
                file.tensors().iter().map(|tensor| name(&tensor.name)).collect()
            }
        }
    }

    /// A tensor as it is stored; blocks, and rows that llama.cpp interleaves, in float32.
    pub(super) fn read(&self, name: &str, config: &DecoderConfig) -> Result<TensorData, TrainError> {
        let (dtype, bytes) = match self {
            Self::Folder(folder) => (dtype(folder.dtype(name)?), folder.mapped(name)?),
            Self::Gguf(file) => {
                let own = gguf_name(name, config);
                let dtype = gguf_dtype(file.tensor(&own)?.ggml_type);
                (dtype.filter(|_| interleaved_heads(name, config).is_none()), file.mapped(&own)?)
            }
        };
        let shape = self.shape(name, config)?;
        // The numbers of a mapped file are used where they lie if they lie where numbers may.
        if let Some(dtype) = dtype.filter(|dtype| cfg!(target_endian = "little") && is_aligned(&bytes, *dtype)) {
            let bytes = Bytes::from_shared(bytes, AllocationProperty::File);
            return Ok(TensorData::from_bytes(bytes, shape, dtype));
        }
        Ok(TensorData::new(self.read_f32(name, config)?, shape))
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
    pub(super) fn shape(&self, name: &str, config: &DecoderConfig) -> Result<Vec<usize>, TrainError> {
        Ok(match self {
            Self::Folder(folder) => folder.shape(name)?.to_vec(),
            Self::Gguf(file) => file.tensor(&gguf_name(name, config))?.shape.clone(),
        })
    }

    /// A matrix that is stored in blocks, as it is stored.
    pub(super) fn blocks(&self, name: &str, config: &DecoderConfig) -> Result<Option<BlockMatrix>, TrainError> {
        let Some(blocks) = self.mapped_blocks(name, config)? else { return Ok(None) };
        Ok(Some(match interleaved_heads(name, config) {
            Some(heads) => blocks.reordered(unpermuted_row(blocks.dims()[0], heads)?),
            None => blocks,
        }))
    }

    /// The same with its rows in the order of the file, where they lie.
    fn mapped_blocks(&self, name: &str, config: &DecoderConfig) -> Result<Option<BlockMatrix>, TrainError> {
        let Self::Gguf(file) = self else { return Ok(None) };
        let own = gguf_name(name, config);
        let tensor = file.tensor(&own)?;
        let &[rows, columns] = tensor.shape.as_slice() else { return Ok(None) };
        if gguf_dtype(tensor.ggml_type).is_some() {
            return Ok(None);
        }
        Ok(BlockMatrix::new(BlockForm::Ggml(tensor.ggml_type), [rows, columns], file.mapped(&own)?))
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
            let blocks = self.mapped_blocks(&name, config)?;
            let is_reordered = interleaved_heads(&name, config).is_some() && matches!(self, Self::Gguf(_));
            let numbers = rows * columns;
            bytes += match (dtype, blocks) {
                (WeightType::Stored, Some(_)) if reads_blocks && !is_reordered => 0,
                (WeightType::Stored, Some(blocks)) if reads_blocks => blocks.len(),
                (WeightType::Stored, None) if !is_reordered => 0,
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
    pub(super) fn check_left(
        &self,
        mut left: BTreeSet<String>,
        config: &DecoderConfig,
        path: &Path,
    ) -> Result<(), TrainError> {
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
