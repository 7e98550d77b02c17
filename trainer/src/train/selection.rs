//! Training on a part of the examples: what the base says of them, and which are chosen by it.
//!
//! It is done once, before the first step, and kept in the run folder, where a resumed run finds it. What it takes counts
//! as the run's.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use burn::tensor::Tensor;
use datasets::{Criterion, Prepared, SelectConfig, Traits, choose};
use serde::{Deserialize, Serialize};

use super::batch::{Layout, MicroBatch, micro_batches_of};
use super::step;
use crate::cluster::spread;
use crate::device::{indices, read};
use crate::error::TrainError;
use crate::eval::Subject;
use crate::model::Context;
use crate::recipe::Recipe;

/// What was chosen, and what that took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Selection {
    /// What decided.
    pub by: Criterion,
    /// The places of the chosen examples among the prepared ones, ascending.
    pub places: Vec<usize>,
    /// The examples there are.
    pub of: usize,
    /// How long it took.
    pub seconds: f64,
}

/// What a run records of it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelectionRecord {
    /// What decided.
    pub by: Criterion,
    /// The examples that are trained on.
    pub examples: usize,
    /// The examples there are.
    pub of: usize,
    /// How long choosing took.
    pub seconds: f64,
}

impl Selection {
    /// Chooses, with the base as far as the criterion needs it. `progress` is told how many of how many examples were read.
    ///
    /// # Errors
    /// [`TrainError::StoppedBeforeStart`] after `stop`; those of other ranks.
    pub fn make(
        recipe: &Recipe,
        config: SelectConfig,
        data: &Prepared,
        base: &Subject<'_>,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, TrainError> {
        let started = Instant::now();
        let (units, of) = (data.units(), data.train.len());
        let wanted = wanted(recipe, config, of);
        let known: Vec<(f64, Vec<f32>)> = match config.by {
            Criterion::Random => Vec::new(),
            Criterion::Embedding => {
                embeddings(&units, data, base).into_iter().map(|features| (0.0, features)).collect()
            }
            Criterion::Gradient | Criterion::Hardest | Criterion::Middle => {
                let gradients = config.by == Criterion::Gradient;
                let reader = Reader { data, base, layout: Layout::of_reading(recipe), gradients };
                spread(base.collective, &units, |units| reader.read(units, stop, progress))?
            }
        };
        let places = chosen(config.by, &units, known, wanted, recipe.train.seed);
        Ok(Self { by: config.by, places, of, seconds: started.elapsed().as_secs_f64() })
    }

    /// What is planned with, without the base: as many examples, by chance.
    pub fn planned(recipe: &Recipe, config: SelectConfig, data: &Prepared) -> Vec<usize> {
        let wanted = wanted(recipe, config, data.train.len());
        chosen(Criterion::Random, &data.units(), Vec::new(), wanted, recipe.train.seed)
    }

    /// Itself, where it was made of this data.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(self, data: &Prepared) -> Result<Self, String> {
        let all = data.train.len();
        if self.of == all && self.places.iter().all(|place| *place < all) && !self.places.is_empty() {
            return Ok(self);
        }
        Err(format!("it chooses among {} examples, and the data has {all}; start anew with --force", self.of))
    }

    /// The data with its examples alone, and a note of it.
    #[must_use]
    pub fn apply(&self, data: Prepared) -> Prepared {
        let (chosen, by) = (self.places.len(), self.by.name());
        let mut data = data.of_some(&self.places);
        data.notes.push(format!("{chosen} of {} training examples are trained on, chosen by {by}", self.of));
        data
    }

    /// What a run records of it.
    pub fn record(&self) -> SelectionRecord {
        SelectionRecord { by: self.by, examples: self.places.len(), of: self.of, seconds: self.seconds }
    }

    /// Keeps it in a file, written as a whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        let failed = |error: serde_json::Error| TrainError::Write { path: path.to_owned(), source: error.into() };
        let text = serde_json::to_string(self).map_err(failed)? + "\n";
        Ok(adapters::write_atomic(path, true, |out| out.write_all(text.as_bytes()))?)
    }
}

/// How many examples a recipe asks for.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of the length of a list")]
fn wanted(recipe: &Recipe, config: SelectConfig, all: usize) -> usize {
    if let Some(share) = config.share {
        return (share * all as f64).round() as usize;
    }
    // A recipe without both is refused when it is loaded.
    let steps = recipe.train.max_steps.unwrap_or(u64::MAX);
    let seen = steps.saturating_mul(recipe.train.global_batch_size as u64);
    usize::try_from(seen).unwrap_or(all).min(all)
}

/// The places of the examples in the units that are chosen, ascending, by what is known of each.
fn chosen(by: Criterion, units: &[Vec<usize>], known: Vec<(f64, Vec<f32>)>, wanted: usize, seed: u64) -> Vec<usize> {
    let mut traits: Vec<Traits> =
        units.iter().map(|unit| Traits { examples: unit.len(), ..Traits::default() }).collect();
    for (unit, (loss, features)) in traits.iter_mut().zip(known) {
        (unit.loss, unit.features) = (loss, features);
    }
    let chosen = choose(by, &traits, wanted, seed);
    let mut places: Vec<usize> = chosen.into_iter().flat_map(|unit| units[unit].iter().copied()).collect();
    places.sort_unstable();
    places
}

/// How rare a token is whose weight in a mean is a half.
///
/// Source: Arora et al. 2017, <https://openreview.net/forum?id=SyK00v5xx>.
const RARE: f64 = 1e-3;

/// Of each unit the mean of its token embeddings, weighted by how rare they are, less the mean of all units, of length 1.
///
/// Source: Arora et al. 2017, <https://openreview.net/forum?id=SyK00v5xx>, with the mean in the place of the first
/// singular vector.
fn embeddings(units: &[Vec<usize>], data: &Prepared, base: &Subject<'_>) -> Vec<Vec<f32>> {
    let mut counts: HashMap<u32, f64> = HashMap::new();
    let mut all = 0.0;
    for example in data.train.iter() {
        for id in example.input_ids {
            *counts.entry(*id).or_default() += 1.0;
        }
        all += example.input_ids.len() as f64;
    }
    let mut ids: Vec<u32> = counts.keys().copied().collect();
    ids.sort_unstable();
    let width = base.decoder.config.hidden_size;
    let rows: Vec<f32> = read(base.decoder.embed_tokens.rows(indices(ids.iter().copied(), base.device)));
    let row_of: HashMap<u32, (&[f32], f64)> = ids
        .iter()
        .zip(rows.chunks_exact(width))
        .map(|(id, row)| (*id, (row, RARE / (RARE + counts[id] / all))))
        .collect();
    let mean_of = |unit: &Vec<usize>| {
        let (mut sum, mut total) = (vec![0.0_f64; width], 0.0);
        for id in unit.iter().flat_map(|&place| data.train.get(place).input_ids) {
            let (row, weight) = row_of[id];
            sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * f64::from(*value));
            total += weight;
        }
        sum.into_iter().map(|value| value / total).collect::<Vec<f64>>()
    };
    let means: Vec<Vec<f64>> = units.iter().map(mean_of).collect();
    let common: Vec<f64> =
        (0..width).map(|column| means.iter().map(|mean| mean[column]).sum::<f64>() / means.len() as f64).collect();
    let apart = |mean: Vec<f64>| {
        let own: Vec<f64> = mean.iter().zip(&common).map(|(value, common)| value - common).collect();
        let length = own.iter().map(|value| value * value).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        #[expect(clippy::cast_possible_truncation, reason = "distances need no more digits")]
        own.into_iter().map(|value| (value / length) as f32).collect()
    };
    means.into_iter().map(apart).collect()
}

/// Units that are read together.
const CHUNK: usize = 64;

/// Has the base read examples.
pub struct Reader<'a> {
    /// The data.
    pub data: &'a Prepared,
    /// The base, outside autodiff.
    pub base: &'a Subject<'a>,
    /// How examples are laid out; any way gives the same.
    pub layout: Layout,
    /// Ask for the gradients of the last hidden states too.
    pub gradients: bool,
}

impl Reader<'_> {
    /// Of each unit, examples by their places, the mean loss of its supervised tokens, and the mean gradient of these losses
    /// by the last hidden states, `[hidden]`, where it is asked for.
    ///
    /// # Errors
    /// [`TrainError::StoppedBeforeStart`] after `stop`.
    ///
    /// # Panics
    /// When a place is beyond the examples.
    pub fn read(
        &self,
        units: &[Vec<usize>],
        stop: &AtomicBool,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Vec<(f64, Vec<f32>)>, TrainError> {
        let all = units.iter().map(Vec::len).sum();
        let (mut known, mut done) = (Vec::with_capacity(units.len()), 0);
        for chunk in units.chunks(CHUNK) {
            let width = if self.gradients { self.base.decoder.config.hidden_size } else { 0 };
            let mut sums = vec![(0.0, vec![0.0; width], 0_usize); chunk.len()];
            let of_unit =
                |(number, unit): (u64, &Vec<usize>)| unit.iter().map(move |&place| (number, place)).collect::<Vec<_>>();
            let numbered = (0..).zip(chunk).flat_map(of_unit);
            let examples = numbered.map(|(number, place)| (number, self.data.train.get(place)));
            for batch in micro_batches_of(examples, self.layout) {
                if stop.load(Ordering::Relaxed) {
                    return Err(TrainError::StoppedBeforeStart);
                }
                self.add(&batch, &mut sums);
            }
            let mean = |(loss, gradient, count): (f64, Vec<f32>, usize)| {
                let count = count.max(1) as f64;
                #[expect(clippy::cast_possible_truncation, reason = "a factor")]
                (loss / count, gradient.into_iter().map(|value| value * (1.0 / count) as f32).collect())
            };
            known.extend(sums.into_iter().map(mean));
            done += chunk.iter().map(Vec::len).sum::<usize>();
            progress(done, all);
        }
        Ok(known)
    }

    /// Adds what a micro-batch says to the sums of its units.
    fn add(&self, batch: &MicroBatch, sums: &mut [(f64, Vec<f32>, usize)]) {
        let Subject { decoder, device, .. } = self.base;
        let segments = step::segments(decoder, batch, device);
        let hidden = decoder.forward(batch.input_ids(device), &segments, Context::default());
        let hidden = hidden.select(0, batch.predictors(device));
        let (losses, gradient): (Vec<f32>, Vec<f32>) = if self.gradients {
            let hidden: Tensor<2> = adapters::require_grad(hidden);
            let losses = decoder.losses(hidden.clone(), batch.targets(device), None);
            let mut gradients = losses.clone().sum().backward();
            let gradient = hidden.grad_remove(&mut gradients).expect("the losses follow from the hidden states");
            (read(losses.inner()), read(gradient))
        } else {
            (read(decoder.losses(hidden, batch.targets(device), None)), Vec::new())
        };
        let mut place = 0;
        for (unit, count) in batch.supervised_sequences().filter(|(_, count)| *count > 0) {
            let (loss, sum, supervised) = &mut sums[usize::try_from(unit).expect("the number of a unit")];
            *loss += losses[place..place + count].iter().map(|loss| f64::from(*loss)).sum::<f64>();
            let width = sum.len();
            for row in gradient[place * width..(place + count) * width].chunks_exact(width.max(1)) {
                sum.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            }
            *supervised += count;
            place += count;
        }
    }
}
