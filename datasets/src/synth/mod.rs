//! Samples made by a teacher from documents and seeds, or by a program from templates, each with where it comes from.
//!
//! The way of a sample: `document` and seeds are read and screened, a `method` makes it, `filter`s and what the models say
//! (`select`) keep it or leave it out, `run` writes the set, and `card` describes it.

pub mod card;
pub mod config;
pub mod document;
pub mod method;
pub mod rejected;
pub mod run;
pub mod sample;
mod screening;
#[cfg(test)]
mod scripted;
pub mod select;
pub mod teacher;
pub mod template;
#[cfg(test)]
mod tests;
