//! `AdamW` and gradient clipping over the flat parameter vector.

use burn::tensor::{Device, Tensor};

use crate::device::read;

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
    /// First moment.
    pub exp_avg: Tensor<1>,
    /// Second moment.
    pub exp_avg_sq: Tensor<1>,
    /// Updates made so far.
    pub updates: u64,
}

impl AdamW {
    /// A fresh state for `count` parameters.
    pub fn new(config: AdamWConfig, count: usize, device: &Device) -> Self {
        Self { config, exp_avg: Tensor::zeros([count], device), exp_avg_sq: Tensor::zeros([count], device), updates: 0 }
    }

    /// Makes one update and returns the new parameters.
    pub fn step(&mut self, parameters: Tensor<1>, gradient: Tensor<1>, learning_rate: f64) -> Tensor<1> {
        let [beta1, beta2] = self.config.betas;
        self.updates += 1;
        let t = self.updates as f64;
        self.exp_avg = self.exp_avg.clone().mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
        self.exp_avg_sq = self.exp_avg_sq.clone().mul_scalar(beta2) + gradient.square().mul_scalar(1.0 - beta2);
        let denominator =
            self.exp_avg_sq.clone().sqrt().div_scalar((1.0 - beta2.powf(t)).sqrt()).add_scalar(self.config.eps);
        let step_size = learning_rate / (1.0 - beta1.powf(t));
        let decayed = parameters.mul_scalar(1.0 - learning_rate * self.config.weight_decay);
        decayed - (self.exp_avg.clone() / denominator).mul_scalar(step_size)
    }
}

/// The global norm of a gradient, added up in f64: millions of float32 squares added one by one lose several digits.
pub fn norm(gradient: &Tensor<1>) -> f64 {
    read(gradient.clone()).iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>().sqrt()
}

/// Scales a gradient of the given norm down to `max_norm`; 0 turns clipping off.
///
/// Source: `torch.nn.utils.clip_grad_norm_`.
pub fn clip(gradient: Tensor<1>, norm: f64, max_norm: f64) -> Tensor<1> {
    if max_norm > 0.0 && norm > max_norm { gradient.mul_scalar(max_norm / (norm + 1e-6)) } else { gradient }
}
