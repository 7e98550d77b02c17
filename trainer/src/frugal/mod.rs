//! The cheapest recipe that is good enough.
//!
//! A recipe is trained once as it is: that is what the others are held to. Then it is tried with small changes, each in
//! the same short time; those that help are combined and tried for twice as long, until what comes out is as good as the
//! full recipe within a tolerance. Equal time, not equal steps: a change that makes steps cheaper gets more of them.
//!
//! ```text
//! recipe -> Arm       arms.rs       what is changed
//!        -> Tried     search.rs     trained for a part of the full recipe's time, and asked
//!        -> Curve     curve.rs      how the loss falls with time, and what it will be
//!        -> frontier  frontier.rs   what nothing else beats in both cost and quality, and its plot
//! ```
//!
//! Sources: Jamieson and Talwalkar 2016, <https://arxiv.org/abs/1502.07943> (successive halving); Hestness et al. 2017,
//! <https://arxiv.org/abs/1712.00409> (the power law); Domhan et al. 2015, <https://doi.org/10.5555/2832581.2832731>
//! (extrapolating learning curves to end trials early).

pub mod arms;
pub mod curve;
pub mod frontier;
pub mod search;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Some values of a recipe that may make it cheaper or better.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arm {
    /// What tables call it.
    pub name: String,
    /// What is set on top of the recipe, as `KEY=VALUE`.
    pub set: Vec<String>,
}

impl Arm {
    /// The recipe as it is.
    pub fn plain() -> Self {
        Self { name: "as it is".to_owned(), set: Vec::new() }
    }

    /// This and another on top.
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self { name: other.name.clone(), set: [self.set.as_slice(), &other.set].concat() }
    }

    /// The keys that it sets.
    fn keys(&self) -> impl Iterator<Item = &str> {
        self.set.iter().map(|value| value.split_once('=').map_or(value.as_str(), |(key, _)| key))
    }
}

/// A trained recipe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Its run folder.
    pub folder: PathBuf,
    /// The steps that it made.
    pub steps: u64,
    /// Seconds of its steps, and of choosing its examples.
    pub seconds: f64,
    /// What these and the preparing of its data took, in kilowatt-hours, with the data centre's part.
    pub kwh: f64,
    /// The lowest validation loss, in nats per supervised token.
    pub loss: f64,
}

/// What came of an arm in some time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// The arm.
    #[serde(flatten)]
    pub arm: Arm,
    /// The part of the full recipe's time that it was given, above 0 and at most 1.
    pub part: f64,
    /// What was trained.
    #[serde(flatten)]
    pub trained: Trained,
    /// The share of validation questions with exactly the expected answer, 0 to 1; `None` where it was not asked.
    pub exact_match: Option<f64>,
}
