//! The arguments of `greffon data trace`.

use std::path::PathBuf;

use clap::Args;

/// `greffon data trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// An adapter, an export or a run; or folders that are searched for them.
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    /// What was asked for.
    #[command(flatten)]
    pub asked: AskedArgs,
    /// Print what was found as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is traced; without any of these, what each adapter learned from.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct AskedArgs {
    /// A sample, by its id or by the SHA-256 over its messages.
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub sample: Option<String>,
    /// A document, by its name, its address or the SHA-256 of its text.
    #[arg(long, value_name = "DOCUMENT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub document: Option<String>,
    /// A source, by its file, its folder, the name of a data set, or the SHA-256 of the file.
    #[arg(long, value_name = "FILE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub source: Option<String>,
}
