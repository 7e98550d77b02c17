//! The arguments of `greffon port`.

use std::path::PathBuf;

use clap::Args;

/// `greffon port`.
#[derive(Debug, Args)]
pub struct PortArgs {
    /// The run to move.
    pub run: PathBuf,
    /// The base to move to: a Hugging Face folder, a GGUF file, or a hub name.
    #[arg(long)]
    pub base: String,
    /// The commit or tag of a hub name.
    #[arg(long)]
    pub revision: Option<String>,
    /// A Jinja file instead of the base's own chat template, for a base that has none.
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// Set one value of the new recipe; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The points of exact match that may be lost.
    #[arg(long, value_name = "POINTS", default_value_t = 1.0)]
    pub tolerance: f64,
    /// The new run's folder; by default the run's, `-on-` and the base's name.
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// Print what was found as JSON.
    #[arg(long)]
    pub json: bool,
}
