//! A job as a batch script for Slurm.
//!
//! The script starts one `greffon train --or-resume` for each rank with `srun`. Slurm's signal before the time limit, and
//! before a pre-emption, goes to the ranks: they save, end with the code of a requeue, and the script hands it on. A rank
//! that is killed ends the others, and the script asks for the job to be started again. With [`Tasks`] it is an array: the
//! same for each task, with values of its own.
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
    /// The log, with [`NUMBER`] in its name.
    pub log: PathBuf,
    /// The tasks of an array; one job where there are none.
    pub tasks: Option<Tasks>,
}

/// The tasks of an array.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tasks {
    /// The number of each, and what is set for it on top of the job's own values.
    pub set: Vec<(usize, Vec<String>)>,
    /// How many may run at a time; as many as the cluster lets where it is not given.
    pub at_a_time: Option<u16>,
}

/// What stands in the name of a log for the number of the job; in that of an array's, for the number of the task, in three
/// digits or more. No path holds it.
pub const NUMBER: &str = "\0";

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
    let program = job.program.to_string_lossy().into_owned();
    let command = words([program].into_iter().chain(job.arguments()));
    let most = job.max_restarts;
    // The number of an array's last task is that of the whole array, which is not to be started again with it.
    let (values, more, number) = match &slurm.tasks {
        Some(tasks) => (values(tasks), r#" "${own[@]}""#, "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"),
        None => (String::new(), "", "$SLURM_JOB_ID"),
    };
    Ok(format!(
        r#"#!/bin/bash
{directives}
# Slurm tells the ranks before it ends them; they save what they have, and this script waits for them.
trap : TERM

{exports}
{values}
srun --kill-on-bad-exit=1 --cpus-per-task={threads}{mpi} \
    {command}{more}
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
    [ "$(squeue --noheader --job "{number}" --format %T)" = RUNNING ]; then
    scontrol requeue "{number}"
fi
exit {REQUEUE_CODE}
"#
    ))
}

/// The values of each task, as an array of the shell.
fn values(tasks: &Tasks) -> String {
    let case = |(number, set): &(usize, Vec<String>)| {
        format!("{number}) own=({}) ;;\n", words(set.iter().flat_map(|set| ["--set".to_owned(), set.clone()])))
    };
    let cases: String = tasks.set.iter().map(case).collect();
    format!("\ncase \"$SLURM_ARRAY_TASK_ID\" in\n{cases}esac\n")
}

/// Words of a shell's line.
fn words(words: impl Iterator<Item = String>) -> String {
    words.map(|word| quoted(&word).into_owned()).collect::<Vec<_>>().join(" ")
}

/// The log of a job by its number.
pub fn log_of(slurm: &Slurm, number: &str) -> PathBuf {
    slurm.log.to_string_lossy().replace(NUMBER, number).into()
}

/// A path of a log as `sbatch` has it, which replaces what follows a percent sign.
pub(super) fn log_value(log: &Path, number: &str) -> String {
    log.to_string_lossy().replace('%', "%%").replace(NUMBER, number)
}

/// The options of `sbatch`, in the script's order.
fn directives(job: &Job, slurm: &Slurm) -> Result<Vec<(&'static str, Option<String>)>, TrainError> {
    let resources = &job.resources;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let log = log_value(&slurm.log, if slurm.tasks.is_some() { "%3a" } else { "%j" });
    let mut given = vec![
        ("job-name", Some(job.name.clone())),
        ("output", Some(log)),
        ("array", slurm.tasks.as_ref().map(array)),
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

/// The numbers of the tasks, as `sbatch` has them.
fn array(tasks: &Tasks) -> String {
    let numbers: Vec<String> = tasks.set.iter().map(|(number, _)| number.to_string()).collect();
    let limit = tasks.at_a_time.map_or_else(String::new, |limit| format!("%{limit}"));
    numbers.join(",") + &limit
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
    use std::process::{Command, Output, Stdio};

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
            log: "/home/me/100% runs/claims-\0.log".into(),
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

    /// The same as an array of two tasks, with values that a shell would take for more than they are.
    fn two_tasks() -> (Job, Slurm) {
        let (job, mut slurm) = job();
        let hostile = ["a='; touch /tmp/x; '", "b=$(id) `id` \"c\"", "c=1\n#SBATCH --hold\nesac", "d=* ;; ~ \\"];
        slurm.log = "/home/me/sweep/trial-\0-8-steps.log".into();
        slurm.tasks = Some(Tasks {
            set: vec![(1, vec!["lora.rank=8".to_owned()]), (12, hostile.map(str::to_owned).into())],
            at_a_time: Some(2),
        });
        (job, slurm)
    }

    #[test]
    fn a_task_of_an_array_has_its_own_values_whatever_they_are() {
        let (job, slurm) = two_tasks();
        let script = script(&job, &slurm).unwrap();
        for line in ["#SBATCH --array=1,12%2", "#SBATCH --output=/home/me/sweep/trial-%3a-8-steps.log"] {
            assert!(script.lines().any(|own| own == line), "no {line} in {script}");
        }
        for (task, expected) in
            [(1, &slurm.tasks.as_ref().unwrap().set[0].1), (12, &slurm.tasks.as_ref().unwrap().set[1].1)]
        {
            // An srun that tells its words, each with an end that no word has.
            let told = "srun() { printf '%s\\0' \"$@\"; }\n".to_owned() + &script;
            let out = bash(&told, &[("SLURM_ARRAY_TASK_ID", &task.to_string())]);
            assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
            let said = String::from_utf8(out.stdout).unwrap();
            let words: Vec<&str> = said.split_terminator('\0').collect();
            let own = words.iter().position(|word| *word == "--or-resume").unwrap();
            let expected: Vec<&str> = expected.iter().flat_map(|set| ["--set", set]).collect();
            assert_eq!(words[own + 1..], expected);
        }
        let checked = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
        assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    }

    #[test]
    fn the_last_task_does_not_start_the_whole_array_again() {
        // Slurm gives it the number of the array.
        let (job, slurm) = two_tasks();
        let told = "scontrol() { [ \"$1\" != requeue ] || echo \"requeued $2\"; }\nsrun() { return 85; }\n\
                    squeue() { [ \"$3\" = 17_12 ] && echo RUNNING; }\n";
        let array = [("SLURM_JOB_ID", "17"), ("SLURM_ARRAY_JOB_ID", "17"), ("SLURM_ARRAY_TASK_ID", "12")];
        let out = bash(&(told.to_owned() + &script(&job, &slurm).unwrap()), &array);
        assert_eq!((out.status.code(), out.stdout.as_slice()), (Some(85), &b"requeued 17_12\n"[..]));
    }

    /// What a script does in a shell with these variables.
    fn bash(script: &str, variables: &[(&str, &str)]) -> Output {
        let mut bash = Command::new("bash")
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        bash.wait_with_output().unwrap()
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
        let text = told + &script(&job, &slurm).unwrap();
        let out = bash(&text, &[("SLURM_JOB_ID", "17"), ("SLURM_RESTART_COUNT", &restarts.to_string())]);
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
