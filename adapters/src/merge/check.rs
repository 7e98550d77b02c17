//! What can be combined: settings in their ranges, adapters of one base whose matrices fit each other.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Combination, Method, Part};
use crate::{AdapterError, LoraPair};

/// Refuses settings that are missing, out of range or without effect.
pub(super) fn settings(adapters: usize, combination: &Combination) -> Result<(), AdapterError> {
    let Combination { method, weights, density, scale, rank, .. } = combination;
    let refuse = |setting: &'static str, value: String, expected: String| {
        Err(AdapterError::CombinationSetting { setting, value, expected })
    };
    if adapters == 0 {
        return refuse("adapter", "missing".into(), "at least one adapter".into());
    }
    if weights.len() != adapters {
        let plural = if adapters == 1 { "" } else { "s" };
        return refuse("weights", format!("{weights:?}"), format!("{adapters} number{plural}, one for each adapter"));
    }
    if weights.iter().any(|weight| !weight.is_finite()) {
        return refuse("weights", format!("{weights:?}"), "finite numbers".into());
    }
    match density {
        None if method.prunes() && adapters > 1 => {
            refuse("density", "missing".into(), format!("the share of numbers that {method} keeps, above 0 to 1"))
        }
        Some(density) if !method.prunes() => {
            refuse("density", density.to_string(), format!("no density, since {method} drops no numbers"))
        }
        Some(density) if !(*density > 0.0 && *density <= 1.0) => {
            refuse("density", density.to_string(), "a number above 0 to 1".into())
        }
        _ if rank.is_some() && *method != Method::Svd => refuse(
            "rank",
            format!("{}", rank.unwrap_or_default()),
            format!("no rank, since {method} does not choose it"),
        ),
        _ if *rank == Some(0) => refuse("rank", "0".into(), "a rank of at least 1".into()),
        _ if *scale == 0.0 || !scale.is_finite() => {
            refuse("scale", scale.to_string(), "a finite number that is not 0".into())
        }
        _ => Ok(()),
    }
}

/// Refuses adapters that do not fit each other, and gives the base's name and revision.
pub(super) fn parts(parts: &[Part], method: Method) -> Result<[Option<String>; 2], AdapterError> {
    parts.iter().try_for_each(plain)?;
    let base = one_base(parts)?;
    // The first adapter that has a module, with its matrices.
    let mut first: BTreeMap<&str, (&Path, &LoraPair)> = BTreeMap::new();
    for part in parts {
        for (module, pair) in &part.adapter.pairs {
            let (other, own) = *first.entry(module).or_insert((&part.path, pair));
            let refuse = |problem| Err(AdapterError::Combination { path: part.path.clone(), problem });
            let shape = |pair: &LoraPair| (pair.in_features, pair.out_features);
            if shape(pair) != shape(own) {
                let ((inputs, outputs), (other_inputs, other_outputs)) = (shape(pair), shape(own));
                return refuse(format!(
                    "{module} is {inputs} to {outputs}, and {other_inputs} to {other_outputs} in {}; \
                     combine adapters of one base",
                    other.display()
                ));
            }
            if pair.rank != own.rank && !method.takes_different_ranks() {
                return refuse(format!(
                    "{module} has rank {}, and {} in {}; {method} needs equal ranks, cat and svd take different ones",
                    pair.rank,
                    own.rank,
                    other.display()
                ));
            }
        }
    }
    Ok(base)
}

/// Refuses what is more than a product of two matrices beside the base's weight.
fn plain(part: &Part) -> Result<(), AdapterError> {
    let refuse = |problem: String| Err(AdapterError::Combination { path: part.path.clone(), problem });
    if part.adapter.config.use_dora {
        return refuse(
            "it is a DoRA adapter, whose magnitudes belong to its own sum with the base; fold it into the base, \
             or train it without use_dora"
                .into(),
        );
    }
    if let Some(norm) = part.adapter.norms.keys().next() {
        return refuse(format!(
            "it has norms of its own, such as {norm}, which are whole weights and no updates; fold it into the base, or \
             train it without lora.train_norms"
        ));
    }
    if let Some(name) = part.adapter.config.changes_base() {
        return refuse(format!(
            "its initialisation, {name}, changed the base model, for each adapter in another way; export it as a plain \
             LoRA first"
        ));
    }
    Ok(())
}

/// Name and revision of the base; an adapter that names none is taken to have the others'.
fn one_base(parts: &[Part]) -> Result<[Option<String>; 2], AdapterError> {
    let mut base = [None, None];
    for (index, key) in ["base_model_name_or_path", "revision"].into_iter().enumerate() {
        let value =
            |part: &Part| [&part.adapter.config.base_model_name_or_path, &part.adapter.config.revision][index].clone();
        for part in parts {
            let Some(own) = value(part).filter(|own| !own.is_empty()) else { continue };
            match &base[index] {
                None => base[index] = Some(own),
                Some(first) if is_same(first, &own) => {}
                Some(first) => {
                    let problem = format!(
                        "its {key} is {own:?}, and {first:?} in an adapter before it; \
                         the sum of updates of different weights has no meaning: combine adapters of one base"
                    );
                    return Err(AdapterError::Combination { path: part.path.clone(), problem });
                }
            }
        }
        if let (Some(known), Some(silent)) =
            (&base[index], parts.iter().find(|part| value(part).is_none_or(|own| own.is_empty())))
        {
            tracing::warn!("{}: has no {key}; taken to be {known:?}, as in the others", silent.path.display());
        }
    }
    Ok(base)
}

/// Whether two names mean one base: equal, or paths to one place on this machine.
fn is_same(left: &str, right: &str) -> bool {
    let place = |name: &str| Path::new(name).canonicalize().ok();
    left == right || place(left).is_some_and(|left| Some(left) == place(right))
}
