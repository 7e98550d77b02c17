//! Submitting to Slurm, and what a sweep there has in common with it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use anstream::{eprintln, print, println};
use anyhow::Context as _;
use jiff::Timestamp;

use super::super::plan;
use super::follow::{End, follow};
use super::{job, load};
use crate::cli::{Begin, ResourceArgs, SlurmArgs, SubmitArgs};
use crate::commands::output;
use crate::error::TrainError;
use crate::recipe::Recipe;
use crate::submit::carbon::{Forecast, Start};
use crate::submit::slurm::{self, NUMBER, OFF_PEAK, Slurm};
use crate::submit::{Job, WallTime, controller, time_with_margin};

pub(super) fn submit(args: &SubmitArgs) -> anyhow::Result<ExitCode> {
    let loaded = load(args)?;
    loaded.check().map_err(TrainError::from)?;
    let output = &loaded.recipe.output;
    let recipe = loaded.root.join(args.recipe.recipe.file_name().unwrap_or_default());
    let name = Job::name_of(output);
    let mut job = job(&args.resources, name, program(&args.resources)?, recipe, &args.recipe.set);
    let time = Time::of(&args.resources, [&loaded.recipe])?;
    job.time = Some(time.limit);
    let start = low_carbon(&args.of_slurm, time.planned_seconds)?;
    let mut slurm = slurm_of(&args.of_slurm, beside(output, &format!("{}-{NUMBER}.log", job.name)))?;
    slurm.begin = begin(&args.of_slurm, start.as_ref());
    let script = slurm::script(&job, &slurm)?;
    if args.print {
        print!("{script}");
        return Ok(ExitCode::SUCCESS);
    }
    let parent = output.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|source| TrainError::Write { path: parent.to_owned(), source })?;
    let number = controller::submit(&script, slurm.partition.as_deref())?;
    let log = slurm::log_of(&slurm, &number);
    let kept = beside(output, &format!("{}-{number}.sh", job.name));
    let kept = controller::keep(&script, &kept).map(|()| kept).inspect_err(|error| eprintln!("{error}")).ok();
    if !args.json {
        println!("job {number}, log {}", log.display());
    }
    let end = if args.following.detach { None } else { Some(follow(&number, &log, args.json)?) };
    if args.json {
        let json = serde_json::json!({
            "job": number,
            "script": kept,
            "log": log,
            "run": output,
            "low_carbon": start,
            "state": end.as_ref().map(|end| &end.state),
            "restarts": end.as_ref().map(|end| end.restarts),
            "exit_code": end.as_ref().map(End::code),
        });
        output::json(&json)?;
    }
    Ok(end.map_or(ExitCode::SUCCESS, |end| ExitCode::from(end.code())))
}

/// A file beside the run folder.
fn beside(output: &Path, name: &str) -> PathBuf {
    output.parent().unwrap_or(Path::new("/")).join(name)
}

/// The program, as the nodes have it.
pub(in super::super) fn program(asked: &ResourceArgs) -> anyhow::Result<PathBuf> {
    if let Some(program) = &asked.program {
        return Ok(program.clone());
    }
    if asked.nodes.saturating_mul(asked.ranks_per_node) > 1 && !cfg!(feature = "mpi") {
        let reason = "this build has no engine that joins several processes; build it with `--features mpi`, or name \
                      another program with --program";
        return Err(TrainError::Run(reason.to_owned()).into());
    }
    env::current_exe().context("finding this program's own file")
}

/// How long a job takes.
pub(in super::super) struct Time {
    /// By the plan; the limit, where that was given.
    pub(in super::super) planned_seconds: u64,
    /// After which it is stopped.
    pub(in super::super) limit: WallTime,
}

impl Time {
    /// For the longest of some recipes. The plan is made where no time was given.
    pub(in super::super) fn of<'a>(
        asked: &ResourceArgs,
        recipes: impl IntoIterator<Item = &'a Recipe>,
    ) -> Result<Self, TrainError> {
        if let Some(limit) = asked.time {
            return Ok(Self { planned_seconds: limit.seconds(), limit });
        }
        let ranks = asked.nodes.saturating_mul(asked.ranks_per_node);
        let mut longest = 0.0_f64;
        for recipe in recipes {
            let seconds = plan::total_seconds(recipe, ranks as usize).map_err(|error| {
                TrainError::Run(format!("the time follows from a plan, or from --time: {}", error.with_causes()))
            })?;
            longest = longest.max(seconds);
        }
        let planned = Duration::try_from_secs_f64(longest);
        Ok(Self {
            planned_seconds: planned.map_or(u64::MAX, |planned| planned.as_secs()),
            limit: time_with_margin(longest),
        })
    }
}

/// What Slurm alone has, without a time to begin.
pub(in super::super) fn slurm_of(asked: &SlurmArgs, log: PathBuf) -> anyhow::Result<Slurm> {
    Ok(Slurm {
        account: asked.account.clone(),
        partition: asked.partition.clone(),
        qos: asked.qos.clone(),
        begin: None,
        mpi: asked.mpi.clone(),
        folder: env::current_dir().context("finding the current folder")?,
        log,
        tasks: None,
    })
}

/// When a job of so many seconds is to start, where it waits for hours that are low in carbon; it is told.
pub(in super::super) fn low_carbon(asked: &SlurmArgs, seconds: u64) -> Result<Option<Start>, TrainError> {
    let (Some(Begin::LowCarbon), Some(path)) = (&asked.begin, &asked.carbon) else {
        if asked.carbon.is_some() {
            let reason = "--carbon is for `--begin low-carbon` alone; leave it out, or begin with low-carbon";
            return Err(TrainError::Run(reason.to_owned()));
        }
        return Ok(None);
    };
    let start = Forecast::read(path)?.start(Timestamp::now(), seconds, asked.within)?;
    eprintln!("{}", start.told());
    if let Some(cut) = start.cut_told(asked.within) {
        eprintln!("{cut}");
    }
    Ok(Some(start))
}

/// When it may start, in Slurm's words. A wait in seconds has no time zone.
pub(in super::super) fn begin(asked: &SlurmArgs, start: Option<&Start>) -> Option<String> {
    match asked.begin.as_ref()? {
        Begin::At(time) => Some(time.clone()),
        Begin::OffPeak => Some(OFF_PEAK.to_owned()),
        Begin::LowCarbon => {
            start.filter(|start| start.wait_seconds > 0).map(|start| format!("now+{}", start.wait_seconds))
        }
    }
}
