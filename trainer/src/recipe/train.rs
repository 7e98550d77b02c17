//! The recipe's `train` section: how long, how fast, and what is kept.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::memory_size::MemorySize;
use super::ranges::Ranges;
use crate::train::optimizer::AdamWConfig;

/// How the adapter is trained. A step is one update of the optimizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// The seed of everything random: the adapter's first values, the order of the data, dropout.
    pub seed: u64,
    /// How many times the training data is gone through, above 0 and at most 10000; 0.5 is half of it. Without effect
    /// when `max_steps` is set.
    pub epochs: f64,
    /// The number of steps, at least 1. When set, it wins over `epochs`.
    pub max_steps: Option<u64>,
    /// Conversations in one step, at least 1.
    pub global_batch_size: usize,
    /// Packed rows in one forward and backward pass, at least 1. It costs memory and buys speed; the result is the
    /// same.
    pub micro_batch_size: usize,
    /// What the forward pass keeps for the backward pass. It costs memory and buys speed; the result is the same.
    pub activation_checkpointing: ActivationCheckpointing,
    /// The memory that the run may take, such as 2 GiB or 1.5GB, by which `auto` above decides. Without it: nine tenths
    /// of what the machine has free at the start.
    pub memory: Option<MemorySize>,
    /// The peak of the learning rate, above 0 and at most 1. LoRA usually takes 1e-5 to 1e-3.
    pub learning_rate: f64,
    /// How the learning rate falls after the warm-up.
    pub schedule: Schedule,
    /// The share of the steps in which the learning rate rises from 0 to its peak, 0 to 1. Without effect when
    /// `warmup_steps` is set.
    pub warmup_ratio: f64,
    /// The steps in which the learning rate rises from 0 to its peak. When set, it wins over `warmup_ratio`.
    pub warmup_steps: Option<u64>,
    /// Decoupled weight decay of the optimizer (`AdamW`), 0 (off) to 1: a step takes this share of the learning rate
    /// off each parameter.
    pub weight_decay: f64,
    /// The decay rates of the optimizer's two moments, each 0 to below 1.
    pub betas: [f64; 2],
    /// What the optimizer adds to its denominator, above 0 and at most 0.1.
    pub eps: f64,
    /// The norm to which a longer gradient is cut, at least 0; 0 turns clipping off.
    pub max_grad_norm: f64,
    /// Steps between two validations, at least 1. Without it: one at the end of each epoch.
    pub eval_every: Option<u64>,
    /// Steps between two checkpoints, at least 1. Without it: one after each validation.
    pub save_every: Option<u64>,
    /// How many of the last checkpoints are kept, at least 1. The best adapter is always kept.
    pub keep_checkpoints: usize,
    /// Stops the run after this many validations in a row without a lower loss, at least 1. Without it: never.
    pub early_stopping: Option<u64>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 1.0,
            max_steps: None,
            global_batch_size: 16,
            micro_batch_size: 4,
            activation_checkpointing: ActivationCheckpointing::Auto,
            memory: None,
            learning_rate: 2e-4,
            schedule: Schedule::Cosine,
            warmup_ratio: 0.03,
            warmup_steps: None,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            eps: 1e-8,
            max_grad_norm: 1.0,
            eval_every: None,
            save_every: None,
            keep_checkpoints: 2,
            early_stopping: None,
        }
    }
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Down to 0 along half a cosine.
    Cosine,
    /// Down to 0 in a straight line.
    Linear,
    /// Not at all.
    Constant,
}

/// What the forward pass keeps for the backward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ActivationCheckpointing {
    /// The activations of every block: the fastest, and the most memory.
    None,
    /// Of every block its input alone; the rest is computed again in the backward pass.
    Block,
    /// The activations of as many blocks as fit into the memory that the run may take.
    Auto,
}

impl TrainConfig {
    /// The constants of the optimizer.
    pub fn adamw(&self) -> AdamWConfig {
        AdamWConfig { betas: self.betas, eps: self.eps, weight_decay: self.weight_decay }
    }

    /// The steps of the whole run; at least 1 where there is an example.
    pub fn total_steps(&self, examples_per_epoch: u64) -> u64 {
        self.total_examples(examples_per_epoch).div_ceil(self.global_batch_size as u64)
    }

    /// How often the run takes an example, over all its steps. The last step takes what is left.
    pub fn total_examples(&self, examples_per_epoch: u64) -> u64 {
        match self.max_steps {
            Some(steps) => steps.saturating_mul(self.global_batch_size as u64),
            None => whole(self.epochs * examples_per_epoch as f64),
        }
    }

    /// The warm-up steps of a run of this many steps; never more than those.
    ///
    /// Source: transformers `training_args.py`, `get_warmup_steps`.
    pub fn warmup(&self, total_steps: u64) -> u64 {
        self.warmup_steps.unwrap_or_else(|| whole(self.warmup_ratio * total_steps as f64)).min(total_steps)
    }

    /// Steps between validations: as the recipe says, else an epoch.
    pub fn eval_every(&self, examples_per_epoch: u64) -> u64 {
        let epoch = examples_per_epoch.div_ceil(self.global_batch_size as u64);
        self.eval_every.unwrap_or(epoch).max(1)
    }

    pub(super) fn validate(&self, ranges: &mut Ranges) {
        let at_least_1 = "at least 1";
        let or_null = "at least 1, or null";
        let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
        let above_0 = |value: f64, high: f64| value > 0.0 && value <= high;
        ranges.check("epochs", self.epochs, "a number above 0 and at most 10000", above_0(self.epochs, 1e4));
        ranges.check_some("max_steps", self.max_steps, or_null, |n| n > 0);
        ranges.check("global_batch_size", self.global_batch_size, at_least_1, self.global_batch_size > 0);
        ranges.check("micro_batch_size", self.micro_batch_size, at_least_1, self.micro_batch_size > 0);
        let memory = self.memory.map(MemorySize::bytes);
        ranges.check_some("memory", memory, "more than 0 B, or null", |bytes| bytes > 0);
        let expected = "a number above 0 and at most 1";
        ranges.check("learning_rate", self.learning_rate, expected, above_0(self.learning_rate, 1.0));
        let expected = "a number from 0 to 1";
        ranges.check("warmup_ratio", self.warmup_ratio, expected, within(self.warmup_ratio, 0.0, 1.0));
        if let Some(max_steps) = self.max_steps {
            let expected = format!("at most train.max_steps, which is {max_steps}");
            ranges.check_some("warmup_steps", self.warmup_steps, &expected, |n| n <= max_steps);
        }
        ranges.check("weight_decay", self.weight_decay, expected, within(self.weight_decay, 0.0, 1.0));
        for (key, beta) in ["betas[0]", "betas[1]"].into_iter().zip(self.betas) {
            ranges.check(key, beta, "a number from 0 to below 1", (0.0..1.0).contains(&beta));
        }
        ranges.check("eps", self.eps, "a number above 0 and at most 0.1", above_0(self.eps, 0.1));
        let norm = self.max_grad_norm;
        ranges.check("max_grad_norm", norm, "a finite number of at least 0 (off)", norm >= 0.0 && norm.is_finite());
        ranges.check_some("eval_every", self.eval_every, or_null, |n| n > 0);
        ranges.check_some("save_every", self.save_every, or_null, |n| n > 0);
        ranges.check("keep_checkpoints", self.keep_checkpoints, at_least_1, self.keep_checkpoints > 0);
        ranges.check_some("early_stopping", self.early_stopping, or_null, |n| n > 0);
    }
}

/// The next whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates; the value is not negative"
)]
fn whole(steps: f64) -> u64 {
    steps.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_follow_from_epochs_unless_they_are_given() {
        let mut train = TrainConfig { global_batch_size: 16, epochs: 1.0, ..TrainConfig::default() };
        assert_eq!(train.total_steps(160), 10);
        assert_eq!(train.total_steps(161), 11, "the last step takes what is left");
        assert_eq!(train.total_steps(1), 1);
        assert_eq!(train.total_steps(0), 0);
        train.epochs = 2.5;
        assert_eq!(train.total_steps(160), 25);
        train.max_steps = Some(7);
        assert_eq!(train.total_steps(160), 7);
    }

    #[test]
    fn warm_up_is_a_share_unless_it_is_given_and_ends_with_the_run() {
        let mut train = TrainConfig { warmup_ratio: 0.03, ..TrainConfig::default() };
        assert_eq!(train.warmup(100), 3);
        assert_eq!(train.warmup(101), 4, "rounded up, as transformers does");
        assert_eq!(train.warmup(0), 0);
        train.warmup_steps = Some(10);
        assert_eq!(train.warmup(100), 10);
        assert_eq!(train.warmup(5), 5);
    }
}
