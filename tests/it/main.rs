//! Integration tests over the public surface. No network; the `real` ring adds real models and servers.

mod support;

mod bad_input;
mod command;
mod invariance;
mod parity;
#[cfg(feature = "real")]
mod real;
mod recipes;
mod resume;
mod tokens;
