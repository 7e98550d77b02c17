//! `greffon forgetting`: what an adapted model lost of its base.

mod measure;
mod repair;
pub(super) mod show;

use std::process::ExitCode;

use crate::cli::ForgettingVerb;

pub(super) fn forgetting(verb: &ForgettingVerb) -> anyhow::Result<ExitCode> {
    match verb {
        ForgettingVerb::Measure(args) => measure::measure(args),
        ForgettingVerb::Repair(args) => repair::repair(args),
    }
}
