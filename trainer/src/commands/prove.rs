//! `greffon verify --prove`.

use std::process::ExitCode;

use anstream::println;
use comfy_table::{Table, presets};

use super::output;
use super::progress;
use super::sign;
use super::verify::REFUSED;
use crate::cli::VerifyArgs;
use crate::device;
use crate::error::TrainError;
use crate::model::BaseModel;
use crate::prove::{Agreement, Export, Manifest, Names, Outcome, Proof, Server, prove as compare};
use crate::recipe::ModelConfig;

pub(super) fn prove(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let proof = &args.proof;
    let (Some(model), Some(address)) = (&proof.model, &proof.server) else {
        return Err(TrainError::Run("--prove needs --model and --server".to_owned()).into());
    };
    if !(proof.limit > 0.0 && proof.limit.is_finite()) {
        return Err(TrainError::Run(format!("--limit is {}, expected above 0", proof.limit)).into());
    }
    let key = sign::key(&args.signing)?;
    let export = Export::open(&args.export)?;
    let manifest = Manifest::read(&export)?;
    let model = ModelConfig { revision: proof.revision.clone(), ..ModelConfig::new(model) };
    let base = BaseModel::open(&model, None, &progress::hub())?;
    let names = Names { model: proof.served_model.clone(), adapter: proof.served_adapter.clone() };
    let server = Server::connect(address, &export, base.config.vocab_size, &names)?;
    let device = device::open("flex")?;
    let outcome = compare(&export, &base, proof.adapter.as_deref(), &server, proof.limit, &device)?;
    let written = manifest.add(&export, outcome.proof.clone())?;
    sign::renew(&export, key.as_ref())?;
    if args.json {
        output::json(&outcome)?;
    } else {
        println!("{}", table(&outcome.proof));
        for reason in &outcome.reasons {
            println!("{reason}");
        }
        let verdict = if outcome.proof.proved { "proved" } else { "not proved" };
        println!("{verdict}; written to {}", written.display());
    }
    Ok(exit_code(&outcome))
}

fn exit_code(outcome: &Outcome) -> ExitCode {
    if outcome.proof.proved { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) }
}

fn table(proof: &Proof) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |name: &str, text: String| {
        table.add_row(vec![name.to_owned(), text]);
    };
    row("server", server(proof));
    row("serves", proof.server.model.clone());
    if let Some(adapter) = &proof.server.adapter {
        row("adapter", adapter.clone());
    }
    row(if proof.off.is_some() { "adapter on" } else { "model" }, agreement(&proof.on, proof.prompts));
    if let Some(off) = &proof.off {
        row("adapter off", agreement(off, proof.prompts));
    }
    row("limit", format!("mean {}", proof.limit));
    if let Some(effect) = proof.effect {
        row("effect", format!("mean {effect:.4}, were the adapter ignored"));
    }
    table
}

fn server(proof: &Proof) -> String {
    let version = proof.server.version.as_deref();
    version.map_or_else(|| proof.server.kind.clone(), |version| format!("{} {version}", proof.server.kind))
}

fn agreement(agreement: &Agreement, prompts: usize) -> String {
    format!(
        "mean difference {:.5}, largest {:.5}, first token equal {} of {prompts}",
        agreement.mean, agreement.largest, agreement.same_first
    )
}

/// A proof of the past, in a line.
pub(super) fn describe_proof(proof: &Proof, outdated: Option<&str>) -> String {
    let verdict = match (outdated, proof.proved) {
        (Some(why), _) => format!("{why}, so that the proof no longer holds: prove it again"),
        (None, true) => "proved".to_owned(),
        (None, false) => "not proved".to_owned(),
    };
    let off = proof.off.as_ref().map_or_else(String::new, |off| format!(", off: {}", agreement(off, proof.prompts)));
    let on = agreement(&proof.on, proof.prompts);
    format!("{verdict} ({}, {}, limit {}; {on}{off})", proof.date, server(proof), proof.limit)
}
