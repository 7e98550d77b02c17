//! The command line. Every verb carries an example.

mod forgetting;

use std::path::PathBuf;

use adapters::export::card::Card;
use adapters::merge::Method;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::recipe::MemorySize;

pub use forgetting::{ForgettingVerb, MeasureArgs, QuestionArgs, RepairArgs};

/// Fine-tune small open language models with LoRA, check what they gained, and export adapters as PEFT folders.
#[derive(Debug, Parser)]
#[command(
    name = "greffon",
    version,
    arg_required_else_help = true,
    after_help = "\
Examples:
  greffon init --model HuggingFaceTB/SmolLM2-135M-Instruct --data questions.jsonl > recipe.yaml
  greffon check recipe.yaml
  greffon plan recipe.yaml
  greffon train recipe.yaml
  greffon eval runs/recipe
  greffon forgetting measure runs/recipe
  greffon export runs/recipe --to adapter

Exit codes: 0 done, 1 failed, 2 the input must be mended, 3 refused by a check, 130 interrupted with everything saved."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Write a commented recipe for a model and a data file to standard output.
    #[command(after_help = "Example:\n  greffon init --model models/SmolLM2.gguf --data train.jsonl > recipe.yaml")]
    Init(InitArgs),
    /// Validate a recipe and look at what it names, without running it.
    #[command(after_help = "Example:\n  greffon check recipe.yaml --set train.learning_rate=1e-4")]
    Check(RecipeArgs),
    /// Print the JSON Schema of recipes, for editors.
    #[command(after_help = "Example:\n  greffon schema > recipes/schema.json")]
    Schema,
    /// Fetch a base model from the hub into the cache and print its folder.
    #[command(after_help = "\
Example:
  greffon fetch HuggingFaceTB/SmolLM2-135M-Instruct \\
    --revision 12fd25f77366fa6b3b4b768ec3050bf629380bac

The cache is Hugging Face's own (HF_HOME). HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE are respected.")]
    Fetch(FetchArgs),
    /// Look at the data as the model will see it.
    #[command(subcommand, after_help = "Example:\n  greffon data preview recipe.yaml --count 2")]
    Data(DataVerb),
    /// Say what a run will cost before it is run: memory, time, and whether it fits.
    #[command(after_help = "\
Examples:
  greffon plan recipe.yaml
  greffon plan recipe.yaml --probe --set train.micro_batch_size=8
  greffon plan recipe.yaml --json

No weight is loaded and nothing is downloaded. The data is tokenised unless its tokens are in the cache; they are kept
there for the run. The recipe's `plan.device` describes another device than this machine.")]
    Plan(PlanArgs),
    /// Fine-tune.
    #[command(after_help = "\
Examples:
  greffon train recipe.yaml
  greffon train recipe.yaml --set train.max_steps=20 --set lora.rank=8
  greffon train --resume runs/recipe

When the training is over, base and adapter are asked the questions of the recipe's `forgetting.suite`.

Exit codes: 0 done; 3 more was forgotten than the recipe allows, with the adapter kept; 2 the input must be mended; 130
interrupted with everything saved.")]
    Train(TrainArgs),
    /// Compare base and adapter on held-out questions: exact match, token F1, loss.
    #[command(after_help = "\
Examples:
  greffon eval runs/recipe
  greffon eval runs/recipe --limit 50 --json
  greffon eval recipe.yaml --adapter adapter")]
    Eval(EvalArgs),
    /// Measure what an adapted model forgot of its base, and repair it.
    #[command(
        subcommand,
        after_help = "\
Examples:
  greffon forgetting measure runs/recipe
  greffon forgetting repair runs/recipe --to adapter-repaired"
    )]
    Forgetting(ForgettingVerb),
    /// Answer a prompt, or a file of prompts.
    #[command(after_help = "\
Examples:
  greffon generate --run runs/recipe --prompts questions.json --batch-size 16 --json
  greffon generate --run runs/recipe \"Question : quelle est la capitale de la France ?\"
  greffon generate --model models/SmolLM2.gguf --temperature 0.7 --seed 1 \"Write a haiku about grafting.\"
  greffon generate --model models/gemma.gguf --raw \"La capitale de la France est\"")]
    Generate(GenerateArgs),
    /// Talk with a model in the terminal.
    #[command(after_help = "Examples:\n  greffon chat --run runs/recipe\n  greffon chat --run runs/recipe --base")]
    Chat(ChatArgs),
    /// Write the adapter of a run as a PEFT folder, or as a GGUF file for llama.cpp.
    #[command(after_help = "\
Examples:
  greffon export runs/recipe --to adapter
  greffon export runs/recipe --checkpoint last --to adapter-last
  greffon export runs/recipe --as gguf-lora --type f16 --to adapter.gguf
  greffon export runs/recipe --to adapter --accept-forgetting \"Serves this one task only.\"

Exit codes: 0 written; 3 the adapter forgot more of its base than the recipe allows; 2 the input must be mended.")]
    Export(ExportArgs),
    /// Upload an adapter with its card to the hub.
    #[command(after_help = "\
Examples:
  greffon push adapter owner/name
  greffon push adapter owner/name --private --message \"Second try\"
  greffon push adapter owner/name --for peft,vllm --json

The repository is made when it is not there. An adapter that cannot be read, or that one of the servers refuses, is not
pushed; `greffon verify` says more. A folder without a README.md gets a card first. HF_TOKEN, or the token file of
Hugging Face's own tools, must allow writing. HF_ENDPOINT is respected.

Exit codes: 0 pushed, or nothing was new; 3 a server refuses it; 2 the input must be mended.")]
    Push(PushArgs),
    /// Take an adapter of another tool, a PEFT folder or a GGUF file, and write it as a clean PEFT folder.
    #[command(after_help = "\
Examples:
  greffon import downloaded --to adapter
  greffon import adapter.gguf --model HuggingFaceTB/SmolLM2-135M-Instruct --to adapter
  greffon import downloaded --model models/SmolLM2.gguf --to adapter --json

A GGUF adapter is only read with its base. With --model every module is compared with the base by its shape, and the
adapter's configuration names that base.")]
    Import(ImportArgs),
    /// Say which servers load an adapter, with which flag, and which get it wrong; prove an export in a running server.
    #[command(after_help = "\
Examples:
  greffon verify adapter
  greffon verify adapter --for vllm,llama.cpp
  greffon verify adapter.gguf --prove --model models/SmolLM2.gguf --adapter adapter \\
    --server http://127.0.0.1:8080
  greffon verify adapter --prove --model models/SmolLM2.gguf --server http://127.0.0.1:8000 --json

A proof compares the server's log-probabilities with the trainer's on committed prompts, with the adapter and without.
The server is llama.cpp's, or one that speaks OpenAI's completions as vLLM does. What was found is kept in greffon.json
in the folder, or beside the file; a later `greffon verify` tells it.

Exit codes: 0 every server named loads it, or proved; 3 one refuses it or gets it wrong, or not proved; 2 the input must
be mended.")]
    Verify(VerifyArgs),
    /// Combine adapters into one, or fold them into their base: a PEFT folder, a Hugging Face folder or a GGUF file.
    #[command(after_help = "\
Examples:
  greffon merge --adapter french --adapter legal --method ties --weights 0.7,0.3 --density 0.5 \\
    --to both
  greffon merge --adapter french --scale 0.5 --to weaker
  greffon merge --adapter french --adapter legal --model base --as gguf --to merged.gguf
  greffon merge --model models/SmolLM2.gguf --adapter adapter --to merged
  greffon merge --model base --adapter adapter --type bf16 --max-shard-size 2GB --to merged
  greffon merge --model base --adapter adapter --as gguf --type q8_0 --to merged.gguf

The methods are PEFT's: linear, cat, ties, dare_linear, dare_ties, magnitude_prune, svd. cat is exactly the weighted sum
of the adapters' effects, and its rank is the sum of their ranks; svd cuts that sum to a rank; the others keep the rank
and need equal ones.")]
    Merge(MergeArgs),
}

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
    /// Print everything as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `greffon train`.
#[derive(Debug, Args)]
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
    /// Give up the run that the output folder holds, and start over.
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,
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
    /// The most conversations to ask.
    #[arg(long)]
    pub limit: Option<usize>,
    /// Print everything as JSON, answers included.
    #[arg(long)]
    pub json: bool,
}

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
    /// Write no card.
    #[arg(long)]
    pub no_card: bool,
    /// Overwrite the folder.
    #[arg(long)]
    pub force: bool,
}

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
