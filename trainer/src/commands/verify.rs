//! `greffon verify`.

use std::process::ExitCode;

use adapters::serving::{Facts, SERVERS, Server, Verdict, server};
use anstream::println;
use comfy_table::Table;
use serde_json::json;

use crate::cli::VerifyArgs;
use crate::error::TrainError;

/// The exit code when a server refuses the adapter or gets it wrong.
const REFUSED: u8 = 3;

pub(super) fn verify(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let servers = servers(&args.servers)?;
    let facts = Facts::of_folder(&args.adapter).map_err(TrainError::from)?;
    let verdicts: Vec<(&str, Verdict)> = servers.iter().map(|server| (server.name, server.judge(&facts))).collect();
    if args.json {
        let verdicts = verdicts.iter().map(|(name, verdict)| json!({ "server": name, "result": verdict }));
        println!("{:#}", json!({ "adapter": args.adapter, "servers": verdicts.collect::<Vec<_>>() }));
    } else {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING);
        for (name, verdict) in &verdicts {
            table.add_row(vec![(*name).to_owned(), describe(verdict)]);
        }
        println!("{table}");
    }
    let refused = verdicts.iter().any(|(_, verdict)| matches!(verdict, Verdict::Refuses { .. }));
    Ok(if refused { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS })
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
