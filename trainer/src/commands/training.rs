//! A run as every verb makes it that trains: it can be interrupted, and is followed on the terminal.

use std::io::IsTerminal as _;
use std::sync::Arc;

use super::dashboard::Dashboard;
use super::interrupt::{interrupted_code, on_stop};
use super::progress::{self, TrainProgress};
use super::subject::run_recipe;
use crate::cluster::{Collective, from_first};
use crate::error::TrainError;
use crate::finetune::{Outcome, Start, finetune};
use crate::recipe::{Loaded, first_difference};
use crate::track::{RunFolder, Tracker};

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

/// Makes the run, unless it is there: one of the same recipe that is finished is taken, and one that is not goes on.
pub(super) fn run_or_take(loaded: &Loaded, collective: &dyn Collective) -> anyhow::Result<()> {
    let start = from_first(collective, || {
        let start = or_resume(loaded)?;
        let is_finished = start == Start::Resume && RunFolder::open(loaded.recipe.output.clone())?.adapter().is_dir();
        Ok((!is_finished).then_some(start))
    })?;
    if let Some(start) = start {
        run(loaded, start, false, collective)?;
    }
    Ok(())
}

/// Whether the recipe's output folder holds a run of it that goes on.
pub(super) fn or_resume(loaded: &Loaded) -> Result<Start, TrainError> {
    let output = &loaded.recipe.output;
    if !RunFolder::is_run(output) {
        return Ok(Start::New);
    }
    let folder = RunFolder::open(output.clone())?;
    let mut earlier = run_recipe(&folder, &[])?.recipe;
    earlier.output.clone_from(output);
    if let Some(difference) = first_difference(&earlier, &loaded.recipe) {
        return Err(TrainError::Run(format!(
            "{} holds a run of another recipe: `{}` is {} there and {} in {}; undo the change, name another `output`, or \
             start over with --force",
            output.display(),
            difference.key,
            difference.first,
            difference.second,
            loaded.path.display()
        )));
    }
    // A start that was killed before its first word has nothing to lose.
    Ok(if folder.info().is_ok() { Start::Resume } else { Start::Force })
}
