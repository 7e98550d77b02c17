//! Ends a process that waits for another which will not come.
//!
//! A launcher ends all processes when it sees one die. What it does not see, such as a machine that stopped answering
//! while its connections stay open, would leave the others waiting until the job's time is over.

use std::env;
use std::process;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Place;
use crate::error::TrainError;

/// How long is waited without `GREFFON_PATIENCE`: longer than one rank prepares data or writes while the others wait.
const DEFAULT: Duration = Duration::from_mins(30);
/// The variable, in seconds.
const VARIABLE: &str = "GREFFON_PATIENCE";

/// Since when the process has waited, if it does.
type Since = Arc<Mutex<Option<Instant>>>;

/// Watches how long the process waits.
#[derive(Debug)]
pub(super) struct Patience {
    since: Since,
}

impl Patience {
    /// Starts to watch, for as long as the process lives.
    pub(super) fn from_env(place: &Place) -> Result<Self, TrainError> {
        let patience = match env::var(VARIABLE) {
            Err(_) => DEFAULT,
            Ok(text) => {
                let seconds = text.parse::<u32>().ok().filter(|seconds| *seconds > 0).ok_or_else(|| {
                    let reason = format!("{VARIABLE} is {text:?}, expected whole seconds, at least 1");
                    place.error(reason)
                })?;
                Duration::from_secs(seconds.into())
            }
        };
        let since = Since::default();
        let (seen, place) = (Arc::clone(&since), *place);
        thread::spawn(move || {
            loop {
                thread::sleep((patience / 4).min(Duration::from_secs(1)));
                let since = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                if since.is_some_and(|since| since.elapsed() > patience) {
                    let Place { rank, ranks, .. } = place;
                    tracing::error!(
                        "rank {rank} of {ranks} has waited {} s for the others, which are gone or stuck; ended. go on from the \
                         last checkpoint with --resume, or have more patience with {VARIABLE}",
                        patience.as_secs()
                    );
                    // Not an orderly end, which would wait for the others.
                    process::abort();
                }
            }
        });
        Ok(Self { since })
    }

    /// Does what may wait for other ranks.
    pub(super) fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        let set = |since| *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
        set(Some(Instant::now()));
        let done = work();
        set(None);
        done
    }
}
