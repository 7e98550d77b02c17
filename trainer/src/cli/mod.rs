//! The command line. Every verb carries an example.

mod dedup;
mod export;
mod forgetting;
mod frugal;
mod launch;
mod merge;
mod model;
mod port;
mod report;
mod run;
mod screen;
mod submit;
mod sweep;
mod synth;
mod trace;
mod track;
mod trust;
mod verify;

use clap::{Parser, Subcommand};

pub use dedup::{Compared, DedupArgs, ShingleOf};
pub use export::{CardArgs, ExportArgs, Form, ImportArgs, NumberType, PushArgs, Which};
pub use forgetting::{ForgettingVerb, MeasureArgs, QuestionArgs, RepairArgs};
pub use frugal::FrugalArgs;
pub use launch::LaunchArgs;
pub use merge::{CombineArgs, MergeArgs, MergedAs, MergedType, SignMethod};
pub use model::{ChatArgs, GenerateArgs, ModelArgs, SamplingArgs};
pub use port::PortArgs;
pub use report::{CleanArgs, CompareArgs, ListArgs, ReportArgs, RunsArgs, RunsVerb};
pub use run::{
    DataVerb, EvalArgs, FetchArgs, InitArgs, PlanArgs, PrepareArgs, PreviewArgs, RecipeArgs, TrainArgs, WatchArgs,
};
pub use screen::{ScreenAction, ScreenArgs};
pub use submit::{Begin, FollowArgs, Kind, KubernetesArgs, ResourceArgs, SlurmArgs, SubmitArgs};
pub use sweep::SweepArgs;
pub use synth::{SchemaArgs, SchemaOf, SynthArgs};
pub use trace::{AskedArgs, TraceArgs};
pub use track::{SyncArgs, TrackVerb};
pub use trust::{DocumentArgs, KeysVerb, NewKeyArgs, ReproduceArgs, ShowKeyArgs, SignArgs, SignWithArgs};
pub use verify::{ProofArgs, VerifyArgs};

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
    #[command(after_help = "\
Examples:
  greffon schema > recipes/schema.json
  greffon schema synth > recipes/synth-schema.json")]
    Schema(SchemaArgs),
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
    /// Make training samples from documents, with a teacher, and say where each comes from.
    #[command(after_help = "\
Examples:
  greffon synth recipes/synth/recipe.yaml
  greffon synth synth.yaml --set teacher.endpoint.url=http://127.0.0.1:8080
  greffon synth synth.yaml --set budget.requests=1000
  greffon synth synth.yaml --force --json

The set is a folder: samples.jsonl is what one trains on, answers.jsonl keeps every answer of the teacher, report.json \
says how the set came about. Run again with --force, only what has no answer yet is asked; so a run that was stopped or \
killed goes on where it was.

Exit codes: 0 done, or a budget is reached; 1 the teacher does not answer; 2 the input must be mended; 130 stopped with \
everything kept, or what the environment variable GREFFON_REQUEUE_CODE says.")]
    Synth(SynthArgs),
    /// Say what a run will cost before it is run: memory, time, and whether it fits.
    #[command(after_help = "\
Examples:
  greffon plan recipe.yaml
  greffon plan recipe.yaml --probe --set train.micro_batch_size=8
  greffon plan recipe.yaml --json
  greffon plan recipe.yaml --ranks 16 --link 100 --ranks-per-link 8

No weight is loaded and nothing is downloaded. The data is tokenised unless its tokens are in the cache; they are kept \
there for the run. The recipe's `plan.device` describes another device than this machine.")]
    Plan(PlanArgs),
    /// Fine-tune.
    #[command(after_help = "\
Examples:
  greffon train recipe.yaml
  greffon train recipe.yaml --set train.max_steps=20 --set lora.rank=8
  greffon train recipe.yaml --tui
  greffon train --resume runs/recipe
  greffon train recipe.yaml --or-resume

When the training is over, base and adapter are asked the questions of the recipe's `forgetting.suite`.

Exit codes: 0 done; 3 more was forgotten than the recipe allows, with the adapter kept; 2 the input must be mended; 130 \
interrupted with everything saved, or what the environment variable GREFFON_REQUEUE_CODE says: a scheduler that starts \
jobs of this exit code again then starts it again.")]
    Train(TrainArgs),
    /// Follow a run, of this machine or of another that shares the folder: losses, speed, memory, energy, forgetting.
    #[command(after_help = "\
Examples:
  greffon watch runs/recipe
  greffon watch runs/recipe --once

q or Ctrl-C ends the watching, not the run. Where the output is no terminal, lines are printed as with --once.")]
    Watch(WatchArgs),
    /// Have several processes on this machine make one run.
    #[command(after_help = "\
Examples:
  greffon launch -n 2 recipe.yaml
  greffon launch -n 4 --threads 8 recipe.yaml --set train.max_steps=20
  greffon launch -n 2 train --resume runs/recipe
  greffon launch -n 4 forgetting measure runs/recipe
  greffon launch -n 4 synth synth.yaml
  greffon launch -n 4 data prepare recipe.yaml
  greffon launch -n 4 reproduce adapter

The recipe is that of one process, and so are the numbers, within the rounding of sums; prepared data, and samples of a \
teacher that gives the same answers again, are the same bytes. Each process holds the whole \
base; the gradients are added up over MPI. Under `mpirun` and `srun --mpi=pmix` a process finds its place by itself:
start `greffon train recipe.yaml` with them to use several machines.

Ctrl-C saves and ends all processes. Exit codes: those of the work.")]
    Launch(LaunchArgs),
    /// Train a recipe with several values, and compare what comes of them.
    #[command(after_help = "\
Examples:
  greffon sweep recipe.yaml --over train.learning_rate=1e-4,3e-4,1e-3 --over lora.rank=8,16
  greffon sweep recipe.yaml --over train.learning_rate=1e-5..1e-2 --random 12 --halving 3
  greffon sweep recipe.yaml --over lora.dropout=0,0.1 --jobs 2 --to sweeps/dropout
  greffon sweep recipe.yaml --over lora.rank=4,8,16 --halving 2 --slurm --partition gpu --gpus 1 \
    --time 2:00:00 --jobs 8

Every trial is a run folder, compared by its lowest validation loss. Stopped and started again with the same arguments, a \
sweep takes finished trials as they are and goes on with the others. Under Slurm the trials of a rung are the tasks of an \
array, and their folders are seen by all nodes; Ctrl-C ends the following, not the trials, and the same command again \
follows them.

Exit codes: 0 done; 1 every trial failed, or Slurm does not answer; 2 the input must be mended, or Slurm refuses it; 130 \
interrupted with everything saved, or no longer followed.")]
    Sweep(Box<SweepArgs>),
    /// Look for the cheapest recipe that is as good as this one.
    #[command(after_help = "\
Examples:
  greffon frugal recipe.yaml
  greffon frugal recipe.yaml --tolerance 0.5 --max-kwh 0.2
  greffon frugal recipe.yaml --arm \"short rows: data.max_length=512; train.micro_batch_size=4\"

The recipe is trained once as it is. Changes that may make it cheaper are tried in a part of its time, those that help are \
combined and given twice as much, until the answers to the validation questions are as good. Stopped and started again \
with the same arguments, it goes on where it was.

Exit codes: 0 a cheaper recipe is in recommended.yaml; 3 none was as good; 2 the input must be mended; 130 interrupted \
with everything saved.")]
    Frugal(FrugalArgs),
    /// Make a run the job of a cluster: submit it to Slurm and follow it, or write its manifest for Kubernetes.
    #[command(after_help = "\
Examples:
  greffon submit recipe.yaml --slurm --partition cpu --nodes 2 --ranks-per-node 2 \\
    --cpus-per-rank 8
  greffon submit recipe.yaml --slurm --begin off-peak --detach --json
  greffon submit recipe.yaml --slurm --begin low-carbon --carbon forecast.json --within 12h
  greffon submit recipe.yaml --slurm --time 2:00:00 --print > run.sh
  greffon submit recipe.yaml --k8s job --image registry.example/greffon:0.1.0 \\
    --set output=/runs/claims --claim runs:/runs --claim data:/data:ro --to job.yaml
  greffon submit recipe.yaml --k8s trainjob --image registry.example/greffon:0.1.0 --nodes 2 \\
    --set output=/runs/claims --claim runs:/runs --queue research

A job that is pre-empted, reaches its time or loses a process is started again, and goes on from its last checkpoint. The \
script and the log of a Slurm job are written beside the run folder, which all nodes must see. Ctrl-C ends the following, \
not the job. A recipe for Kubernetes has its paths as the pods see them: docs/cluster.md.

Exit codes: the job's own when it was followed; 0 submitted or written; 1 the scheduler does not answer; 2 the input must \
be mended, or Slurm refuses it; 130 no longer followed.")]
    Submit(Box<SubmitArgs>),
    /// Give a tracking server what it does not have of a run.
    #[command(subcommand, after_help = "Example:\n  greffon track sync runs/recipe")]
    Track(TrackVerb),
    /// Compare base and adapter on held-out questions: exact match, token F1, loss.
    #[command(after_help = "\
Examples:
  greffon eval runs/recipe
  greffon eval runs/recipe --limit 50 --json
  greffon eval recipe.yaml --adapter adapter
  greffon eval runs/recipe --set eval.num_fewshot=3
  greffon eval recipe.yaml --answers another.jsonl --rival rules.jsonl
  greffon eval runs/recipe --rival rules.jsonl --set \"eval.group_by=[layout]\"

What a run's own adapter and recipe give is kept in its folder as eval.json, answers included; `greffon report` shows it.")]
    Eval(EvalArgs),
    /// Make a run again on another base, compare the two, and say whether to move.
    #[command(after_help = "\
Examples:
  greffon port runs/claims --base HuggingFaceTB/SmolLM2-360M-Instruct
  greffon port runs/claims --base models/gemma.gguf --chat-template gemma.jinja
  greffon port runs/claims --base Qwen/Qwen3-0.6B --tolerance 0.5 --json

The recipe is the run's own, with the lengths that the new base's tokens need; what changes is told. Both adapters are \
asked the questions of eval.test. Stopped and started again with the same arguments, it goes on where it was.

Exit codes: 0 move; 3 do not: it may be worse, or forgot more than the recipe allows; 2 the input must be mended; 130 \
interrupted with everything saved.")]
    Port(PortArgs),
    /// Write what a run did and found as one HTML file; several runs, compared.
    #[command(after_help = "\
Examples:
  greffon report runs/recipe
  greffon report runs/recipe --lang fr --to rapport.html
  greffon report runs/recipe --plan plan.json --force
  greffon report runs/first runs/second --to comparison.html

The file is complete in itself: no network, no script. A run that is under way or was cut off shows what is there.")]
    Report(ReportArgs),
    /// List the runs below a folder, compare them, and clean up.
    #[command(after_help = "\
Examples:
  greffon runs
  greffon runs sweeps/recipe --json
  greffon runs compare runs/first runs/second
  greffon runs clean --failed")]
    Runs(RunsArgs),
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
  greffon export runs/recipe --to adapter --sign-with keys/alice.key

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

The manifest and its signature go along. Exit codes: 0 pushed, or nothing was new; 3 a server refuses it, or its signature \
is of another state of the folder; 2 the input must be mended.")]
    Push(PushArgs),
    /// Take an adapter of another tool, a PEFT folder or a GGUF file, and write it as a clean PEFT folder.
    #[command(after_help = "\
Examples:
  greffon import downloaded --to adapter
  greffon import adapter.gguf --model HuggingFaceTB/SmolLM2-135M-Instruct --to adapter
  greffon import downloaded --model models/SmolLM2.gguf --to adapter --json

A GGUF adapter is only read with its base. With --model every module is compared with the base by its shape, and the \
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
  greffon verify adapter --signed-by keys/alice.pub

A proof compares the server's log-probabilities with the trainer's on committed prompts, with the adapter and without. \
The server is llama.cpp's, or one that speaks OpenAI's completions as vLLM does. What was found is kept in greffon.json \
in the folder, or beside the file; a later `greffon verify` tells it. With --signed-by the signature is checked, and every \
file against it.

Exit codes: 0 every server named loads it, or proved, or as it was signed; 3 one refuses it or gets it wrong, or not \
proved, or not as it was signed; 2 the input must be mended.")]
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

The methods are PEFT's: linear, cat, ties, dare_linear, dare_ties, magnitude_prune, svd. cat is exactly the weighted sum \
of the adapters' effects, and its rank is the sum of their ranks; svd cuts that sum to a rank; the others keep the rank \
and need equal ones.")]
    Merge(MergeArgs),
    /// Make and show the keys by which exports are signed.
    #[command(
        subcommand,
        after_help = "Examples:\n  greffon keys new --to keys/alice\n  greffon keys show keys/alice.pub"
    )]
    Keys(KeysVerb),
    /// Sign an export: its files, and what is known of how they were made.
    #[command(after_help = "\
Examples:
  greffon sign adapter --key keys/alice.key
  greffon sign merged.gguf --key keys/alice.key --json

The manifest (manifest.json in the folder, FILE.manifest.json beside a file) is made anew of the files as they are, and \
the signature is written beside it, as manifest.dsse.json. `greffon verify --signed-by` checks both.

Exit codes: 0 signed; 3 the weights are not those that were exported; 2 the input must be mended.")]
    Sign(SignArgs),
    /// Run the recipe of an export's manifest again, and say whether the same bytes come out.
    #[command(after_help = "\
Examples:
  greffon reproduce adapter/manifest.json --files project --to again
  greffon reproduce adapter --base models/SmolLM2.gguf --json

Version, instruction set, base and data are compared with the manifest before anything is trained. A run of several \
processes is started with as many: greffon launch -n 4 reproduce adapter. Compared are the adapter's weights and its \
configuration, but for the path of the base in it.

Exit codes: 0 the same bytes; 3 other bytes, or they cannot come out the same and --anyway was not given; 2 the input must \
be mended; 130 interrupted.")]
    Reproduce(ReproduceArgs),
    /// Write a draft of the technical documentation of a run, with what only a person knows left open.
    #[command(after_help = "\
Examples:
  greffon document runs/recipe --to documentation
  greffon document runs/recipe --lang fr --to documentation

Two files follow the headings of the European AI Act: annex-iv.md (high-risk systems) and annex-xi.md (general-purpose \
models). Filled in is what the run folder knows; the rest is marked, and listed at the end. Neither file says that any \
law is met.")]
    Document(DocumentArgs),
}
