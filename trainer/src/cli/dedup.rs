//! The arguments of `greffon data dedup`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use datasets::{Compare, DedupConfig, Shingle};

/// `greffon data dedup`.
#[derive(Debug, Args)]
pub struct DedupArgs {
    /// Files of conversations or of documents, all of one form: .jsonl, .json or .parquet.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// The share of shingles in common from which two texts are near-duplicates, from 0.2 to 1.
    #[arg(long, default_value_t = DedupConfig::default().threshold)]
    pub threshold: f64,
    /// What a shingle is a run of.
    #[arg(long, value_enum, default_value_t = ShingleOf::Words)]
    pub shingle: ShingleOf,
    /// How many words or characters a shingle has, from 1 to 16.
    #[arg(long, default_value_t = DedupConfig::default().size)]
    pub size: usize,
    /// Which turns of a conversation are compared.
    #[arg(long, value_enum, default_value_t = Compared::Both)]
    pub compare: Compared,
    /// Write the records that are kept to this file, one a line.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Write the pairs found to this file, one a line: both places and the similarity.
    #[arg(long, value_name = "FILE")]
    pub pairs: Option<PathBuf>,
    /// Replace files that exist.
    #[arg(long)]
    pub force: bool,
    /// How many groups to show.
    #[arg(long, default_value_t = 5)]
    pub examples: usize,
    /// Draws the hash functions.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a shingle is a run of.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ShingleOf {
    /// Words.
    Words,
    /// Characters: for languages that do not set words apart, and for very short texts.
    Characters,
}

/// Which turns of a conversation are compared.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Compared {
    /// Both sides; a near-duplicate is one in both.
    Both,
    /// Those of the user.
    Prompt,
    /// Those of the assistant.
    Answer,
}

impl DedupArgs {
    /// The same as a configuration.
    pub fn config(&self) -> DedupConfig {
        let shingle = match self.shingle {
            ShingleOf::Words => Shingle::Words,
            ShingleOf::Characters => Shingle::Characters,
        };
        let compare = match self.compare {
            Compared::Both => Compare::Both,
            Compared::Prompt => Compare::Prompt,
            Compared::Answer => Compare::Answer,
        };
        DedupConfig { threshold: self.threshold, shingle, size: self.size, compare }
    }
}
