//! The `greffon` command: exit code and error chain, nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use trainer::{cli::Cli, commands, kernels::allocator};

fn main() -> ExitCode {
    let cli = Cli::parse();
    allocator::keep_freed_memory();
    // On a thread of the pool: from any other, each of a kernel's parallel loops would begin with waking one up.
    rayon::scope(|_| commands::run(cli))
}
