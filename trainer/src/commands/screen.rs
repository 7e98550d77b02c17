//! `greffon data screen`: personal data and secrets in files, counted, masked or replaced with aliases.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use adapters::write_atomic;
use anstream::println;
use comfy_table::{CellAlignment, Table, presets};
use datasets::screen::{Action, Finding, Kind, Pseudonymiser, ScreenConfig, Screening, read_chunks, screen_value};
use datasets::{DataError, SourceConfig};
use rayon::prelude::*;
use serde_json::json;

use super::output;
use super::progress;
use super::verify::REFUSED;
use crate::cli::{ScreenAction, ScreenArgs};
use crate::error::TrainError;
use crate::recipe::Recipe;

/// Examples shown of each kind.
const EXAMPLES: usize = 3;

/// What was found so far.
#[derive(Default)]
struct Report {
    texts: u64,
    with: u64,
    kinds: BTreeMap<Kind, OfKind>,
    /// Every finding, where it is asked for.
    findings: Vec<serde_json::Value>,
}

/// What was found of one kind.
#[derive(Default)]
struct OfKind {
    count: u64,
    texts: u64,
    examples: Vec<String>,
}

/// A record that was screened.
struct Done {
    line: usize,
    text: String,
    found: Vec<Found>,
}

/// A finding with what is needed to show it.
struct Found {
    kind: Kind,
    value: String,
    /// Where it begins in its text, in characters.
    start: usize,
}

impl Found {
    fn new(text: &str, finding: &Finding) -> Self {
        let start = text[..finding.range.start].chars().count();
        Self { kind: finding.kind, value: text[finding.range.clone()].to_owned(), start }
    }
}

pub(super) fn screen(args: &ScreenArgs) -> anyhow::Result<ExitCode> {
    let kinds = if args.kinds.is_empty() { Kind::ALL.to_vec() } else { args.kinds.clone() };
    if let Some(kind) = args.fail_on.iter().find(|kind| !kinds.contains(kind)) {
        return Err(TrainError::Run(format!(
            "--fail-on {kind}: is not among --kinds, expected one that is looked for"
        ))
        .into());
    }
    if let (true, Some(path)) = (args.make_key, &args.key) {
        Pseudonymiser::create_key(path).map_err(TrainError::from)?;
    }
    let action = match args.action {
        ScreenAction::Report => Action::Report,
        ScreenAction::Mask => Action::Mask,
        ScreenAction::Pseudonymise => Action::Pseudonymise,
    };
    let config = ScreenConfig { action, kinds, key: args.key.clone(), licences: None };
    let screening = Screening::new(&config).map_err(TrainError::from)?;
    let started = Instant::now();
    let mut report = Report::default();
    for file in &args.files {
        one(args, &screening, file, &mut report)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    print(args, &report, seconds)?;
    let failed = args.fail_on.iter().any(|kind| report.kinds.contains_key(kind));
    Ok(if failed { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}

fn one(args: &ScreenArgs, screening: &Screening, file: &Path, report: &mut Report) -> Result<(), TrainError> {
    let ending = file.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    let is_recipe = matches!(ending.as_str(), "yaml" | "yml");
    if is_recipe || matches!(ending.as_str(), "json" | "parquet") {
        if args.action != ScreenAction::Report {
            let what = if is_recipe { "a recipe" } else { "a file that is not read line by line" };
            let remedy =
                if is_recipe { "set data.screen in it, or name its files" } else { "convert it to JSON Lines first" };
            return Err(TrainError::Run(format!("{}: {what} is only reported on, {remedy}", file.display())));
        }
        return conversations(args, screening, file, is_recipe, report);
    }
    let Some(to) = target(args, file)? else {
        return lines(args, screening, file, report, None);
    };
    let mut result = Ok(());
    let written = write_atomic(&to, args.force, |out| {
        result = lines(args, screening, file, report, Some(out));
        // The error itself is told below; this one only keeps the file from being put in place.
        if result.is_ok() { Ok(()) } else { Err(std::io::Error::other("screening stopped")) }
    });
    result?;
    Ok(written?)
}

/// Where the result of a file goes.
fn target(args: &ScreenArgs, file: &Path) -> Result<Option<PathBuf>, TrainError> {
    let Some(to) = args.to.as_ref().filter(|_| args.action != ScreenAction::Report) else {
        return Ok(None);
    };
    if args.files.len() == 1 && !to.is_dir() {
        return Ok(Some(to.clone()));
    }
    std::fs::create_dir_all(to).map_err(|source| TrainError::Write { path: to.clone(), source })?;
    let name = file.file_name().ok_or_else(|| TrainError::Run(format!("{}: is no file", file.display())))?;
    let same = args.files.iter().filter(|other| other.file_name() == Some(name)).count();
    if same > 1 {
        let name = name.to_string_lossy();
        return Err(TrainError::Run(format!(
            "--to {}: {same} of the files are called {name}, expected different names",
            to.display()
        )));
    }
    Ok(Some(to.join(name)))
}

/// Screens the lines or pieces of a file, and writes them where asked.
fn lines(
    args: &ScreenArgs,
    screening: &Screening,
    file: &Path,
    report: &mut Report,
    mut out: Option<&mut dyn Write>,
) -> Result<(), TrainError> {
    let path: Arc<Path> = file.into();
    let size = file.metadata().map_err(|source| TrainError::Read { path: file.to_owned(), source })?.len();
    let bar = progress::bytes(size, "screening");
    let screened = read_chunks(file, |chunk| {
        let work = |(line, record): &(usize, String)| {
            let mut found = Vec::new();
            let text = screen_value(screening, &path, (*line, record.as_str()), chunk.json, |text, finding| {
                found.push(Found::new(text, finding));
            })?;
            Ok(Done { line: *line, text, found })
        };
        let done: Vec<Result<Done, DataError>> = chunk.records.par_iter().map(work).collect();
        for done in done {
            let done = done?;
            if let Some(out) = &mut out {
                let written = out.write_all(done.text.as_bytes());
                written.map_err(|source| DataError::Write { path: args.to.clone().unwrap_or_default(), source })?;
            }
            report.add(args, file, done.line, done.found);
        }
        bar.set_position(chunk.done_bytes);
        Ok(())
    });
    bar.finish_and_clear();
    Ok(screened?)
}

/// Screens conversations as a recipe or another reader gives them.
fn conversations(
    args: &ScreenArgs,
    screening: &Screening,
    file: &Path,
    is_recipe: bool,
    report: &mut Report,
) -> Result<(), TrainError> {
    let sources = if is_recipe {
        let recipe = Recipe::load(file, &[]).map_err(TrainError::from)?.recipe;
        [recipe.data.train, recipe.data.validation, recipe.eval.test].concat()
    } else {
        vec![SourceConfig::from_path(file)]
    };
    let hub = progress::hub();
    for source in &sources {
        let loaded = datasets::load_with(source, Path::new(""), &hub)?;
        let bar = progress::bar(loaded.conversations.len(), "screening");
        for part in loaded.conversations.chunks(4096) {
            let done: Vec<Done> = part
                .par_iter()
                .map(|conversation| {
                    let texts: Vec<&str> =
                        conversation.messages.iter().map(|message| message.content.as_str()).collect();
                    let mut found = Vec::new();
                    screening.texts(&texts, |number, finding| {
                        found.push(Found::new(texts[number], finding));
                    });
                    Done { line: conversation.origin.line, text: String::new(), found }
                })
                .collect();
            for (done, conversation) in done.into_iter().zip(part) {
                report.add(args, &conversation.origin.path, done.line, done.found);
            }
            bar.inc(part.len() as u64);
        }
        bar.finish_and_clear();
    }
    Ok(())
}

impl Report {
    fn add(&mut self, args: &ScreenArgs, file: &Path, line: usize, found: Vec<Found>) {
        self.texts += 1;
        self.with += u64::from(!found.is_empty());
        let mut seen: Vec<Kind> = Vec::new();
        for Found { kind, value, start } in found {
            let of = self.kinds.entry(kind).or_default();
            of.count += 1;
            of.texts += u64::from(!seen.contains(&kind));
            seen.push(kind);
            if args.json && args.show {
                let end = start + value.chars().count();
                let finding =
                    json!({"file": file, "line": line, "kind": kind, "start": start, "end": end, "value": value});
                self.findings.push(finding);
            }
            let shown = if args.show { value } else { hidden(&value) };
            if of.examples.len() < EXAMPLES && !of.examples.contains(&shown) {
                of.examples.push(shown);
            }
        }
    }
}

/// The form of a value without the value: each letter and digit is a dot.
fn hidden(value: &str) -> String {
    value.chars().map(|c| if c.is_alphanumeric() { '•' } else { c }).collect()
}

fn print(args: &ScreenArgs, report: &Report, seconds: f64) -> anyhow::Result<()> {
    if args.json {
        let kinds: serde_json::Map<String, serde_json::Value> = report
            .kinds
            .iter()
            .map(|(kind, of)| {
                (kind.name().to_owned(), json!({"count": of.count, "texts": of.texts, "examples": of.examples}))
            })
            .collect();
        let mut json =
            json!({"texts": report.texts, "texts_with_findings": report.with, "kinds": kinds, "seconds": seconds});
        if args.show {
            json["findings"] = json!(report.findings);
        }
        output::json(&json)?;
        return Ok(());
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["kind", "found", "texts", "examples"]);
    for (kind, of) in &report.kinds {
        let examples = of.examples.join("  ").replace(['\n', '\r'], " ");
        table.add_row([kind.name().to_owned(), of.count.to_string(), of.texts.to_string(), examples]);
    }
    for column in table.column_iter_mut().skip(1).take(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    if !report.kinds.is_empty() {
        println!("{table}");
    }
    println!("{} of {} texts hold personal data or secrets, screened in {seconds:.2} s", report.with, report.texts);
    if let Some(to) = args.to.as_ref().filter(|_| args.action != ScreenAction::Report) {
        println!("written: {}", to.display());
    }
    Ok(())
}
