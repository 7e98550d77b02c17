//! Submitting to Slurm.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::{env, fs};

use anstream::{eprintln, print, println};
use anyhow::Context as _;

use super::super::plan;
use super::follow::{End, follow};
use super::{job, load};
use crate::cli::SubmitArgs;
use crate::error::TrainError;
use crate::submit::slurm::{self, OFF_PEAK, Slurm};
use crate::submit::{Job, time_with_margin};

pub(super) fn submit(args: &SubmitArgs) -> anyhow::Result<ExitCode> {
    let loaded = load(args)?;
    loaded.check().map_err(TrainError::from)?;
    let program = match &args.resources.program {
        Some(program) => program.clone(),
        None => env::current_exe().context("finding this program's own file")?,
    };
    let file = args.recipe.recipe.file_name().unwrap_or_default();
    let mut job = job(args, &loaded, program, loaded.root.join(file));
    if job.resources.ranks() > 1 && args.resources.program.is_none() && !cfg!(feature = "mpi") {
        let reason = "this build has no engine that joins several processes; build it with `--features mpi`, or name \
                      another program with --program";
        return Err(TrainError::Run(reason.to_owned()).into());
    }
    if job.time.is_none() {
        let seconds = plan::total_seconds(&loaded.recipe, job.resources.ranks() as usize).map_err(|error| {
            TrainError::Run(format!("the time follows from a plan, or from --time: {}", error.with_causes()))
        })?;
        job.time = Some(time_with_margin(seconds));
    }
    let of = &args.of_slurm;
    let slurm = Slurm {
        account: of.account.clone(),
        partition: of.partition.clone(),
        qos: of.qos.clone(),
        begin: of.begin.as_ref().map(|begin| if begin == "off-peak" { OFF_PEAK.to_owned() } else { begin.clone() }),
        mpi: of.mpi.clone(),
        folder: env::current_dir().context("finding the current folder")?,
        output: loaded.recipe.output.clone(),
    };
    let script = slurm::script(&job, &slurm)?;
    if args.print {
        print!("{script}");
        return Ok(ExitCode::SUCCESS);
    }
    let number = sbatch(&script, &slurm)?;
    let log = slurm::log(&slurm, &job.name, &number);
    let kept = keep(&script, &slurm, &job, &number);
    if !args.json {
        println!("job {number}, log {}", log.display());
    }
    let end = if of.detach { None } else { Some(follow(&number, &log, args.json)?) };
    if args.json {
        let json = serde_json::json!({
            "job": number,
            "script": kept,
            "log": log,
            "run": slurm.output,
            "state": end.as_ref().map(|end| &end.state),
            "restarts": end.as_ref().map(|end| end.restarts),
            "exit_code": end.as_ref().map(End::code),
        });
        println!("{}", serde_json::to_string_pretty(&json)?);
    }
    Ok(end.map_or(ExitCode::SUCCESS, |end| ExitCode::from(end.code())))
}

/// Submits a script, and gives the number of the job.
fn sbatch(script: &str, slurm: &Slurm) -> Result<String, TrainError> {
    let parent = slurm.output.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|source| TrainError::Write { path: parent.to_owned(), source })?;
    let mut sbatch = Command::new("sbatch");
    sbatch.arg("--parsable").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut sbatch = sbatch.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => TrainError::Run(
            "sbatch was not found; submit from a machine of the cluster, or write the script with --print and submit it \
             there"
                .to_owned(),
        ),
        _ => TrainError::Scheduler { program: "sbatch", reason: error.to_string() },
    })?;
    if let Some(mut input) = sbatch.stdin.take() {
        // What refuses the script before it has read it says so below.
        let _ = input.write_all(script.as_bytes());
    }
    let out = sbatch
        .wait_with_output()
        .map_err(|error| TrainError::Scheduler { program: "sbatch", reason: error.to_string() })?;
    let said = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        return Err(TrainError::Run(refusal(&said, slurm)));
    }
    // `NUMBER`, or `NUMBER;CLUSTER`.
    let said = String::from_utf8_lossy(&out.stdout);
    let number = said.trim().split(';').next().unwrap_or_default();
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        let reason = format!("expected the number of a job, got {:?}", said.trim());
        return Err(TrainError::Scheduler { program: "sbatch", reason });
    }
    Ok(number.to_owned())
}

/// What Slurm says against a job, with what helps.
fn refusal(said: &str, slurm: &Slurm) -> String {
    let lines = said.lines().map(|line| line.trim_start_matches("sbatch: ").trim_start_matches("error: ").trim());
    let said: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let said = if said.is_empty() { "no reason given".to_owned() } else { said.join("; ") };
    let mut text = format!("Slurm refuses the job: {said}");
    if said.contains("partition")
        && slurm.partition.is_some()
        && let Ok(out) = Command::new("sinfo").args(["--noheader", "--format", "%R"]).output()
        && out.status.success()
    {
        let names: Vec<String> =
            String::from_utf8_lossy(&out.stdout).lines().map(|name| name.trim().to_owned()).collect();
        text = format!("{text}. partitions: {}", names.join(", "));
    }
    text
}

/// Keeps the script beside the run folder. The job is submitted: a script that cannot be kept is no reason to fail.
fn keep(script: &str, slurm: &Slurm, job: &Job, number: &str) -> Option<std::path::PathBuf> {
    let path = slurm::beside(&slurm.output, &format!("{}-{number}.sh", job.name));
    match adapters::write_atomic(&path, false, |out| out.write_all(script.as_bytes())) {
        Ok(()) => Some(path),
        Err(error) => {
            eprintln!("the job's script was not kept: {error}");
            None
        }
    }
}
