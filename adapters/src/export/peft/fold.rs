//! One rank and one scale for all modules, for servers that know no patterns.

use std::collections::BTreeMap;

use super::{AdapterConfig, LoraPair};
use crate::AdapterError;

/// The same adapter with one rank, the largest, and one scale: smaller matrices get rows and columns of zeros, and what
/// a module's own scale was beyond the common one goes into its B. The update of every module stays the same.
///
/// # Errors
/// [`AdapterError::PeftConfig`] when the patterns contradict each other.
#[expect(clippy::cast_possible_truncation, reason = "the matrices are in single precision")]
pub fn fold_patterns(
    config: &AdapterConfig,
    tensors: &BTreeMap<String, LoraPair>,
) -> Result<(AdapterConfig, BTreeMap<String, LoraPair>), AdapterError> {
    let rank = tensors.values().map(|pair| pair.rank).max().unwrap_or(config.r);
    let mut folded = AdapterConfig { r: rank, use_rslora: false, ..config.clone() };
    folded.rank_pattern.clear();
    folded.alpha_pattern.clear();
    let scale = folded.lora_alpha / rank as f64;
    let fold = |(module, pair): (&String, &LoraPair)| {
        Ok((module.clone(), pair.with_rank(rank, (config.scaling(module)? / scale) as f32)))
    };
    let tensors = tensors.iter().map(fold).collect::<Result<_, AdapterError>>()?;
    Ok((folded, tensors))
}

impl LoraPair {
    /// The same update times `factor`, with a rank that is not below its own: more rows of A and columns of B, of zeros.
    pub(crate) fn with_rank(&self, rank: usize, factor: f32) -> Self {
        let mut a = self.a.clone();
        a.resize(rank * self.in_features, 0.0);
        let mut b = vec![0.0; self.out_features * rank];
        for (row, own) in b.chunks_exact_mut(rank).zip(self.b.chunks_exact(self.rank)) {
            for (value, own) in row.iter_mut().zip(own) {
                *value = own * factor;
            }
        }
        Self { rank, a, b, magnitude: self.magnitude.clone(), ..*self }
    }
}
