//! A job as a batch script for Slurm.
//!
//! The script starts one `greffon train --or-resume` for each rank with `srun`. Slurm's signal before the time limit, and
//! before a pre-emption, goes to the ranks: they save, end with the code of a requeue, and the script hands it on. A rank
//! that is killed ends the others, and the script asks for the job to be started again.
//!
//! Sources: `sbatch(1)`, `srun(1)`, `slurm.conf(5)`: `RequeueExit`, `PreemptMode`, `GraceTime`.

use std::path::{Path, PathBuf};

use super::shell::quoted;
use super::{Job, LAST_OF_ITS_OWN, REQUEUE_CODE};
use crate::error::TrainError;

/// What Slurm alone has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slurm {
    /// The account that pays.
    pub account: Option<String>,
    /// The partition; the cluster's default where it is not given.
    pub partition: Option<String>,
    /// The quality of service.
    pub qos: Option<String>,
    /// When it may start, in Slurm's own words.
    pub begin: Option<String>,
    /// How `srun` joins the processes, such as `pmix`.
    pub mpi: String,
    /// The folder in which it runs; absolute.
    pub folder: PathBuf,
    /// The folder of the run; the log is written beside it.
    pub output: PathBuf,
}

/// When Slurm is to start what may wait for cheaper hours: at ten in the evening.
pub const OFF_PEAK: &str = "22:00";

/// The batch script of a job.
///
/// # Errors
/// [`TrainError::Run`] for a name or path that no line of a script can hold.
pub fn script(job: &Job, slurm: &Slurm) -> Result<String, TrainError> {
    let directives = directives(job, slurm)?.into_iter().map(|(name, value)| match value {
        Some(value) => Ok(format!("#SBATCH --{name}={}\n", directive_value(name, &value)?)),
        None => Ok(format!("#SBATCH --{name}\n")),
    });
    let directives = directives.collect::<Result<String, TrainError>>()?;
    let threads = job.resources.cpus_per_rank;
    let own = [("RAYON_NUM_THREADS", threads.to_string()), ("GREFFON_REQUEUE_CODE", REQUEUE_CODE.to_string())];
    let given = job.environment.iter().map(|(name, value)| (name.as_str(), value.clone()));
    let exports = own.into_iter().chain(given).map(|(name, value)| format!("export {name}={}", quoted(&value)));
    let exports = exports.collect::<Vec<_>>().join("\n");
    let mpi = if job.resources.ranks() > 1 { format!(" --mpi={}", quoted(&slurm.mpi)) } else { String::new() };
    let program = job.program.to_string_lossy();
    let command: Vec<String> = [program.into_owned()].into_iter().chain(job.arguments()).collect();
    let command = command.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    let most = job.max_restarts;
    Ok(format!(
        r#"#!/bin/bash
{directives}
# Slurm tells the ranks before it ends them; they save what they have, and this script waits for them.
trap : TERM

{exports}

srun --kill-on-bad-exit=1 --cpus-per-task={threads}{mpi} \
    {command}
code=$?

# Done, failed, to be mended, refused by a check: starting it again would change nothing.
if [ "$code" -le {LAST_OF_ITS_OWN} ]; then exit "$code"; fi

# {REQUEUE_CODE}: stopped, with everything saved. Else a process was killed; the run goes on from its last checkpoint.
if [ "$code" -ne {REQUEUE_CODE} ] && [ "${{SLURM_RESTART_COUNT:-0}}" -ge {most} ]; then
    echo "greffon: exit code $code after ${{SLURM_RESTART_COUNT:-0}} restarts, given up" >&2
    exit "$code"
fi

# A cluster whose RequeueExit holds the code starts the job again by itself; elsewhere the job asks for it, unless it was
# cancelled.
if ! scontrol show config | grep -Eq '^RequeueExit .*\b{REQUEUE_CODE}\b' &&
    [ "$(squeue --noheader --job "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit {REQUEUE_CODE}
"#
    ))
}

/// The log of a job, with `%j` for its number.
pub fn log(slurm: &Slurm, job: &str, number: &str) -> PathBuf {
    beside(&slurm.output, &format!("{job}-{number}.log"))
}

/// A file beside the run folder.
pub fn beside(output: &Path, name: &str) -> PathBuf {
    output.parent().unwrap_or(Path::new("/")).join(name)
}

/// The options of `sbatch`, in the script's order.
fn directives(job: &Job, slurm: &Slurm) -> Result<Vec<(&'static str, Option<String>)>, TrainError> {
    let resources = &job.resources;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    // In a file name Slurm replaces what follows a percent sign.
    let log = path(&log(slurm, &job.name, "\0")).replace('%', "%%").replace('\0', "%j");
    let mut given = vec![
        ("job-name", Some(job.name.clone())),
        ("output", Some(log)),
        ("open-mode", Some("append".to_owned())),
        ("chdir", Some(path(&slurm.folder))),
        ("account", slurm.account.clone()),
        ("partition", slurm.partition.clone()),
        ("qos", slurm.qos.clone()),
        ("begin", slurm.begin.clone()),
        ("nodes", Some(resources.nodes.to_string())),
        ("ntasks-per-node", Some(resources.ranks_per_node.to_string())),
        ("cpus-per-task", Some(resources.cpus_per_rank.to_string())),
        ("gpus-per-task", Some(resources.gpus_per_rank).filter(|gpus| *gpus > 0).map(|gpus| gpus.to_string())),
        ("mem", resources.memory_per_rank.map(|memory| mebibytes(memory.bytes(), resources.ranks_per_node))),
        ("time", job.time.map(|time| time.to_string())),
        ("signal", Some(format!("TERM@{}", job.grace_seconds))),
    ];
    given.retain(|(_, value)| value.is_some());
    given.push(("requeue", None));
    if !(1..=65_535).contains(&job.grace_seconds) {
        let reason = format!("--grace is {}, expected 1 to 65535 seconds for Slurm", job.grace_seconds);
        return Err(TrainError::Run(reason));
    }
    Ok(given)
}

/// Memory of a node, which Slurm counts in units of 1024 kibibytes.
fn mebibytes(per_rank: u64, ranks: u32) -> String {
    format!("{}M", per_rank.saturating_mul(ranks.into()).div_ceil(1 << 20))
}

/// A value in a line that `sbatch` reads.
fn directive_value(name: &str, value: &str) -> Result<String, TrainError> {
    if value.chars().any(char::is_control) || value.contains(['\'', '"', '\\']) || value.is_empty() {
        return Err(TrainError::Run(format!(
            "sbatch --{name}: {value:?} cannot stand in a batch script, expected a text without quotes, backslashes and \
             control characters"
        )));
    }
    Ok(quoted(value).into_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::submit::{Resources, WallTime};

    fn job() -> (Job, Slurm) {
        let job = Job {
            name: "claims".to_owned(),
            program: "/opt/greffon".into(),
            recipe: "/home/me/two words/recipe.yaml".into(),
            set: vec!["lora.targets=[q_proj, v_proj]".to_owned()],
            environment: vec![("OMPI_MCA_btl".to_owned(), "self,tcp".to_owned())],
            resources: Resources {
                nodes: 2,
                ranks_per_node: 2,
                cpus_per_rank: 8,
                gpus_per_rank: 1,
                memory_per_rank: Some("1.5GB".parse().unwrap()),
            },
            time: Some(WallTime::from_seconds(5400)),
            grace_seconds: 120,
            max_restarts: 10,
        };
        let slurm = Slurm {
            account: Some("p123".to_owned()),
            partition: Some("gpu".to_owned()),
            begin: Some(OFF_PEAK.to_owned()),
            mpi: "pmix".to_owned(),
            folder: "/home/me".into(),
            output: "/home/me/100% runs/claims".into(),
            ..Slurm::default()
        };
        (job, slurm)
    }

    fn lines(job: &Job, slurm: &Slurm) -> Vec<String> {
        script(job, slurm).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn the_directives_are_those_that_were_asked_for() {
        let (job, slurm) = job();
        let lines = lines(&job, &slurm);
        let directives: Vec<&str> = lines.iter().filter_map(|line| line.strip_prefix("#SBATCH --")).collect();
        assert_eq!(
            directives,
            [
                "job-name=claims",
                "output='/home/me/100%% runs/claims-%j.log'",
                "open-mode=append",
                "chdir=/home/me",
                "account=p123",
                "partition=gpu",
                "begin=22:00",
                "nodes=2",
                "ntasks-per-node=2",
                "cpus-per-task=8",
                "gpus-per-task=1",
                "mem=2862M",
                "time=01:30:00",
                "signal=TERM@120",
                "requeue",
            ]
        );
        let srun = lines.iter().position(|line| line.starts_with("srun")).unwrap();
        assert_eq!(lines[srun], r"srun --kill-on-bad-exit=1 --cpus-per-task=8 --mpi=pmix \");
        assert_eq!(
            lines[srun + 1].trim(),
            "/opt/greffon train '/home/me/two words/recipe.yaml' --set 'lora.targets=[q_proj, v_proj]' --or-resume"
        );
        assert!(lines.contains(&"export RAYON_NUM_THREADS=8".to_owned()));
        assert!(lines.contains(&"export OMPI_MCA_btl=self,tcp".to_owned()));
    }

    #[test]
    fn one_process_needs_no_mpi_and_what_was_not_asked_for_is_not_there() {
        let (mut job, slurm) = job();
        job.resources =
            Resources { nodes: 1, ranks_per_node: 1, cpus_per_rank: 1, gpus_per_rank: 0, memory_per_rank: None };
        let text = script(&job, &slurm).unwrap();
        for absent in ["--mpi", "--gpus", "--mem=", "--qos"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
    }

    /// Runs the script's shell with an `srun` of this exit code, restarted so many times, on a cluster that has
    /// `RequeueExit` or not: the exit code, and whether the job asked to be started again.
    fn ends(srun: u8, restarts: u32, requeue_exit: bool, state: &str) -> (Option<i32>, bool) {
        let (job, slurm) = job();
        let config = if requeue_exit { "RequeueExit             = 42,85" } else { "RequeueExit             = (null)" };
        let told = format!(
            "scontrol() {{ if [ \"$1\" = requeue ]; then echo \"requeued $2\"; else echo '{config}'; fi; }}\n\
             squeue() {{ echo {state}; }}\nsrun() {{ return {srun}; }}\n"
        );
        let mut bash = Command::new("bash")
            .env("SLURM_JOB_ID", "17")
            .env("SLURM_RESTART_COUNT", restarts.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let text = told + &script(&job, &slurm).unwrap();
        bash.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let out = bash.wait_with_output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap() == "requeued 17\n")
    }

    #[test]
    fn the_script_ends_as_the_run_did_or_asks_for_another_start() {
        for code in 0..=3 {
            assert_eq!(ends(code, 0, true, "RUNNING"), (Some(code.into()), false));
        }
        // Interrupted: always started again, by Slurm or by its own request.
        assert_eq!(ends(85, 99, true, "RUNNING"), (Some(85), false));
        assert_eq!(ends(85, 99, false, "RUNNING"), (Some(85), true));
        assert_eq!(ends(85, 0, false, "COMPLETING"), (Some(85), false), "cancelled");
        // A process was killed: so many times.
        assert_eq!(ends(137, 9, true, "RUNNING"), (Some(85), false));
        assert_eq!(ends(137, 9, false, "RUNNING"), (Some(85), true));
        assert_eq!(ends(137, 10, false, "RUNNING"), (Some(137), false));
    }

    #[test]
    fn what_no_line_of_a_script_can_hold_is_refused() {
        let (mut job, mut slurm) = job();
        job.name = "a\nb".to_owned();
        let error = script(&job, &slurm).unwrap_err().to_string();
        assert!(error.starts_with(r#"sbatch --job-name: "a\nb" cannot stand in a batch script"#), "{error}");
        job.name = "a".to_owned();
        slurm.partition = Some("it's".to_owned());
        assert!(script(&job, &slurm).is_err());
        slurm.partition = None;
        job.grace_seconds = 70_000;
        assert!(script(&job, &slurm).unwrap_err().to_string().contains("expected 1 to 65535 seconds"));
    }
}
