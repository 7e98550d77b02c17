//! The verbs, one file each; the only code that prints.

mod chat;
mod check;
mod combine;
mod dedup;
mod eval;
mod export;
mod fetch;
mod forgetting;
mod generate;
mod import;
mod init;
mod interrupt;
mod merge;
mod plan;
mod prepare;
mod preview;
mod progress;
mod prove;
mod push;
mod schema;
mod screen;
mod subject;
mod synth;
mod trace;
mod train;
mod verify;

use std::process::ExitCode;

use anstream::eprintln;
use owo_colors::OwoColorize as _;

use crate::cli::{Cli, DataVerb, Verb};
use crate::error::TrainError;

/// Runs a verb and gives its exit code.
///
/// # Errors
/// What went wrong, as a chain.
pub fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::WARN)
        .with_target(false)
        .without_time()
        .init();
    let done = match cli.verb {
        Verb::Verify(args) => return verify::verify(&args),
        Verb::Push(args) => return push::push(&args),
        Verb::Synth(args) => return synth::synth(&args),
        Verb::Train(args) => return train::train(&args),
        Verb::Data(DataVerb::Screen(args)) => return screen::screen(&args),
        Verb::Data(DataVerb::Trace(args)) => return trace::trace(&args),
        Verb::Forgetting(verb) => return forgetting::forgetting(&verb),
        Verb::Init(args) => init::init(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Schema(args) => schema::schema(&args),
        Verb::Fetch(args) => fetch::fetch(&args),
        Verb::Data(DataVerb::Preview(args)) => preview::preview(&args),
        Verb::Data(DataVerb::Prepare(args)) => prepare::prepare(&args),
        Verb::Data(DataVerb::Dedup(args)) => dedup::dedup(&args),
        Verb::Plan(args) => plan::plan(&args),
        Verb::Eval(args) => eval::eval(&args),
        Verb::Generate(args) => generate::generate(&args),
        Verb::Chat(args) => chat::chat(&args),
        Verb::Export(args) => export::export(&args),
        Verb::Import(args) => import::import(&args),
        Verb::Merge(args) => merge::merge(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Prints an error with its causes, once, and gives the exit code.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("{} {error:#}", "error:".red().bold());
    let code = error.chain().find_map(|cause| cause.downcast_ref::<TrainError>()).map_or(1, TrainError::exit_code);
    ExitCode::from(code)
}
