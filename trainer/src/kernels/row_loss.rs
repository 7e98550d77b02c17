//! The backward pass of losses whose gradient is known with their value, row by row.
//!
//! The head's losses go through the vocabulary once and add up their gradient meanwhile, so that backward has nothing
//! left to do but to multiply each row with what comes from above.

use burn::backend::Backend;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops};
use burn::backend::tensor::FloatTensor;

/// The backward pass of an operator from rows, `[rows, width]`, to their losses, `[rows]`.
#[derive(Debug)]
pub(super) struct RowLossBackward;

impl<B: Backend> Backward<B, 1> for RowLossBackward {
    /// Each row's gradient, of the row's own loss.
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(parent)] = ops.parents {
            let rows = burn::backend::TensorMetadata::shape(&grad)[0];
            let grad = B::float_reshape(grad, [rows, 1].into());
            grads.register::<B>(parent.id, B::float_mul(ops.state, grad));
        }
    }
}
