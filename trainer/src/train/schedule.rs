//! The learning rate over the steps of a run.

use crate::recipe::Schedule;

/// The factor on the peak learning rate at an optimizer step, counted from 0.
///
/// Linear warm-up from 0 over `warmup_steps`, then the schedule down to 0 at `total_steps`.
///
/// Source: transformers `optimization.py`, `get_{cosine,linear,constant}_schedule_with_warmup`.
pub fn learning_rate_factor(schedule: Schedule, step: u64, warmup_steps: u64, total_steps: u64) -> f64 {
    if step < warmup_steps {
        return step as f64 / warmup_steps.max(1) as f64;
    }
    let progress = (step - warmup_steps) as f64 / total_steps.saturating_sub(warmup_steps).max(1) as f64;
    match schedule {
        Schedule::Constant => 1.0,
        Schedule::Linear => (1.0 - progress).max(0.0),
        Schedule::Cosine => (0.5 * (1.0 + (std::f64::consts::PI * progress).cos())).max(0.0),
    }
}
