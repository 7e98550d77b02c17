//! The arguments of `greffon report` and `greffon runs`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use jiff::SignedDuration;

use crate::language::Language;

/// `greffon report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Run folders; several are compared.
    #[arg(required = true, value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// The file; `report.html` in the folder of one run.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// What `greffon plan --json` printed of the first run's recipe: its time and speed are held against what happened.
    #[arg(long, value_name = "PLAN.JSON")]
    pub plan: Option<PathBuf>,
    /// The language.
    #[arg(long, value_enum, default_value_t)]
    pub lang: Language,
    /// Replace a file that is there.
    #[arg(long)]
    pub force: bool,
}

/// `greffon runs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct RunsArgs {
    /// What to do with them; without it, they are listed.
    #[command(subcommand)]
    pub verb: Option<RunsVerb>,
    /// The list.
    #[command(flatten)]
    pub list: ListArgs,
}

/// The list of runs.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The folder below which they lie.
    #[arg(default_value = "runs")]
    pub folder: PathBuf,
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Verbs on runs.
#[derive(Debug, Subcommand)]
pub enum RunsVerb {
    /// Print the figures of several runs side by side, and the recipe values that differ.
    #[command(after_help = "\
Examples:
  greffon runs compare runs/first runs/second
  greffon runs compare runs/first runs/second runs/third --json")]
    Compare(CompareArgs),
    /// Say which runs could go, and how much that is; delete them with --yes.
    #[command(after_help = "\
Examples:
  greffon runs clean --failed
  greffon runs clean runs --keep-last 5 --older-than 30d
  greffon runs clean runs --checkpoints --yes
  greffon runs clean sweeps --keep-last 3 --yes --json

A run goes that all of --keep-last, --failed and --older-than hold for. One that a process writes to stays, and so does \
one that holds files which no run puts there, unless --force is given. Deleted is for good: an adapter that is nowhere \
else is gone with its run.")]
    Clean(CleanArgs),
}

/// `greffon runs compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Run folders, at least two.
    #[arg(required = true, num_args = 2.., value_name = "RUN")]
    pub runs: Vec<PathBuf>,
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon runs clean`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
#[command(group(ArgGroup::new("which").required(true).multiple(true).args(["keep_last", "failed", "older_than", "checkpoints"])))]
pub struct CleanArgs {
    /// The folder below which they lie.
    #[arg(default_value = "runs")]
    pub folder: PathBuf,
    /// Keep so many of the newest.
    #[arg(long, value_name = "N")]
    pub keep_last: Option<usize>,
    /// Only runs that failed or were cut off.
    #[arg(long)]
    pub failed: bool,
    /// Only runs of which nothing was written for so long, such as `12h` or `30d`.
    #[arg(long, value_name = "AGE", value_parser = super::submit::lasting)]
    pub older_than: Option<SignedDuration>,
    /// Only the checkpoints, and only of runs that are finished.
    #[arg(long)]
    pub checkpoints: bool,
    /// Delete; without it nothing is.
    #[arg(long)]
    pub yes: bool,
    /// Delete runs that hold files of somebody's own too.
    #[arg(long)]
    pub force: bool,
    /// Print what goes and what stays as JSON.
    #[arg(long)]
    pub json: bool,
}
