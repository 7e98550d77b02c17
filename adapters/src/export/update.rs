//! The dense update of a weight, computed row by row into the weight itself.
//!
//! Both merged forms fold an adapter in through here, one weight at a time: the dense product `B A` is never held.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;

use rayon::prelude::*;

use super::peft::{AdapterConfig, LoraPair, PeftAdapter, is_embedding};
use crate::AdapterError;

/// The update of one weight, as its factors.
struct Update<'a> {
    scale: f32,
    /// `[rank, columns]`.
    a: Cow<'a, [f32]>,
    rank: usize,
    columns: usize,
    /// `[rows, rank]`, in the order of the weight's rows.
    b: Cow<'a, [f32]>,
    /// The length of each row, in the order of the weight's; `None` but for `DoRA`.
    magnitude: Option<&'a [f32]>,
}

impl<'a> Update<'a> {
    fn new(config: &AdapterConfig, module: &str, pair: &'a LoraPair) -> Result<Self, AdapterError> {
        #[expect(clippy::cast_possible_truncation, reason = "the matrices are in single precision")]
        let scale = config.scaling(module)? as f32;
        let (a, b, magnitude) = (Cow::Borrowed(&pair.a[..]), Cow::Borrowed(&pair.b[..]), pair.magnitude.as_deref());
        Ok(Self { scale, a, rank: pair.rank, columns: pair.in_features, b, magnitude })
    }

    /// The update of an embedding. Its adapter counts as a map from the vocabulary, but its weight has a row for each
    /// token: `(B A)ᵀ = Aᵀ Bᵀ`.
    fn of_embedding(config: &AdapterConfig, module: &str, pair: &'a LoraPair) -> Result<Self, AdapterError> {
        let turned = |matrix: &[f32], columns: usize| -> Vec<f32> {
            (0..columns).flat_map(|column| matrix.iter().skip(column).step_by(columns)).copied().collect()
        };
        let b = Cow::Owned(turned(&pair.a, pair.in_features));
        let (a, columns) = (Cow::Owned(turned(&pair.b, pair.rank)), pair.out_features);
        Ok(Self { a, b, columns, magnitude: None, ..Self::new(config, module, pair)? })
    }

    /// Adds `scale · B A` to `[out, in]`, and brings the rows to their length where the adapter has one for each.
    fn add_to(&self, values: &mut [f32]) {
        let (rank, columns) = (self.rank, self.columns);
        values.par_chunks_exact_mut(columns).zip(self.b.par_chunks_exact(rank)).for_each(|(row, b)| {
            for (b, a) in b.iter().zip(self.a.chunks_exact(columns)) {
                let factor = self.scale * b;
                for (value, a) in row.iter_mut().zip(a) {
                    *value += factor * a;
                }
            }
        });
        let Some(magnitude) = self.magnitude else { return };
        values.par_chunks_exact_mut(columns).zip(magnitude.par_iter()).for_each(|(row, length)| {
            let squares: f64 = row.iter().map(|value| f64::from(*value).powi(2)).sum();
            #[expect(clippy::cast_possible_truncation, reason = "the weights are in single precision")]
            let factor = (f64::from(*length) / squares.sqrt()) as f32;
            for value in row {
                *value *= factor;
            }
        });
    }
}

/// The updates of an adapter, by the checkpoint's names of the weights that they change; none by default.
#[derive(Default)]
pub struct Updates<'a>(BTreeMap<String, Update<'a>>);

impl<'a> Updates<'a> {
    /// The updates of an adapter in `folder`, for a base whose weights have the shapes that `shape_of` gives.
    ///
    /// # Errors
    /// [`AdapterError::Tensor`] when a module of the adapter is not in the base or has another shape there;
    /// [`AdapterError::PeftConfig`] when patterns of its configuration contradict each other.
    pub fn new(
        folder: &Path,
        PeftAdapter { config, pairs, .. }: &'a PeftAdapter,
        shape_of: impl Fn(&str) -> Option<Vec<usize>>,
    ) -> Result<Self, AdapterError> {
        let update = |(module, pair): (&String, &'a LoraPair)| {
            let weight = format!("{module}.weight");
            let mut shape = shape_of(&weight);
            if is_embedding(module) {
                if let Some(shape) = &mut shape {
                    shape.reverse();
                }
                check_module(folder, module, pair, shape.as_deref())?;
                return Ok((weight, Update::of_embedding(config, module, pair)?));
            }
            check_module(folder, module, pair, shape.as_deref())?;
            Ok((weight, Update::new(config, module, pair)?))
        };
        Ok(Self(pairs.iter().map(update).collect::<Result<_, AdapterError>>()?))
    }

    /// Adds the update of a weight, if there is one, to its values, `[out, in]` in row order.
    pub fn add_to(&self, weight: &str, values: &mut [f32]) {
        if let Some(update) = self.0.get(weight) {
            update.add_to(values);
        }
    }
}

/// Refuses a module that the base does not have, or has in another shape.
fn check_module(adapter: &Path, module: &str, pair: &LoraPair, shape: Option<&[usize]>) -> Result<(), AdapterError> {
    let problem = match shape {
        Some(&[rows, columns]) if [rows, columns] == [pair.out_features, pair.in_features] => return Ok(()),
        Some(&[rows, columns]) => format!(
            "module {module} is {} to {} in the adapter and {columns} to {rows} in the base; the adapter belongs to \
             another base",
            pair.in_features, pair.out_features
        ),
        _ => format!("the base has no module {module}; the adapter belongs to another base"),
    };
    Err(AdapterError::File { path: adapter.into(), problem })
}
