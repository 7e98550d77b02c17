//! Samples made by a teacher from documents and seeds, each with where it comes from.

pub mod config;
pub mod document;
pub mod method;
pub mod run;
pub mod sample;
pub mod teacher;
