//! What the verbs that follow a run add to its account of energy.

use std::path::Path;

use super::subject::run_recipe;
use crate::cluster::Collective;
use crate::energy::{Account, Stage};
use crate::error::TrainError;
use crate::track::{Lock, RunFolder};

/// Does work on a run, on all ranks at once, and books what it took in the run's folder. Work on anything else is done and
/// not booked; so is what fails.
pub(super) fn booked<T>(
    stage: Stage,
    subject: &Path,
    collective: &dyn Collective,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    if !RunFolder::is_run(subject) {
        return work();
    }
    let folder = RunFolder::open(subject.to_owned())?;
    let recipe = run_recipe(&folder, &[])?.recipe;
    let mut account = Account::start(&recipe.energy, &recipe.device, collective);
    let done = work()?;
    account.book(stage, collective)?;
    if collective.is_first()
        && let Err(error) = book(stage, &account, &folder)
    {
        tracing::warn!("what this took is not booked in {}: {}", subject.display(), error.with_causes());
    }
    Ok(done)
}

fn book(stage: Stage, account: &Account, folder: &RunFolder) -> Result<(), TrainError> {
    // A run that is under way writes its own account.
    let _lock = Lock::take(folder.path())?;
    let mut info = folder.info()?;
    let Some(record) = &mut info.energy else { return Ok(()) };
    record.add(stage, account.of(stage));
    folder.save_info(&info)
}
