//! `greffon sweep`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anstream::{eprintln, println};
use anyhow::Context as _;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::interrupt::on_stop;
use super::progress;
use crate::cli::SweepArgs;
use crate::error::TrainError;
use crate::recipe::Recipe;
use crate::sweep::halving::{Rung, rungs};
use crate::sweep::queue::Queue;
use crate::sweep::space::{self, Axis, Point};
use crate::sweep::{Trial, Tried, plot, ranked};

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

pub(super) fn sweep(args: &SweepArgs) -> anyhow::Result<ExitCode> {
    let points = match args.random {
        Some(count) => space::random(&args.over, count.into(), args.seed),
        None => space::grid(&args.over)?,
    };
    let steps = check(args, &points)?;
    let folder = folder(args);
    std::fs::create_dir_all(&folder).map_err(|source| TrainError::Write { path: folder.clone(), source })?;
    let rungs = match args.halving {
        Some(factor) => rungs(points.len(), steps.context("halving needs steps")?, factor),
        None => vec![Rung { trials: points.len(), steps: 0 }],
    };
    let stop = on_stop(Some("the micro-batches under way and saving"))?;
    let Some(trials) = climb(args, &points, &rungs, &folder, &stop)? else {
        eprintln!("stopped; everything is saved. to go on: the same command again");
        return Ok(ExitCode::from(STOPPED));
    };

    let keys = args.over.iter().map(|axis| axis.key.as_str()).collect();
    let text = serde_json::to_string_pretty(&Sweep { recipe: &args.recipe, keys, trials: &trials })?;
    let write = |name: &str, text: &str| {
        adapters::write_atomic(&folder.join(name), true, |out| out.write_all(text.as_bytes())).map_err(TrainError::from)
    };
    write("sweep.json", &text)?;
    let drawn = plot::svg(&args.over, &trials)?;
    if let Some(drawn) = &drawn {
        write("sweep.svg", drawn)?;
    }
    let best = trials.first().filter(|tried| tried.best.is_some());
    if args.json {
        println!("{text}");
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
    args.to.clone().unwrap_or_else(|| {
        let named = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let own = named(&args.recipe).filter(|stem| stem != "recipe");
        let name = own.or_else(|| named(args.recipe.parent()?)).unwrap_or_else(|| "recipe".to_owned());
        Path::new("sweeps").join(name)
    })
}

/// Makes the trials rung by rung. Those of the last come first, the best before the others; then those that went no
/// further. `None` when stopped.
fn climb(
    args: &SweepArgs,
    points: &[Point],
    rungs: &[Rung],
    folder: &Path,
    stop: &AtomicBool,
) -> anyhow::Result<Option<Vec<Tried>>> {
    let recipe = args.recipe.canonicalize().with_context(|| format!("finding {}", args.recipe.display()))?;
    let folder = folder.canonicalize().with_context(|| format!("finding {}", folder.display()))?;
    let queue = Queue { recipe: &recipe, set: &args.set, axes: &args.over, jobs: args.jobs.into() };
    let mut left: Vec<(usize, Point)> = (1..).zip(points.iter().cloned()).collect();
    let mut behind: Vec<Tried> = Vec::new();
    for (index, rung) in rungs.iter().enumerate() {
        let max_steps = (rung.steps > 0).then_some(rung.steps);
        let trials: Vec<Trial> = left
            .iter()
            .map(|(number, point)| {
                let name = match max_steps {
                    Some(steps) => format!("trial-{number:03}-{steps}-steps"),
                    None => format!("trial-{number:03}"),
                };
                Trial { number: *number, point: point.clone(), max_steps, folder: folder.join(name) }
            })
            .collect();
        let bar = progress::bar(trials.len(), "trials");
        let Some(tried) = queue.run(&trials, stop, &|tried| {
            bar.inc(1);
            let loss = tried.best.map_or("failed".to_owned(), |(loss, _)| format!("{loss:.4}"));
            let line = format!("trial {}: {}: {loss}", tried.trial.number, named(&args.over, &tried.trial.point));
            if bar.is_hidden() { eprintln!("{line}") } else { bar.println(line) }
        })?
        else {
            return Ok(None);
        };
        bar.finish_and_clear();
        let mut tried = ranked(tried);
        let kept = rungs.get(index + 1).map_or(0, |next| next.trials);
        if kept == 0 {
            tried.append(&mut behind);
            return Ok(Some(tried));
        }
        let dropped = tried.split_off(kept.min(tried.len()));
        left = tried.into_iter().map(|tried| (tried.trial.number, tried.trial.point)).collect();
        behind.splice(0..0, dropped);
    }
    Ok(Some(behind))
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
