//! `greffon verify`: the rules of servers, and the proofs that an export has.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use adapters::serving::{Facts, SERVERS, Server, Verdict, server};
use adapters::signing::PublicKey;
use anstream::println;
use comfy_table::Table;
use serde_json::json;

use super::output;
use super::prove::{self, describe_proof};
use crate::cli::VerifyArgs;
use crate::error::TrainError;
use crate::prove::{Export, ForgettingNote, Form, Manifest};
use crate::trust::check;

/// The exit code when a server refuses the adapter or gets it wrong, or a proof does not succeed.
pub(super) const REFUSED: u8 = 3;

pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    if args.prove {
        return prove::prove(args);
    }
    let export = Export::open(&args.export)?;
    if let Some(key) = &args.signed_by {
        return signed_by(&export, key, args.json);
    }
    if args.signing.sign_with.is_some() {
        let reason = "--sign-with signs what --prove writes; without it use `greffon sign`";
        return Err(TrainError::Run(reason.to_owned()).into());
    }
    let verdicts = match export.form() {
        Form::Peft => judge(args)?,
        _ if !args.servers.is_empty() => {
            let reason = format!("{}: --for judges PEFT folders, this is none", args.export.display());
            return Err(TrainError::Run(reason).into());
        }
        _ => Vec::new(),
    };
    let manifest = Manifest::read(&export)?;
    // A model's files are long; they are read again only where a proof is there to be compared.
    let files = if manifest.proofs.is_empty() { BTreeMap::new() } else { export.digests()? };
    if args.json {
        let verdicts = verdicts.iter().map(|(name, verdict)| json!({ "server": name, "result": verdict }));
        let proofs = manifest.proofs.iter().map(|proof| json!({ "proof": proof, "outdated": proof.outdated(&files) }));
        let report = json!({
            "adapter": args.export,
            "servers": verdicts.collect::<Vec<_>>(),
            "proofs": proofs.collect::<Vec<_>>(),
            "forgetting": manifest.forgetting,
        });
        output::json(&report)?;
    } else {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        for (name, verdict) in &verdicts {
            table.add_row(vec![(*name).to_owned(), describe(verdict)]);
        }
        if !verdicts.is_empty() {
            println!("{table}");
        }
        if let Some(note) = &manifest.forgetting {
            println!("{}", describe_forgetting(note));
        }
        for proof in &manifest.proofs {
            println!("{}", describe_proof(proof, proof.outdated(&files)));
        }
        if manifest.proofs.is_empty() {
            println!("not proved in a server yet: `greffon verify --prove`");
        }
    }
    let refused = verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Refuses { .. }));
    Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
}

/// Checks a signature and what was signed.
fn signed_by(export: &Export, key: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let key = PublicKey::read(key).map_err(TrainError::from)?;
    let statement = check(export, &key)?;
    let (id, facts) = (key.id(), &statement.predicate);
    if json {
        let files: Vec<&str> = statement.subject.iter().map(|file| file.name.as_str()).collect();
        output::json(&json!({ "export": export.path(), "key": id, "files": files, "manifest": facts }))?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("signed by the key {id}, and as it was signed; files: {}", statement.subject.len());
    let base = facts.base.name.as_deref().unwrap_or("a base that it does not name");
    match &facts.run {
        Some(run) => {
            println!("of the run {}, {} steps on {base}, by greffon {}", run.name, run.metrics.steps, run.code.greffon);
        }
        None => println!("of no run that is known, on {base}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses an adapter that the forgetting gate holds back, unless its manifest says why it was let out.
pub(super) fn let_out(adapter: &Path) -> Result<(), TrainError> {
    let note = Manifest::read(&Export::open(adapter)?)?.forgetting;
    note.map(|note| note.let_out(adapter, None)).transpose().map(drop)
}

fn judge(args: &VerifyArgs) -> Result<Vec<(&'static str, Verdict)>, TrainError> {
    let servers = servers(&args.servers)?;
    let facts = Facts::of_folder(&args.export)?;
    Ok(servers.iter().map(|server| (server.name, server.judge(&facts))).collect())
}

pub(super) fn servers(names: &[String]) -> Result<Vec<&'static Server>, TrainError> {
    if names.is_empty() {
        return Ok(SERVERS.iter().collect());
    }
    let find = |name: &String| {
        let known = || SERVERS.iter().map(|server| server.name).collect::<Vec<_>>().join(", ");
        server(name).ok_or_else(|| TrainError::Run(format!("--for names \"{name}\", expected some of {}", known())))
    };
    names.iter().map(find).collect()
}

fn describe(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Loads => "loads".to_owned(),
        Verdict::LoadsWith { with } => format!("loads with {with}"),
        Verdict::Refuses { because, remedy } => format!("refuses: {because}\n  remedy: {remedy}"),
    }
}

fn describe_forgetting(note: &ForgettingNote) -> String {
    let beyond = note.beyond.join("; ");
    match (&note.accepted, note.passed) {
        (_, true) => format!("forgetting: within its limits, measured {}", note.date),
        (Some(reason), false) => format!("forgetting: beyond its limits: {beyond}\n  accepted: {reason}"),
        (None, false) => format!("forgetting: beyond its limits: {beyond}"),
    }
}
