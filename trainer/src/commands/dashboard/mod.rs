//! A run in the terminal while it is under way: losses, throughput, memory, energy, forgetting so far.
//!
//! `greffon train --tui` follows its own run, `greffon watch` that of another process by its folder. Both feed a
//! [`State`], and [`draw`] shows it.

mod screen;
mod state;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datasets::Progress;

pub(super) use screen::{Screen, Warnings, tell};
pub(super) use state::State;
pub(super) use view::draw;

use super::progress::questioning;
use crate::error::TrainError;
use crate::forgetting;
use crate::track::{ForgettingRecord, Plan, Record, StepRecord, Tracker, ValidationRecord};

/// Follows a run of this process. The screen is taken when the run is ready to start, and given back when it is dropped.
pub(super) struct Dashboard {
    title: String,
    stop: Arc<AtomicBool>,
    screen: Option<Screen>,
}

impl Dashboard {
    /// For a run of this name. `stop` is set when the user asks for it.
    pub(super) fn new(title: String, stop: Arc<AtomicBool>) -> Self {
        Self { title, stop, screen: None }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if let Some(screen) = &self.screen {
            screen.change(change);
        }
    }
}

impl Tracker for Dashboard {
    fn preparing(&mut self, _progress: &Progress) {}

    fn started(&mut self, plan: &Plan) -> Result<(), TrainError> {
        let stop = Arc::clone(&self.stop);
        let state = State { plan: Some(plan.clone()), ..State::new(self.title.clone()) };
        let asked = move || {
            if !stop.swap(true, Ordering::Relaxed) {
                tell("stopping after the micro-batch under way and saving");
            }
        };
        self.screen = Some(Screen::open(state, asked).map_err(|error| {
            TrainError::Run(format!("--tui: the terminal cannot be drawn on: {error}; leave --tui out"))
        })?);
        Ok(())
    }

    fn step(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        self.change(|state| state.add(Record::Step(record.clone())));
        Ok(())
    }

    fn validation(&mut self, record: &ValidationRecord) -> Result<(), TrainError> {
        self.change(|state| state.add(Record::Validation(record.clone())));
        Ok(())
    }

    fn questioning(&mut self, at: &forgetting::Progress) {
        let what = questioning(at.model);
        self.change(|state| state.doing = format!("{what}: {} of {}", at.done, at.total));
    }

    fn forgetting(&mut self, record: &ForgettingRecord) -> Result<(), TrainError> {
        self.change(|state| state.add(Record::Forgetting(record.clone())));
        Ok(())
    }

    fn note(&mut self, text: &str) {
        self.change(|state| state.note(text.to_owned()));
    }
}
