//! Causal attention inside each example of a row of examples, with grouped heads.
//!
//! Examples are attended one by one, so a token of one never sees a token of another: there is no mask between examples
//! that could be wrong, and no score is computed to be thrown away. Examples that begin with the same tokens may have these
//! in common: one span that each of theirs sees as what comes before it. The forward pass keeps the logarithm of each
//! softmax's sum, the backward pass computes the scores again from it, block of queries by block of queries.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;
mod reference;

use std::ops::Range;
use std::sync::Arc;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::{Kernels, Precision};
use crate::device;

/// The shape of an attention, and what it may see.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Heads {
    /// Query heads, a multiple of `kv_heads`; query head `h` reads key head `h / (heads / kv_heads)`.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Numbers in a head.
    pub head_dim: usize,
    /// The factor before the scores.
    pub scale: f32,
    /// How many keys a query sees, its own included; `None` for all before it.
    ///
    /// Source: Beltagy et al. 2020, <https://arxiv.org/abs/2004.05150>, as in Mistral.
    pub window: Option<usize>,
    /// Scores are bent to stay within this: `cap · tanh(score / cap)`.
    ///
    /// Source: Gemma Team 2024, <https://arxiv.org/abs/2408.00118>, section 2.
    pub soft_cap: Option<f32>,
}

impl Heads {
    /// Numbers in a row of queries, keys and values.
    pub fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// The keys that a query sees, by their position in its example.
    pub fn seen(&self, query: usize) -> Range<usize> {
        let start = self.window.map_or(0, |window| (query + 1).saturating_sub(window));
        start..query + 1
    }
}

/// A run of tokens that is attended by itself: an example, or what several have in common, or the rest of one of those.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it lies in the axis of tokens.
    pub range: Range<usize>,
    /// The earlier tokens that it sees all of, as if they stood right before it; empty for none. They are a span of their
    /// own, and only spans that see them lie between it and this one.
    pub prefix: Range<usize>,
}

impl From<Range<usize>> for Span {
    /// One that sees itself alone.
    fn from(range: Range<usize>) -> Self {
        Self { range, prefix: 0..0 }
    }
}

/// Where the examples lie in the axis of tokens.
pub type Spans = Arc<[Span]>;

/// Attends within each span. A device whose kernel knows no prefixes takes the reference for spans that have some.
///
/// # Shapes
/// - `qkv`: `[tokens, (heads + 2 · kv_heads) · head_dim]`, in a row all queries, then keys, then values.
/// - Output: `[tokens, heads · head_dim]`.
///
/// Sources: Ainslie et al. 2023, <https://arxiv.org/abs/2305.13245> (grouped heads); Dao 2023,
/// <https://arxiv.org/abs/2307.08691> (scores computed again in the backward pass); Wang and Hegde 2024,
/// <https://arxiv.org/abs/2410.20305> (a beginning in common).
pub fn attention(kernels: Kernels, qkv: Tensor<2>, spans: &Spans, heads: Heads) -> Tensor<2> {
    let is_known = || spans.iter().all(|span| span.prefix.is_empty()) || device::attends_to_prefixes(&qkv.device());
    match kernels {
        Kernels::Fused | Kernels::Bf16 if is_known() => {
            Tensor::from_dispatch(Dispatch::attention(qkv.into_dispatch(), spans.clone(), heads, kernels.precision()))
        }
        Kernels::Fused | Kernels::Bf16 | Kernels::Reference => reference::attention(&qkv, spans, heads),
    }
}

/// Attends the queries of new tokens to the keys and values of one sequence, of which the last are their own.
///
/// # Shapes
/// - `q`: `[new, heads · head_dim]`; `k`, `v`: `[total, kv_heads · head_dim]`; output like `q`.
pub fn cached_attention(kernels: Kernels, q: Tensor<2>, k: Tensor<2>, v: Tensor<2>, heads: Heads) -> Tensor<2> {
    match kernels {
        Kernels::Fused | Kernels::Bf16 => {
            let [q, k, v] = [q, k, v].map(Tensor::into_dispatch);
            Tensor::from_dispatch(Dispatch::cached_attention(q, k, v, heads))
        }
        Kernels::Reference => reference::cached_attention(q, k, v, heads),
    }
}

/// The operator as a backend computes it.
pub trait AttentionKernel: Backend {
    /// The output of [`attention`], and the logarithm of the sum of each query's exponentials, `[heads, tokens]`.
    fn attention_forward(
        qkv: FloatTensor<Self>,
        spans: &Spans,
        heads: Heads,
        precision: Precision,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of `qkv` from the gradient of the output.
    fn attention_backward(
        grad: FloatTensor<Self>,
        qkv: FloatTensor<Self>,
        output: FloatTensor<Self>,
        log_sums: FloatTensor<Self>,
        spans: &Spans,
        heads: Heads,
        precision: Precision,
    ) -> FloatTensor<Self>;

    /// As [`cached_attention`](fn@cached_attention); it has no gradient.
    fn cached_attention_forward(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self>;
}

/// The operator with autodiff.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait Attention: Backend {
    /// As [`attention`](fn@attention).
    fn attention(qkv: FloatTensor<Self>, spans: Spans, heads: Heads, precision: Precision) -> FloatTensor<Self>;
}

/// Attention to a cache, outside autodiff.
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait CachedAttention: Backend {
    /// As [`cached_attention`](fn@cached_attention).
    fn cached_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self>;
}

impl<B: AttentionKernel> Attention for B {
    fn attention(qkv: FloatTensor<Self>, spans: Spans, heads: Heads, precision: Precision) -> FloatTensor<Self> {
        B::attention_forward(qkv, &spans, heads, precision).0
    }
}

impl<B: AttentionKernel> CachedAttention for B {
    fn cached_attention(
        q: FloatTensor<Self>,
        k: FloatTensor<Self>,
        v: FloatTensor<Self>,
        heads: Heads,
    ) -> FloatTensor<Self> {
        B::cached_attention_forward(q, k, v, heads)
    }
}

#[derive(Debug)]
struct AttentionBackward;

/// What the backward pass needs.
#[derive(Clone, Debug)]
struct State<B: Backend> {
    qkv: NodeId,
    output: FloatTensor<B>,
    log_sums: FloatTensor<B>,
    spans: Spans,
    heads: Heads,
    precision: Precision,
}

impl<B: AttentionKernel> Backward<B, 1> for AttentionBackward {
    type State = State<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [parent] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let State { qkv, output, log_sums, spans, heads, precision } = ops.state;
        let qkv: FloatTensor<B> = checkpointer.retrieve_node_output(qkv);
        if let Some(parent) = parent {
            grads
                .register::<B>(parent.id, B::attention_backward(grad, qkv, output, log_sums, &spans, heads, precision));
        }
    }
}

impl<B: AttentionKernel, C: CheckpointStrategy> Attention for Autodiff<B, C> {
    fn attention(qkv: FloatTensor<Self>, spans: Spans, heads: Heads, precision: Precision) -> FloatTensor<Self> {
        let node = qkv.node();
        match AttentionBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let id = prep.checkpoint(&qkv);
                let (output, log_sums) = B::attention_forward(qkv.into_primitive(), &spans, heads, precision);
                prep.finish(State { qkv: id, output: output.clone(), log_sums, spans, heads, precision }, output)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::attention_forward(qkv.into_primitive(), &spans, heads, precision).0)
            }
        }
    }
}
