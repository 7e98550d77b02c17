//! LoRA dropout with a stateless source of randomness.
//!
//! The masks follow from (seed, step, micro-batch) alone, so a resumed run draws what the uninterrupted one would have
//! drawn, on every device.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Draws the dropout masks of one micro-batch, module after module.
#[derive(Debug)]
pub struct Dropout {
    probability: f64,
    rng: ChaCha8Rng,
}

impl Dropout {
    /// `None` for probability 0, so that the masks cost nothing when they do nothing.
    pub fn for_micro_batch(probability: f64, seed: u64, step: u64, micro_step: u64) -> Option<Self> {
        if probability == 0.0 {
            return None;
        }
        let mut key = [0; 32];
        for (bytes, value) in key.chunks_exact_mut(8).zip([seed, step, micro_step, 0x6c6f_7261]) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        Some(Self { probability, rng: ChaCha8Rng::from_seed(key) })
    }

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
