//! Several adapters of one base combined into one, as PEFT's `add_weighted_adapter` does it.
//!
//! [`Part`]s are read from PEFT folders, [`Combination`] says how they are combined, and [`combine`] gives an adapter.
//! `check` refuses what has no meaning, `algebra` holds the formulas.
//! Source: PEFT 0.21.2, `tuners/lora/model.py` (`add_weighted_adapter`) and `utils/merge_utils.py`.

mod algebra;
mod check;
mod method;
mod singular;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::export::peft::{InitLoraWeights, TargetNames};
use crate::{AdapterConfig, AdapterError, LoraConfig, LoraPair, PeftAdapter};

pub use method::{MajoritySign, Method};

/// An adapter that takes part in a combination.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it comes from, for messages.
    pub path: PathBuf,
    /// Itself; one with norms of its own is taken alone and as it is.
    pub adapter: PeftAdapter,
}

impl Part {
    /// Reads a PEFT folder.
    ///
    /// # Errors
    /// What [`PeftAdapter::read`] says.
    pub fn read(folder: &Path) -> Result<Self, AdapterError> {
        Ok(Self { path: folder.into(), adapter: PeftAdapter::read(folder)? })
    }
}

/// How adapters are combined.
#[derive(Clone, Debug, PartialEq)]
pub struct Combination {
    /// The method; one adapter alone is always taken linearly.
    pub method: Method,
    /// A factor for the effect of each adapter, in their order; negative ones subtract.
    pub weights: Vec<f64>,
    /// The share of numbers that pruning keeps, above 0 to 1; `None` for methods that do not prune.
    pub density: Option<f64>,
    /// How TIES elects the sign.
    pub majority_sign: MajoritySign,
    /// The rank to which [`Method::Svd`] cuts, at least 1; by default the largest of the adapters'.
    pub rank: Option<usize>,
    /// A factor for the effect of the result, not 0.
    pub scale: f64,
    /// The seed of what DARE drops.
    pub seed: u64,
}

/// Which numbers of a matrix random pruning keeps: asked for a module, `lora_A` or `lora_B`, the index of the adapter
/// and the count of numbers.
type Masks<'a> = dyn FnMut(&str, &str, usize, usize) -> Vec<bool> + 'a;

/// Combines adapters into one whose scale is 1 for every module: the weights, the adapters' own scales and
/// [`Combination::scale`] are in its matrices.
///
/// A module that only some of the adapters have is made of those. The result has one rank; a module with less gets rows
/// and columns of zeros. The matrices are PEFT's; its configuration is not in one point: PEFT keeps `use_rslora` of the
/// first adapter, and so multiplies the effect of such a combination with the root of the rank.
///
/// # Errors
/// [`AdapterError::CombinationSetting`] for weights, density or scale that are missing or out of range;
/// [`AdapterError::Combination`] for adapters of different bases, of shapes or ranks that do not fit, and for `DoRA` and
/// others that are more than a product of two matrices.
pub fn combine(parts: &[Part], combination: &Combination) -> Result<PeftAdapter, AdapterError> {
    let mut generator = ChaCha8Rng::seed_from_u64(combination.seed);
    let density = combination.density.unwrap_or(1.0);
    let mut draw = |_: &str, _: &str, _, count| {
        (0..count).map(|_| f64::from(generator.next_u32()) < density * (f64::from(u32::MAX) + 1.0)).collect()
    };
    combine_with(parts, combination, &mut draw)
}

fn combine_with(parts: &[Part], combination: &Combination, masks: &mut Masks<'_>) -> Result<PeftAdapter, AdapterError> {
    // One adapter alone is only weighted, as in PEFT, unless it is to be cut.
    let method = match combination.method {
        _ if parts.len() > 1 => combination.method,
        Method::Svd => Method::Svd,
        _ => Method::Linear,
    };
    check::settings(parts.len(), combination)?;
    let base = check::parts(parts, method)?;
    let modules: BTreeSet<&String> = parts.iter().flat_map(|part| part.adapter.pairs.keys()).collect();
    let mut pairs = BTreeMap::new();
    for module in modules {
        let mut having = Vec::new();
        for (index, part) in parts.iter().enumerate() {
            if let Some(pair) = part.adapter.pairs.get(module) {
                let weight = combination.weights[index] * part.adapter.config.scaling(module)?;
                having.push(algebra::Weighted { index, weight, pair });
            }
        }
        pairs.insert(module.clone(), algebra::combine(method, module, &having, combination, masks));
    }
    // What PEFT takes: the largest of each adapter, added up for a concatenation.
    let largest = parts.iter().map(|part| part.adapter.pairs.values().map(|pair| pair.rank).max().unwrap_or(1));
    let (sum, most) = (largest.clone().sum(), largest.max().unwrap_or(1));
    let rank = match method {
        Method::Cat => sum,
        // No update has more singular parts than the ranks add up to.
        Method::Svd => combination.rank.unwrap_or(most).min(sum),
        _ => most,
    };
    let scale = algebra::single(combination.scale);
    for pair in pairs.values_mut() {
        if method == Method::Svd {
            *pair = singular::truncated(pair, rank);
        }
        *pair = pair.with_rank(rank, scale);
    }
    let [base_model_name_or_path, revision] = base;
    let config = AdapterConfig {
        base_model_name_or_path,
        revision,
        r: rank,
        lora_alpha: rank as f64,
        lora_dropout: parts[0].adapter.config.lora_dropout,
        target_modules: targets(parts, &pairs),
        init_lora_weights: InitLoraWeights::default(),
        other: parts[0].adapter.config.base_class(),
        ..AdapterConfig::new(&LoraConfig::default(), "", None)
    };
    Ok(PeftAdapter { config, pairs, norms: BTreeMap::new() })
}

/// The names of all adapters together; the modules' whole paths where one of them has a pattern instead.
fn targets(parts: &[Part], pairs: &BTreeMap<String, LoraPair>) -> TargetNames {
    let mut names = BTreeSet::new();
    for part in parts {
        match &part.adapter.config.target_modules {
            TargetNames::Names(own) => names.extend(own.iter().cloned()),
            TargetNames::Pattern(_) => return TargetNames::Names(pairs.keys().cloned().collect()),
        }
    }
    TargetNames::Names(names.into_iter().collect())
}
