//! Integration tests over the public surface. No network; the `real` ring adds real models and servers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;
mod sweep;

mod bad_input;
mod blocks;
mod combine;
mod command;
mod data;
mod dedup;
mod determinism;
mod energy;
mod evaluate;
mod families;
mod forgetting;
mod frugal;
mod import;
mod invariance;
mod merge;
mod methods;
mod parity;
mod plan;
mod port;
mod push;
#[cfg(feature = "real")]
mod real;
mod recipes;
mod repair;
mod report;
mod resume;
mod runs;
mod screen;
mod select;
mod study;
mod submit;
mod tokens;
mod trace;
mod tracking;
mod trust;
mod verify;
