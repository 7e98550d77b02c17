//! `greffon watch`.

use std::fs;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anstream::println;

use super::dashboard::{Screen, State};
use crate::cli::WatchArgs;
use crate::error::TrainError;
use crate::track::{Line, Record, RunFolder, RunStatus, read_metrics};

/// How often the folder is read.
const EVERY: Duration = Duration::from_secs(1);

pub(super) fn watch(args: &WatchArgs) -> anyhow::Result<()> {
    let folder = RunFolder::open(args.run.clone())?;
    if args.once || !std::io::stdout().is_terminal() {
        return Ok(plain(&folder)?);
    }
    let over = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&over);
    let screen = Screen::open(read(&folder)?, move || asked.store(true, Ordering::Relaxed))
        .map_err(|error| TrainError::Run(format!("the terminal cannot be drawn on: {error}; --once prints lines")))?;
    while !over.load(Ordering::Relaxed) {
        let state = read(&folder)?;
        screen.change(|shown| *shown = state);
        thread::sleep(EVERY);
    }
    Ok(())
}

/// A run as its folder has it.
fn read(folder: &RunFolder) -> Result<State, TrainError> {
    let info = folder.info()?;
    let mut state = State::new(folder.path().display().to_string());
    state.plan.clone_from(&info.plan);
    read_metrics(folder.path())?.into_iter().for_each(|line| state.add(line.record));
    match info.status {
        RunStatus::Running => {}
        RunStatus::Interrupted => "interrupted, with everything saved".clone_into(&mut state.doing),
        RunStatus::Failed => state.doing = format!("failed: {}", info.reason.unwrap_or_default()),
        RunStatus::Finished => "finished".clone_into(&mut state.doing),
    }
    // The log is a convenience; it may not be there yet.
    let log = fs::read_to_string(folder.path().join("log.txt")).unwrap_or_default();
    log.lines().for_each(|line| state.note(line.to_owned()));
    Ok(state)
}

/// What was reported so far, a line each.
fn plain(folder: &RunFolder) -> Result<(), TrainError> {
    for Line { time, record } in read_metrics(folder.path())? {
        let text = match record {
            Record::Step(step) => {
                let rate = step.tokens as f64 / step.seconds;
                format!("step {}  loss {:.4}  {rate:.0} tokens/s  {:.3} Wh", step.step, step.loss, 1e3 * step.kwh)
            }
            Record::Validation(found) => format!("step {}  validation loss {:.4}", found.step, found.validation_loss),
            Record::Forgetting(found) => {
                let verdict = if found.passed { "within the limits" } else { "beyond the limits" };
                format!("step {}  forgetting: {verdict}", found.step)
            }
        };
        println!("{time:.0}  {text}");
    }
    println!("{}", read(folder)?.doing);
    Ok(())
}
