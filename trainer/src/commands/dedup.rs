//! `greffon data dedup`: the near-duplicates of files, and the files without them.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use adapters::{AdapterError, write_atomic};
use anstream::println;
use datasets::{DataError, DedupExample, DedupFiles};
use serde_json::{Value, json};

use super::output;
use super::progress;
use crate::cli::DedupArgs;
use crate::error::TrainError;

/// The records of a group that are shown.
const MEMBERS: usize = 3;

pub(super) fn dedup(args: &DedupArgs) -> anyhow::Result<()> {
    for path in [&args.to, &args.pairs].into_iter().flatten() {
        // Told before the work, not after it.
        if !args.force && path.symlink_metadata().is_ok() {
            return Err(TrainError::from(AdapterError::Exists { path: path.clone() }).into());
        }
    }
    let started = Instant::now();
    let bytes = args.files.iter().filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
    let bar = progress::bytes(bytes, "comparing");
    let found = DedupFiles::find(&args.files, &args.config(), args.seed, args.pairs.is_some(), &mut |done| {
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let found = found.map_err(TrainError::from)?;
    let seconds = started.elapsed().as_secs_f64();
    let examples = found.examples(args.examples, MEMBERS).map_err(TrainError::from)?;
    if let Some(path) = &args.to {
        write(path, args.force, |out| found.write_kept(out).map(drop))?;
    }
    if let Some(path) = &args.pairs {
        write(path, args.force, |out| write_pairs(&found, out))?;
    }
    if args.json {
        output::json(&report(args, &found, &examples, seconds))?;
    } else {
        print(args, &found, &examples, seconds);
    }
    Ok(())
}

/// Writes a file whole or not at all.
fn write(
    path: &Path,
    force: bool,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), DataError>,
) -> Result<(), TrainError> {
    let mut unread = None;
    let written = write_atomic(path, force, |out| match fill(out) {
        Err(DataError::Write { source, .. }) => Err(source),
        Err(error) => {
            unread = Some(error);
            Err(io::Error::other("the data could not be read again"))
        }
        Ok(()) => Ok(()),
    });
    unread.map_or(written.map_err(TrainError::from), |error| Err(error.into()))
}

fn write_pairs(found: &DedupFiles, out: &mut dyn Write) -> Result<(), DataError> {
    for pair in found.pairs() {
        let [first, second] = [pair.first, pair.second].map(|record| found.origin(record).to_string());
        writeln!(out, "{}", json!({ "first": first, "second": second, "similarity": pair.similarity }))
            .map_err(|source| DataError::Write { path: Path::new("").into(), source })?;
    }
    Ok(())
}

fn report(args: &DedupArgs, found: &DedupFiles, examples: &[DedupExample], seconds: f64) -> Value {
    let groups = found.groups();
    let (records, kept) = (groups.len(), groups.kept());
    let example = |example: &DedupExample| {
        let members = example.members.iter();
        let members = members.map(|member| json!({ "at": member.origin.to_string(), "text": member.text }));
        json!({ "size": example.size, "members": members.collect::<Vec<_>>() })
    };
    json!({
        "form": found.form(),
        "records": records,
        "kept": kept,
        "removed": records - kept,
        "groups": groups.groups().len(),
        "empty": groups.empty(),
        "config": args.config(),
        "seed": args.seed,
        "bands": found.bands().bands,
        "rows": found.bands().rows,
        "seconds": seconds,
        "state_bytes": found.state_bytes(),
        "examples": examples.iter().map(example).collect::<Vec<_>>(),
        "to": args.to,
    })
}

fn print(args: &DedupArgs, found: &DedupFiles, examples: &[DedupExample], seconds: f64) {
    let groups = found.groups();
    let (records, kept) = (groups.len(), groups.kept());
    println!(
        "{records} records ({}), {kept} kept, {} near-duplicates in {} groups",
        found.form(),
        records - kept,
        groups.groups().len()
    );
    if groups.empty() > 0 {
        println!("{} records have no letter or digit; they are kept", groups.empty());
    }
    for example in examples {
        println!("\na group of {}:", example.size);
        for member in &example.members {
            println!("  {}  {}", member.origin, member.text);
        }
    }
    if !examples.is_empty() {
        println!();
    }
    let rate = records as f64 / seconds;
    let state = crate::plan::bytes(found.state_bytes() as u64);
    println!("compared in {seconds:.2} s, {rate:.0} records/s, {state} kept of the texts");
    if let Some(path) = &args.to {
        println!("written: {}", path.display());
    }
}
