//! LoRA dropout with a stateless source of randomness.
//!
//! The masks follow from (seed, step, micro-batch, block) alone, so a resumed run draws what the uninterrupted one would
//! have drawn, on every device, and a block that is computed again in the backward pass draws the same.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The dropout of one micro-batch.
#[derive(Clone, Copy, Debug)]
pub struct DropoutSeed {
    /// The share of numbers that are dropped, in `[0, 1)`.
    pub probability: f64,
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
    /// The micro-batch of the step.
    pub micro_step: u64,
}

impl DropoutSeed {
    /// The masks of one block. `None` for probability 0, so that masks cost nothing when they do nothing.
    pub fn block(self, index: usize) -> Option<Dropout> {
        if self.probability == 0.0 {
            return None;
        }
        let mut key = [0; 32];
        for (bytes, value) in key.chunks_exact_mut(8).zip([self.seed, self.step, self.micro_step, index as u64]) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        Some(Dropout { probability: self.probability, rng: ChaCha8Rng::from_seed(key) })
    }
}

/// Draws the dropout masks of one block, module after module.
#[derive(Debug)]
pub struct Dropout {
    probability: f64,
    rng: ChaCha8Rng,
}

impl Dropout {
    /// A mask of zeros and `1 / (1 - probability)`.
    pub(super) fn mask(&mut self, shape: [usize; 2], device: &Device) -> Tensor<2> {
        #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
        let keep = (1.0 / (1.0 - self.probability)) as f32;
        let values: Vec<f32> = (0..shape[0] * shape[1])
            .map(|_| if self.rng.random::<f64>() < self.probability { 0.0 } else { keep })
            .collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}
