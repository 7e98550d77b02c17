//! The arguments of `greffon keys`, `sign`, `reproduce` and `document`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::language::Language;

/// Verbs on keys.
#[derive(Debug, Subcommand)]
pub enum KeysVerb {
    /// Make a key: NAME.key signs and stays with you, NAME.pub is for those who check.
    #[command(after_help = "\
Example:
  greffon keys new --to keys/alice

Both are Ed25519 in PEM, as other tools read them. Only you may read NAME.key; it has no password, so keep it where \
nobody else comes. Neither file is ever replaced.")]
    New(NewKeyArgs),
    /// Print what a key is known by.
    #[command(after_help = "Example:\n  greffon keys show keys/alice.pub")]
    Show(ShowKeyArgs),
}

/// `greffon keys new`.
#[derive(Debug, Args)]
pub struct NewKeyArgs {
    /// Where to, without the endings `.key` and `.pub`.
    #[arg(long, value_name = "NAME")]
    pub to: PathBuf,
    /// Print the two files and the id as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon keys show`.
#[derive(Debug, Args)]
pub struct ShowKeyArgs {
    /// A file of `greffon keys new`, the secret one or the public one.
    pub key: PathBuf,
}

/// `greffon sign`.
#[derive(Debug, Args)]
pub struct SignArgs {
    /// A PEFT folder, a merged model, or a GGUF file.
    pub export: PathBuf,
    /// The secret key, NAME.key.
    #[arg(long)]
    pub key: PathBuf,
    /// Print what was signed as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A key for what changes a manifest.
#[derive(Debug, Args)]
pub struct SignWithArgs {
    /// Sign the manifest with this secret key, NAME.key.
    #[arg(long, value_name = "KEY")]
    pub sign_with: Option<PathBuf>,
}

/// `greffon reproduce`.
#[derive(Debug, Args)]
pub struct ReproduceArgs {
    /// The manifest.json of an export, or its folder.
    pub manifest: PathBuf,
    /// The base: a Hugging Face folder, a GGUF file, or a hub name. By default the recipe's, where it is on the hub or in
    /// one of the folders of --files.
    #[arg(long, value_name = "BASE")]
    pub base: Option<String>,
    /// A folder in which the recipe's files lie as they lay in the recipe's own; may be given again.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub files: Vec<PathBuf>,
    /// The new run's folder, which must not be there; by default `runs/`, the run's name and `-again`.
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// Train even where the bytes cannot come out the same.
    #[arg(long)]
    pub anyway: bool,
    /// Print what was found as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon document`.
#[derive(Debug, Args)]
pub struct DocumentArgs {
    /// The run folder.
    pub run: PathBuf,
    /// The folder to write.
    #[arg(long, value_name = "FOLDER")]
    pub to: PathBuf,
    /// The language.
    #[arg(long, value_enum, default_value_t = Language::En)]
    pub lang: Language,
    /// Replace what an earlier call wrote.
    #[arg(long)]
    pub force: bool,
}
