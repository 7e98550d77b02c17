//! `AdamW` and gradient clipping over the flat parameter vector.

use burn::tensor::{Device, Tensor};

use crate::device::read;
use crate::kernels::Kernels;
use crate::kernels::adamw::{Update, adamw};

/// The constants of [`AdamW`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay rates of the two moments, each in `[0, 1)`.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay: each step multiplies the parameters by `1 - learning_rate · weight_decay`.
    pub weight_decay: f64,
}

/// The optimizer and its state. The two moments have the layout of the parameters.
///
/// Source: Loshchilov and Hutter 2019, <https://arxiv.org/abs/1711.05101>; the order of operations is
/// `torch.optim.AdamW`'s.
#[derive(Clone, Debug)]
pub struct AdamW {
    config: AdamWConfig,
    kernels: Kernels,
    /// First moment.
    pub exp_avg: Tensor<1>,
    /// Second moment.
    pub exp_avg_sq: Tensor<1>,
    /// Updates made so far.
    pub updates: u64,
    /// How many times the learning rate each parameter's own is; `None` when all have the same.
    rates: Option<Tensor<1>>,
    /// The share of the decay that each parameter does not take part in; `None` when all do wholly.
    spared: Option<Tensor<1>>,
}

impl AdamW {
    /// A fresh state for `count` parameters.
    pub fn new(config: AdamWConfig, kernels: Kernels, count: usize, device: &Device) -> Self {
        let [exp_avg, exp_avg_sq] = [(); 2].map(|()| Tensor::zeros([count], device));
        Self { config, kernels, exp_avg, exp_avg_sq, updates: 0, rates: None, spared: None }
    }

    /// The same with learning rates of their own, as [`learning_rates`](super::parameters::learning_rates) gives them.
    #[must_use]
    pub fn with_rates(self, rates: Option<Tensor<1>>) -> Self {
        Self { rates, ..self }
    }

    /// The same with parameters that do not decay, as [`spared`](super::parameters::spared) gives them.
    #[must_use]
    pub fn with_spared(self, spared: Option<Tensor<1>>) -> Self {
        Self { spared, ..self }
    }

    /// Makes one update and returns the new parameters. The gradient is multiplied by `gradient_scale` first.
    #[expect(clippy::cast_possible_truncation, reason = "the parameters are f32, as torch.optim's scalars become")]
    pub fn step(
        &mut self,
        parameters: Tensor<1>,
        gradient: Tensor<1>,
        gradient_scale: f64,
        learning_rate: f64,
    ) -> Tensor<1> {
        let [beta1, beta2] = self.config.betas;
        self.updates += 1;
        let t = self.updates as f64;
        let update = Update {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            gain1: (1.0 - beta1) as f32,
            gain2: (1.0 - beta2) as f32,
            gradient_scale: gradient_scale as f32,
            decay: (1.0 - learning_rate * self.config.weight_decay) as f32,
            step_size: (learning_rate / (1.0 - beta1.powf(t))) as f32,
            inverse_correction: (1.0 / (1.0 - beta2.powf(t)).sqrt()) as f32,
            eps: self.config.eps as f32,
        };
        let empty = || Tensor::zeros([0], &parameters.device());
        let exp_avg = std::mem::replace(&mut self.exp_avg, empty());
        let exp_avg_sq = std::mem::replace(&mut self.exp_avg_sq, empty());
        let rates = self.rates.clone();
        let decayed = learning_rate * self.config.weight_decay;
        let spared = self.spared.as_ref().map(|spared| parameters.clone() * spared.clone() * decayed);
        let [parameters, exp_avg, exp_avg_sq] =
            adamw(self.kernels, parameters, exp_avg, exp_avg_sq, gradient, rates, update);
        (self.exp_avg, self.exp_avg_sq) = (exp_avg, exp_avg_sq);
        match spared {
            Some(spared) => parameters + spared,
            None => parameters,
        }
    }
}

/// The global norm of a gradient, added up in f64: millions of float32 squares added one by one lose several digits.
pub fn norm(gradient: &Tensor<1>) -> f64 {
    read(gradient.clone()).iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt()
}

/// What a gradient of the given norm is multiplied by so that its norm is at most `max_norm`; 0 turns clipping off.
///
/// Source: `torch.nn.utils.clip_grad_norm_`.
pub fn clip_scale(norm: f64, max_norm: f64) -> f64 {
    if max_norm > 0.0 && norm > max_norm { max_norm / (norm + 1e-6) } else { 1.0 }
}
