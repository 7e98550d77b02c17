//! The arguments of `greffon forgetting`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use crate::recipe::SuiteName;

/// Verbs on forgetting.
#[derive(Debug, Subcommand)]
pub enum ForgettingVerb {
    /// Question base and adapted model and judge what was lost.
    #[command(after_help = "\
Examples:
  greffon forgetting measure runs/recipe
  greffon forgetting measure runs/recipe --suite standard --report forgetting.md
  greffon forgetting measure recipe.yaml --adapter adapter --probes my-questions.jsonl --json
  greffon forgetting measure runs/recipe --set forgetting.limits.task=0.05

A file of questions has one JSON object a line, with `id`, `task`, `lang` and `kind`: mc (query, choices, gold), partial \
(contexts, continuation, gold), pair (good, bad), cloze (context, target), gen (prompt, answer, compare), ifeval (prompt, \
instruction_id_list, kwargs), ppl (text). What the base answers is kept in the folder `scores` of GREFFON_CACHE.

Exit codes: 0 within the limits; 3 beyond one of them; 2 the input must be mended.")]
    Measure(MeasureArgs),
    /// Look for a smaller scale of a run's adapter that is within the limits and keeps most of its gain.
    #[command(after_help = "\
Examples:
  greffon forgetting repair runs/recipe
  greffon forgetting repair runs/recipe --to adapter-repaired
  greffon forgetting repair runs/recipe --suite standard --json

Only the scale changes, of the whole adapter and of thirds of its blocks: no training. What a new training could do \
instead (replay, a divergence from the base in the loss, ...) is told with its recipe keys.

Exit codes: 0 a scale within the limits was found, or none was needed; 3 none was; 2 the input must be mended.")]
    Repair(RepairArgs),
}

impl ForgettingVerb {
    /// The run folder or recipe that it is about.
    pub fn subject(&self) -> &Path {
        match self {
            Self::Measure(args) => &args.subject,
            Self::Repair(args) => &args.run,
        }
    }
}

/// The suites by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// English and French, in little time.
    Quick,
    /// English and French, more tasks and questions.
    Standard,
    /// French alone.
    French,
    /// No questions of the program's own.
    None,
}

impl From<Suite> for SuiteName {
    fn from(suite: Suite) -> Self {
        match suite {
            Suite::Quick => Self::Quick,
            Suite::Standard => Self::Standard,
            Suite::French => Self::French,
            Suite::None => Self::None,
        }
    }
}

/// What is asked.
#[derive(Debug, Args)]
pub struct QuestionArgs {
    /// The suite; the recipe's by default.
    #[arg(long, value_enum)]
    pub suite: Option<Suite>,
    /// A file of further questions; may be given again.
    #[arg(long, value_name = "FILE")]
    pub probes: Vec<PathBuf>,
    /// Set one value of the recipe; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `greffon forgetting measure`.
#[derive(Debug, Args)]
pub struct MeasureArgs {
    /// A run folder, or a recipe.
    pub subject: PathBuf,
    /// The adapter to compare with the base; a run folder's own by default.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    /// What is asked.
    #[command(flatten)]
    pub questions: QuestionArgs,
    /// Also write a report in Markdown, with examples.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Overwrite the report.
    #[arg(long)]
    pub force: bool,
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon forgetting repair`.
#[derive(Debug, Args)]
pub struct RepairArgs {
    /// The run folder.
    pub run: PathBuf,
    /// What is asked.
    #[command(flatten)]
    pub questions: QuestionArgs,
    /// Write the adapter at the best scale found as a PEFT folder.
    #[arg(long, value_name = "FOLDER")]
    pub to: Option<PathBuf>,
    /// Overwrite the folder.
    #[arg(long)]
    pub force: bool,
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}
