//! The arguments of `greffon submit`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{ArgGroup, Args, ValueEnum};
use jiff::{SignedDuration, Span, SpanRelativeTo};

use super::RecipeArgs;
use crate::recipe::MemorySize;
use crate::submit::WallTime;

/// `greffon submit`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("scheduler").required(true).args(["slurm", "k8s"])))]
#[command(mut_group("SlurmArgs", |group| group.conflicts_with("k8s")))]
pub struct SubmitArgs {
    /// The recipe.
    #[command(flatten)]
    pub recipe: RecipeArgs,
    /// Submit to Slurm, with `sbatch`.
    #[arg(long)]
    pub slurm: bool,
    /// Write a manifest for Kubernetes, as this kind of job.
    #[arg(long, value_enum, value_name = "KIND", requires = "image")]
    pub k8s: Option<Kind>,

    /// What is asked for.
    #[command(flatten)]
    pub resources: ResourceArgs,
    /// What Slurm alone has.
    #[command(flatten)]
    pub of_slurm: SlurmArgs,
    /// Whether the job is followed.
    #[command(flatten)]
    pub following: FollowArgs,
    /// What Kubernetes alone has.
    #[command(flatten)]
    pub of_kubernetes: KubernetesArgs,

    /// Print the script or manifest, and submit nothing.
    #[arg(long)]
    pub print: bool,
    /// Print as JSON what was submitted, and how it ended.
    #[arg(long, conflicts_with_all = ["print", "k8s"])]
    pub json: bool,
}

/// What a job asks for.
#[derive(Debug, Args)]
#[command(next_help_heading = "Resources")]
pub struct ResourceArgs {
    /// Machines, or pods.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub nodes: u32,
    /// Processes on each of them.
    #[arg(long, visible_alias = "ranks", default_value_t = 1, value_name = "RANKS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub ranks_per_node: u32,
    /// Cores of each process.
    #[arg(long, visible_alias = "cpus", default_value_t = 1, value_name = "CPUS",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub cpus_per_rank: u32,
    /// GPUs of each process.
    #[arg(long, default_value_t = 0)]
    pub gpus: u32,
    /// Memory of each process, such as `8 GiB`.
    #[arg(long)]
    pub memory: Option<MemorySize>,
    /// The longest that it may take, such as 90 (minutes), 12:00:00 or 1-12:00. Under Slurm, where it is not given, the
    /// plan's time with a margin.
    #[arg(long)]
    pub time: Option<WallTime>,
    /// Seconds to save in, between the signal and the end.
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub grace: u32,
    /// The restarts after which a killed process ends the job.
    #[arg(long, default_value_t = 10, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..1_000_000))]
    pub max_restarts: u32,
    /// Set an environment variable of the run; may be given again. It can be read in the script or manifest: no secrets.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, String)>,
    /// The program, as the nodes or the image have it; under Slurm this program's own file.
    #[arg(long, value_name = "FILE")]
    pub program: Option<PathBuf>,
}

/// What Slurm alone has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Slurm")]
pub struct SlurmArgs {
    /// The account that pays.
    #[arg(long)]
    pub account: Option<String>,
    /// The partition.
    #[arg(long, short = 'p')]
    pub partition: Option<String>,
    /// The quality of service.
    #[arg(long)]
    pub qos: Option<String>,
    /// When it may start, as `sbatch` has it (now+2hours, 20:00, 2027-01-31T08:00); `off-peak`: at 22:00; `low-carbon`: when
    /// the forecast of --carbon is lowest.
    #[arg(long, value_name = "TIME")]
    pub begin: Option<Begin>,
    /// A forecast of the grid's carbon intensity, of Electricity Maps or of the Carbon Aware SDK.
    #[arg(long, value_name = "FORECAST.json", requires = "begin", required_if_eq("begin", LOW_CARBON))]
    pub carbon: Option<PathBuf>,
    /// The longest that it may wait for a low intensity, such as 36h or 2d.
    #[arg(long, value_name = "TIME", default_value = "24h", requires = "carbon", value_parser = lasting)]
    pub within: SignedDuration,
    /// How `srun` joins the processes.
    #[arg(long, default_value = "pmix")]
    pub mpi: String,
}

/// Whether a job is followed.
#[derive(Debug, Args)]
#[command(next_help_heading = "Slurm")]
pub struct FollowArgs {
    /// Show the job's state and its log until it ends; this is what happens without --detach.
    #[arg(long, conflicts_with_all = ["k8s", "print"])]
    pub follow: bool,
    /// Return once the job is submitted.
    #[arg(long, conflicts_with_all = ["k8s", "print", "follow"])]
    pub detach: bool,
}

/// When a job may start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// In Slurm's own words.
    At(String),
    /// When power is cheap.
    OffPeak,
    /// When a forecast of the grid's carbon intensity is lowest.
    LowCarbon,
}

const LOW_CARBON: &str = "low-carbon";

impl FromStr for Begin {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "off-peak" => Self::OffPeak,
            LOW_CARBON => Self::LowCarbon,
            _ => Self::At(text.to_owned()),
        })
    }
}

/// What Kubernetes alone has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct KubernetesArgs {
    /// The container image, which holds this program; name it with its digest for a run that can be repeated.
    #[arg(long, conflicts_with = "slurm")]
    pub image: Option<String>,
    /// The namespace.
    #[arg(long, conflicts_with = "slurm")]
    pub namespace: Option<String>,
    /// Kueue's local queue. The job then waits for its quota.
    #[arg(long, conflicts_with = "slurm")]
    pub queue: Option<String>,
    /// A volume by its claim, and where the run sees it; may be given again. `:ro` at the end for reading alone.
    #[arg(long, value_name = "CLAIM:PATH[:ro]", conflicts_with = "slurm")]
    pub claim: Vec<String>,
    /// An environment variable from a secret; may be given again.
    #[arg(long, value_name = "NAME=SECRET:KEY", conflicts_with = "slurm")]
    pub secret_env: Vec<String>,
    /// The resource's name of a GPU.
    #[arg(long, default_value = "nvidia.com/gpu", value_name = "NAME", conflicts_with = "slurm")]
    pub gpu_resource: String,
    /// The Kubeflow runtime of a train job; its kind must be MPI.
    #[arg(long, value_name = "NAME", conflicts_with = "slurm")]
    pub runtime: Option<String>,
    /// Write the manifest to this file, which must not be there.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["slurm", "print"])]
    pub to: Option<PathBuf>,
}

/// The kinds of job in Kubernetes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A Job of Kubernetes itself: one pod.
    Job,
    /// A `JobSet`: one pod, with a network name and as a whole.
    #[value(name = "jobset")]
    JobSet,
    /// A `TrainJob` of Kubeflow Trainer: pods that MPI joins.
    #[value(name = "trainjob")]
    TrainJob,
}

/// The error says what was expected.
fn variable(text: &str) -> Result<(String, String), String> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    match text.split_once('=') {
        Some((name, value)) if is_name(name) => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE with a name of letters, digits and underscores".to_owned()),
    }
}

/// A time such as `12h`; the error says what was expected.
pub(super) fn lasting(text: &str) -> Result<SignedDuration, String> {
    let span = text.parse::<Span>().ok();
    let time = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    time.filter(SignedDuration::is_positive)
        .ok_or_else(|| "expected a time with its unit, such as 12h, 90min or 2d".to_owned())
}
