//! The arguments of the verbs around a run: from a recipe to an evaluation.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{DedupArgs, ScreenArgs, TraceArgs};

/// Verbs on data.
#[derive(Debug, Subcommand)]
pub enum DataVerb {
    /// Show examples with the supervised tokens coloured, and the lengths.
    #[command(after_help = "Example:\n  greffon data preview recipe.yaml --count 2")]
    Preview(PreviewArgs),
    /// Tokenise the data of a recipe and keep the tokens for its runs; prints what was counted.
    #[command(after_help = "\
Examples:
  greffon data prepare recipe.yaml
  greffon data prepare recipe.yaml --json

The tokens are kept in the folder `data` of GREFFON_CACHE (default ~/.cache/greffon), which may be deleted at any time.")]
    Prepare(PrepareArgs),
    /// Find near-duplicates in files, and write the files without them.
    #[command(after_help = "\
Examples:
  greffon data dedup train.jsonl
  greffon data dedup first.jsonl second.jsonl --threshold 0.8 --to train.jsonl
  greffon data dedup documents.jsonl --shingle characters --size 5 --to kept.jsonl --json

The files hold conversations of any format that a recipe reads, or documents: records with a `text`. Of near-duplicates \
the first is kept, in the order of the files, and written as its file has it. Two conversations are near-duplicates when \
their questions are and their answers are, two SQuAD records when their questions with answers are and their contexts.")]
    Dedup(DedupArgs),
    /// Find personal data and secrets; mask them, or replace them with aliases.
    #[command(after_help = "\
Examples:
  greffon data screen claims.jsonl
  greffon data screen recipe.yaml --fail-on secret,iban,nir
  greffon data screen claims.jsonl --action mask --to masked.jsonl
  greffon data screen claims.jsonl letters.txt --action pseudonymise --key screen.key --make-key \\
    --to clean

Kinds: iban, nir, siret, vat, siren, card, vin, email, secret, us-ssn, date-of-birth, passport, driving-licence, \
licence-plate, ip-address, phone, address, person. No list finds every name: read what is left.

Exit codes: 0 done; 3 a kind of --fail-on was found; 2 the input must be mended.")]
    Screen(ScreenArgs),
    /// Say which samples an adapter learned from, and which adapters learned from a sample, a document or a file.
    #[command(after_help = "\
Examples:
  greffon data trace runs/claims
  greffon data trace adapter --sample 3f1c9a0e7b2d4c55
  greffon data trace runs exports --document contract-2024.md
  greffon data trace runs --source letters.jsonl --json

An adapter that learned from what is to be erased must be trained again without it. Samples that were made after another \
count as that one. An adapter without a record is unknown: it may have learned anything. A sample that was held out for \
validation is told, and was not learned.

Exit codes, where something is asked for: 0 no adapter learned from it; 3 one did, or is unknown; 2 the input must be \
mended, such as a record that was altered.")]
    Trace(TraceArgs),
}

/// A recipe with overrides.
#[derive(Debug, Args)]
pub struct RecipeArgs {
    /// The recipe.
    pub recipe: PathBuf,
    /// Set one value: `--set train.learning_rate=1e-4`; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// `greffon init`.
#[derive(Debug, Args)]
pub struct InitArgs {
    /// A Hugging Face folder, a GGUF file, or a hub name.
    #[arg(long)]
    pub model: String,
    /// The training data.
    #[arg(long)]
    pub data: PathBuf,
}

/// `greffon fetch`.
#[derive(Debug, Args)]
pub struct FetchArgs {
    /// The repository, `owner/name`.
    pub name: String,
    /// A commit, tag or branch; pin a commit for runs that can be repeated.
    #[arg(long, default_value = "main")]
    pub revision: String,
}

/// `greffon data preview`.
#[derive(Debug, Args)]
pub struct PreviewArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// How many examples to show.
    #[arg(long, short = 'n', default_value_t = 3)]
    pub count: usize,
}

/// `greffon data prepare`.
#[derive(Debug, Args)]
pub struct PrepareArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Print the counts as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Run parts of the recipe's own micro-batches for ten seconds, for a closer time.
    #[arg(long)]
    pub probe: bool,
    /// Say what so many processes make of it, each on a device of its own like the one planned for.
    #[arg(long, short = 'n', value_name = "PROCESSES", value_parser = clap::value_parser!(u16).range(1..))]
    pub ranks: Option<u16>,
    /// The devices that they share, when there are fewer.
    #[arg(long, requires = "ranks", value_parser = clap::value_parser!(u16).range(1..))]
    pub devices: Option<u16>,
    /// What the slowest link between them carries, in 10^9 bits a second.
    #[arg(long, value_name = "GBIT", requires = "ranks")]
    pub link: Option<f64>,
    /// The processes that send over the same link.
    #[arg(long, value_name = "PROCESSES", requires = "link", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    pub ranks_per_link: u16,
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon train`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub struct TrainArgs {
    /// The recipe.
    #[arg(required_unless_present = "resume", conflicts_with = "resume")]
    pub recipe: Option<PathBuf>,
    /// Set one value: `--set train.learning_rate=1e-4`; may be given again.
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "resume")]
    pub set: Vec<String>,
    /// Go on with the run in this folder, from its newest checkpoint.
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
    /// Go on with the run that the output folder holds, when it is one of this recipe; start it where there is none. For
    /// jobs that are started again.
    #[arg(long, conflicts_with_all = ["resume", "force"])]
    pub or_resume: bool,
    /// Give up the run that the output folder holds, and start over.
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// Show losses, throughput, memory, energy and forgetting on the whole terminal; plain lines where there is none.
    #[arg(long)]
    pub tui: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon watch`.
#[derive(Debug, Args)]
pub struct WatchArgs {
    /// The run folder.
    pub run: PathBuf,
    /// Print what was reported so far, a line each, and end.
    #[arg(long)]
    pub once: bool,
}

/// `greffon eval`.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// A run folder, or a recipe.
    pub subject: PathBuf,
    /// Set one value of the recipe; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// The adapter to compare with the base; a run folder's own by default.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    /// Compare the adapter with the answers of this file instead of the base's: JSON lines, {"answer": "…"} in the order of
    /// the questions, or with their "id".
    #[arg(long, value_name = "FILE")]
    pub rival: Option<PathBuf>,
    /// Compare the answers of this file, of the same form, instead of the adapter's; with --rival no model is asked.
    #[arg(long, value_name = "FILE", conflicts_with = "adapter")]
    pub answers: Option<PathBuf>,
    /// The most conversations to ask.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Print everything as JSON, answers included.
    #[arg(long)]
    pub json: bool,
}
