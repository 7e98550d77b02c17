//! A base with an adapter folded in, on its way into a Hugging Face folder or a GGUF file.
//!
//! Each weight is read, changed and written before the next one is looked at, so that a model needs no more memory than
//! its largest weight does.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use adapters::export::gguf_merged;
use adapters::export::merged::{MergedForm, write_json, write_merged};
use adapters::export::safetensors::LazyTensor;
use adapters::export::update::Updates;
use adapters::gguf::{names, permute};
use adapters::{AdapterError, GgmlType, PeftAdapter};

use super::base::BaseModel;
use super::config::DecoderConfig;
use super::config_json::{config_json, generation_config};
use super::from_gguf::ROPE_FACTORS;
use super::gguf_metadata;
use super::layout::{self, is_norm};
use super::places::{EMBED_TOKENS, LM_HEAD};
use crate::error::TrainError;

/// The files of a Hugging Face folder that a merged model takes over as they are.
const COMPANIONS: [&str; 9] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    GENERATION_CONFIG,
];
const GENERATION_CONFIG: &str = "generation_config.json";

/// A base, with an adapter that fits it or without.
pub struct Merged<'a> {
    base: &'a BaseModel,
    /// The base's, but for a head that is no longer the embedding.
    config: DecoderConfig,
    updates: Updates<'a>,
    /// Whole weights by module path, as a checkpoint holds them, in place of the base's.
    norms: Option<&'a BTreeMap<String, Vec<f32>>>,
}

impl<'a> Merged<'a> {
    /// The base alone, once it is known to be whole.
    ///
    /// # Errors
    /// [`TrainError::Weights`] when a tensor is missing, has another shape than the configuration says, or is left over.
    pub fn new(base: &'a BaseModel) -> Result<Self, TrainError> {
        base.check_weights()?;
        Ok(Self { base, config: base.config.clone(), updates: Updates::default(), norms: None })
    }

    /// The same with an adapter, which is in `folder`, and with its norms. A head that is the embedding becomes one of its
    /// own when either has an adapter.
    ///
    /// # Errors
    /// What [`Updates::new`] says and [`TrainError::AdapterMismatch`], when it does not fit the base.
    pub fn with_adapter(self, folder: &Path, adapter: &'a PeftAdapter) -> Result<Self, TrainError> {
        let mut config = self.config;
        config.tie_word_embeddings &= ![EMBED_TOKENS, LM_HEAD].iter().any(|end| adapter.pairs.contains_key(*end));
        let shapes: BTreeMap<_, _> = layout::weights(&config).into_iter().collect();
        let updates = Updates::new(folder, adapter, |name| shapes.get(name).cloned())?;
        for (module, values) in &adapter.norms {
            let shape = shapes.get(&weight_name(module));
            if shape != Some(&vec![values.len()]) {
                let count = values.len();
                let reason =
                    format!("norm {module} has {count} numbers in the adapter and the shape {shape:?} in the base");
                return Err(TrainError::AdapterMismatch { path: folder.to_owned(), reason });
            }
        }
        Ok(Self { base: self.base, config, updates, norms: Some(&adapter.norms) })
    }

    /// Writes a folder as transformers reads it, with tokenizer, chat template and generation settings. The chat template
    /// is that of the base as it was opened.
    ///
    /// # Errors
    /// What [`write_merged`] and reading the base say; [`TrainError::ModelConfig`] when `config.json` has no form for
    /// what the base is.
    pub fn write_folder(&self, folder: &Path, form: MergedForm, overwrite: bool) -> Result<(), TrainError> {
        let mut config = config_json(self.base, form.float)?;
        config["tie_word_embeddings"] = self.config.tie_word_embeddings.into();
        // A GGUF file has the norms of Gemma as they are multiplied, a checkpoint less 1.
        let less_one = self.base.config.family.gemma_scaling && self.base.gguf_file().is_some();
        let tensors = self.tensors(if less_one { -1.0 } else { 0.0 });
        write_merged(folder, tensors.collect(), form, &config, overwrite, |folder| self.companions(folder))
    }

    /// The files beside weights and configuration.
    fn companions(&self, folder: &Path) -> Result<(), TrainError> {
        let own = self.base.path();
        if self.base.gguf_file().is_none() {
            for name in COMPANIONS.into_iter().filter(|name| own.join(name).is_file()) {
                let (from, to) = (own.join(name), folder.join(name));
                let bytes = fs::read(&from).map_err(|source| TrainError::Read { path: from, source })?;
                fs::write(&to, bytes).map_err(|source| TrainError::Write { path: to, source })?;
            }
        }
        if self.base.has_other_template || self.base.gguf_file().is_some() {
            self.base.tokenizer.save(folder)?;
        }
        let generation = folder.join(GENERATION_CONFIG);
        if !generation.is_file() {
            write_json(&generation, &generation_config(self.base))?;
        }
        Ok(())
    }

    /// Writes a GGUF file.
    ///
    /// # Errors
    /// What [`gguf_merged::write_gguf`] and reading the base say; [`TrainError::ModelConfig`] when llama.cpp does not
    /// compute what the base is, [`TrainError::Data`] when its tokenizer has no form in GGUF.
    pub fn write_gguf(&self, path: &Path, ggml_type: GgmlType, overwrite: bool) -> Result<(), TrainError> {
        let config = &self.base.config;
        let less_one = config.family.gemma_scaling && self.base.gguf_file().is_none();
        let q_norm = gguf_metadata::q_norm_factor(config);
        let tensors = self.tensors(if less_one { 1.0 } else { 0.0 }).map(|tensor| self.in_gguf(tensor, q_norm));
        let mut tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        if let Some(factors) = gguf_metadata::rope_factors(config) {
            let shape = vec![factors.len()];
            let values = move || Ok(factors.clone().into());
            tensors.push(LazyTensor { name: ROPE_FACTORS.to_owned(), shape, values: Box::new(values) });
        }
        let metadata = gguf_metadata::metadata(self.base)?;
        Ok(gguf_merged::write_gguf(path, metadata, tensors, ggml_type, overwrite)?)
    }

    /// A weight under its name in a GGUF file, with its rows in the order of that; the norms of queries are multiplied
    /// with `q_norm`.
    fn in_gguf<'s>(&'s self, tensor: LazyTensor<'s>, q_norm: Option<f32>) -> Result<LazyTensor<'s>, TrainError> {
        let config = &self.base.config;
        let LazyTensor { name, shape, values } = tensor;
        let no_name = || TrainError::Weights {
            path: self.base.path().to_owned(),
            reason: format!("tensor {name} has no name in GGUF files"),
        };
        let own = names::to_gguf(&name, config.family.norms).ok_or_else(no_name)?;
        let heads = self.base.gguf().interleaved_heads.and_then(|[q, k]| match name.rsplit('.').nth(1) {
            Some("q_proj") => Some(q),
            Some("k_proj") => Some(k),
            _ => None,
        });
        let (rows, columns) = (shape[0], shape.get(1).copied().unwrap_or(1));
        let factor = q_norm.filter(|_| name.ends_with("q_norm.weight"));
        let values = move || match (heads, factor) {
            (Some(heads), _) => Ok(permute(&values()?, rows, columns, heads)?.into()),
            (None, Some(factor)) => Ok(values()?.iter().map(|value| value * factor).collect::<Vec<_>>().into()),
            (None, None) => values(),
        };
        Ok(LazyTensor { name: own, shape, values: Box::new(values) })
    }

    /// Every weight under its checkpoint name; `norms` is added to the weights of normalisations.
    fn tensors(&self, norms: f32) -> impl Iterator<Item = LazyTensor<'_>> {
        layout::weights(&self.config).into_iter().map(move |(name, shape)| {
            let own = name.clone();
            let values = move || {
                let mut values = self.values(&own)?;
                if is_norm(&own) && norms != 0.0 {
                    for value in &mut values {
                        *value += norms;
                    }
                }
                Ok(values.into())
            };
            LazyTensor { name, shape, values: Box::new(values) }
        })
    }

    /// The values of a weight with the adapter folded in.
    fn values(&self, name: &str) -> Result<Vec<f32>, AdapterError> {
        let mut values = match name.strip_suffix(".weight").and_then(|module| self.norms?.get(module)) {
            Some(own) => {
                // As the base's own file would hold it.
                let from_gguf = self.base.config.family.gemma_scaling && self.base.gguf_file().is_some();
                let more = if from_gguf { 1.0 } else { 0.0 };
                own.iter().map(|value| value + more).collect()
            }
            None if name == weight_name(LM_HEAD) && self.base.config.tie_word_embeddings => {
                self.base.read_f32(&weight_name(EMBED_TOKENS))?
            }
            None => self.base.read_f32(name)?,
        };
        self.updates.add_to(name, &mut values);
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(values),
            Some(at) => {
                let problem = format!("holds {} at element {at}, expected finite numbers", values[at]);
                Err(AdapterError::Tensor { path: self.base.path().to_owned(), tensor: name.to_owned(), problem })
            }
        }
    }
}

fn weight_name(module: &str) -> String {
    format!("{module}.weight")
}
