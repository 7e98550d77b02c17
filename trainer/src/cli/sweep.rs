//! The arguments of `greffon sweep`.

use std::path::PathBuf;

use clap::Args;

use super::{ResourceArgs, SlurmArgs};
use crate::sweep::space::Axis;

/// `greffon sweep`.
#[derive(Debug, Args)]
#[command(mut_group("ResourceArgs", |group| group.requires("slurm")))]
#[command(mut_group("SlurmArgs", |group| group.requires("slurm")))]
pub struct SweepArgs {
    /// The recipe that all trials share.
    pub recipe: PathBuf,
    /// A key and its values: `--over lora.rank=8,16`, or for --random a range, `--over train.learning_rate=1e-5..1e-3`;
    /// may be given again.
    #[arg(long, value_name = "KEY=VALUES", required = true)]
    pub over: Vec<Axis>,
    /// Set one value for all trials; may be given again.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Try so many combinations, drawn by --seed, instead of all.
    #[arg(long, value_name = "TRIALS", value_parser = clap::value_parser!(u16).range(1..))]
    pub random: Option<u16>,
    /// What the combinations are drawn by.
    #[arg(long, default_value_t = 0, requires = "random")]
    pub seed: u64,
    /// Successive halving: try all for few steps, keep one in FACTOR, try those for FACTOR times as many, and so on.
    #[arg(long, value_name = "FACTOR", value_parser = clap::value_parser!(u64).range(2..))]
    pub halving: Option<u64>,
    /// Trials at a time: 1 where it is not given, and the machine's cores are divided among them; under Slurm as many as it
    /// lets.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// The folder of the sweep: trials, `sweep.json`, `sweep.svg`. By default `sweeps/` and the recipe's name.
    #[arg(long)]
    pub to: Option<PathBuf>,
    /// Print the outcome as JSON.
    #[arg(long)]
    pub json: bool,

    /// Make the trials under Slurm, as the tasks of an array, and follow them.
    #[arg(long, help_heading = "Slurm")]
    pub slurm: bool,
    /// Print the batch script of the first trials, and submit nothing.
    #[arg(long, help_heading = "Slurm", requires = "slurm", conflicts_with = "json")]
    pub print: bool,
    /// What Slurm alone has.
    #[command(flatten)]
    pub of_slurm: SlurmArgs,
    /// What each trial asks for.
    #[command(flatten)]
    pub resources: ResourceArgs,
}
