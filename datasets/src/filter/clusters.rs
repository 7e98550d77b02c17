//! How much of the ground of a set its accepted samples still cover.
//!
//! Texts become TF-IDF vectors of hashed words (Weinberger et al. 2009, <https://arxiv.org/abs/0902.2206>) of length 1,
//! and spherical k-means (Dhillon and Modha 2001, <https://doi.org/10.1023/A:1007612920971>), started from points far
//! from each other (Gonzalez 1985, <https://doi.org/10.1016/0304-3975(85)90224-5>), groups them by topic. That is cheap
//! and crude: a measure to compare a set with itself before and after, not a map of meanings.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use rayon::prelude::*;
use serde::Serialize;

/// The hashed words.
const DIMENSIONS: usize = 4096;
/// Texts that clusters are made from; the others are only assigned.
const MOST_FITTED: usize = 20_000;
/// The most rounds of k-means.
const ROUNDS: usize = 10;

/// Clusters of a set, and those that a part of it covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ClusterCoverage {
    /// The clusters with a text of the set.
    pub clusters: usize,
    /// Those with a text of the part.
    pub covered: usize,
    /// The number of equally large clusters that would be as varied as those of the set: e to the entropy of their sizes.
    pub effective: f64,
    /// The same of the part.
    pub effective_covered: f64,
}

/// A vector of length 1 by its entries that are not 0.
type Sparse = Vec<(usize, f32)>;

/// Clusters texts, each with whether it belongs to the part. As many clusters are looked for as half of the root of their
/// number, from 2 to 100. The first centre follows from the seed.
pub fn cluster_coverage(texts: &[(&str, bool)], seed: u64) -> ClusterCoverage {
    let vectors = vectors(texts);
    let filled: Vec<usize> = (0..texts.len()).filter(|text| !vectors[*text].is_empty()).collect();
    if filled.is_empty() {
        return ClusterCoverage::default();
    }
    let step = filled.len().div_ceil(MOST_FITTED);
    let fitted: Vec<&Sparse> = filled.iter().step_by(step).map(|text| &vectors[*text]).collect();
    let count = (fitted.len().isqrt() / 2).clamp(2, 100).min(fitted.len());
    let centres = fit(&fitted, count, seed);
    let nearest: Vec<usize> = filled.par_iter().map(|text| nearest(&centres, &vectors[*text])).collect();
    let (mut all, mut part) = (vec![0usize; count], vec![0usize; count]);
    for (text, cluster) in filled.iter().zip(nearest) {
        all[cluster] += 1;
        part[cluster] += usize::from(texts[*text].1);
    }
    let used = |sizes: &[usize]| sizes.iter().filter(|size| **size > 0).count();
    ClusterCoverage {
        clusters: used(&all),
        covered: used(&part),
        effective: effective(&all),
        effective_covered: effective(&part),
    }
}

fn effective(sizes: &[usize]) -> f64 {
    let all: usize = sizes.iter().sum();
    if all == 0 {
        return 0.0;
    }
    let entropy: f64 = sizes
        .iter()
        .filter(|size| **size > 0)
        .map(|size| {
            let share = *size as f64 / all as f64;
            -share * share.ln()
        })
        .sum();
    entropy.exp()
}

fn vectors(texts: &[(&str, bool)]) -> Vec<Sparse> {
    let counted: Vec<Vec<(usize, f32)>> = texts.par_iter().map(|(text, _)| counts(text)).collect();
    let mut documents = vec![0f32; DIMENSIONS];
    for (dimension, _) in counted.iter().flatten() {
        documents[*dimension] += 1.0;
    }
    let all = counted.len() as f32;
    let weigh = |mut vector: Sparse| {
        for (dimension, value) in &mut vector {
            *value = (1.0 + value.ln()) * (1.0 + ((1.0 + all) / (1.0 + documents[*dimension])).ln());
        }
        let length = vector.iter().map(|(_, value)| value * value).sum::<f32>().sqrt();
        vector.retain(|(_, value)| *value > 0.0 && length > 0.0);
        for (_, value) in &mut vector {
            *value /= length;
        }
        vector
    };
    counted.into_par_iter().map(weigh).collect()
}

/// The hashed words of a text, each with how often it stands there.
fn counts(text: &str) -> Sparse {
    let mut counts: HashMap<usize, f32> = HashMap::new();
    let lower = text.to_lowercase();
    for word in lower.split(|character: char| !character.is_alphanumeric()).filter(|word| !word.is_empty()) {
        // Its keys are fixed.
        let mut hasher = DefaultHasher::new();
        word.hash(&mut hasher);
        let dimension = usize::try_from(hasher.finish() % DIMENSIONS as u64).expect("it is below the dimensions");
        *counts.entry(dimension).or_default() += 1.0;
    }
    let mut counts: Sparse = counts.into_iter().collect();
    counts.sort_unstable_by_key(|(dimension, _)| *dimension);
    counts
}

fn fit(vectors: &[&Sparse], count: usize, seed: u64) -> Vec<Vec<f32>> {
    let first = usize::try_from(seed % vectors.len() as u64).expect("it is below the length of a list");
    let mut centres = vec![dense(vectors[first])];
    // The likeness of each text to its nearest centre so far.
    let mut likeness: Vec<f32> = vectors.par_iter().map(|vector| product(&centres[0], vector)).collect();
    while centres.len() < count {
        let far = (0..vectors.len()).min_by(|a, b| likeness[*a].total_cmp(&likeness[*b])).expect("there are vectors");
        let centre = dense(vectors[far]);
        likeness.par_iter_mut().zip(vectors).for_each(|(likeness, vector)| {
            *likeness = likeness.max(product(&centre, vector));
        });
        centres.push(centre);
    }
    let mut before = Vec::new();
    for _ in 0..ROUNDS {
        let assigned: Vec<usize> = vectors.par_iter().map(|vector| nearest(&centres, vector)).collect();
        if assigned == before {
            break;
        }
        let mut sums = vec![vec![0f32; DIMENSIONS]; count];
        // In order, so that the sums do not depend on the threads.
        for (vector, cluster) in vectors.iter().zip(&assigned) {
            for (dimension, value) in *vector {
                sums[*cluster][*dimension] += value;
            }
        }
        for (centre, mut sum) in centres.iter_mut().zip(sums) {
            let length = sum.iter().map(|value| value * value).sum::<f32>().sqrt();
            if length > 0.0 {
                for value in &mut sum {
                    *value /= length;
                }
                *centre = sum;
            }
        }
        before = assigned;
    }
    centres
}

fn dense(vector: &Sparse) -> Vec<f32> {
    let mut dense = vec![0.0; DIMENSIONS];
    for (dimension, value) in vector {
        dense[*dimension] = *value;
    }
    dense
}

fn product(centre: &[f32], vector: &Sparse) -> f32 {
    vector.iter().map(|(dimension, value)| centre[*dimension] * value).sum()
}

/// The most alike centre, the first of equal ones.
fn nearest(centres: &[Vec<f32>], vector: &Sparse) -> usize {
    let mut best = (0, f32::NEG_INFINITY);
    for (number, centre) in centres.iter().enumerate() {
        let likeness = product(centre, vector);
        if likeness > best.1 {
            best = (number, likeness);
        }
    }
    best.0
}
