//! Sweeps: one recipe with several values, each a run of its own, and what came of them side by side.
//!
//! `space` has the combinations, `halving` how long each is tried, `queue` runs them as processes of this program, `plot`
//! draws them. A trial is an ordinary run folder: it can be resumed, evaluated and exported like any other.

pub mod halving;
pub mod plot;
pub mod queue;
pub mod space;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use space::Point;

/// One run of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Counted from 1, in the order of the combinations.
    pub number: usize,
    /// A value for each key.
    pub point: Point,
    /// The steps that it is given; `None` for the recipe's own.
    pub max_steps: Option<u64>,
    /// Its run folder.
    pub folder: PathBuf,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The trial.
    #[serde(flatten)]
    pub trial: Trial,
    /// The lowest validation loss, in nats per supervised token, and its step; `None` for a trial that failed.
    pub best: Option<(f64, u64)>,
    /// Tokens a second.
    pub tokens_per_second: Option<f64>,
    /// Whether it forgot no more than the recipe allows; `None` where nothing is measured.
    pub within_limits: Option<bool>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The trials with the lowest loss first; those that failed come last.
pub fn ranked(mut tried: Vec<Tried>) -> Vec<Tried> {
    let loss = |tried: &Tried| tried.best.map_or(f64::INFINITY, |(loss, _)| loss);
    tried.sort_by(|a, b| loss(a).total_cmp(&loss(b)).then(a.trial.number.cmp(&b.trial.number)));
    tried
}
