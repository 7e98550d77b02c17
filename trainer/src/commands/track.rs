//! `greffon track`.

use std::path::Path;
use std::process::ExitCode;

use anstream::{eprintln, println};
use owo_colors::OwoColorize as _;
use serde_json::{Value, json};

use super::output;
use super::subject::run_recipe;
use crate::cli::{SyncArgs, TrackVerb};
use crate::error::TrainError;
use crate::recipe::MlflowConfig;
use crate::track::RunFolder;
use crate::track::mlflow::{self, Sent};

pub(super) fn track(verb: &TrackVerb) -> anyhow::Result<ExitCode> {
    match verb {
        TrackVerb::Sync(args) => sync(args),
    }
}

/// Delivers run after run; one that cannot be does not keep the others from it.
fn sync(args: &SyncArgs) -> anyhow::Result<ExitCode> {
    let mut code = 0;
    let mut report: Vec<Value> = Vec::new();
    for run in &args.runs {
        match sync_run(run, args) {
            Ok((Sent { metrics, files }, page)) => {
                report.push(json!({ "run": run, "page": page, "metrics": metrics, "files": files }));
                if !args.json {
                    println!("{}: {metrics} metrics and {files} files delivered to {page}", run.display());
                }
            }
            Err(error) => {
                code = code.max(error.exit_code());
                let reason = error.with_causes();
                eprintln!("{} {}: {reason}", "error:".red().bold(), run.display());
                report.push(json!({ "run": run, "error": reason }));
            }
        }
    }
    if args.json {
        output::json(&report)?;
    }
    Ok(ExitCode::from(code))
}

fn sync_run(run: &Path, args: &SyncArgs) -> Result<(Sent, String), TrainError> {
    let folder = RunFolder::open(run.to_owned())?;
    let config = config(run_recipe(&folder, &[])?.recipe.tracking.mlflow, args)?;
    mlflow::sync(&folder, config)
}

/// The recipe's server and experiment, or those of the command line.
fn config(recipe: Option<MlflowConfig>, args: &SyncArgs) -> Result<MlflowConfig, TrainError> {
    if let Some(url) = &args.url {
        MlflowConfig::check_url(url)
            .map_err(|(got, expected)| TrainError::Run(format!("--url: got {got:?}, expected {expected}")))?;
    }
    let config = match (recipe, &args.url, &args.experiment) {
        (Some(config), url, experiment) => MlflowConfig {
            url: url.clone().unwrap_or(config.url),
            experiment: experiment.clone().unwrap_or(config.experiment),
            ..config
        },
        (None, Some(url), Some(experiment)) => MlflowConfig::new(url.clone(), experiment.clone()),
        (None, ..) => {
            let reason = "its recipe names no MLflow server (tracking.mlflow); name one with --url and --experiment";
            return Err(TrainError::Run(reason.to_owned()));
        }
    };
    Ok(config)
}
