//! The `greffon` command: exit code and error chain, nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use trainer::{cli::Cli, commands};

fn main() -> ExitCode {
    match commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => commands::fail(&error),
    }
}
