//! The arguments of `greffon merge`.

use std::path::PathBuf;

use adapters::merge::Method;
use clap::{Args, ValueEnum};

use crate::recipe::MemorySize;

/// The form of a merged model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MergedAs {
    /// An adapter, as a folder for PEFT; without a base.
    Peft,
    /// A Hugging Face folder, as transformers and most servers take it.
    Safetensors,
    /// A GGUF file as llama.cpp takes it.
    Gguf,
}

/// How the numbers of a merged model are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MergedType {
    /// As they are computed.
    F32,
    /// Half precision.
    F16,
    /// Half precision with the range of f32.
    Bf16,
    /// GGUF: blocks of 32 in eight bits.
    #[value(name = "q8_0")]
    Q8_0,
    /// GGUF: blocks of 32 in four bits.
    #[value(name = "q4_0")]
    Q4_0,
    /// GGUF: blocks of 256 in four bits.
    #[value(name = "q4_k")]
    Q4K,
}

/// How TIES elects the sign of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SignMethod {
    /// The sign of the sum over the adapters.
    Total,
    /// The sign that more adapters have.
    Frequency,
}

/// How adapters are combined.
#[derive(Debug, Args)]
pub struct CombineArgs {
    /// linear, cat, ties, `dare_linear`, `dare_ties`, `magnitude_prune` or svd.
    #[arg(long, default_value_t = Method::Cat)]
    pub method: Method,
    /// A factor for each adapter's effect, in their order, with commas; by default equal ones that add up to 1.
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', allow_negative_numbers = true)]
    pub weights: Vec<f64>,
    /// The share of numbers that ties, dare and `magnitude_prune` keep, above 0 to 1.
    #[arg(long, allow_negative_numbers = true)]
    pub density: Option<f64>,
    /// How ties and `dare_ties` elect the sign of a number.
    #[arg(long, value_enum, default_value_t = SignMethod::Total)]
    pub majority_sign: SignMethod,
    /// The rank to which svd cuts the sum; by default the largest of the adapters.
    #[arg(long)]
    pub rank: Option<usize>,
    /// A factor for the effect of the result.
    #[arg(long, default_value_t = 1.0, allow_negative_numbers = true)]
    pub scale: f64,
    /// The seed of what dare drops.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// `greffon merge`.
#[derive(Debug, Args)]
pub struct MergeArgs {
    /// The base that is folded into: a Hugging Face folder, a GGUF file, or a hub name. Without it the adapters become one
    /// adapter.
    #[arg(long)]
    pub model: Option<String>,
    /// The hub revision; by default the one that the adapter names, if it names this base.
    #[arg(long, requires = "model")]
    pub revision: Option<String>,
    /// A PEFT folder; given again, the adapters are combined.
    #[arg(long = "adapter", value_name = "FOLDER", required = true)]
    pub adapters: Vec<PathBuf>,
    /// How adapters are combined.
    #[command(flatten)]
    pub combine: CombineArgs,
    /// The folder to write; the file with `--as gguf`.
    #[arg(long)]
    pub to: PathBuf,
    /// The form; safetensors by default with --model, peft without.
    #[arg(long = "as", value_enum)]
    pub form: Option<MergedAs>,
    /// How the numbers are stored; norms in a GGUF file are always f32, and rows that do not fit the blocks take the next
    /// type that fits.
    #[arg(long = "type", value_enum, default_value_t = MergedType::F32)]
    pub number_type: MergedType,
    /// The most that a weight file of a folder may hold; beyond it the weights are cut into shards with an index.
    #[arg(long, value_name = "SIZE", default_value = "5GB")]
    pub max_shard_size: MemorySize,
    /// A Jinja file that replaces the base's own chat template.
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// Overwrite the folder or file.
    #[arg(long)]
    pub force: bool,
    /// Print what was written as JSON.
    #[arg(long)]
    pub json: bool,
}
