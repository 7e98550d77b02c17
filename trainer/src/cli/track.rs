//! The arguments of `greffon track`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `greffon track`.
#[derive(Debug, Subcommand)]
pub enum TrackVerb {
    /// Deliver to an MLflow server what it does not have of a run: metrics, params, files, how the run ended.
    #[command(after_help = "\
Examples:
  greffon track sync runs/recipe
  greffon track sync runs/first runs/second --json
  greffon track sync runs/recipe --url https://mlflow.example:5000 --experiment claims

The server is that of the run's recipe (`tracking.mlflow`), or --url. Run it as often as you like: what the server has is \
not sent again. Who we are it is told by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN; \
MLFLOW_TRACKING_SERVER_CERT_PATH and HTTPS_PROXY are respected.

Exit codes: 0 the server has everything; 1 it does not answer, and nothing is lost; 2 the input must be mended, or the \
server refuses it.")]
    Sync(SyncArgs),
}

/// `greffon track sync`.
#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Run folders.
    #[arg(required = true)]
    pub runs: Vec<PathBuf>,
    /// The server's address, in the place of the recipe's.
    #[arg(long)]
    pub url: Option<String>,
    /// The experiment's name, in the place of the recipe's.
    #[arg(long, value_name = "NAME")]
    pub experiment: Option<String>,
    /// Print what was delivered as JSON.
    #[arg(long)]
    pub json: bool,
}
