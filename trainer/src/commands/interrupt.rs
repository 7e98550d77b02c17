//! Ctrl-C and the signals of schedulers: the work ends with all that was done kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::{env, process};

use anyhow::Context as _;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use super::dashboard::tell;
use crate::cluster::Place;
use crate::error::TrainError;

/// The environment variable with the exit code of an interrupted run, for schedulers that start such jobs again.
pub(super) const REQUEUE_CODE: &str = "GREFFON_REQUEUE_CODE";
/// The exit code of an interrupted run without it.
const INTERRUPTED: u8 = 130;

/// The exit code of work that was interrupted.
///
/// # Errors
/// [`TrainError::Run`] when the environment names one that is none.
pub(super) fn interrupted_code() -> Result<u8, TrainError> {
    let Some(value) = env::var_os(REQUEUE_CODE) else { return Ok(INTERRUPTED) };
    let code = value.to_str().and_then(|text| text.parse().ok()).filter(|code| *code > 0);
    code.ok_or_else(|| {
        TrainError::Run(format!("{REQUEUE_CODE} is {}, expected an exit code from 1 to 255", value.display()))
    })
}

/// A flag that is set by Ctrl-C, by what a scheduler sends before it kills (`SIGTERM`; Slurm sends it more than once), and
/// by `SIGUSR1`, which launchers pass on to their processes. A second Ctrl-C ends the program. `doing` is what is still
/// finished, for the message; `None` where another process tells.
pub(super) fn on_stop(doing: Option<&'static str>) -> anyhow::Result<Arc<AtomicBool>> {
    // Of several processes each gets the signal, and one tells.
    let doing = doing.filter(|_| Place::from_env().rank == 0);
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGUSR1]).context("listening for signals")?;
    thread::spawn(move || {
        for signal in signals.forever() {
            let is_again = seen.swap(true, Ordering::Relaxed);
            if is_again && signal == SIGINT {
                process::abort();
            }
            if let Some(doing) = doing.filter(|_| !is_again) {
                let again = if signal == SIGINT { "; press Ctrl-C again to give up at once" } else { "" };
                tell(&format!("\nstopping after {doing}{again}"));
            }
        }
    });
    Ok(stop)
}
