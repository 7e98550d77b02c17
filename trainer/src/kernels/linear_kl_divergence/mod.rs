//! How far the adapted model's next tokens are from the base's: the Kullback-Leibler divergence behind the head.
//!
//! It is what training holds down on replayed text and what a measurement of forgetting reports. Both sides have the
//! same head, so two rows of hidden states are all that is needed of a token, and, as with
//! [`linear_cross_entropy`](super::linear_cross_entropy), no more than a block of logits is ever held.
//!
//! Source: Kullback and Leibler 1951, <https://doi.org/10.1214/aoms/1177729694>.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use adapters::Weight;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::{Backward, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::row_loss::RowLossBackward;
use super::{Frozen, Kernels, Precision};

/// `KL(softmax(base_hidden · lm_headᵀ) ‖ softmax(hidden · lm_headᵀ))` of each row, in nats.
///
/// The gradient goes to `hidden` alone: `(softmax of the adapted - softmax of the base) · lm_head`. Fused, a row whose
/// two sides have the same bits gives exactly 0 and a gradient of exactly 0, and no divergence is below 0.
///
/// # Shapes
/// - `hidden`, `base_hidden`: `[rows, hidden]`; `lm_head`: `[vocab, hidden]`, frozen; output: `[rows]`.
pub fn linear_kl_divergence(
    kernels: Kernels,
    hidden: Tensor<2>,
    base_hidden: Tensor<2>,
    lm_head: &Weight,
) -> Tensor<1> {
    match kernels {
        Kernels::Fused | Kernels::Bf16 => {
            let (hidden, base_hidden) = (hidden.into_dispatch(), base_hidden.into_dispatch());
            let (lm_head, precision) = (Frozen::from(lm_head), kernels.precision());
            Tensor::from_dispatch(Dispatch::linear_kl_divergence(hidden, base_hidden, lm_head, precision))
        }
        Kernels::Reference => {
            let head = lm_head.dense(&hidden.device()).transpose();
            kl_divergence(hidden.matmul(head.clone()), base_hidden.matmul(head))
        }
    }
}

/// `KL(softmax(base_logits) ‖ softmax(logits))` of each row, in ordinary tensor operators: twice `[rows, vocab]` to
/// `[rows]`. The gradient goes to `logits` alone.
///
/// The sums over the vocabulary are products with ones, as in
/// [`cross_entropy`](super::linear_cross_entropy::cross_entropy). Rounding may leave a divergence a little below 0; equal
/// logits give exactly 0.
pub fn kl_divergence(logits: Tensor<2>, base_logits: Tensor<2>) -> Tensor<1> {
    let shifted = |logits: Tensor<2>| {
        let max = logits.clone().detach().max_dim(1);
        logits - max
    };
    let (logits, base_logits) = (shifted(logits), shifted(base_logits.detach()));
    let ones = Tensor::ones([logits.dims()[1], 1], &logits.device().without_autodiff());
    let sum = logits.clone().exp().matmul(ones.clone());
    let base = base_logits.clone().exp();
    let base_sum = base.clone().matmul(ones.clone());
    let mean = (base * base_sum.clone().recip() * (base_logits - logits)).matmul(ones);
    (mean - (base_sum.log() - sum.log())).squeeze_dim(1)
}

/// The operator as a backend computes it.
pub trait LinearKlDivergenceKernel: Backend {
    /// The output of [`linear_kl_divergence`], and, where it is wanted, each row's gradient of `hidden`.
    fn linear_kl_divergence_forward(
        hidden: FloatTensor<Self>,
        base_hidden: FloatTensor<Self>,
        lm_head: Frozen<Self>,
        precision: Precision,
        with_gradient: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);
}

/// The operator with autodiff.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait LinearKlDivergence: Backend {
    /// As [`linear_kl_divergence`].
    fn linear_kl_divergence(
        hidden: FloatTensor<Self>,
        base_hidden: FloatTensor<Self>,
        #[extension_type] lm_head: Frozen<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

impl<B: LinearKlDivergenceKernel> LinearKlDivergence for B {
    fn linear_kl_divergence(
        hidden: FloatTensor<Self>,
        base_hidden: FloatTensor<Self>,
        lm_head: Frozen<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        B::linear_kl_divergence_forward(hidden, base_hidden, lm_head, precision, false).0
    }
}

impl<B: LinearKlDivergenceKernel, C: CheckpointStrategy> LinearKlDivergence for Autodiff<B, C> {
    fn linear_kl_divergence(
        hidden: FloatTensor<Self>,
        base_hidden: FloatTensor<Self>,
        lm_head: Frozen<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (node, lm_head) = (hidden.node(), lm_head.into_primitive());
        let (hidden, base) = (hidden.into_primitive(), base_hidden.into_primitive());
        match RowLossBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (losses, gradient) = B::linear_kl_divergence_forward(hidden, base, lm_head, precision, true);
                prep.finish(gradient.expect("the gradient was asked for"), losses)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::linear_kl_divergence_forward(hidden, base, lm_head, precision, false).0)
            }
        }
    }
}
