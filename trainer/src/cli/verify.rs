//! The arguments of `greffon verify`.

use std::path::PathBuf;

use clap::Args;

use super::SignWithArgs;

/// `greffon verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A PEFT folder; of a merged model or a GGUF file, the proofs are told, or one is made with --prove.
    pub export: PathBuf,
    /// The servers, with commas: vllm, llama.cpp, mistral.rs, lorax, peft. All by default.
    #[arg(long = "for", value_name = "SERVERS", value_delimiter = ',', conflicts_with = "prove")]
    pub servers: Vec<String>,
    /// Compare a running server with the trainer.
    #[arg(long, requires = "model", requires = "server")]
    pub prove: bool,
    /// Check that the holder of this key, NAME.pub, signed the export, and that its files are those that were signed.
    #[arg(long, value_name = "KEY", conflicts_with_all = ["prove", "servers"])]
    pub signed_by: Option<PathBuf>,
    /// The signature of the manifest that a proof changes.
    #[command(flatten)]
    pub signing: SignWithArgs,
    /// The proof's details.
    #[command(flatten)]
    pub proof: ProofArgs,
    /// Print the verdicts, or what was found, as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What a proof needs.
#[derive(Debug, Args)]
pub struct ProofArgs {
    /// The base: a Hugging Face folder, a GGUF file, or a hub name.
    #[arg(long, requires = "prove")]
    pub model: Option<String>,
    /// The hub revision.
    #[arg(long, requires = "model")]
    pub revision: Option<String>,
    /// The PEFT folder that a GGUF adapter or a merged model was made from.
    #[arg(long, requires = "prove")]
    pub adapter: Option<PathBuf>,
    /// The server's address.
    #[arg(long, value_name = "URL", requires = "prove")]
    pub server: Option<String>,
    /// The largest mean absolute difference of log-probabilities, in nats; above 0.
    #[arg(long, default_value_t = 0.01)]
    pub limit: f64,
    /// The server's name for the base or the merged model, where it has several or another.
    #[arg(long, value_name = "NAME", requires = "prove")]
    pub served_model: Option<String>,
    /// The server's name for the adapter, where it has several or another.
    #[arg(long, value_name = "NAME", requires = "prove")]
    pub served_adapter: Option<String>,
}
