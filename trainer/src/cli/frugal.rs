//! The arguments of `greffon frugal`.

use std::path::PathBuf;

use clap::Args;

/// `greffon frugal`.
#[derive(Debug, Args)]
pub struct FrugalArgs {
    /// The recipe, as one would train it without asking what it costs.
    pub recipe: PathBuf,
    /// Set one value for all that is tried; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// A further change to try: `NAME: KEY=VALUE`, with several values separated by semicolons; may be given again.
    #[arg(long, value_name = "NAME: KEY=VALUE;…")]
    pub arm: Vec<String>,
    /// The points of exact match that may be lost.
    #[arg(long, value_name = "POINTS", default_value_t = 1.0)]
    pub tolerance: f64,
    /// The parts of the full recipe's time that are tried, ascending, each below 1.
    #[arg(long, value_name = "PART,…", value_delimiter = ',', default_values_t = [0.0625, 0.125, 0.25, 0.5])]
    pub parts: Vec<f64>,
    /// What the search may take, in kilowatt-hours, the full recipe included.
    #[arg(long, value_name = "KWH")]
    pub max_kwh: Option<f64>,
    /// The folder of the search: runs, `frugal.json`, `frontier.svg`, `recommended.yaml`. By default `frugal/` and the
    /// recipe's name.
    #[arg(long)]
    pub to: Option<PathBuf>,
    /// Print what was found as JSON.
    #[arg(long)]
    pub json: bool,
}
