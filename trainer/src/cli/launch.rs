//! The arguments of the verbs that start several processes.

use std::path::PathBuf;

use clap::Args;

/// `greffon launch`.
#[derive(Debug, Args)]
pub struct LaunchArgs {
    /// How many processes make the run.
    #[arg(long, short = 'n', value_name = "PROCESSES", value_parser = clap::value_parser!(u16).range(1..))]
    pub ranks: u16,
    /// Threads of each process; by default the machine's cores are divided among them.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// The program that starts processes.
    #[arg(long, default_value = "mpirun")]
    pub mpirun: PathBuf,
    /// What they do: a recipe to train, or `train`, `eval`, `forgetting`, `synth`, `data prepare`, `reproduce` with their own arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "RECIPE | VERB")]
    pub work: Vec<String>,
}
