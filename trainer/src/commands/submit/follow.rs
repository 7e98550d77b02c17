//! Following a job of Slurm: its state, and its log as it grows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anstream::eprintln;

use super::super::interrupt::on_stop;
use crate::error::TrainError;
use crate::submit::controller::{ASK_EVERY, Seen, Watch};
use crate::submit::shell::quoted;

/// How often the log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How a job ended, or that it is no longer followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// In Slurm's words; `FOLLOWED NO LONGER` after Ctrl-C.
    pub(super) state: String,
    /// How many times it was started again.
    pub(super) restarts: u32,
    exit: (u8, u8),
}

impl End {
    /// The exit code: the job's own; 128 and the signal that ended it; 1 where Slurm ended it.
    pub(super) fn code(&self) -> u8 {
        match (self.state.as_str(), self.exit) {
            ("COMPLETED", _) => 0,
            (_, (0, 0)) => 1,
            (_, (0, signal)) => 128_u8.saturating_add(signal),
            (_, (code, _)) => code,
        }
    }
}

/// Follows a job to its end. What it writes goes to standard output, or to standard error where that is taken.
pub(super) fn follow(number: &str, log: &Path, is_json: bool) -> anyhow::Result<End> {
    let stop = on_stop(None)?;
    let mut copied = 0;
    let mut watch = Watch::new(number.to_owned());
    let mut last: Option<Seen> = None;
    let mut asked: Option<Instant> = None;
    loop {
        if stop.load(Ordering::Relaxed) {
            eprintln!(
                "no longer followed; the job goes on. its log: tail -F {}, its state: squeue --job {number}, to end it: \
                 scancel {number}",
                quoted(&log.to_string_lossy())
            );
            let restarts = last.map_or(0, |seen| seen.restarts);
            return Ok(End { state: "FOLLOWED NO LONGER".to_owned(), restarts, exit: (130, 0) });
        }
        if asked.is_none_or(|asked| asked.elapsed() >= ASK_EVERY) {
            asked = Some(Instant::now());
            let Some(seen) = watch.look()?.first().cloned() else {
                let reason = format!("job {number} is not known any more; its log is {}", log.display());
                return Err(TrainError::Scheduler { program: "scontrol", reason }.into());
            };
            if last.as_ref().is_none_or(|last| last.told() != seen.told()) {
                eprintln!("job {number}: {}", seen.told());
            }
            if watch.is_end(&seen) {
                copy(log, &mut copied, is_json);
                return Ok(End { state: seen.state, restarts: seen.restarts, exit: seen.exit });
            }
            last = Some(seen);
        }
        copy(log, &mut copied, is_json);
        thread::sleep(LOOK_EVERY);
    }
}

/// Copies what the log has gained. A log that is not there yet, or cannot be read now, is looked at again.
fn copy(log: &Path, copied: &mut u64, is_json: bool) {
    let gained_after = |start: u64| -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        file.seek(SeekFrom::Start(start))?;
        let mut gained = Vec::new();
        file.take(1 << 20).read_to_end(&mut gained)?;
        Ok(gained)
    };
    loop {
        let Ok(gained) = gained_after(*copied) else { return };
        if gained.is_empty() {
            return;
        }
        *copied += gained.len() as u64;
        // Whoever reads it may have gone; the job is followed for its end too.
        let _ = if is_json { io::stderr().write_all(&gained) } else { io::stdout().write_all(&gained) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_is_the_jobs() {
        for (state, exit, code) in [
            ("COMPLETED", (0, 0), 0),
            ("FAILED", (3, 0), 3),
            ("CANCELLED", (0, 15), 143),
            ("TIMEOUT", (0, 0), 1),
            ("FAILED", (137, 0), 137),
        ] {
            assert_eq!(End { state: state.to_owned(), restarts: 0, exit }.code(), code, "{state} {exit:?}");
        }
    }

    #[test]
    fn a_log_is_copied_as_it_grows() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut copied = 0;
        copy(&log, &mut copied, true);
        assert_eq!(copied, 0);
        std::fs::write(&log, "one\n").unwrap();
        copy(&log, &mut copied, true);
        assert_eq!(copied, 4);
    }
}
