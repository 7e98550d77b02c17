//! The arguments of `greffon data screen`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use datasets::screen::Kind;

/// `greffon data screen`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct ScreenArgs {
    /// JSON Lines, plain text, a .json or .parquet file of conversations, or a recipe, whose data is screened.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// What is done with what is found.
    #[arg(long, value_enum, default_value_t = ScreenAction::Report)]
    pub action: ScreenAction,
    /// The file that the result is written to; a folder for several files.
    #[arg(long, required_if_eq_any([("action", "mask"), ("action", "pseudonymise")]))]
    pub to: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    pub force: bool,
    /// The kinds to look for, parted by commas; all by default.
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub kinds: Vec<Kind>,
    /// The file with the key of the aliases; `GREFFON_SCREEN_KEY` holds it otherwise.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Make the file of --key when it is not there.
    #[arg(long, requires = "key")]
    pub make_key: bool,
    /// Exit with 3 when one of these kinds is found, parted by commas.
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    pub fail_on: Vec<Kind>,
    /// Show what was found; by default letters and digits are hidden.
    #[arg(long)]
    pub show: bool,
    /// Print the report as JSON, with every finding's place where --show is given.
    #[arg(long)]
    pub json: bool,
}

/// What `greffon data screen` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ScreenAction {
    /// Count, and write nothing.
    Report,
    /// Replace with the kind, for example `[EMAIL]`.
    Mask,
    /// Replace with an alias of the same form, the same for the same value everywhere.
    Pseudonymise,
}
