//! Penalties on the trained numbers themselves: their distance from their start, and the overlap of the adapter's
//! directions with those of earlier tasks.
//!
//! Both depend on the parameters alone, so their gradients are written out and added to that of the losses.

use std::path::Path;

use adapters::PeftAdapter;
use burn::tensor::{Device, Tensor, TensorData};
use sha2::{Digest as _, Sha256};

use super::{optimizer, parameters};
use crate::device::read;
use crate::error::TrainError;
use crate::model::Decoder;
use crate::recipe::{ForgettingConfig, OrthogonalConfig};

/// The penalties of a run.
#[derive(Clone, Debug)]
pub struct Penalties {
    start: Option<Start>,
    apart: Option<Apart>,
}

/// `weight / 2 · |θ - θ₀|²`.
///
/// Source: Li et al. 2018, <https://arxiv.org/abs/1802.01483>, equation 2.
#[derive(Clone, Debug)]
struct Start {
    weight: f64,
    /// `θ₀`, in the layout of [`parameters::flatten`].
    parameters: Tensor<1>,
}

/// `weight · Σ ‖A₀ Aᵀ‖²` over all modules and earlier adapters.
///
/// Source: Wang et al. 2023, <https://arxiv.org/abs/2310.14152>, equation 7, which adds up absolute values where its
/// code and this one add up squares.
#[derive(Clone, Debug)]
struct Apart {
    weight: f64,
    /// The modules that an earlier adapter has too, in the order of the parameters.
    modules: Vec<Shared>,
}

/// A module that an earlier adapter has too.
#[derive(Clone, Debug)]
struct Shared {
    /// The first number of `A` in the layout of [`parameters::flatten`].
    first: usize,
    /// `[rank, in]`.
    shape: [usize; 2],
    /// The rows of the earlier adapters' `A`, one adapter below the other, `[rows, in]`.
    earlier: Tensor<2>,
}

impl Penalties {
    /// The penalties that a recipe asks for. `decoder` carries the adapter as the run starts with it.
    ///
    /// # Errors
    /// What [`PeftAdapter::read`] says of an earlier adapter; [`TrainError::AdapterMismatch`] when it has no module that
    /// is trained, or one with another number of inputs.
    pub fn new(config: &ForgettingConfig, decoder: &Decoder, device: &Device) -> Result<Self, TrainError> {
        let weight = config.l2_weight;
        let start = (weight > 0.0).then(|| Start { weight, parameters: parameters::flatten(decoder) });
        let apart = config.orthogonal.as_ref().map(|config| Apart::new(config, decoder, device)).transpose()?;
        Ok(Self { start, apart })
    }

    /// Adds the penalties' gradients at `parameters` to that of the losses, all in the layout of
    /// [`parameters::flatten`], and returns their sum with it; `None` where there are none.
    pub fn add(&self, parameters: &Tensor<1>, mut gradient: Tensor<1>) -> (Option<f64>, Tensor<1>) {
        let mut penalty = None;
        if let Some(Start { weight, parameters: start }) = &self.start {
            let difference = parameters.clone() - start.clone();
            penalty = Some(0.5 * weight * optimizer::norm(&difference).powi(2));
            gradient = gradient + difference * *weight;
        }
        if let Some(apart) = &self.apart {
            let (overlap, own) = apart.gradient(parameters);
            penalty = Some(penalty.unwrap_or(0.0) + overlap);
            gradient = gradient + own;
        }
        (penalty, gradient)
    }

    /// SHA-256 over all numbers that the penalties hold on to, in hexadecimal; `None` where there are none.
    pub fn fingerprint(&self) -> Option<String> {
        let start = self.start.iter().map(|start| start.parameters.clone());
        let apart =
            self.apart.iter().flat_map(|apart| &apart.modules).map(|module| module.earlier.clone().flatten(0, 1));
        let mut hash = None;
        for numbers in start.chain(apart) {
            let hash = hash.get_or_insert_with(Sha256::new);
            for number in read(numbers) {
                hash.update(number.to_le_bytes());
            }
        }
        hash.map(|hash| datasets::hex(&hash.finalize()))
    }
}

impl Apart {
    fn new(config: &OrthogonalConfig, decoder: &Decoder, device: &Device) -> Result<Self, TrainError> {
        let mut places: Vec<(parameters::PlaceOfA, Vec<Tensor<2>>)> =
            parameters::places_of_a(decoder).into_iter().map(|place| (place, Vec::new())).collect();
        for folder in &config.adapters {
            let mut pairs = PeftAdapter::read(folder)?.pairs;
            let before: usize = places.iter().map(|(_, rows)| rows.len()).sum();
            for (place, rows) in &mut places {
                let Some(pair) = pairs.remove(&place.path) else { continue };
                if pair.in_features != place.shape[1] {
                    return Err(other_width(folder, &place.path, pair.in_features, place.shape[1]));
                }
                rows.push(Tensor::from_data(TensorData::new(pair.a, [pair.rank, pair.in_features]), device));
            }
            if places.iter().map(|(_, rows)| rows.len()).sum::<usize>() == before {
                return Err(nothing_shared(folder, pairs.keys().next(), &places[0].0.path));
            }
        }
        let shared = places.into_iter().filter(|(_, rows)| !rows.is_empty());
        let modules = shared.map(|(place, rows)| Shared {
            first: place.first,
            shape: place.shape,
            earlier: Tensor::cat(rows, 0),
        });
        Ok(Self { weight: config.weight, modules: modules.collect() })
    }

    /// The penalty, and its gradient `2 · weight · A A₀ᵀ A₀`.
    fn gradient(&self, parameters: &Tensor<1>) -> (f64, Tensor<1>) {
        let (count, device) = (parameters.dims()[0], parameters.device());
        let mut penalty = 0.0;
        let mut parts = Vec::with_capacity(2 * self.modules.len() + 1);
        let mut end = 0;
        for Shared { first, shape, earlier } in &self.modules {
            let numbers = shape[0] * shape[1];
            let a = parameters.clone().narrow(0, *first, numbers).reshape(*shape);
            let overlap = a.matmul(earlier.clone().transpose());
            penalty += self.weight * read(overlap.clone()).iter().map(|o| f64::from(*o).powi(2)).sum::<f64>();
            let own = overlap.matmul(earlier.clone()) * (2.0 * self.weight);
            parts.extend([Tensor::zeros([first - end], &device), own.flatten(0, 1)]);
            end = first + numbers;
        }
        parts.push(Tensor::zeros([count - end], &device));
        parts.retain(|part| part.dims()[0] > 0);
        (penalty, Tensor::cat(parts, 0))
    }
}

fn other_width(folder: &Path, module: &str, got: usize, expected: usize) -> TrainError {
    let reason = format!(
        "module {module} has {got} inputs in this earlier adapter and {expected} in the base, so their directions cannot \
         be compared; take the adapter out of forgetting.orthogonal.adapters"
    );
    TrainError::AdapterMismatch { path: folder.to_owned(), reason }
}

fn nothing_shared(folder: &Path, its: Option<&String>, trained: &str) -> TrainError {
    let its = its.map_or("none", String::as_str);
    let reason = format!(
        "has no module that is trained: its first is {its}, that of this run {trained}; take the adapter out of \
         forgetting.orthogonal.adapters, or change lora.targets"
    );
    TrainError::AdapterMismatch { path: folder.to_owned(), reason }
}
