//! `greffon data trace`: from an adapter to its samples, and from a sample to the adapters that learned it.

use std::path::Path;
use std::process::ExitCode;

use anstream::println;
use comfy_table::{CellAlignment, Table, presets};
use datasets::{SampleRecord, sha256_files, source_record};
use serde_json::{Value, json};

use super::output;
use super::verify::REFUSED;
use crate::cli::TraceArgs;
use crate::error::TrainError;
use crate::provenance::places;
use crate::provenance::trace::{self, Found, Query, Source, Summary};
use crate::provenance::{Data, Place};

/// The documents of a summary that are shown.
const DOCUMENTS: usize = 20;

pub(super) fn trace(args: &TraceArgs) -> anyhow::Result<ExitCode> {
    let asked = &args.asked;
    let query = match (&asked.sample, &asked.document, &asked.source) {
        (Some(sample), _, _) => Some(Query::Sample(sample.clone())),
        (_, Some(document), _) => Some(Query::Document(document.clone())),
        (_, _, Some(source)) => Some(Query::Source(Source::new(source)?)),
        (None, None, None) => None,
    };
    // A folder that is an adapter or a run itself is asked alone, any other is searched.
    let single = match args.paths.as_slice() {
        [path] => Place::open(path).ok(),
        _ => None,
    };
    if let (Some(place), None) = (&single, &query) {
        return summary(args, place);
    }
    let data = single.as_ref().map(Place::data).transpose()?.flatten();
    let places = single.map_or_else(|| places(&args.paths), |place| Ok(vec![place]))?;
    let found = trace::trace(&places, query.as_ref())?;
    if args.json {
        output::json(&report(&found, data.as_ref(), query.is_some()))?;
    } else {
        print(&found, data.as_ref(), query.is_some());
    }
    if let Some(reason) = found.iter().find_map(|found| found.damaged.clone()) {
        return Err(TrainError::Run(reason).into());
    }
    let concerned = found.iter().any(|found| found.learned > 0 || found.is_unknown());
    Ok(if query.is_some() && concerned { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}

/// What one adapter learned from.
fn summary(args: &TraceArgs, place: &Place) -> anyhow::Result<ExitCode> {
    let data = place.data()?;
    let runs = data.as_ref().map(|data| trace::summary(place, data)).transpose()?.unwrap_or_default();
    let unknown = data.map_or_else(|| vec![place.path().display().to_string()], |data| data.unknown);
    if args.json {
        output::json(&json!({ "adapter": place.path(), "runs": runs, "unknown": unknown }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for summary in &runs {
        print_summary(summary);
    }
    for adapter in unknown {
        println!("{adapter}: unknown, nobody recorded what it learned from");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_summary(Summary { run, by_source, by_document }: &Summary) {
    println!(
        "run {}, {}: {} samples, {} of them learned up to step {}, base {}",
        run.run, run.date, run.samples.samples, run.samples.learned, run.step, run.base
    );
    let mut table = table(["source", "for", "licence", "SHA-256", "samples", "learned", "times seen"], 4);
    for of in by_source {
        let (counts, sha256) = (of.counts, of.sha256.as_deref().unwrap_or("unknown"));
        table.add_row([
            of.path.display().to_string(),
            of.split.name().to_owned(),
            of.licence.clone().unwrap_or_default(),
            sha256.chars().take(12).collect(),
            counts.samples.to_string(),
            counts.learned.to_string(),
            counts.seen.to_string(),
        ]);
    }
    println!("{table}");
    if !by_document.is_empty() {
        let mut table = self::table(["document", "samples", "learned", "times seen"], 1);
        for (document, counts) in by_document.iter().take(DOCUMENTS) {
            let [samples, learned, seen] = [counts.samples, counts.learned, counts.seen].map(|n| n.to_string());
            table.add_row([plain(document), samples, learned, seen]);
        }
        println!("{table}");
        if let Some(more) = by_document.len().checked_sub(DOCUMENTS).filter(|more| *more > 0) {
            println!("and {more} documents more; --json has them all");
        }
    }
    if let Some(screening) = &run.screening {
        let found: Vec<String> = screening.found.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let found = if found.is_empty() { "nothing found".to_owned() } else { found.join(", ") };
        println!("screening ({}): {found}", screening.action.name());
    }
}

fn report(found: &[Found], data: Option<&Data>, is_asked: bool) -> Value {
    let adapters: Vec<Value> = found
        .iter()
        .map(|found| {
            let mut value = json!(found);
            if is_asked {
                // Where one adapter is asked, its samples say all that is known of them.
                let samples = found.samples.iter().map(|sample| match data {
                    Some(data) => json!({ "sample": sample, "origin": origin(sample, data) }),
                    None => json!({ "sample": sample }),
                });
                value["samples"] = samples.collect();
            } else if let Some(fields) = value.as_object_mut() {
                fields.remove("samples");
            }
            value
        })
        .collect();
    let paths = |is: fn(&Found) -> bool| -> Vec<&Path> {
        found.iter().filter(|found| is(found)).map(|found| found.path.as_path()).collect()
    };
    json!({
        "learned": paths(|found| found.learned > 0),
        "unknown": paths(Found::is_unknown),
        "damaged": paths(|found| found.damaged.is_some()),
        "adapters": adapters,
    })
}

fn print(found: &[Found], data: Option<&Data>, is_asked: bool) {
    if let (Some(data), [of]) = (data, found) {
        for sample in &of.samples {
            describe(sample, data);
        }
        let all = of.learned + of.not_learned;
        if let Some(more) = all.checked_sub(of.samples.len() as u64).filter(|more| *more > 0) {
            println!("and {more} samples more\n");
        }
    }
    let mut table = table(["adapter", "samples learned", "times seen", "base", "date"], 1);
    let concerned = |found: &&Found| {
        !is_asked || found.learned + found.not_learned > 0 || found.is_unknown() || found.damaged.is_some()
    };
    let mut rows = 0;
    for found in found.iter().filter(concerned) {
        let samples = match found.not_learned {
            _ if found.damaged.is_some() => "record altered".to_owned(),
            _ if found.step.is_none() => "unknown".to_owned(),
            0 => found.learned.to_string(),
            held => format!("{} ({held} not learned)", found.learned),
        };
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let (path, seen) = (found.path.display().to_string(), found.seen.to_string());
        table.add_row([path, samples, seen, text(&found.base), text(&found.date)]);
        rows += 1;
    }
    if rows > 0 {
        println!("{table}");
    }
    for found in found.iter().filter(|found| found.is_unknown()) {
        let path = found.path.display();
        let own = found.unknown.iter().all(|unknown| Path::new(unknown) == found.path);
        let of = if own { String::new() } else { format!("; it comes from {}", found.unknown.join(", ")) };
        println!("{path}: unknown, nobody recorded all that it learned from{of}");
    }
    if is_asked {
        let learned = found.iter().filter(|found| found.learned > 0).count();
        let (all, unknown) = (found.len(), found.iter().filter(|found| found.is_unknown()).count());
        println!(
            "{learned} of {all} learned from it{}",
            if learned > 0 { "; to erase it, train these again without it" } else { "" }
        );
        if unknown > 0 {
            println!("{unknown} of {all} may have: their records are missing or not complete");
        }
    }
}

/// Tells all that is known of a sample.
fn describe(sample: &SampleRecord, data: &Data) {
    let origin = origin(sample, data);
    let text = |key: &str| origin.get(key).and_then(Value::as_str).map(plain);
    println!("sample {} ({})", plain(&sample.id), sample.split.name());
    let line = |what: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            println!("  {what:<12} {value}");
        }
    };
    let name = sample.source.display();
    line("from", Some(format!("{name}:{}", sample.line)));
    line("source", text("source_state"));
    line("licence", text("licence"));
    let document = [&sample.ancestry.document, &sample.ancestry.document_sha256].into_iter().flatten();
    line("document", Some(document.map(|part| plain(part)).collect::<Vec<_>>().join(", SHA-256 ")));
    line("address", sample.ancestry.url.as_deref().map(plain));
    let teacher = text("teacher").map(|teacher| match text("revision") {
        Some(revision) => format!("{teacher}, revision {revision}"),
        None => teacher,
    });
    line("teacher", teacher);
    line("method", text("method"));
    line("prompt", text("prompt"));
    line("made after", Some(plain(&sample.ancestry.parents.join(", "))));
    line("messages", Some(format!("SHA-256 {}", sample.sha256)));
    let times = match sample.seen {
        0 => "not trained on".to_owned(),
        1 => "trained on once".to_owned(),
        seen => format!("trained on {seen} times"),
    };
    line("learned", Some(times));
    println!();
}

/// What the source says of a sample, where the file is still what it was.
fn origin(sample: &SampleRecord, data: &Data) -> Value {
    let sources = data.runs.iter().flat_map(|run| &run.sources);
    let of = sources.into_iter().find(|of| of.split == sample.split && of.path == sample.source);
    let licence = sample.ancestry.licence.clone().or_else(|| of?.licence.clone());
    let recorded = of.and_then(|of| of.sha256.clone());
    let mut origin = json!({ "licence": licence, "source_sha256": recorded });
    let state = match (sha256_files([&sample.source]), recorded) {
        (Err(_), _) => "the file is not there any more",
        (Ok(now), Some(before)) if now == before => "the file is as it was read",
        (Ok(_), Some(_)) => "the file has changed since",
        (Ok(_), None) => "whether the file is as it was read is not known",
    };
    origin["source_state"] = state.into();
    if state == "the file is as it was read"
        && let Ok(Some(record)) = source_record(&sample.source, sample.line)
        && let Some(provenance) = record.get("provenance")
    {
        for key in ["teacher", "revision", "method", "prompt", "seed", "outputs_licence"] {
            if let Some(value) = provenance.get(key) {
                origin[key] = value.clone();
            }
        }
    }
    origin
}

/// A text from a file without what would steer a terminal.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// A table whose columns from `first_number` on are figures, texts aside.
fn table<const N: usize>(header: [&str; N], first_number: usize) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(header);
    for column in table.column_iter_mut().skip(first_number).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
