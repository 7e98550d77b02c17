//! `greffon runs`: listed, compared, cleaned away.

use std::path::Path;

use anstream::println;
use comfy_table::{CellAlignment, Table, presets};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::output;
use crate::cli::{CleanArgs, CompareArgs, ListArgs, RunsArgs, RunsVerb};
use crate::error::TrainError;
use crate::language::Language;
use crate::plan::bytes;
use crate::report::compare::Compared;
use crate::report::list::{Doomed, Listed, Selection, Spared, runs as listed};
use crate::report::{Figures, RunReport, Standing};

/// A line of the list.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a Path,
    name: Option<&'a str>,
    started: Option<Timestamp>,
    updated: Option<Timestamp>,
    #[serde(flatten)]
    figures: Option<Figures>,
    /// Why it cannot be read.
    error: Option<String>,
}

pub(super) fn runs(args: &RunsArgs) -> anyhow::Result<()> {
    match &args.verb {
        None => list(&args.list),
        Some(RunsVerb::Compare(args)) => compare(args),
        Some(RunsVerb::Clean(args)) => clean(args),
    }
}

fn list(args: &ListArgs) -> anyhow::Result<()> {
    let listed = listed(&args.folder)?;
    let lines: Vec<Line<'_>> = listed
        .iter()
        .map(|Listed { path, run }| {
            let error = run.as_ref().err().map(TrainError::with_causes);
            let run = run.as_ref().ok();
            Line {
                path,
                name: run.map(|run| run.name.as_str()),
                started: run.and_then(RunReport::started),
                updated: run.and_then(RunReport::updated),
                figures: run.map(RunReport::figures),
                error,
            }
        })
        .collect();
    if args.json {
        return output::json(&lines);
    }
    if lines.is_empty() {
        println!("no run below {}", args.folder.display());
        return Ok(());
    }
    let head = ["run", "status", "base", "steps", "validation loss", "exact match", "Wh", "size", "age"];
    let mut table = self::table(head.map(str::to_owned), 3);
    let now = Timestamp::now();
    for line in &lines {
        let name = line.path.strip_prefix(&args.folder).ok().filter(|name| !name.as_os_str().is_empty());
        let name = name.unwrap_or(line.path).display().to_string();
        let Some(figures) = &line.figures else {
            let blank = (0..7).map(|_| String::new());
            table.add_row([name, "unreadable".to_owned()].into_iter().chain(blank));
            continue;
        };
        let steps = figures.planned_steps.map_or_else(String::new, |planned| format!("/{planned}"));
        table.add_row([
            name,
            standing(figures.standing).to_owned(),
            figures.base.clone(),
            format!("{}{steps}", figures.steps),
            figures.validation_loss.map(|loss| format!("{loss:.4}")).unwrap_or_default(),
            figures.exact_match.map(|share| format!("{:.1} %", 100.0 * share)).unwrap_or_default(),
            figures.kwh.map(|kwh| format!("{:.3}", 1e3 * kwh)).unwrap_or_default(),
            bytes(figures.bytes),
            line.updated.map(|updated| age(now.duration_since(updated).as_secs())).unwrap_or_default(),
        ]);
    }
    println!("{table}");
    for line in &lines {
        if let Some(error) = &line.error {
            println!("{}: {error}", line.path.display());
        }
    }
    Ok(())
}

fn compare(args: &CompareArgs) -> anyhow::Result<()> {
    let runs = args.runs.iter().map(|run| RunReport::read(run)).collect::<Result<Vec<_>, _>>()?;
    let compared = Compared::new(&runs);
    if args.json {
        return output::json(&compared);
    }
    let head = || [String::new()].into_iter().chain(compared.names.iter().cloned());
    let mut table = self::table(head(), 1);
    for (what, values) in Compared::rows(&runs, Language::En) {
        table.add_row([what].into_iter().chain(values));
    }
    println!("{table}");
    if compared.differing.is_empty() {
        println!("the recipes are the same");
        return Ok(());
    }
    let mut table = self::table(head(), 1);
    for value in &compared.differing {
        let values = value.values.iter().map(|value| value.clone().unwrap_or_else(|| "nothing".to_owned()));
        table.add_row([value.key.clone()].into_iter().chain(values));
    }
    println!("recipe values that differ");
    println!("{table}");
    Ok(())
}

fn clean(args: &CleanArgs) -> anyhow::Result<()> {
    let CleanArgs { keep_last, failed, older_than, checkpoints, force, .. } = *args;
    let selection = Selection { keep_last, failed, older_than, checkpoints, force };
    let (doomed, mut spared) = selection.of(&listed(&args.folder)?, Timestamp::now())?;
    let mut gone = Vec::new();
    for target in &doomed {
        let deleted = if args.yes { target.delete() } else { Ok(()) };
        match deleted {
            Ok(()) => gone.push(target),
            Err(error) if error.is_write() => return Err(error.into()),
            // A run that was taken up meanwhile.
            Err(error) => spared.push(Spared { run: target.run.clone(), reason: error.with_causes() }),
        }
    }
    let total: u64 = gone.iter().map(|target| target.bytes).sum();
    if args.json {
        let of = |target: &&Doomed| json!({ "path": target.path, "bytes": target.bytes });
        let kept = |spared: &Spared| json!({ "path": spared.run, "reason": spared.reason });
        return output::json(&json!({
            "deleted": args.yes,
            "runs": gone.iter().map(of).collect::<Vec<_>>(),
            "bytes": total,
            "spared": spared.iter().map(kept).collect::<Vec<_>>(),
        }));
    }
    let verb = if args.yes { "deleted" } else { "would delete" };
    for target in &gone {
        println!("{verb} {}, {}", target.path.display(), bytes(target.bytes));
    }
    for Spared { run, reason } in &spared {
        println!("kept {}: {reason}", run.display());
    }
    println!("{verb} {} in all: {}", count(gone.len()), bytes(total));
    if !args.yes && !gone.is_empty() {
        println!("nothing is deleted yet; add --yes to delete");
    }
    Ok(())
}

fn count(runs: usize) -> String {
    if runs == 1 { "1 run".to_owned() } else { format!("{runs} runs") }
}

fn table(head: impl IntoIterator<Item = String>, words: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(head);
    for column in table.column_iter_mut().skip(words) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Running => "running",
        Standing::CutOff => "cut off",
        Standing::Interrupted => "interrupted",
        Standing::Failed => "failed",
        Standing::Finished => "finished",
    }
}

/// Seconds for people: `5 min`, `3 h`, `12 d`.
fn age(seconds: i64) -> String {
    match seconds.max(0) {
        seconds if seconds < 60 => format!("{seconds} s"),
        seconds if seconds < 3600 => format!("{} min", seconds / 60),
        seconds if seconds < 48 * 3600 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}
