//! The decoder by its parts: every module that can have an adapter, every norm, each by its path in the checkpoint.
//!
//! Loading, saving and training see the decoder through these visits, and merging or switching off an adapter goes over
//! them. Their order is the order of parameters everywhere.

use adapters::{LoraLinear, LowRank, Weight};
use burn::tensor::Tensor;

use super::decoder::{Decoder, DecoderLayer, HeadNorms, Mlp, SelfAttention};

/// The linear modules of a block, by their names in it. This order is the order of parameters everywhere.
pub const MODULES: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// The path of the embedding.
pub const EMBED_TOKENS: &str = "model.embed_tokens";
/// The path of the head.
pub const LM_HEAD: &str = "lm_head";

/// The path of a module in the checkpoint: `model.layers.0.self_attn.q_proj`.
pub fn module_path(block: usize, name: &str) -> String {
    format!("model.layers.{block}.{name}")
}

/// A module that can have an adapter, and the adapter that it has.
pub struct Place<'a> {
    /// Its path in the checkpoint.
    pub path: String,
    /// Its frozen weight, `[out, in]`; of the embedding, which is never brought to a length, `[in, out]`.
    pub weight: Weight,
    /// Its inputs and outputs.
    pub sizes: (usize, usize),
    /// Its adapter.
    pub lora: &'a mut Option<LowRank>,
}

impl Place<'_> {
    /// Whether it is the embedding or the head.
    pub fn is_end(&self) -> bool {
        self.path == EMBED_TOKENS || self.path == LM_HEAD
    }
}

impl Decoder {
    /// The same model with its adapter outside autodiff, for evaluation and generation; nothing is copied. The base is
    /// always outside.
    #[must_use]
    pub fn inner(&self) -> Self {
        let mut decoder = self.clone();
        for place in decoder.places_mut() {
            *place.lora = place.lora.take().map(LowRank::inner);
        }
        for (_, norm) in decoder.norms_mut() {
            *norm = norm.clone().inner();
        }
        decoder
    }

    /// The adapter folded into the base's weights. An embedding or a head that changes is no longer shared.
    #[must_use]
    pub fn merged(mut self) -> Self {
        for (_, linear) in self.linears_mut() {
            *linear = linear.clone().merged();
        }
        if self.embed_tokens_lora.is_some() || self.lm_head_lora.is_some() {
            self.lm_head = Some(self.head_linear().merged().weight);
            self.config.tie_word_embeddings = false;
        }
        self.lm_head_lora = None;
        if let Some(lora) = self.embed_tokens_lora.take() {
            let update = lora.delta().transpose();
            self.embed_tokens = (self.embed_tokens.dense(&update.device()) + update).into();
        }
        self.base_norms = None;
        self
    }

    /// The base model alone. What `PiSSA` took out of a weight stays beside it as an adapter that is not trained.
    #[must_use]
    pub fn without_adapter(mut self) -> Self {
        for place in self.places_mut() {
            *place.lora = place.lora.take().and_then(LowRank::taken_out);
        }
        if let Some(norms) = self.base_norms.take() {
            self.norms_mut().into_iter().zip(norms).for_each(|((_, norm), base)| *norm = base);
        }
        self
    }

    /// All modules that can have an adapter, in the order of parameters everywhere: the embedding, the blocks' linear
    /// modules, the head.
    pub fn places_mut(&mut self) -> Vec<Place<'_>> {
        let (head, embedding) = (self.head().clone(), self.embed_tokens.clone());
        let [vocab, hidden] = head.dims();
        let place = |path: String, weight, sizes, lora| Place { path, weight, sizes, lora };
        let mut places = vec![place(EMBED_TOKENS.to_owned(), embedding, (vocab, hidden), &mut self.embed_tokens_lora)];
        for (index, layer) in self.layers.iter_mut().enumerate() {
            for (name, linear) in MODULES.into_iter().zip(layer.linears_mut()) {
                let sizes = linear.sizes();
                places.push(place(module_path(index, name), linear.weight.clone(), sizes, &mut linear.lora));
            }
        }
        places.push(place(LM_HEAD.to_owned(), head, (hidden, vocab), &mut self.lm_head_lora));
        places
    }

    /// The adapters, by their modules' paths, in the order of [`Self::places_mut`].
    pub fn adapters(&self) -> impl Iterator<Item = (String, &LowRank)> {
        let embedding = self.embed_tokens_lora.iter().map(|lora| (EMBED_TOKENS.to_owned(), lora));
        let blocks = self.linears().filter_map(|(path, linear)| Some((path, linear.lora.as_ref()?)));
        embedding.chain(blocks).chain(self.lm_head_lora.iter().map(|lora| (LM_HEAD.to_owned(), lora)))
    }

    /// The norms' weights as the decoder multiplies with them, by their modules' paths, block by block, the last of all
    /// at the end.
    pub fn norms_mut(&mut self) -> Vec<(String, &mut Tensor<1>)> {
        let blocks = self.layers.iter_mut().enumerate().flat_map(|(index, layer)| {
            layer.parts_mut().1.into_iter().map(move |(name, norm)| (module_path(index, name), norm))
        });
        blocks.chain([("model.norm".to_owned(), &mut self.norm)]).collect()
    }

    /// Gives the adapter norms of its own, which start as the base's.
    pub fn own_norms(&mut self) {
        let norms = self.norms_mut().into_iter().map(|(_, norm)| norm.clone().inner()).collect();
        self.base_norms.get_or_insert(norms);
    }

    /// Visits every linear module with its path in the checkpoint, `model.layers.0.self_attn.q_proj` and so on, in
    /// that order. This order is the order of parameters everywhere.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut LoraLinear)> {
        self.layers.iter_mut().enumerate().flat_map(|(index, layer)| {
            MODULES.into_iter().zip(layer.linears_mut()).map(move |(name, linear)| (module_path(index, name), linear))
        })
    }

    /// Visits every linear module, in the order of [`Self::linears_mut`].
    pub fn linears(&self) -> impl Iterator<Item = (String, &LoraLinear)> {
        self.layers.iter().enumerate().flat_map(|(index, layer)| {
            MODULES.into_iter().zip(layer.linears()).map(move |(name, linear)| (module_path(index, name), linear))
        })
    }

    /// Lets the kernels keep what they make of the blocks' frozen weights, which takes memory; only of weights in blocks.
    pub fn keep_packed(&self) {
        for (_, linear) in self.linears() {
            if let Weight::Blocks(blocks) = &linear.weight {
                blocks.allow_keeping();
            }
        }
    }
}

impl DecoderLayer {
    /// The block's linear modules, in the order of [`MODULES`].
    pub fn linears_mut(&mut self) -> [&mut LoraLinear; 7] {
        self.parts_mut().0
    }

    /// The block's linear modules, in the order of [`MODULES`].
    pub fn linears(&self) -> [&LoraLinear; 7] {
        let (attn, mlp) = (&self.self_attn, &self.mlp);
        [&attn.q_proj, &attn.k_proj, &attn.v_proj, &attn.o_proj, &mlp.gate_proj, &mlp.up_proj, &mlp.down_proj]
    }

    /// The block's linear modules in the order of [`MODULES`], and its norms by their names in it.
    pub fn parts_mut(&mut self) -> ([&mut LoraLinear; 7], Vec<(&'static str, &mut Tensor<1>)>) {
        let SelfAttention { q_proj, k_proj, v_proj, o_proj, head_norms } = &mut self.self_attn;
        let Mlp { gate_proj, up_proj, down_proj } = &mut self.mlp;
        let mut norms = vec![("input_layernorm", &mut self.input_layernorm)];
        if let Some(HeadNorms { q_norm, k_norm }) = head_norms {
            norms.extend([("self_attn.q_norm", q_norm), ("self_attn.k_norm", k_norm)]);
        }
        norms.push(("post_attention_layernorm", &mut self.post_attention_layernorm));
        if let Some(around) = &mut self.feedforward_norms {
            norms.push(("pre_feedforward_layernorm", &mut around.pre_feedforward_layernorm));
            norms.push(("post_feedforward_layernorm", &mut around.post_feedforward_layernorm));
        }
        ([q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj], norms)
    }
}
