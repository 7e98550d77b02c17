//! `AdamW` over all adapter numbers in one pass.

#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "flex")]
mod flex;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::{Kernels, Optional};

/// The numbers of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Update {
    /// Decay rate of the first moment.
    pub beta1: f32,
    /// Decay rate of the second moment.
    pub beta2: f32,
    /// `1 - beta1`, rounded once.
    pub gain1: f32,
    /// `1 - beta2`, rounded once.
    pub gain2: f32,
    /// What the gradient is multiplied by first: below 1 when it is clipped.
    pub gradient_scale: f32,
    /// What the parameters are multiplied by: `1 - learning_rate · weight_decay`.
    pub decay: f32,
    /// `learning_rate / (1 - beta1^t)`.
    pub step_size: f32,
    /// `1 / √(1 - beta2^t)`.
    pub inverse_correction: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
}

/// Makes one update and returns parameters, first moment and second moment; all of shape `[count]`. `rates`, of the same
/// shape, is how many times the learning rate each parameter's own is; without it all have the same.
///
/// Source: Loshchilov and Hutter 2019, <https://arxiv.org/abs/1711.05101>; the order of operations is
/// `torch.optim.AdamW`'s.
pub fn adamw(
    kernels: Kernels,
    parameters: Tensor<1>,
    exp_avg: Tensor<1>,
    exp_avg_sq: Tensor<1>,
    gradient: Tensor<1>,
    rates: Option<Tensor<1>>,
    update: Update,
) -> [Tensor<1>; 3] {
    match kernels {
        Kernels::Fused | Kernels::Bf16 => {
            let [p, m, v, g] = [parameters, exp_avg, exp_avg_sq, gradient].map(Tensor::into_dispatch);
            let rates = rates.map_or(Optional::None, |rates| Optional::Some(rates.into_dispatch()));
            let (p, m, v) = Dispatch::adamw(p, m, v, g, rates, update);
            [p, m, v].map(Tensor::from_dispatch)
        }
        Kernels::Reference => reference(parameters, exp_avg, exp_avg_sq, gradient, rates, update),
    }
}

/// [`adamw`] in ordinary tensor operators.
fn reference(
    parameters: Tensor<1>,
    exp_avg: Tensor<1>,
    exp_avg_sq: Tensor<1>,
    gradient: Tensor<1>,
    rates: Option<Tensor<1>>,
    update: Update,
) -> [Tensor<1>; 3] {
    let gradient = gradient.mul_scalar(update.gradient_scale);
    let exp_avg = exp_avg.mul_scalar(update.beta1) + gradient.clone().mul_scalar(update.gain1);
    let exp_avg_sq = exp_avg_sq.mul_scalar(update.beta2) + gradient.square().mul_scalar(update.gain2);
    let denominator = exp_avg_sq.clone().sqrt().mul_scalar(update.inverse_correction).add_scalar(update.eps);
    let moved = (exp_avg.clone() / denominator).mul_scalar(update.step_size);
    let parameters = match rates {
        None => parameters.mul_scalar(update.decay) - moved,
        Some(rates) => {
            let decayed = parameters.clone() * rates.clone().mul_scalar(1.0 - update.decay);
            parameters - decayed - moved * rates
        }
    };
    [parameters, exp_avg, exp_avg_sq]
}

/// The fused operator.
#[backend_extension(Flex: cfg(feature = "flex"), Cube: cfg(feature = "cube"))]
pub trait FusedAdamW: Backend {
    /// As [`adamw`].
    fn adamw(
        parameters: FloatTensor<Self>,
        exp_avg: FloatTensor<Self>,
        exp_avg_sq: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        #[extension_type] rates: Optional<Self>,
        update: Update,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}
