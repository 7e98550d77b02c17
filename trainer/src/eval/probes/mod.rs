//! The probes, one file each.

mod answers;
mod held_out_loss;

pub use answers::{Answers, scored};
pub use held_out_loss::HeldOutLoss;

use super::Probe;
use crate::recipe::Recipe;

/// Every probe of an evaluation, set up by the recipe.
pub fn all(recipe: &Recipe) -> Vec<Box<dyn Probe>> {
    vec![Box::new(Answers::new(&recipe.eval)), Box::new(HeldOutLoss::new(&recipe.data))]
}

/// The probe that compares what is answered alone.
pub fn answers(recipe: &Recipe) -> Vec<Box<dyn Probe>> {
    vec![Box::new(Answers::new(&recipe.eval))]
}
