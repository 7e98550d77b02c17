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
        let factor = (config.scaling(module)? / scale) as f32;
        let mut a = pair.a.clone();
        a.resize(rank * pair.in_features, 0.0);
        let mut b = vec![0.0; pair.out_features * rank];
        for (row, own) in b.chunks_exact_mut(rank).zip(pair.b.chunks_exact(pair.rank)) {
            for (value, own) in row.iter_mut().zip(own) {
                *value = own * factor;
            }
        }
        Ok((module.clone(), LoraPair { rank, a, b, ..pair.clone() }))
    };
    let tensors = tensors.iter().map(fold).collect::<Result<_, AdapterError>>()?;
    Ok((folded, tensors))
}
