//! The language-model head and its loss, at supervised positions only.
//!
//! A question-and-answer example supervises a few tokens in a hundred, so the head, a fifth of a small model's
//! arithmetic, is computed where a target exists and nowhere else.

use burn::tensor::{Int, Tensor};

/// The sum over rows of `-log softmax(hidden · lm_headᵀ)[target]`.
///
/// # Shapes
/// - `hidden`: `[supervised, hidden]`; `lm_head`: `[vocab, hidden]`; `targets`: `[supervised]`; output: `[1]`.
pub fn linear_cross_entropy(hidden: Tensor<2>, lm_head: &Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    token_log_probs(hidden.matmul(lm_head.clone().transpose()), targets).sum().neg()
}

/// The log-probability of each row's target.
///
/// The sum over the vocabulary is a product with ones: added up one by one, 50,000 float32 terms lose four digits.
///
/// # Shapes
/// - `logits`: `[rows, vocab]`; `targets`: `[rows]`; output: `[rows]`.
pub fn token_log_probs(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    let max = logits.clone().detach().max_dim(1);
    let shifted = logits - max;
    let chosen = shifted.clone().gather(1, targets.unsqueeze_dim(1));
    let ones = Tensor::ones([shifted.dims()[1], 1], &shifted.device().without_autodiff());
    (chosen - shifted.exp().matmul(ones).log()).squeeze_dim(1)
}
