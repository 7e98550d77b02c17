//! The decoder: one definition for every family, for training, evaluation and generation, with and without adapter.
//!
//! Field names are the checkpoint's names. Activations are `[tokens, hidden]`, see [`Segments`].

use adapters::{LoraLinear, LowRank, Weight};
use burn::tensor::{Int, Tensor};

use super::cache::KvCache;
use super::config::DecoderConfig;
use super::dropout::Dropout;
use super::segments::Segments;
use crate::kernels::Kernels;
use crate::kernels::attention::{Heads, Span, attention, cached_attention};
use crate::kernels::linear_cross_entropy::{cross_entropy, linear_cross_entropy};
use crate::kernels::linear_kl_divergence::{kl_divergence, linear_kl_divergence};
use crate::kernels::lora_linear::{self, lora_linear};
use crate::kernels::rms_norm::rms_norm;
use crate::kernels::rope::rope;
use crate::kernels::swiglu::swiglu;

/// A decoder-only language model.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Sizes and flags.
    pub config: DecoderConfig,
    /// What computes it.
    pub kernels: Kernels,
    /// Shape `[vocab, hidden]`.
    pub embed_tokens: Weight,
    /// The blocks, in order.
    pub layers: Vec<DecoderLayer>,
    /// The last normalisation, shape `[hidden]`.
    pub norm: Tensor<1>,
    /// Shape `[vocab, hidden]`; `None` when the head is the embedding.
    pub lm_head: Option<Weight>,
    /// The embedding's adapter: a map from the vocabulary, see [`LowRank::init_embedding`]. A head that is the embedding
    /// does not have it.
    pub embed_tokens_lora: Option<LowRank>,
    /// The head's adapter. An embedding that is the head does not have it.
    pub lm_head_lora: Option<LowRank>,
    /// The base's norms, in the order of [`Decoder::norms_mut`], where the adapter has norms of its own.
    pub base_norms: Option<Vec<Tensor<1>>>,
}

/// One block: attention and MLP, each behind a normalisation and beside a residual path.
#[derive(Clone, Debug)]
pub struct DecoderLayer {
    /// Shape `[hidden]`.
    pub input_layernorm: Tensor<1>,
    /// The attention.
    pub self_attn: SelfAttention,
    /// Shape `[hidden]`.
    pub post_attention_layernorm: Tensor<1>,
    /// The gated MLP.
    pub mlp: Mlp,
    /// Further norms, in families that have them around the MLP; `post_attention_layernorm` then follows the attention
    /// instead of preceding the MLP.
    pub feedforward_norms: Option<FeedforwardNorms>,
}

/// Norms around the MLP, both of shape `[hidden]`.
#[derive(Clone, Debug)]
pub struct FeedforwardNorms {
    /// Of its input.
    pub pre_feedforward_layernorm: Tensor<1>,
    /// Of its output, before the residual path is added.
    pub post_feedforward_layernorm: Tensor<1>,
}

/// Causal self-attention with grouped key and value heads.
#[derive(Clone, Debug)]
pub struct SelfAttention {
    /// `[heads · head_dim, hidden]`.
    pub q_proj: LoraLinear,
    /// `[kv_heads · head_dim, hidden]`.
    pub k_proj: LoraLinear,
    /// `[kv_heads · head_dim, hidden]`.
    pub v_proj: LoraLinear,
    /// `[hidden, heads · head_dim]`.
    pub o_proj: LoraLinear,
    /// Norms of each head's query and key, in families that have them.
    pub head_norms: Option<HeadNorms>,
}

/// Norms of queries and keys, head by head, both of shape `[head_dim]`.
#[derive(Clone, Debug)]
pub struct HeadNorms {
    /// Of the queries.
    pub q_norm: Tensor<1>,
    /// Of the keys.
    pub k_norm: Tensor<1>,
}

/// The gated MLP.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// `[intermediate, hidden]`.
    pub gate_proj: LoraLinear,
    /// `[intermediate, hidden]`.
    pub up_proj: LoraLinear,
    /// `[hidden, intermediate]`.
    pub down_proj: LoraLinear,
}

/// What a forward pass carries besides the tokens.
#[derive(Default)]
pub struct Context<'a> {
    /// One cache for each sequence, in generation.
    pub caches: Option<&'a mut [KvCache]>,
    /// LoRA dropout, in training.
    pub dropout: Option<&'a mut Dropout>,
}

impl Decoder {
    /// The same model, computed as a recipe says. [`Kernels::Fused`] is what the device has best.
    #[must_use]
    pub fn with_kernels(mut self, kernels: Kernels) -> Self {
        if self.kernels != Kernels::Reference {
            self.kernels = kernels;
        }
        self
    }

    /// Runs the blocks and the last normalisation.
    ///
    /// # Shapes
    /// - `input_ids`: `[tokens]`, all sequences of `segments` one after the other; output: `[tokens, hidden]`.
    pub fn forward(&self, input_ids: Tensor<1, Int>, segments: &Segments, mut context: Context<'_>) -> Tensor<2> {
        let mut x = self.embed(input_ids);
        for index in 0..self.layers.len() {
            x = self.block(index, x, segments, &mut context);
        }
        self.normalise(x)
    }

    /// What the first block reads, `[tokens, hidden]`.
    pub fn embed(&self, input_ids: Tensor<1, Int>) -> Tensor<2> {
        let x = self.embed_tokens.rows(input_ids.clone());
        let x = match &self.embed_tokens_lora {
            Some(lora) => x + lora.embed(input_ids),
            None => x,
        };
        match self.config.embedding_scale() {
            Some(scale) => x * scale,
            None => x,
        }
    }

    /// Runs one block, `[tokens, hidden]` to the same.
    pub fn block(&self, index: usize, x: Tensor<2>, segments: &Segments, context: &mut Context<'_>) -> Tensor<2> {
        let pass = Pass { kernels: self.kernels, config: &self.config, segments, block: index };
        self.layers[index].forward(x, pass, context)
    }

    /// The last normalisation, of the last block's output.
    pub fn normalise(&self, x: Tensor<2>) -> Tensor<2> {
        rms_norm(self.kernels, x, &self.norm, self.config.rms_norm_eps)
    }

    /// The head's weight, `[vocab, hidden]`.
    pub fn head(&self) -> &Weight {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Logits of the given hidden states: `[rows, hidden]` to `[rows, vocab]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        lora_linear(self.kernels, hidden, &[&self.head_linear()], None)
    }

    /// The head with its adapter.
    pub(super) fn head_linear(&self) -> LoraLinear {
        LoraLinear { weight: self.head().clone(), bias: None, lora: self.lm_head_lora.clone() }
    }

    /// The negative log-likelihood of each row's target: `[rows, hidden]` and `[rows]` to `[rows]`.
    pub fn losses(&self, hidden: Tensor<2>, targets: Tensor<1, Int>, dropout: Option<&mut Dropout>) -> Tensor<1> {
        if self.lm_head_lora.is_none() {
            return linear_cross_entropy(self.kernels, hidden, self.head(), targets);
        }
        cross_entropy(self.adapted_logits(hidden, dropout), targets)
    }

    /// How far each row's next token is from the base's: the Kullback-Leibler divergence of the model from the base, in
    /// nats: twice `[rows, hidden]` to `[rows]`. The gradient goes to `hidden` and to the head's adapter.
    ///
    /// - `hidden`: hidden states of this model; `base_hidden`: those that the base, see [`Self::without_adapter`], has
    ///   for the same rows. Fused and without an adapter of the head, rows of equal bits give exactly 0.
    pub fn divergences(&self, hidden: Tensor<2>, base_hidden: Tensor<2>, dropout: Option<&mut Dropout>) -> Tensor<1> {
        if self.lm_head_lora.is_none() {
            return linear_kl_divergence(self.kernels, hidden, base_hidden, self.head());
        }
        let base = LoraLinear { lora: None, ..self.head_linear() };
        let base_logits = lora_linear(self.kernels, base_hidden, &[&base], None);
        kl_divergence(self.adapted_logits(hidden, dropout), base_logits)
    }

    /// The logits of a head with an adapter, in training.
    fn adapted_logits(&self, hidden: Tensor<2>, dropout: Option<&mut Dropout>) -> Tensor<2> {
        let mut context = Context { dropout, ..Context::default() };
        apply(self.kernels, hidden, &[&self.head_linear()], None, &mut context)
    }
}

/// What every part of a block's forward pass knows.
#[derive(Clone, Copy)]
struct Pass<'a> {
    kernels: Kernels,
    config: &'a DecoderConfig,
    segments: &'a Segments,
    block: usize,
}

impl DecoderLayer {
    fn forward(&self, x: Tensor<2>, pass: Pass<'_>, context: &mut Context<'_>) -> Tensor<2> {
        let norm = |x: &Tensor<2>, weight| rms_norm(pass.kernels, x.clone(), weight, pass.config.rms_norm_eps);
        let normed = norm(&x, &self.input_layernorm);
        let Some(norms) = &self.feedforward_norms else {
            let x = self.self_attn.forward(normed, Some(x), pass, context);
            let normed = norm(&x, &self.post_attention_layernorm);
            return self.mlp.forward(normed, Some(x), pass, context);
        };
        let attended = self.self_attn.forward(normed, None, pass, context);
        let x = x + norm(&attended, &self.post_attention_layernorm);
        let normed = norm(&x, &norms.pre_feedforward_layernorm);
        let output = self.mlp.forward(normed, None, pass, context);
        x + norm(&output, &norms.post_feedforward_layernorm)
    }
}

impl SelfAttention {
    fn forward(
        &self,
        x: Tensor<2>,
        residual: Option<Tensor<2>>,
        pass: Pass<'_>,
        context: &mut Context<'_>,
    ) -> Tensor<2> {
        let Pass { kernels, config, segments, block } = pass;
        let heads = config.heads(block);
        let qkv = apply(kernels, x, &[&self.q_proj, &self.k_proj, &self.v_proj], None, context);
        let qkv = match &self.head_norms {
            Some(norms) => norms.apply(kernels, &qkv, heads, config.rms_norm_eps),
            None => qkv,
        };
        let rotation = &segments.rotations[config.rotation(block)];
        let qkv = rope(kernels, qkv, rotation, heads.heads + heads.kv_heads);
        let output = match context.caches.as_deref_mut() {
            Some(caches) => attention_to_caches(kernels, &qkv, caches, block, segments, heads),
            None => attention(kernels, qkv, &segments.spans, heads),
        };
        apply(kernels, output, &[&self.o_proj], residual, context)
    }
}

impl HeadNorms {
    /// Normalises the queries and keys of rows that hold queries, keys and values.
    fn apply(&self, kernels: Kernels, qkv: &Tensor<2>, heads: Heads, eps: f64) -> Tensor<2> {
        let (tokens, dim) = (qkv.dims()[0], heads.head_dim);
        let part = |first: usize, count: usize| qkv.clone().narrow(1, first * dim, count * dim);
        let normed = |first: usize, count: usize, weight| {
            let rows = part(first, count).reshape([tokens * count, dim]);
            rms_norm(kernels, rows, weight, eps).reshape([tokens, count * dim])
        };
        let (q, k) = (normed(0, heads.heads, &self.q_norm), normed(heads.heads, heads.kv_heads, &self.k_norm));
        Tensor::cat(vec![q, k, part(heads.heads + heads.kv_heads, heads.kv_heads)], 1)
    }
}

/// Attends each sequence's new tokens to what its cache holds, them included.
fn attention_to_caches(
    kernels: Kernels,
    qkv: &Tensor<2>,
    caches: &mut [KvCache],
    block: usize,
    segments: &Segments,
    heads: Heads,
) -> Tensor<2> {
    let (q_width, kv_width) = (heads.heads * heads.head_dim, heads.kv_heads * heads.head_dim);
    let outputs = segments.spans.iter().zip(caches).map(|(Span { range, .. }, cache)| {
        let rows = qkv.clone().narrow(0, range.start, range.len());
        let part = |start: usize, width: usize| rows.clone().narrow(1, start, width);
        let (k, v) = cache.append(block, part(q_width, kv_width), part(q_width + kv_width, kv_width));
        cached_attention(kernels, part(0, q_width), k, v, heads)
    });
    Tensor::cat(outputs.collect(), 0)
}

impl Mlp {
    fn forward(
        &self,
        x: Tensor<2>,
        residual: Option<Tensor<2>>,
        pass: Pass<'_>,
        context: &mut Context<'_>,
    ) -> Tensor<2> {
        let gate_up = apply(pass.kernels, x, &[&self.gate_proj, &self.up_proj], None, context);
        let inner = swiglu(pass.kernels, gate_up, pass.config.family.activation);
        apply(pass.kernels, inner, &[&self.down_proj], residual, context)
    }
}

/// Applies linear modules that share their input, with dropout before their adapters in training.
fn apply(
    kernels: Kernels,
    x: Tensor<2>,
    modules: &[&LoraLinear],
    residual: Option<Tensor<2>>,
    context: &mut Context<'_>,
) -> Tensor<2> {
    let Some(dropout) = context.dropout.as_deref_mut() else {
        return lora_linear(kernels, x, modules, residual);
    };
    // Each module's adapter reads an input of its own.
    let frozen: Vec<LoraLinear> = modules.iter().map(|module| LoraLinear { lora: None, ..(*module).clone() }).collect();
    let base = lora_linear(kernels, x.clone(), &frozen.iter().collect::<Vec<_>>(), residual);
    let device = x.device().without_autodiff();
    let updates = modules.iter().map(|module| match &module.lora {
        Some(_) => lora_linear::update(kernels, x.clone() * dropout.mask(x.dims()[1], &device), module),
        None => None,
    });
    let updates = updates
        .zip(modules)
        .map(|(update, module)| update.unwrap_or_else(|| Tensor::zeros([x.dims()[0], module.sizes().1], &device)));
    base + Tensor::cat(updates.collect(), 1)
}
