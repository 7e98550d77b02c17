//! Recipes, the decoder, training and evaluation.
//!
//! Read [`finetune`] first: a run in numbered phases.

pub mod cli;
pub mod cluster;
pub mod commands;
pub mod device;
pub mod document;
pub mod energy;
pub mod error;
pub mod eval;
pub mod finetune;
pub mod forgetting;
pub mod frugal;
#[cfg_attr(
    feature = "flex",
    expect(
        clippy::inline_always,
        reason = "vector code must become part of the function that chose the instruction set"
    )
)]
pub mod kernels;
pub mod language;
pub mod model;
pub mod plan;
pub mod port;
pub mod prove;
pub mod provenance;
pub mod recipe;
pub mod report;
pub mod submit;
pub mod sweep;
pub mod teacher;
pub mod track;
pub mod train;
pub mod trust;

pub use error::TrainError;
