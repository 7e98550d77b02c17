//! The arguments of the verbs that let a model speak.

use std::path::PathBuf;

use clap::Args;

/// Which model to load.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A Hugging Face folder, a GGUF file, or a hub name.
    #[arg(long, required_unless_present = "run", conflicts_with = "run")]
    pub model: Option<String>,
    /// The hub revision.
    #[arg(long, requires = "model")]
    pub revision: Option<String>,
    /// A PEFT folder.
    #[arg(long)]
    pub adapter: Option<PathBuf>,
    /// A run folder: its base with its adapter.
    #[arg(long)]
    pub run: Option<PathBuf>,
    /// Leave the adapter off.
    #[arg(long)]
    pub base: bool,
    /// The device.
    #[arg(long, default_value = "flex")]
    pub device: String,
}

/// How to choose tokens.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// 0 takes the most probable token.
    #[arg(long, default_value_t = 0.0)]
    pub temperature: f64,
    /// Keep the most probable tokens up to this sum, above 0 and at most 1.
    #[arg(long, default_value_t = 1.0)]
    pub top_p: f64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// The most tokens of an answer.
    #[arg(long, default_value_t = 256)]
    pub max_new_tokens: usize,
    /// A system prompt.
    #[arg(long)]
    pub system: Option<String>,
}

/// `greffon generate`.
#[derive(Debug, Args)]
pub struct GenerateArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The sampling.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// What to ask.
    #[arg(required_unless_present = "prompts")]
    pub prompt: Option<String>,
    /// Ask every question of a file instead: a JSON list of texts.
    #[arg(long, value_name = "FILE", conflicts_with = "prompt")]
    pub prompts: Option<PathBuf>,
    /// Continue the text as it stands, without the chat template; for base models.
    #[arg(long, conflicts_with = "system")]
    pub raw: bool,
    /// How many questions are answered at a time.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Print the answers, the new tokens and the seconds as JSON, once all are there.
    #[arg(long)]
    pub json: bool,
}

/// `greffon chat`.
#[derive(Debug, Args)]
pub struct ChatArgs {
    /// The model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// The sampling.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}
