//! The verbs, one file each; the only code that prints.

mod booked;
mod chat;
mod check;
mod combine;
mod dashboard;
mod dedup;
mod document;
mod eval;
mod export;
mod fetch;
mod forgetting;
mod frugal;
mod generate;
mod import;
mod init;
mod interrupt;
mod launch;
mod merge;
mod output;
mod plan;
mod port;
mod prepare;
mod preview;
mod progress;
mod prove;
mod push;
mod report;
mod reproduce;
mod runs;
mod schema;
mod screen;
mod sign;
mod subject;
mod submit;
mod sweep;
mod synth;
mod trace;
mod track;
mod train;
mod training;
mod verify;
mod watch;

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anstream::eprintln;
use datasets::DataError;
use owo_colors::OwoColorize as _;

use booked::booked;

use crate::cli::{Cli, DataVerb, Verb};
use crate::cluster::{self, Collective, Place, Single};
use crate::energy::Stage;
use crate::error::TrainError;

/// How long another rank than the first waits before it tells an error: what all ranks meet, the first one tells.
const AFTER_THE_FIRST: Duration = Duration::from_secs(3);

/// Runs a verb, prints what went wrong, and gives the exit code.
pub fn run(cli: Cli) -> ExitCode {
    let place = Place::from_env();
    let level = if place.rank == 0 { tracing::Level::WARN } else { tracing::Level::ERROR };
    tracing_subscriber::fmt()
        .with_writer(dashboard::Warnings::default)
        .with_max_level(level)
        .with_target(false)
        .without_time()
        .init();
    verb(cli.verb, &place).unwrap_or_else(|error| fail(&error))
}

fn verb(verb: Verb, place: &Place) -> anyhow::Result<ExitCode> {
    let done = match verb {
        Verb::Train(args) => return together(place, |collective| train::train(&args, collective)),
        Verb::Forgetting(verb) => {
            return together(place, |collective| {
                booked(Stage::Evaluate, verb.subject(), collective, || forgetting::forgetting(&verb, collective))
            });
        }
        Verb::Eval(args) => {
            return together(place, |collective| {
                booked(Stage::Evaluate, &args.subject, collective, || eval::eval(&args, collective))
            });
        }
        Verb::Port(args) => return together(place, |collective| port::port(&args, collective)),
        Verb::Reproduce(args) => return together(place, |collective| reproduce::reproduce(&args, collective)),
        Verb::Synth(args) => return together(place, |collective| synth::synth(&args, collective)),
        Verb::Data(DataVerb::Prepare(args)) => {
            return together(place, |collective| prepare::prepare(&args, collective));
        }
        _ if place.ranks > 1 => anyhow::bail!(
            "{} processes were started for work that one does; start it without the launcher",
            place.ranks
        ),
        Verb::Verify(args) => return verify::verify(&args),
        Verb::Push(args) => return push::push(&args),
        Verb::Launch(args) => return launch::launch(&args),
        Verb::Sweep(args) => return sweep::sweep(*args),
        Verb::Submit(args) => return submit::submit(&args),
        Verb::Track(verb) => return track::track(&verb),
        Verb::Frugal(args) => return frugal::frugal(&args),
        Verb::Data(DataVerb::Screen(args)) => return screen::screen(&args),
        Verb::Data(DataVerb::Trace(args)) => return trace::trace(&args),
        Verb::Report(args) => report::report(&args),
        Verb::Runs(args) => runs::runs(&args),
        Verb::Init(args) => init::init(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Schema(args) => schema::schema(&args),
        Verb::Fetch(args) => fetch::fetch(&args),
        Verb::Data(DataVerb::Preview(args)) => preview::preview(&args),
        Verb::Data(DataVerb::Dedup(args)) => dedup::dedup(&args),
        Verb::Plan(args) => plan::plan(&args),
        Verb::Watch(args) => watch::watch(&args),
        Verb::Generate(args) => generate::generate(&args),
        Verb::Chat(args) => chat::chat(&args),
        Verb::Export(args) => booked(Stage::Export, &args.run, &Single, || export::export(&args)),
        Verb::Import(args) => import::import(&args),
        Verb::Merge(args) => merge::merge(&args),
        Verb::Keys(verb) => sign::keys(&verb),
        Verb::Sign(args) => sign::sign(&args),
        Verb::Document(args) => document::document(&args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Work that all ranks do at once. An error that the others may not know of ends them too.
fn together(place: &Place, work: impl FnOnce(&dyn Collective) -> anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    let collective = cluster::open(place)?;
    let done = work(collective.as_ref());
    let Err(error) = &done else { return done };
    if collective.ranks() == 1 {
        return done;
    }
    let code = exit_code(error);
    if error.downcast_ref().is_some_and(|e| matches!(e, TrainError::Interrupted { .. })) {
        // All ranks have stopped after the same step.
        return if collective.is_first() { done } else { Ok(ExitCode::from(code)) };
    }
    if !collective.is_first() {
        thread::sleep(AFTER_THE_FIRST);
    }
    if is_anothers(error, collective.rank()) {
        // Who met it says so, with its exit code, which ends this process.
        thread::sleep(2 * AFTER_THE_FIRST);
    }
    fail(error);
    collective.abort(code);
    Ok(ExitCode::from(code))
}

/// Whether an error was met by another rank than this.
fn is_anothers(error: &anyhow::Error, own: usize) -> bool {
    let error = error.chain().find_map(|cause| cause.downcast_ref::<TrainError>());
    let Some(TrainError::Cluster { rank, .. } | TrainError::Data(DataError::Peer { rank, .. })) = error else {
        return false;
    };
    *rank != own
}

/// Prints an error with its causes, once, and gives the exit code.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("{} {error:#}", "error:".red().bold());
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let Some(error) = error.chain().find_map(|cause| cause.downcast_ref::<TrainError>()) else { return 1 };
    match error {
        TrainError::Interrupted { .. } | TrainError::StoppedBeforeStart | TrainError::Stopped => {
            interrupt::interrupted_code().unwrap_or(error.exit_code())
        }
        error => error.exit_code(),
    }
}
