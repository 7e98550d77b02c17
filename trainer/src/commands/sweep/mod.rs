//! `greffon sweep`.

mod slurm;

use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anstream::{eprintln, print, println};
use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use self::slurm::Template;
use super::interrupt::on_stop;
use super::{output, progress};
use crate::cli::SweepArgs;
use crate::error::TrainError;
use crate::recipe::{MlflowConfig, Recipe, run_name};
use crate::submit::slurm::script;
use crate::sweep::array::{Array, Jobs as _};
use crate::sweep::halving::{Rung, rungs};
use crate::sweep::queue::Queue;
use crate::sweep::space::{self, Axis, Point};
use crate::sweep::{self, Made, Runner, Told, Trial, Tried, plot, ranked};
use crate::track::mlflow::parent;

/// The exit code of a sweep that was stopped with everything saved.
const STOPPED: u8 = 130;

/// `sweep.json`.
#[derive(Serialize)]
struct Sweep<'a> {
    recipe: &'a Path,
    keys: Vec<&'a str>,
    /// The last rung's trials, the best first, then those that went no further.
    trials: &'a [Tried],
}

pub(super) fn sweep(mut args: SweepArgs) -> anyhow::Result<ExitCode> {
    let points = match args.random {
        Some(count) => space::random(&args.over, count.into(), args.seed),
        None => space::grid(&args.over)?,
    };
    let steps = check(&args, &points)?;
    let recipe = args.recipe.canonicalize().with_context(|| format!("finding {}", args.recipe.display()))?;
    let folder = folder(&args);
    if !args.print {
        fs::create_dir_all(&folder).map_err(|source| TrainError::Write { path: folder.clone(), source })?;
    }
    let folder = folder.canonicalize().or_else(|_| absolute(&folder)).context("finding the current folder")?;
    let tracked = if args.print { None } else { tracked(&args, &folder)? };
    args.set.extend(tracked.iter().map(|(run, _)| format!("tracking.mlflow.parent_run={run}")));
    let rungs = match args.halving {
        Some(factor) => rungs(points.len(), steps.context("halving needs steps")?, factor),
        None => vec![Rung { trials: points.len(), steps: 0 }],
    };
    let all: Vec<(usize, Point)> = (1..).zip(points).collect();
    let made = if args.slurm {
        let first = trials(&folder, &all, &rungs[0]);
        let template = Template::new(&args, &recipe, &folder, first.first().and_then(|trial| trial.max_steps))?;
        if args.print {
            let (job, slurm) = template.job(&first)?;
            print!("{}", script(&job, &slurm)?);
            return Ok(ExitCode::SUCCESS);
        }
        let array = Array { folder: &folder, jobs: &template };
        climb(&args, all, &rungs, &folder, &array, &*on_stop(None)?)?
    } else {
        let jobs = args.jobs.unwrap_or(1).into();
        let queue = Queue { recipe: &recipe, set: &args.set, axes: &args.over, jobs };
        let stop = on_stop(Some("the micro-batches under way and saving"))?;
        climb(&args, all, &rungs, &folder, &queue, &stop)?
    };
    let trials = match made {
        Made::All(trials) => trials,
        Made::Stopped(told) => {
            eprintln!("{told}");
            return Ok(ExitCode::from(STOPPED));
        }
    };

    let keys = args.over.iter().map(|axis| axis.key.as_str()).collect();
    let sweep = Sweep { recipe: &args.recipe, keys, trials: &trials };
    let write = |name: &str, text: &str| {
        adapters::write_atomic(&folder.join(name), true, |out| out.write_all(text.as_bytes())).map_err(TrainError::from)
    };
    write("sweep.json", &serde_json::to_string_pretty(&sweep)?)?;
    let drawn = plot::svg(&args.over, &trials)?;
    if let Some(drawn) = &drawn {
        write("sweep.svg", drawn)?;
    }
    let best = trials.first().filter(|tried| tried.best.is_some());
    if let Some((run, config)) = &tracked {
        parent::finish(run, config, best.is_some())?;
    }
    if args.json {
        output::json(&sweep)?;
    } else {
        println!("{}", table(&args.over, &trials));
        for tried in &trials {
            if let Some(error) = &tried.error {
                println!("trial {} failed: {error}", tried.trial.number);
            }
        }
        println!("written: {}", folder.join("sweep.json").display());
        if let Some(best) = best {
            println!("best: {}", best.trial.folder.display());
            println!("next: greffon eval {}", best.trial.folder.display());
        }
    }
    Ok(if best.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The MLflow run that the trials are shown below, where their recipe names a server and no run of its own.
fn tracked(args: &SweepArgs, folder: &Path) -> Result<Option<(String, MlflowConfig)>, TrainError> {
    let recipe = Recipe::load(&args.recipe, &args.set)?.recipe;
    let Some(config) = recipe.tracking.mlflow.filter(|config| config.parent_run.is_none()) else { return Ok(None) };
    let params: Vec<(String, String)> =
        args.over.iter().map(|axis| (axis.key.clone(), axis.values.to_string())).collect();
    Ok(parent::parent(folder, &config, &params)?.map(|run| (run, config)))
}

/// Checks every trial's recipe before the first is made, and gives the steps of a halving's last rung.
fn check(args: &SweepArgs, points: &[Point]) -> Result<Option<u64>, TrainError> {
    let mut steps = None;
    for point in points {
        let own = args.over.iter().zip(point).map(|(axis, value)| format!("{}={value}", axis.key));
        let set: Vec<String> = args.set.iter().cloned().chain(own).collect();
        let loaded = Recipe::load(&args.recipe, &set)?;
        loaded.check()?;
        let Recipe { data, train, .. } = &loaded.recipe;
        if data.validation.is_empty() && data.validation_fraction <= 0.0 {
            let reason = "a sweep compares trials by their validation loss, and the recipe has no validation data; name some \
                          under data.validation, or set aside a data.validation_fraction";
            return Err(TrainError::Run(reason.to_owned()));
        }
        if args.halving.is_some() && train.max_steps.is_none() {
            let reason =
                "--halving divides the steps of a trial, and the recipe does not say how many; set train.max_steps";
            return Err(TrainError::Run(reason.to_owned()));
        }
        steps = train.max_steps;
    }
    Ok(steps)
}

fn folder(args: &SweepArgs) -> PathBuf {
    args.to.clone().unwrap_or_else(|| Path::new("sweeps").join(run_name(&args.recipe)))
}

/// The trials of a rung.
fn trials(folder: &Path, points: &[(usize, Point)], rung: &Rung) -> Vec<Trial> {
    let max_steps = (rung.steps > 0).then_some(rung.steps);
    let trial = |(number, point): &(usize, Point)| {
        let folder = sweep::folder(folder, &format!("{number:03}"), max_steps);
        Trial { number: *number, point: point.clone(), max_steps, folder }
    };
    points.iter().map(trial).collect()
}

/// Makes the trials rung by rung; one that is finished already is taken as it is. Those of the last rung come first, the
/// best before the others; then those that went no further.
fn climb(
    args: &SweepArgs,
    mut left: Vec<(usize, Point)>,
    rungs: &[Rung],
    folder: &Path,
    runner: &dyn Runner,
    stop: &AtomicBool,
) -> Result<Made, TrainError> {
    let mut behind: Vec<Tried> = Vec::new();
    for (index, rung) in rungs.iter().enumerate() {
        let trials = trials(folder, &left, rung);
        let bar = progress::bar(trials.len(), "trials");
        let say = |line: &str| if bar.is_hidden() { eprintln!("{line}") } else { bar.println(line) };
        let tell = |told: Told<'_>| match told {
            Told::Note(line) => say(line),
            Told::Tried(tried) => {
                bar.inc(1);
                let loss = tried.best.map_or("failed".to_owned(), |(loss, _)| format!("{loss:.4}"));
                say(&format!("trial {}: {}: {loss}", tried.trial.number, named(&args.over, &tried.trial.point)));
            }
        };
        let mut tried: Vec<Tried> = trials.iter().filter_map(Tried::finished).collect();
        for tried in &tried {
            tell(Told::Tried(tried));
        }
        let is_left = |trial: &Trial| !tried.iter().any(|tried| tried.trial == *trial);
        let to_make: Vec<Trial> = trials.into_iter().filter(is_left).collect();
        match runner.run(&to_make, stop, &tell)? {
            Made::All(made) => tried.extend(made),
            stopped @ Made::Stopped(_) => return Ok(stopped),
        }
        bar.finish_and_clear();
        let mut tried = ranked(tried);
        let kept = rungs.get(index + 1).map_or(0, |next| next.trials);
        if kept == 0 {
            tried.append(&mut behind);
            return Ok(Made::All(tried));
        }
        let dropped = tried.split_off(kept.min(tried.len()));
        left = tried.into_iter().map(|tried| (tried.trial.number, tried.trial.point)).collect();
        behind.splice(0..0, dropped);
    }
    Ok(Made::All(behind))
}

fn named(axes: &[Axis], point: &Point) -> String {
    let values = axes.iter().zip(point).map(|(axis, value)| format!("{}={value}", axis.key));
    values.collect::<Vec<_>>().join(" ")
}

fn table(axes: &[Axis], trials: &[Tried]) -> Table {
    let mut table = Table::new();
    let keys = axes.iter().map(|axis| axis.key.as_str());
    let header = ["trial"].into_iter().chain(keys).chain(["steps", "loss", "at step", "tokens/s", "forgetting"]);
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    for Tried { trial, best, tokens_per_second, within_limits, .. } in trials {
        let figures = [
            trial.max_steps.map_or_else(String::new, |steps| steps.to_string()),
            best.map_or("failed".to_owned(), |(loss, _)| format!("{loss:.4}")),
            best.map_or_else(String::new, |(_, step)| step.to_string()),
            tokens_per_second.map_or_else(String::new, |speed| format!("{speed:.0}")),
            within_limits.map_or("", |within| if within { "within" } else { "beyond" }).to_owned(),
        ];
        table.add_row([trial.number.to_string()].into_iter().chain(trial.point.iter().cloned()).chain(figures));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
