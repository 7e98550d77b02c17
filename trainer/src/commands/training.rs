//! A run as every verb makes it that trains: it can be interrupted, and is followed on the terminal.

use std::io::IsTerminal as _;
use std::sync::Arc;

use super::dashboard::Dashboard;
use super::interrupt::{interrupted_code, on_stop};
use super::progress::{self, TrainProgress};
use crate::cluster::Collective;
use crate::finetune::{Outcome, Start, finetune};
use crate::recipe::Loaded;
use crate::track::Tracker;

/// Makes the run; with `tui` on a dashboard, where there is a terminal.
pub(super) fn run(loaded: &Loaded, start: Start, tui: bool, collective: &dyn Collective) -> anyhow::Result<Outcome> {
    interrupted_code()?;
    let stop = on_stop(Some("the micro-batch under way and saving"))?;
    let mut trackers: Vec<Box<dyn Tracker>> = Vec::new();
    if collective.is_first() {
        let follower: Box<dyn Tracker> = if tui && std::io::stderr().is_terminal() {
            Box::new(Dashboard::new(loaded.recipe.output.display().to_string(), Arc::clone(&stop)))
        } else {
            Box::new(TrainProgress::new())
        };
        trackers.push(follower);
    }
    Ok(finetune(loaded, start, &progress::hub(), &stop, &mut trackers, collective)?)
}
