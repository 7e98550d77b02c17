//! A base model by name: a Hugging Face folder, a GGUF file, or a repository on the hub.

use std::path::{Path, PathBuf};

use adapters::export::gguf_lora::GgufBase;
use adapters::{AdapterError, GgufFile};
use burn::tensor::Device;
use datasets::{ChatTokenizer, Hub};

use super::config::DecoderConfig;
use super::decoder::Decoder;
use super::weights::Weights;
use super::{from_gguf, load};
use crate::error::TrainError;
use crate::recipe::{ModelConfig, WeightType, is_hub_name};

/// A base that was found: its configuration and tokenizer are read, its weights are mapped but not yet loaded.
pub struct BaseModel {
    /// As the recipe names it.
    pub name: String,
    /// The revision on the hub.
    pub revision: Option<String>,
    /// Sizes and flags.
    pub config: DecoderConfig,
    /// The tokenizer with its chat template.
    pub tokenizer: ChatTokenizer,
    /// The chat template is not the model's own.
    pub(super) has_other_template: bool,
    path: PathBuf,
    weights: Weights,
    dtype: WeightType,
}

impl BaseModel {
    /// Finds and opens the base that a recipe names. `chat_template` is a Jinja file that replaces the model's own.
    /// `hub` is asked only for a name that is not on this machine.
    ///
    /// # Errors
    /// [`TrainError::Base`] when there is nothing under that name; the errors of the files that are there.
    pub fn open(model: &ModelConfig, chat_template: Option<&Path>, hub: &Hub) -> Result<Self, TrainError> {
        let path = locate(model, hub)?;
        let weights = Weights::open(&path)?;
        let (config, tokenizer) = match &weights {
            Weights::Folder(_) => {
                let config = DecoderConfig::from_file(&path.join("config.json"))?;
                (config, ChatTokenizer::from_folder(&path, chat_template)?)
            }
            Weights::Gguf(file) => {
                let vocabulary = from_gguf::vocabulary(file)?;
                (from_gguf::config(file)?, ChatTokenizer::from_gguf(vocabulary, &path, chat_template)?)
            }
        };
        tokenizer.check_fits(config.vocab_size)?;
        Ok(Self {
            name: model.base.clone(),
            revision: model.revision.clone(),
            config,
            tokenizer,
            has_other_template: chat_template.is_some(),
            path,
            weights,
            dtype: model.dtype,
        })
    }

    /// SHA-256 over the weight files.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn digest(&self) -> Result<String, TrainError> {
        self.weights.digest()
    }

    /// Loads the weights onto a device.
    ///
    /// # Errors
    /// [`TrainError::Weights`] when a tensor is missing, has another shape than the configuration says, or is left
    /// over.
    pub fn decoder(&self, device: &Device) -> Result<Decoder, TrainError> {
        load::decoder(&self.config, &self.weights, &self.path, self.dtype, device)
    }

    /// Bytes that the base takes in memory, by its headers: its files, which are mapped, and what becomes of weights
    /// that are not used as they are stored.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn bytes(&self, reads_blocks: bool) -> Result<u64, TrainError> {
        self.weights.bytes(&self.config, self.dtype, reads_blocks)
    }

    /// Checks that the weights are those that the configuration says, without reading them.
    ///
    /// # Errors
    /// [`TrainError::Weights`] when a tensor is missing, has another shape, or is left over.
    pub(super) fn check_weights(&self) -> Result<(), TrainError> {
        self.weights.check(&self.config, &self.path)
    }

    /// The values of one weight by its name in a checkpoint, row-major in the order of that.
    ///
    /// # Errors
    /// When the file does not have it, or in a type that has no conversion.
    pub(super) fn read_f32(&self, name: &str) -> Result<Vec<f32>, AdapterError> {
        self.weights.read_f32(name, &self.config)
    }

    /// The file, where the base is a GGUF file.
    pub fn gguf_file(&self) -> Option<&GgufFile> {
        match &self.weights {
            Weights::Folder(_) => None,
            Weights::Gguf(file) => Some(file),
        }
    }

    /// What a GGUF adapter for this base must know of it.
    pub fn gguf(&self) -> GgufBase {
        let heads = [self.config.num_attention_heads, self.config.num_key_value_heads];
        GgufBase {
            architecture: self.config.family.gguf_architecture.to_owned(),
            name: Some(self.name.clone()),
            interleaved_heads: self.config.family.gguf_permutes_q_k.then_some(heads),
        }
    }

    /// The folder or file on this machine.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The folder or file behind a name. What is neither, but has the form of a hub name, is fetched.
fn locate(model: &ModelConfig, hub: &Hub) -> Result<PathBuf, TrainError> {
    let path = Path::new(&model.base);
    if path.exists() {
        return Ok(path.to_owned());
    }
    if !is_hub_name(&model.base) {
        let reason = "there is no such folder or file, and it is not a hub name such as owner/name".to_owned();
        return Err(TrainError::Base { base: model.base.clone(), reason });
    }
    Ok(hub.model(&model.base, model.revision.as_deref().unwrap_or("main"))?)
}
