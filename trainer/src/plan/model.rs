//! A model and its adapter by their sizes: what memory and time follow from.

use std::path::Path;

use adapters::gguf::names::Norms;
use adapters::{Init, LoraConfig, PeftAdapter};

use crate::error::TrainError;
use crate::model::{DecoderConfig, EMBED_TOKENS, LM_HEAD, MODULES, module_path};

/// The sizes of a model with its adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSizes {
    /// The decoder.
    pub config: DecoderConfig,
    /// The rank of each module of each block; 0 where it has no adapter.
    pub ranks: Vec<[usize; 7]>,
    /// Whether every adapted module has a magnitude.
    pub use_dora: bool,
    /// The ranks of the embedding and of the head; 0 where there is no adapter.
    pub ends: [usize; 2],
    /// Whether the norms are trained.
    pub train_norms: bool,
    /// Bytes of the base in memory: its mapped files, and what is converted on load.
    pub base_bytes: u64,
}

impl ModelSizes {
    /// A model with the adapter that a recipe asks for.
    ///
    /// # Errors
    /// When two patterns give a module different values.
    pub fn new(config: DecoderConfig, lora: &LoraConfig, base_bytes: u64) -> Result<Self, TrainError> {
        let rank = |path: &str| Ok(lora.module(path)?.map_or(0, |module| module.rank));
        let mut sizes = Self::of(config, base_bytes, lora.use_dora, rank)?;
        sizes.train_norms = lora.train_norms;
        if lora.init == Init::Pissa {
            sizes.base_bytes += sizes.adapted_weights() * 4;
        }
        Ok(sizes)
    }

    /// A model with the adapter in a PEFT folder.
    ///
    /// # Errors
    /// What [`adapters::read_peft`] says.
    pub fn with_peft(config: DecoderConfig, folder: &Path, base_bytes: u64) -> Result<Self, TrainError> {
        let PeftAdapter { config: peft, pairs, norms } = PeftAdapter::read(folder)?;
        let rank = |path: &str| Ok(pairs.get(path).map_or(0, |pair| pair.rank));
        Ok(Self { train_norms: !norms.is_empty(), ..Self::of(config, base_bytes, peft.use_dora, rank)? })
    }

    /// A model with the rank that each module's path is given.
    fn of(
        config: DecoderConfig,
        base_bytes: u64,
        use_dora: bool,
        rank: impl Fn(&str) -> Result<usize, TrainError>,
    ) -> Result<Self, TrainError> {
        let ranks = (0..config.num_hidden_layers).map(|block| {
            let mut ranks = [0; MODULES.len()];
            for (own, name) in ranks.iter_mut().zip(MODULES) {
                *own = rank(&module_path(block, name))?;
            }
            Ok(ranks)
        });
        let ranks = ranks.collect::<Result<_, TrainError>>()?;
        let ends = [rank(EMBED_TOKENS)?, rank(LM_HEAD)?];
        Ok(Self { config, ranks, use_dora, ends, train_norms: false, base_bytes })
    }

    /// The blocks.
    pub fn blocks(&self) -> usize {
        self.ranks.len()
    }

    /// The first block that takes part in the backward pass; the number of blocks when none does.
    pub fn first_adapted(&self) -> usize {
        if self.ends[0] > 0 || self.train_norms {
            return 0;
        }
        self.ranks.iter().position(|ranks| ranks.iter().any(|rank| *rank > 0)).unwrap_or(self.blocks())
    }

    /// Numbers in a row of queries, keys and values.
    pub fn qkv(&self) -> usize {
        self.config.heads(0).width()
    }

    /// Numbers in a row of all query heads.
    pub fn heads_width(&self) -> usize {
        self.config.num_attention_heads * self.config.head_dim
    }

    /// Inputs and outputs of the modules of a block.
    pub fn modules(&self) -> [(usize, usize); 7] {
        self.config.module_sizes()
    }

    /// Frozen weights of the linear modules of one block.
    pub fn block_weights(&self) -> usize {
        self.modules().iter().map(|(input, output)| input * output).sum()
    }

    /// Bytes of the blocks' weights as products in bfloat16 read them, for the forward pass and, from the first block with
    /// an adapter on, for the backward pass.
    pub fn packed_bytes(&self) -> u64 {
        let passes = self.blocks() + (self.blocks() - self.first_adapted());
        (passes * self.block_weights() * size_of::<half::bf16>()) as u64
    }

    /// Frozen weights of the modules with an adapter; with `PiSSA` each is there anew, without its principal parts.
    fn adapted_weights(&self) -> u64 {
        let of_block = |ranks: &[usize; 7]| -> usize {
            let adapted = self.modules().into_iter().zip(ranks).filter(|(_, rank)| **rank > 0);
            adapted.map(|((input, output), _)| input * output).sum()
        };
        self.ranks.iter().map(of_block).sum::<usize>() as u64
    }

    /// Trained numbers of one block.
    pub fn block_parameters(&self, block: usize) -> usize {
        let ranks = self.ranks[block].iter();
        let matrices: usize =
            self.modules().iter().zip(ranks).map(|((input, output), rank)| rank * (input + output)).sum();
        let norms = if self.train_norms { self.norms() } else { 0 };
        matrices + self.magnitudes(block) + norms
    }

    /// Numbers in the norms of one block.
    fn norms(&self) -> usize {
        let family = self.config.family;
        let around = if family.norms == Norms::Around { 4 } else { 2 };
        around * self.config.hidden_size + if family.qk_norm { 2 * self.config.head_dim } else { 0 }
    }

    /// Trained numbers before and behind the blocks.
    fn end_parameters(&self) -> usize {
        let (vocab, hidden) = (self.config.vocab_size, self.config.hidden_size);
        let matrices = (self.ends[0] + self.ends[1]) * (vocab + hidden);
        let magnitude = if self.use_dora && self.ends[1] > 0 { vocab } else { 0 };
        matrices + magnitude + if self.train_norms { hidden } else { 0 }
    }

    /// Numbers in the magnitudes of one block: one for each output of an adapted module.
    pub fn magnitudes(&self, block: usize) -> usize {
        let modules = self.modules().into_iter().zip(self.ranks[block]);
        let outputs = modules.filter(|(_, rank)| *rank > 0).map(|((_, output), _)| output);
        if self.use_dora { outputs.sum() } else { 0 }
    }

    /// Trained numbers of the model.
    pub fn parameters(&self) -> usize {
        (0..self.blocks()).map(|block| self.block_parameters(block)).sum::<usize>() + self.end_parameters()
    }
}
