//! The arguments of `greffon synth`, and of `greffon schema`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// `greffon synth`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// The recipe of the set.
    pub recipe: PathBuf,
    /// Set one value of the recipe; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Make the set again over one that is there. Answers that are kept are not asked again.
    #[arg(long)]
    pub force: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of which recipes.
    #[arg(value_enum, default_value = "run")]
    pub of: SchemaOf,
}

/// The kinds of recipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Runs: `greffon train`.
    Run,
    /// Sets of samples: `greffon synth`.
    Synth,
}
