//! The arguments of `greffon export`, `push` and `import`.

use std::path::PathBuf;

use adapters::export::card::Card;
use clap::{Args, ValueEnum};

use super::SignWithArgs;

/// Which adapter of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The lowest validation loss; the last without validation.
    Best,
    /// The newest checkpoint.
    Last,
}

/// The form of an exported adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// A folder as PEFT, vLLM, mistral.rs and `LoRAX` take it.
    Peft,
    /// A GGUF file as llama.cpp takes it.
    GgufLora,
}

/// How the numbers of a GGUF adapter are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NumberType {
    /// As they were trained.
    F32,
    /// Half precision.
    F16,
    /// Blocks of 32 in eight bits, where rows are long enough.
    #[value(name = "q8_0")]
    Q8_0,
}

/// `greffon export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The run folder.
    pub run: PathBuf,
    /// The folder to write; the file with `--as gguf-lora`.
    #[arg(long)]
    pub to: PathBuf,
    /// The form.
    #[arg(long = "as", value_enum, default_value_t = Form::Peft)]
    pub form: Form,
    /// How a GGUF file stores the numbers.
    #[arg(long = "type", value_enum, default_value_t = NumberType::F32)]
    pub number_type: NumberType,
    /// Bring all modules to one rank and one scale, for servers that ignore `rank_pattern` and `alpha_pattern`.
    #[arg(long)]
    pub fold_patterns: bool,
    /// Which adapter.
    #[arg(long, value_enum, default_value_t = Which::Best)]
    pub checkpoint: Which,
    /// The card of a PEFT folder.
    #[command(flatten)]
    pub card: CardArgs,
    /// Export an adapter that the forgetting gate holds back, and write why into its manifest.
    #[arg(long, value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub accept_forgetting: Option<String>,
    /// Write no cards.
    #[arg(long)]
    pub no_card: bool,
    /// The signature.
    #[command(flatten)]
    pub signing: SignWithArgs,
    /// Overwrite the folder.
    #[arg(long)]
    pub force: bool,
}

/// What the card of an adapter says beyond what its files and its run tell.
#[derive(Debug, Args)]
pub struct CardArgs {
    /// The adapter's licence, by the hub's name for it: apache-2.0.
    #[arg(long, value_name = "NAME", value_parser = license)]
    pub license: Option<String>,
    /// The languages, with commas, by their ISO 639 codes: fr,en.
    #[arg(long = "language", value_name = "CODES", value_delimiter = ',', value_parser = language)]
    pub languages: Vec<String>,
}

impl CardArgs {
    /// A card with what was given added to it.
    pub(crate) fn fill(&self, card: Card) -> Card {
        Card { license: self.license.clone(), languages: self.languages.clone(), ..card }
    }
}

fn license(name: &str) -> Result<String, String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | '+');
    if !name.is_empty() && name.chars().all(is_part) {
        return Ok(name.to_owned());
    }
    Err("expected the hub's name for a licence, such as apache-2.0, mit, cc-by-4.0 or other".to_owned())
}

fn language(code: &str) -> Result<String, String> {
    if (2..=3).contains(&code.len()) && code.chars().all(|c| c.is_ascii_lowercase()) {
        return Ok(code.to_owned());
    }
    Err("expected an ISO 639 code of two or three small letters, such as fr".to_owned())
}

/// `greffon push`.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// A PEFT folder.
    pub adapter: PathBuf,
    /// The repository, `owner/name`.
    pub repository: String,
    /// Make the repository private, where it is made.
    #[arg(long)]
    pub private: bool,
    /// The branch, which must be there.
    #[arg(long, default_value = "main")]
    pub revision: String,
    /// The commit's message.
    #[arg(long, default_value = "Upload adapter with greffon")]
    pub message: String,
    /// The servers that must load it, with commas: vllm, llama.cpp, mistral.rs, lorax, peft. All by default.
    #[arg(long = "for", value_name = "SERVERS", value_delimiter = ',')]
    pub servers: Vec<String>,
    /// The card, where the folder has none.
    #[command(flatten)]
    pub card: CardArgs,
    /// The signature, where the manifest is made anew.
    #[command(flatten)]
    pub signing: SignWithArgs,
    /// Print what was pushed as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon import`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A PEFT folder, or a GGUF adapter.
    pub source: PathBuf,
    /// The base that it is for: a Hugging Face folder, a GGUF file, or a hub name.
    #[arg(long)]
    pub model: Option<String>,
    /// The hub revision of the base.
    #[arg(long, requires = "model")]
    pub revision: Option<String>,
    /// The folder to write.
    #[arg(long)]
    pub to: PathBuf,
    /// Overwrite the folder.
    #[arg(long)]
    pub force: bool,
    /// Print what was imported as JSON.
    #[arg(long)]
    pub json: bool,
}
