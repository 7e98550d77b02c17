//! The language-model head and its loss, at supervised positions only.
//!
//! A question-and-answer example supervises a few tokens in a hundred, so the head, a fifth of a small model's
//! arithmetic, is computed where a target exists and nowhere else. The fused operator never holds more than a block of
//! logits: it adds the gradient up while it goes through the vocabulary, as attention adds up its values.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use adapters::Weight;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::ops::{Backward, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, backend_extension};
use burn::tensor::{Int, Tensor};

use super::row_loss::RowLossBackward;
use super::{Frozen, Kernels, Precision};

/// `-log softmax(hidden · lm_headᵀ)[target]` of each row.
///
/// # Shapes
/// - `hidden`: `[supervised, hidden]`; `lm_head`: `[vocab, hidden]`, frozen; `targets`: `[supervised]`; output:
///   `[supervised]`.
pub fn linear_cross_entropy(
    kernels: Kernels,
    hidden: Tensor<2>,
    lm_head: &Weight,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    match kernels {
        Kernels::Fused | Kernels::Bf16 => {
            let (hidden, lm_head) = (hidden.into_dispatch(), Frozen::from(lm_head));
            Tensor::from_dispatch(Dispatch::linear_cross_entropy(
                hidden,
                lm_head,
                targets.into_dispatch(),
                kernels.precision(),
            ))
        }
        Kernels::Reference => reference(hidden, lm_head, targets),
    }
}

/// [`linear_cross_entropy`] in ordinary tensor operators.
fn reference(hidden: Tensor<2>, lm_head: &Weight, targets: Tensor<1, Int>) -> Tensor<1> {
    let head = lm_head.dense(&hidden.device());
    cross_entropy(hidden.matmul(head.transpose()), targets)
}

/// `-log softmax(logits)[target]` of each row, in ordinary tensor operators: `[rows, vocab]` and `[rows]` to `[rows]`.
///
/// The sum over the vocabulary is a product with ones: added up one by one, 50,000 float32 terms lose four digits.
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let max = logits.clone().detach().max_dim(1);
    let shifted = logits - max;
    let chosen = shifted.clone().gather(1, targets.unsqueeze_dim(1));
    let ones = Tensor::ones([shifted.dims()[1], 1], &shifted.device().without_autodiff());
    (shifted.exp().matmul(ones).log() - chosen).squeeze_dim(1)
}

/// The operator as a backend computes it.
pub trait LinearCrossEntropyKernel: Backend {
    /// The output of [`linear_cross_entropy`], and, where it is wanted, each row's gradient of `hidden`.
    fn linear_cross_entropy_forward(
        hidden: FloatTensor<Self>,
        lm_head: Frozen<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
        with_gradient: bool,
    ) -> (FloatTensor<Self>, Option<FloatTensor<Self>>);
}

/// The operator with autodiff.
#[backend_extension(Autodiff, Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait LinearCrossEntropy: Backend {
    /// As [`linear_cross_entropy`].
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        #[extension_type] lm_head: Frozen<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self>;
}

impl<B: LinearCrossEntropyKernel> LinearCrossEntropy for B {
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        lm_head: Frozen<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        B::linear_cross_entropy_forward(hidden, lm_head, targets, precision, false).0
    }
}

impl<B: LinearCrossEntropyKernel, C: CheckpointStrategy> LinearCrossEntropy for Autodiff<B, C> {
    fn linear_cross_entropy(
        hidden: FloatTensor<Self>,
        lm_head: Frozen<Self>,
        targets: IntTensor<Self>,
        precision: Precision,
    ) -> FloatTensor<Self> {
        let (node, lm_head) = (hidden.node(), lm_head.into_primitive());
        let hidden = hidden.into_primitive();
        match RowLossBackward.prepare::<C>([node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => {
                let (losses, gradient) = B::linear_cross_entropy_forward(hidden, lm_head, targets, precision, true);
                prep.finish(gradient.expect("the gradient was asked for"), losses)
            }
            OpsKind::UnTracked(prep) => {
                prep.finish(B::linear_cross_entropy_forward(hidden, lm_head, targets, precision, false).0)
            }
        }
    }
}
