//! `greffon port`.

use std::path::Path;
use std::process::ExitCode;

use anstream::{eprintln, println};
use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::eval::{Given, evaluate, test_conversations};
use super::subject::{Comparing, run_recipe};
use super::verify::REFUSED;
use super::{booked, output, progress, training};
use crate::cli::PortArgs;
use crate::cluster::{Collective, from_first};
use crate::energy::Stage;
use crate::error::TrainError;
use crate::eval::evaluation::{Comparison, Evaluation};
use crate::language::Language;
use crate::model::adapter;
use crate::port::{self, Change, Target, Verdict};
use crate::recipe::{Loaded, ModelConfig, Recipe};
use crate::report::RunReport;
use crate::report::compare::Compared;
use crate::track::RunFolder;

pub(super) fn port(args: &PortArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    let run = RunFolder::open(args.run.clone())?;
    let recipe = run_recipe(&run, &[])?.recipe;
    let hub = progress::hub();
    let conversations = test_conversations(&recipe, recipe.eval.limit, &hub)?;
    let target = Target {
        model: ModelConfig { revision: args.revision.clone(), ..ModelConfig::new(base(&args.base)?) },
        chat_template: args
            .chat_template
            .as_ref()
            .map(|path| path.canonicalize())
            .transpose()
            .map_err(|source| TrainError::Read { path: args.chat_template.clone().unwrap_or_default(), source })?,
        output: args.to.clone().unwrap_or_else(|| port::output(run.path(), &args.base)),
    };
    let (moved, changes) = port::adapt(&recipe, &target, &hub)?;
    if collective.is_first() {
        for Change { key, before, after, why } in &changes {
            eprintln!("{key}: {before} -> {after} ({why})");
        }
    }
    let loaded = load(&moved, &args.set)?;
    loaded.check().map_err(TrainError::from)?;

    let new = target.output.as_path();
    training::run_or_take(&loaded, collective)?;
    let old_answers = evaluated(run.path(), collective)?;
    let new_answers = evaluated(new, collective)?;
    let (Some(old_answers), Some(new_answers)) = (old_answers, new_answers) else { return Ok(ExitCode::SUCCESS) };
    let quality = port::compare(&conversations, &old_answers, &new_answers)?;
    let reports = [RunReport::read(run.path())?, RunReport::read(new)?];
    let passed = reports[1].figures().passed;
    let verdict = port::judge(&quality, args.tolerance / 100.0, passed);
    if args.json {
        output::json(&json!({
            "run": run.path(),
            "moved": new,
            "changes": changes,
            "quality": quality,
            "figures": reports.each_ref().map(RunReport::figures),
            "verdict": verdict,
        }))?;
    } else {
        println!("{}", table(&quality, &reports));
        tell(&verdict, new);
    }
    Ok(if verdict.moves { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
}

/// A path as it is found from anywhere.
fn base(name: &str) -> Result<String, TrainError> {
    if !Path::new(name).exists() {
        return Ok(name.to_owned());
    }
    let found = Path::new(name).canonicalize();
    let found = found.map_err(|source| TrainError::Read { path: name.into(), source })?;
    Ok(found.to_string_lossy().into_owned())
}

/// The recipe through its text, so that it is held to what every recipe is held to.
fn load(recipe: &Recipe, set: &[String]) -> Result<Loaded, TrainError> {
    let failed = |source| TrainError::Write { path: std::env::temp_dir(), source };
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().map_err(failed)?;
    let mut recipe = recipe.clone();
    recipe.output = std::path::absolute(&recipe.output).map_err(failed)?;
    std::fs::write(file.path(), recipe.resolved_yaml()).map_err(failed)?;
    Ok(Recipe::load(file.path(), set)?)
}

/// What a run's adapter answers, on the first rank: as it was found before, or asked now.
fn evaluated(run: &Path, collective: &dyn Collective) -> anyhow::Result<Option<Evaluation>> {
    let comparing = Comparing::open(run, None, &[])?;
    let folder = RunFolder::open(run.to_owned())?;
    let digest = adapter::digest(&comparing.adapter)?;
    let is_there = || Ok(Evaluation::read(&folder)?.is_some_and(|found| found.adapter_digest == digest));
    if from_first(collective, is_there)? {
        return Ok(if collective.is_first() { Evaluation::read(&folder)? } else { None });
    }
    let found = booked(Stage::Evaluate, run, collective, || evaluate(&comparing, None, Given::default(), collective))?;
    if let Some(found) = &found {
        found.save(&folder)?;
    }
    Ok(found)
}

fn table(quality: &[Comparison], reports: &[RunReport; 2]) -> Table {
    let mut table = Table::new();
    let [old, new] = reports;
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["", &old.name, &new.name, "difference, 95 % interval"]);
    for Comparison { metric, base, adapter, difference, interval: (low, high), .. } in quality {
        let [base, adapter, difference, low, high] = [base, adapter, difference, low, high].map(|share| 100.0 * share);
        let difference = format!("{difference:+.1} ({low:+.1} to {high:+.1})");
        table.add_row([metric.clone(), format!("{base:.1} %"), format!("{adapter:.1} %"), difference]);
    }
    for (what, values) in Compared::rows(reports, Language::En) {
        // That of the questions is above, with its interval.
        if !quality.iter().any(|comparison| comparison.metric.eq_ignore_ascii_case(&what)) {
            table.add_row([vec![what], values].concat());
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn tell(verdict: &Verdict, new: &Path) {
    for reason in &verdict.reasons {
        println!("{reason}");
    }
    if verdict.moves {
        println!("move: yes; next: greffon export {} --to adapter", new.display());
    } else {
        println!("move: no, not on these grounds");
    }
}
