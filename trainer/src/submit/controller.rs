//! Speaking with Slurm, through its programs: submitting a script, and asking how a job stands.
//!
//! Sources: `sbatch(1)`, `scontrol(1)`, `squeue(1)`.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::slurm::log_value;
use crate::error::TrainError;

/// How often Slurm is asked, which many people do at once.
pub const ASK_EVERY: Duration = Duration::from_secs(2);
/// How long Slurm may be silent, as when its controller is started again.
const SILENCE: Duration = Duration::from_mins(10);

/// Why a job waits that will not start unless it or the cluster is changed.
///
/// Source: `squeue(1)`, "Job reason codes".
const NEVER: [&str; 4] = ["PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints"];

/// A job, or tasks of an array that stand alike, as `scontrol` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// In Slurm's words, such as `RUNNING`.
    pub state: String,
    /// Why it waits.
    pub reason: String,
    /// The machines that it has.
    pub nodes: String,
    /// How many times it was started again.
    pub restarts: u32,
    /// Its exit code, and the signal that ended it.
    pub exit: (u8, u8),
    /// The tasks of an array; empty for a job alone.
    pub tasks: BTreeSet<usize>,
}

impl Seen {
    /// Reads a line of `scontrol --oneliner show job`.
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
            tasks: tasks(&value("ArrayTaskId")),
        };
        (!seen.state.is_empty()).then_some(seen)
    }

    /// Whether it will not run again, unless it is just being started again.
    pub fn is_over(&self) -> bool {
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

    /// The state, for people.
    pub fn told(&self) -> String {
        let again = if self.restarts > 0 { format!(", restart {}", self.restarts) } else { String::new() };
        // A job that waits has none, and a short one is seen for the first time when it is over.
        let has_nodes = self.nodes.starts_with(char::is_alphanumeric);
        let nodes = if has_nodes { format!(" on {}", self.nodes) } else { String::new() };
        format!("{}{nodes}{again}{}", self.state_told(), self.never())
    }

    /// The state with the reason for waiting.
    pub fn state_told(&self) -> String {
        let state = self.state.to_lowercase().replace('_', " ");
        if self.state == "PENDING" { format!("{state} ({})", self.reason) } else { state }
    }

    /// What helps where it cannot start.
    pub fn never(&self) -> &'static str {
        let never = self.state == "PENDING" && NEVER.contains(&self.reason.as_str());
        if never {
            ": the partition has no place for what it asks for; end it with scancel, and ask for less"
        } else {
            ""
        }
    }
}

/// The numbers in `1,4-6,10-20:5%2`.
fn tasks(text: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for part in text.split('%').next().unwrap_or_default().split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last), Ok(step)) = (first.parse::<usize>(), last.parse(), step.parse::<usize>()) {
            found.extend((first..=last).step_by(step.max(1)));
        }
    }
    found
}

/// Asks for one job again and again, and knows its end from the states that it passes through.
#[derive(Debug)]
pub struct Watch {
    /// The job's number.
    pub number: String,
    last: Vec<Seen>,
    before: Vec<Seen>,
    heard: Instant,
}

impl Watch {
    /// Of this job.
    pub fn new(number: String) -> Self {
        Self { number, last: Vec::new(), before: Vec::new(), heard: Instant::now() }
    }

    /// Asks how the job stands: one answer, or for an array one for each group of tasks that stand alike. None where Slurm
    /// has forgotten it. A Slurm that is silent for a while has said what it said before.
    ///
    /// # Errors
    /// [`TrainError::Scheduler`] when it does not answer.
    pub fn look(&mut self) -> Result<&[Seen], TrainError> {
        match ask(&self.number) {
            Ok(seen) => {
                self.heard = Instant::now();
                self.before = std::mem::replace(&mut self.last, seen);
            }
            Err(error) if self.heard.elapsed() < SILENCE && !self.last.is_empty() => tracing::debug!("{error}"),
            Err(error) => return Err(error),
        }
        Ok(&self.last)
    }

    /// What was seen last.
    pub fn last(&self) -> &[Seen] {
        &self.last
    }

    /// Whether what was seen last is the end. A job that is started again passes through the state of its end: what counts
    /// is seen twice.
    pub fn is_end(&self, seen: &Seen) -> bool {
        seen.is_over() && (seen.state == "COMPLETED" || self.before.contains(seen))
    }
}

fn ask(number: &str) -> Result<Vec<Seen>, TrainError> {
    // Without the variable a long list of tasks is cut.
    let out = run(Command::new("scontrol").env("SLURM_BITSTR_LEN", "0").args(["--oneliner", "show", "job", number]))?;
    let fail = |reason: String| TrainError::Scheduler { program: "scontrol", reason };
    let said = String::from_utf8_lossy(&out.stderr);
    if said.contains("Invalid job id") {
        return Ok(Vec::new());
    }
    if !out.status.success() {
        return Err(fail(format!("job {number}: {}", said.trim())));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let read = |line| Seen::read(line).ok_or_else(|| fail(format!("expected the state of job {number}, got {line:?}")));
    text.lines().filter(|line| !line.trim().is_empty()).map(read).collect()
}

/// The arrays of this user that Slurm still knows, by a job name and the beginning of their logs' paths.
///
/// # Errors
/// [`TrainError::Scheduler`] when Slurm does not answer; [`TrainError::Run`] where it is not installed.
pub fn arrays(name: &str, logs: &Path) -> Result<Vec<String>, TrainError> {
    let out = run(Command::new("squeue").args(["--me", "--noheader", "--states=all", "--format=%F %j"]))?;
    if !out.status.success() {
        let reason = String::from_utf8_lossy(&out.stderr).trim().to_owned();
        return Err(TrainError::Scheduler { program: "squeue", reason });
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let own = text.lines().filter_map(|line| line.split_once(' ')).filter(|(_, job)| job.trim_end() == name);
    let numbers: BTreeSet<&str> = own.map(|(number, _)| number).collect();
    let mut found = Vec::new();
    for number in numbers {
        // Another sweep may have the name.
        let out = run(Command::new("scontrol").args(["--oneliner", "show", "job", number]))?;
        let text = String::from_utf8_lossy(&out.stdout);
        let paths = [log_value(logs, ""), logs.to_string_lossy().into_owned()];
        if text.lines().any(|line| paths.iter().any(|path| line.contains(&format!(" StdOut={path}")))) {
            found.push(number.to_owned());
        }
    }
    Ok(found)
}

/// Submits a script, and gives the number of the job. `partition` is the one that the script names.
///
/// # Errors
/// [`TrainError::Run`] when Slurm refuses it, or is not installed here.
pub fn submit(script: &str, partition: Option<&str>) -> Result<String, TrainError> {
    let fail = |reason: String| TrainError::Scheduler { program: "sbatch", reason };
    let mut sbatch = Command::new("sbatch");
    sbatch.arg("--parsable").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut sbatch = sbatch.spawn().map_err(|error| not_started("sbatch", &error))?;
    if let Some(mut input) = sbatch.stdin.take() {
        // What refuses the script before it has read it says so below.
        let _ = input.write_all(script.as_bytes());
    }
    let out = sbatch.wait_with_output().map_err(|error| fail(error.to_string()))?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(TrainError::Run(refusal(&said, partition)));
    }
    // `NUMBER`, or `NUMBER;CLUSTER`.
    let said = String::from_utf8_lossy(&out.stdout);
    let number = said.trim().split(';').next().unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(fail(format!("expected the number of a job, got {:?}", said.trim())));
    }
    Ok(number.to_owned())
}

/// Keeps the script of a submitted job. One that cannot be kept is no reason to fail: the answer says so.
///
/// # Errors
/// What to tell.
pub fn keep(script: &str, path: &Path) -> Result<(), String> {
    let kept = adapters::write_atomic(path, false, |out| out.write_all(script.as_bytes()));
    kept.map_err(|error| format!("the job's script was not kept: {error}"))
}

/// What Slurm says against a job, with what helps.
fn refusal(said: &str, partition: Option<&str>) -> String {
    let lines = said.lines().map(|line| line.trim_start_matches("sbatch: ").trim_start_matches("error: ").trim());
    let said: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let said = if said.is_empty() { "no reason given".to_owned() } else { said.join("; ") };
    let mut text = format!("Slurm refuses the job: {said}");
    let asked = |program: &str, arguments: &[&str]| {
        let out = Command::new(program).args(arguments).output().ok().filter(|out| out.status.success())?;
        Some(String::from_utf8_lossy(&out.stdout).into_owned())
    };
    if said.contains("partition")
        && partition.is_some()
        && let Some(names) = asked("sinfo", &["--noheader", "--format", "%R"])
    {
        text = format!("{text}. partitions: {}", names.lines().map(str::trim).collect::<Vec<_>>().join(", "));
    }
    if said.contains("job array")
        && let Some(config) = asked("scontrol", &["show", "config"])
        && let Some(size) = config.lines().find_map(|line| line.strip_prefix("MaxArraySize")?.split_once('='))
    {
        text =
            format!("{text}. the cluster's MaxArraySize is {}, which is above the number of any trial", size.1.trim());
    }
    text
}

fn run(command: &mut Command) -> Result<Output, TrainError> {
    let program = if command.get_program() == "squeue" { "squeue" } else { "scontrol" };
    command.output().map_err(|error| not_started(program, &error))
}

fn not_started(program: &'static str, error: &io::Error) -> TrainError {
    match error.kind() {
        io::ErrorKind::NotFound => TrainError::Run(format!(
            "{program} was not found; submit from a machine of the cluster, or write the script with --print and submit it \
             there"
        )),
        _ => TrainError::Scheduler { program, reason: error.to_string() },
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
        assert!(!seen.is_over() && seen.tasks.is_empty());
        let never = Seen { reason: "PartitionConfig".to_owned(), ..seen };
        assert!(never.told().contains("ask for less"), "{}", never.told());
        let running = Seen::read("JobState=RUNNING ReqNodeList=(null) NodeList=n[1-2] ExitCode=0:0").unwrap();
        assert_eq!(running.told(), "running on n[1-2]");
        assert_eq!(Seen { state: "COMPLETED".to_owned(), ..running }.told(), "completed on n[1-2]");
        let cancelled = Seen::read("JobState=CANCELLED NodeList=(null) ExitCode=0:0").unwrap();
        assert_eq!(cancelled.told(), "cancelled");
        assert_eq!(Seen::read("slurm_load_jobs error"), None);
    }

    #[test]
    fn the_tasks_of_an_array_are_read() {
        let line = "JobId=1 ArrayJobId=1 ArrayTaskId=1-2,5-7%1 ArrayTaskThrottle=1 JobName=my sweep JobState=PENDING";
        assert_eq!(Seen::read(line).unwrap().tasks, BTreeSet::from([1, 2, 5, 6, 7]));
        for (text, expected) in [("3", vec![3]), ("4-10:3,2", vec![2, 4, 7, 10]), ("", vec![]), ("N/A", vec![])] {
            assert_eq!(tasks(text), BTreeSet::from_iter(expected), "{text}");
        }
    }

    #[test]
    fn an_end_is_seen_twice_unless_it_is_a_good_one() {
        let seen = |state: &str| Seen { state: state.to_owned(), ..Seen::default() };
        let mut watch = Watch::new("1".to_owned());
        watch.last = vec![seen("FAILED")];
        assert!(!watch.is_end(&seen("FAILED")) && watch.is_end(&seen("COMPLETED")));
        watch.before = vec![seen("FAILED")];
        assert!(watch.is_end(&seen("FAILED")) && !watch.is_end(&seen("TIMEOUT")) && !watch.is_end(&seen("RUNNING")));
    }
}
