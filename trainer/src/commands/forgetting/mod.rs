//! `greffon forgetting`: what an adapted model lost of its base.

mod measure;
mod repair;
pub(super) mod show;

use std::process::ExitCode;

use crate::cli::ForgettingVerb;
use crate::cluster::Collective;

pub(super) fn forgetting(verb: &ForgettingVerb, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    match verb {
        ForgettingVerb::Measure(args) => measure::measure(args, collective),
        ForgettingVerb::Repair(args) => repair::repair(args, collective),
    }
}
