//! LoRA dropout with a stateless source of randomness.
//!
//! The masks follow from (seed, step, example of the step, block) alone. So a resumed run draws what the uninterrupted one
//! would have drawn, a block that is computed again in the backward pass draws the same, and neither packing nor the
//! number of machines changes a mask.

use burn::tensor::{Device, Tensor, TensorData};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The dropout of one optimizer step.
#[derive(Clone, Copy, Debug)]
pub struct DropoutSeed {
    /// The share of numbers that are dropped, in `[0, 1)`.
    pub probability: f64,
    /// The run's seed.
    pub seed: u64,
    /// The optimizer step.
    pub step: u64,
}

impl DropoutSeed {
    /// The masks of one block for rows that belong to these sequences: of each its number in the step, and its rows.
    /// `None` for probability 0, so that masks cost nothing when they do nothing.
    pub fn block(self, index: usize, sequences: impl Iterator<Item = (u64, usize)>) -> Option<Dropout> {
        if self.probability == 0.0 {
            return None;
        }
        let generator = |(sequence, rows)| {
            let mut key = [0; 32];
            for (bytes, value) in key.chunks_exact_mut(8).zip([self.seed, self.step, sequence, index as u64]) {
                bytes.copy_from_slice(&value.to_le_bytes());
            }
            (ChaCha8Rng::from_seed(key), rows)
        };
        Some(Dropout { probability: self.probability, sequences: sequences.map(generator).collect() })
    }
}

/// Draws the dropout masks of one block, module after module.
#[derive(Debug)]
pub struct Dropout {
    probability: f64,
    /// Of each sequence its generator and its rows.
    sequences: Vec<(ChaCha8Rng, usize)>,
}

impl Dropout {
    /// A mask of zeros and `1 / (1 - probability)` over the rows of all sequences.
    pub(super) fn mask(&mut self, columns: usize, device: &Device) -> Tensor<2> {
        #[expect(clippy::cast_possible_truncation, reason = "activations are f32")]
        let keep = (1.0 / (1.0 - self.probability)) as f32;
        let mut values: Vec<f32> = Vec::new();
        let mut all_rows = 0;
        for (rng, rows) in &mut self.sequences {
            all_rows += *rows;
            let draw = |_| if rng.random::<f64>() < self.probability { 0.0 } else { keep };
            values.extend((0..*rows * columns).map(draw));
        }
        Tensor::from_data(TensorData::new(values, [all_rows, columns]), device)
    }
}
