//! What the dashboard shows.

use std::collections::VecDeque;

use crate::track::{ForgettingRecord, Plan, Record, StepRecord, ValidationRecord};

/// Lines of notes that are kept.
const NOTES: usize = 50;

/// What is known of a run so far.
#[derive(Debug, Default)]
pub(in crate::commands) struct State {
    /// The run's name.
    pub(in crate::commands) title: String,
    /// What it does now.
    pub(in crate::commands) doing: String,
    pub(in crate::commands) plan: Option<Plan>,
    pub(in crate::commands) steps: Vec<StepRecord>,
    pub(in crate::commands) validations: Vec<ValidationRecord>,
    pub(in crate::commands) forgetting: Option<ForgettingRecord>,
    /// The newest last.
    pub(in crate::commands) notes: VecDeque<String>,
}

impl State {
    pub(in crate::commands) fn new(title: String) -> Self {
        Self { title, doing: "preparing".to_owned(), ..Self::default() }
    }

    pub(in crate::commands) fn add(&mut self, record: Record) {
        match record {
            Record::Step(step) => {
                "training".clone_into(&mut self.doing);
                self.steps.push(step);
            }
            Record::Validation(validation) => self.validations.push(validation),
            Record::Forgetting(forgetting) => self.forgetting = Some(forgetting),
        }
    }

    pub(in crate::commands) fn note(&mut self, text: String) {
        self.notes.push_back(text);
        if self.notes.len() > NOTES {
            self.notes.pop_front();
        }
    }

    /// The last step, and that of the whole run where it is known.
    pub(super) fn progress(&self) -> (u64, Option<u64>) {
        let first = self.plan.as_ref().map_or(0, |plan| plan.first_step);
        (self.steps.last().map_or(first, |step| step.step), self.plan.as_ref().map(|plan| plan.total_steps))
    }

    /// Tokens a second over the last twenty steps.
    pub(super) fn tokens_per_second(&self) -> Option<f64> {
        let last = &self.steps[self.steps.len().saturating_sub(20)..];
        let (tokens, seconds) = last.iter().fold((0, 0.0), |(t, s), step| (t + step.tokens, s + step.seconds));
        (seconds > 0.0).then(|| tokens as f64 / seconds)
    }

    /// Seconds until the last step, at the pace of the last twenty.
    pub(super) fn seconds_left(&self) -> Option<f64> {
        let last = &self.steps[self.steps.len().saturating_sub(20)..];
        let (step, total) = self.progress();
        let seconds = last.iter().map(|step| step.seconds).sum::<f64>() / last.len().max(1) as f64;
        (!last.is_empty()).then_some(total?.saturating_sub(step) as f64 * seconds)
    }
}
