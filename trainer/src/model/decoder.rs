//! The decoder: one definition for every family, for training, evaluation and generation, with and without adapter.
//!
//! Field names are the checkpoint's names. Activations are `[tokens, hidden]`, see [`Segments`].

use adapters::{LoraLinear, LowRank};
use burn::tensor::{Int, Tensor};

use super::cache::KvCache;
use super::config::DecoderConfig;
use super::dropout::Dropout;
use super::segments::Segments;
use crate::kernels::{attention::attention, rms_norm::rms_norm, rope::rope, swiglu::swiglu};

/// A decoder-only language model.
#[derive(Clone, Debug)]
pub struct Decoder {
    /// Sizes and flags.
    pub config: DecoderConfig,
    /// Shape `[vocab, hidden]`.
    pub embed_tokens: Tensor<2>,
    /// The blocks, in order.
    pub layers: Vec<DecoderLayer>,
    /// The last normalisation, shape `[hidden]`.
    pub norm: Tensor<1>,
    /// Shape `[vocab, hidden]`; `None` when the head is the embedding.
    pub lm_head: Option<Tensor<2>>,
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
    /// Runs the blocks and the last normalisation.
    ///
    /// # Shapes
    /// - `input_ids`: `[tokens]`, all sequences of `segments` one after the other; output: `[tokens, hidden]`.
    pub fn forward(&self, input_ids: Tensor<1, Int>, segments: &Segments, mut context: Context<'_>) -> Tensor<2> {
        let mut x = self.embed_tokens.clone().select(0, input_ids);
        for (index, layer) in self.layers.iter().enumerate() {
            x = layer.forward(x, index, &self.config, segments, &mut context);
        }
        rms_norm(x, &self.norm, self.config.rms_norm_eps)
    }

    /// The head's weight, `[vocab, hidden]`.
    pub fn head(&self) -> &Tensor<2> {
        self.lm_head.as_ref().unwrap_or(&self.embed_tokens)
    }

    /// Logits of the given hidden states: `[rows, hidden]` to `[rows, vocab]`.
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        hidden.matmul(self.head().clone().transpose())
    }

    /// The same model with its adapter outside autodiff, for evaluation and generation; nothing is copied. The base is
    /// always outside.
    #[must_use]
    pub fn inner(&self) -> Self {
        let mut decoder = self.clone();
        for (_, linear) in decoder.linears_mut() {
            linear.lora = linear.lora.take().map(LowRank::inner);
        }
        decoder
    }

    /// The adapter folded into the base's weights.
    #[must_use]
    pub fn merged(mut self) -> Self {
        for (_, linear) in self.linears_mut() {
            *linear = linear.clone().merged();
        }
        self
    }

    /// The base model alone.
    #[must_use]
    pub fn without_adapter(mut self) -> Self {
        for (_, linear) in self.linears_mut() {
            linear.lora = None;
        }
        self
    }

    /// Visits every linear module with its path in the checkpoint, `model.layers.0.self_attn.q_proj` and so on, in
    /// that order. This order is the order of parameters everywhere.
    pub fn linears_mut(&mut self) -> impl Iterator<Item = (String, &mut LoraLinear)> {
        self.layers.iter_mut().enumerate().flat_map(|(index, layer)| {
            let (attn, mlp) = (&mut layer.self_attn, &mut layer.mlp);
            [
                ("self_attn.q_proj", &mut attn.q_proj),
                ("self_attn.k_proj", &mut attn.k_proj),
                ("self_attn.v_proj", &mut attn.v_proj),
                ("self_attn.o_proj", &mut attn.o_proj),
                ("mlp.gate_proj", &mut mlp.gate_proj),
                ("mlp.up_proj", &mut mlp.up_proj),
                ("mlp.down_proj", &mut mlp.down_proj),
            ]
            .map(|(name, linear)| (format!("model.layers.{index}.{name}"), linear))
        })
    }

    /// Visits every linear module, in the order of [`Self::linears_mut`].
    pub fn linears(&self) -> impl Iterator<Item = (String, &LoraLinear)> {
        self.layers.iter().enumerate().flat_map(|(index, layer)| {
            let (attn, mlp) = (&layer.self_attn, &layer.mlp);
            [
                ("self_attn.q_proj", &attn.q_proj),
                ("self_attn.k_proj", &attn.k_proj),
                ("self_attn.v_proj", &attn.v_proj),
                ("self_attn.o_proj", &attn.o_proj),
                ("mlp.gate_proj", &mlp.gate_proj),
                ("mlp.up_proj", &mlp.up_proj),
                ("mlp.down_proj", &mlp.down_proj),
            ]
            .map(|(name, linear)| (format!("model.layers.{index}.{name}"), linear))
        })
    }
}

impl DecoderLayer {
    fn forward(
        &self,
        x: Tensor<2>,
        index: usize,
        config: &DecoderConfig,
        segments: &Segments,
        context: &mut Context<'_>,
    ) -> Tensor<2> {
        let normed = rms_norm(x.clone(), &self.input_layernorm, config.rms_norm_eps);
        let x = x + self.self_attn.forward(normed, index, config, segments, context);
        let normed = rms_norm(x.clone(), &self.post_attention_layernorm, config.rms_norm_eps);
        x + self.mlp.forward(normed, context)
    }
}

impl SelfAttention {
    fn forward(
        &self,
        x: Tensor<2>,
        layer: usize,
        config: &DecoderConfig,
        segments: &Segments,
        context: &mut Context<'_>,
    ) -> Tensor<2> {
        let [tokens, _] = x.dims();
        let head_dim = config.head_dim;
        let heads = [tokens, config.num_attention_heads, head_dim];
        let kv_heads = [tokens, config.num_key_value_heads, head_dim];
        let q = apply(&self.q_proj, x.clone(), context).reshape(heads);
        let k = apply(&self.k_proj, x.clone(), context).reshape(kv_heads);
        let v = apply(&self.v_proj, x, context).reshape(kv_heads);
        let q = rope(q, &segments.rotation);
        let k = rope(k, &segments.rotation);

        let scale = 1.0 / (head_dim as f64).sqrt();
        let mut outputs = Vec::with_capacity(segments.ranges.len());
        for (sequence, range) in segments.ranges.iter().enumerate() {
            let part = |t: &Tensor<3>| t.clone().narrow(0, range.start, range.len());
            let (mut k, mut v) = (part(&k), part(&v));
            if let Some(caches) = context.caches.as_deref_mut() {
                (k, v) = caches[sequence].append(layer, k, v);
            }
            outputs.push(attention(part(&q), k, v, segments.mask(sequence), scale));
        }
        let output = Tensor::cat(outputs, 0).reshape([tokens, config.num_attention_heads * head_dim]);
        apply(&self.o_proj, output, context)
    }
}

impl Mlp {
    fn forward(&self, x: Tensor<2>, context: &mut Context<'_>) -> Tensor<2> {
        let gate = apply(&self.gate_proj, x.clone(), context);
        let up = apply(&self.up_proj, x, context);
        apply(&self.down_proj, swiglu(gate, up), context)
    }
}

/// Applies a linear module, with dropout before its adapter in training.
fn apply(linear: &LoraLinear, x: Tensor<2>, context: &mut Context<'_>) -> Tensor<2> {
    let mask = match (&linear.lora, context.dropout.as_deref_mut()) {
        (Some(_), Some(dropout)) => Some(dropout.mask(x.dims(), &x.device())),
        _ => None,
    };
    linear.forward(x, mask)
}
