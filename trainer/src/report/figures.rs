//! The few numbers by which a run is listed and compared.

use serde::Serialize;

use super::series::smoothed;
use super::{RunReport, Standing};
use crate::eval::evaluation::Evaluation;
use crate::recipe::without_folder;

/// The numbers of a run; `None` is what is not known.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// How it stands.
    pub standing: Standing,
    /// The base, as the recipe names it; of a folder or file of this machine its own name.
    pub base: String,
    /// The last step made.
    pub steps: u64,
    /// The steps of the whole run.
    pub planned_steps: Option<u64>,
    /// Tokens of the steps in its metrics, prompts included.
    pub tokens: u64,
    /// Seconds of these steps.
    pub seconds: f64,
    /// Tokens for each of these seconds.
    pub tokens_per_second: Option<f64>,
    /// The training loss at the end, smoothed, in nats per supervised token.
    pub training_loss: Option<f64>,
    /// The lowest validation loss, in nats per supervised token.
    pub validation_loss: Option<f64>,
    /// Its step.
    pub best_step: Option<u64>,
    /// The share of held-out questions with exactly the expected answer, 0 to 1.
    pub exact_match: Option<f64>,
    /// The forgetting gate lets it pass.
    pub passed: Option<bool>,
    /// What it took, in kilowatt-hours with the data centre's part.
    pub kwh: Option<f64>,
    /// What that emits, in grams of CO2e.
    pub grams_co2e: Option<f64>,
    /// The most memory that the first process held after a step, in bytes.
    pub peak_bytes: Option<u64>,
    /// The numbers that are trained.
    pub trained_numbers: Option<usize>,
    /// Bytes of its folder.
    pub bytes: u64,
}

impl Figures {
    /// The numbers of a run.
    pub(super) fn of(run: &RunReport) -> Self {
        // The last step of a run that was killed knows more than its run.json.
        let (info, last) = (run.info.as_ref(), run.steps.last());
        let plan = info.and_then(|info| info.plan.as_ref());
        let tokens = run.steps.iter().map(|step| step.tokens as u64).sum();
        let seconds: f64 = run.steps.iter().map(|step| step.seconds).sum();
        let best = run.validations.iter().min_by(|a, b| a.validation_loss.total_cmp(&b.validation_loss));
        let losses: Vec<(f64, f64)> = run.steps.iter().map(|step| (step.step as f64, step.loss)).collect();
        let energy = info.and_then(|info| info.energy.as_ref());
        let kwh = energy.map(|energy| energy.kwh).into_iter().chain(last.map(|step| step.kwh)).reduce(f64::max);
        let grid = energy.and_then(|energy| energy.grid.clone()).or_else(|| run.recipe.energy.grid());
        Self {
            standing: run.standing,
            base: without_folder(&run.recipe.model.base),
            steps: last.map_or(0, |step| step.step).max(info.map_or(0, |info| info.step)),
            planned_steps: plan.map(|plan| plan.total_steps),
            tokens,
            seconds,
            tokens_per_second: (seconds > 0.0).then(|| tokens as f64 / seconds),
            training_loss: smoothed(&losses).last().map(|(_, loss)| *loss),
            validation_loss: best.map(|best| best.validation_loss),
            best_step: best.map(|best| best.step),
            exact_match: run.evaluation.as_ref().and_then(Evaluation::exact_match),
            passed: run.forgetting.as_ref().map(|forgetting| forgetting.verdict.passed),
            grams_co2e: kwh.zip(grid).map(|(kwh, grid)| grid.grams_per_kwh * kwh),
            kwh,
            peak_bytes: run.steps.iter().filter_map(|step| step.memory).max(),
            trained_numbers: plan.map(|plan| plan.trainable_parameters),
            bytes: run.bytes,
        }
    }
}
