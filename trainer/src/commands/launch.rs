//! `greffon launch`: several processes of one run on this machine.

use std::io::{self, BufRead as _, BufReader, Read};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anstream::eprintln;
use anyhow::Context as _;
use owo_colors::OwoColorize as _;

use super::interrupt::on_stop;
use crate::cli::LaunchArgs;
use crate::error::TrainError;

/// The verbs that several processes share.
const SHARED: [&str; 6] = ["train", "eval", "forgetting", "synth", "data", "reproduce"];
/// How long a signal takes to be passed on, at most.
const LOOK_EVERY: Duration = Duration::from_millis(100);

pub(super) fn launch(args: &LaunchArgs) -> anyhow::Result<ExitCode> {
    if !cfg!(feature = "mpi") {
        let reason = "this build has no engine that joins several processes; build it with `--features mpi`, which needs \
                      an MPI library (Debian: libopenmpi-dev, libclang-dev)";
        return Err(TrainError::Run(reason.to_owned()).into());
    }
    let stop = on_stop(None)?;
    let mut mpirun = command(args)?.spawn().map_err(|error| unstarted(args, &error))?;
    let messages = mpirun.stderr.take().map(|stderr| thread::spawn(move || tell(stderr)));
    let mut passed_on = false;
    let status = loop {
        if let Some(status) = mpirun.try_wait().context("waiting for mpirun")? {
            break status;
        }
        if stop.load(Ordering::Relaxed) && !passed_on {
            passed_on = true;
            pass_on(mpirun.id())?;
        }
        thread::sleep(LOOK_EVERY);
    };
    if let Some(messages) = messages {
        // Ends with the processes; what it could not read is no reason to fail.
        let _ = messages.join();
    }
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// `mpirun` with this program and its arguments.
fn command(args: &LaunchArgs) -> anyhow::Result<Command> {
    let greffon = std::env::current_exe().context("finding this program's own file")?;
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or((cores / usize::from(args.ranks)).max(1), usize::from);
    let mut mpirun = Command::new(&args.mpirun);
    mpirun.args(["-n", &args.ranks.to_string(), "--oversubscribe", "--bind-to", "none"]);
    mpirun.arg(greffon);
    if !SHARED.contains(&args.work[0].as_str()) {
        mpirun.arg("train");
    }
    mpirun.args(&args.work);
    mpirun.env("RAYON_NUM_THREADS", threads.to_string());
    // A rank that waits must not take the core of one that computes.
    mpirun.env("OMPI_MCA_mpi_yield_when_idle", "1");
    // In containers people are root.
    mpirun.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    mpirun.stderr(Stdio::piped());
    detach(&mut mpirun);
    Ok(mpirun)
}

/// Takes `mpirun` out of the terminal's group: on a Ctrl-C of its own it would kill the processes before they have saved.
#[cfg(unix)]
fn detach(mpirun: &mut Command) {
    use std::os::unix::process::CommandExt as _;
    mpirun.process_group(0);
}

#[cfg(not(unix))]
fn detach(_mpirun: &mut Command) {}

/// Has `mpirun` tell its processes to stop, by the one signal that it hands on instead of ending them itself.
fn pass_on(mpirun: u32) -> anyhow::Result<()> {
    let status = Command::new("kill").args(["-s", "USR1", &mpirun.to_string()]).status();
    let done = status.context("telling mpirun to stop")?.success();
    anyhow::ensure!(done, "mpirun is gone");
    Ok(())
}

/// Prints what the processes say, and of what `mpirun` says, between rules, the one thing that they cannot: which of them
/// was killed.
fn tell(stderr: impl Read) {
    let is_rule = |line: &str| line.len() > 20 && line.bytes().all(|byte| byte == b'-');
    let mut block: Option<String> = None;
    for line in BufReader::new(stderr).split(b'\n') {
        let Ok(line) = line else { return };
        let line = String::from_utf8_lossy(&line);
        match &mut block {
            None if is_rule(&line) => block = Some(String::new()),
            None => eprintln!("{line}"),
            Some(text) if is_rule(&line) => {
                if let Some(told) = of_mpirun(text) {
                    eprintln!("{} {told}", "error:".red().bold());
                }
                block = None;
            }
            Some(text) => {
                text.push_str(&line);
                text.push(' ');
            }
        }
    }
    if let Some(text) = block {
        eprintln!("{text}");
    }
}

/// What is worth telling of a message of `mpirun`; `None` for one that only says that a process ended with its own code.
fn of_mpirun(text: &str) -> Option<String> {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.contains("non-zero exit code") || text.contains("MPI_ABORT was invoked") || text.contains("non-zero status")
    {
        return None;
    }
    let Some((_, killed)) = text.split_once("mpirun noticed that process ") else { return Some(text) };
    Some(format!(
        "{} the others were ended; a run goes on from its last checkpoint with --resume, a set from its answers with --force",
        killed.replacen(" exited on signal", " was ended by signal", 1)
    ))
}

fn unstarted(args: &LaunchArgs, error: &io::Error) -> TrainError {
    TrainError::Run(format!(
        "{} could not be started ({error}); install Open MPI (Debian: openmpi-bin), or name its program with --mpirun",
        args.mpirun.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::of_mpirun;

    #[test]
    fn of_mpirun_only_a_killed_process_is_told() {
        let killed = "mpirun noticed that process rank 1 with PID 0 on node\nvm exited on signal 9 (Killed).";
        let told = of_mpirun(killed).expect("it is told");
        assert!(told.starts_with("rank 1 with PID 0 on node vm was ended by signal 9 (Killed). the others"), "{told}");
        let own = "Primary job  terminated normally, but 1 process returned\na non-zero exit code.";
        assert_eq!(of_mpirun(own), None);
        assert_eq!(of_mpirun("There are not enough slots"), Some("There are not enough slots".to_owned()));
    }
}
