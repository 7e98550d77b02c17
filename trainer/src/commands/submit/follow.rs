//! Following a job of Slurm: its state, and its log as it grows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anstream::eprintln;

use super::super::interrupt::on_stop;
use crate::error::TrainError;
use crate::submit::shell::quoted;

/// How often the log is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often Slurm is asked, which many people do at once.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long Slurm may be silent, as when its controller is started again.
const SILENCE: Duration = Duration::from_mins(10);

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

/// Why a job waits that will not start unless it or the cluster is changed.
///
/// Source: `squeue(1)`, "Job reason codes".
const NEVER: [&str; 4] = ["PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints"];

/// A job as `scontrol` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seen {
    state: String,
    reason: String,
    nodes: String,
    restarts: u32,
    exit: (u8, u8),
}

impl Seen {
    /// Reads the one line of `scontrol --oneliner show job`.
    fn read(line: &str) -> Option<Self> {
        let value = |key: &str| {
            let found = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
            found.unwrap_or_default().to_owned()
        };
        let exit = value("ExitCode");
        let (code, signal) = exit.split_once(':').unwrap_or_default();
        let seen = Self {
            state: value("JobState"),
            reason: value("Reason"),
            nodes: value("NodeList"),
            restarts: value("Restarts").parse().unwrap_or(0),
            exit: (code.parse().unwrap_or(1), signal.parse().unwrap_or(0)),
        };
        (!seen.state.is_empty()).then_some(seen)
    }

    /// Whether it will not run again.
    fn is_over(&self) -> bool {
        const OVER: [&str; 9] = [
            "COMPLETED",
            "FAILED",
            "CANCELLED",
            "TIMEOUT",
            "NODE_FAIL",
            "OUT_OF_MEMORY",
            "BOOT_FAIL",
            "DEADLINE",
            "PREEMPTED",
        ];
        OVER.contains(&self.state.as_str())
    }

    fn told(&self) -> String {
        let state = self.state.to_lowercase().replace('_', " ");
        let again = if self.restarts > 0 { format!(", restart {}", self.restarts) } else { String::new() };
        match self.state.as_str() {
            "PENDING" if NEVER.contains(&self.reason.as_str()) => format!(
                "{state} ({}){again}: the partition has no place for what it asks for; end it with scancel, and ask for less",
                self.reason
            ),
            "PENDING" => format!("{state} ({}){again}", self.reason),
            "RUNNING" => format!("{state} on {}{again}", self.nodes),
            _ => format!("{state}{again}"),
        }
    }
}

/// Follows a job to its end. What it writes goes to standard output, or to standard error where that is taken.
pub(super) fn follow(number: &str, log: &Path, is_json: bool) -> anyhow::Result<End> {
    let stop = on_stop(None)?;
    let mut copied = 0;
    let mut last: Option<Seen> = None;
    let mut over: Option<Seen> = None;
    let mut heard = Instant::now();
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
            match ask(number) {
                Ok(seen) => {
                    heard = Instant::now();
                    if last.as_ref().is_none_or(|last| last.told() != seen.told()) {
                        eprintln!("job {number}: {}", seen.told());
                    }
                    // A job that is started again passes through the state of its end: what counts is seen twice.
                    let is_end = seen.is_over() && (seen.state == "COMPLETED" || over.as_ref() == Some(&seen));
                    over = seen.is_over().then(|| seen.clone());
                    last = Some(seen.clone());
                    if is_end {
                        copy(log, &mut copied, is_json);
                        return Ok(End { state: seen.state, restarts: seen.restarts, exit: seen.exit });
                    }
                }
                Err(error) if heard.elapsed() < SILENCE && last.is_some() => tracing::debug!("{error}"),
                Err(error) => return Err(error.into()),
            }
        }
        copy(log, &mut copied, is_json);
        thread::sleep(LOOK_EVERY);
    }
}

fn ask(number: &str) -> Result<Seen, TrainError> {
    let fail = |reason: String| TrainError::Scheduler { program: "scontrol", reason };
    let out = Command::new("scontrol").args(["--oneliner", "show", "job", number]).output();
    let out = out.map_err(|error| fail(error.to_string()))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        return Err(fail(format!("job {number} is not known any more, or Slurm does not answer: {}", said.trim())));
    }
    let line = String::from_utf8_lossy(&out.stdout);
    Seen::read(&line).ok_or_else(|| fail(format!("expected the state of job {number}, got {:?}", line.trim())))
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
    fn the_state_of_a_job_is_read() {
        let line = "JobId=17 JobName=run UserId=me(1) JobState=PENDING Reason=BeginTime Dependency=(null) Requeue=1 \
                    Restarts=2 BatchFlag=1 Reboot=0 ExitCode=0:9 NodeList= BatchHost=n1";
        let seen = Seen::read(line).unwrap();
        assert_eq!(seen.told(), "pending (BeginTime), restart 2");
        assert!(!seen.is_over());
        let never = Seen { reason: "PartitionConfig".to_owned(), ..seen };
        assert!(never.told().contains("ask for less"), "{}", never.told());
        let running = Seen::read("JobState=RUNNING ReqNodeList=(null) NodeList=n[1-2] ExitCode=0:0").unwrap();
        assert_eq!(running.told(), "running on n[1-2]");
        assert_eq!(Seen::read("slurm_load_jobs error"), None);
    }

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
