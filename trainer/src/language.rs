//! The languages in which the program writes for people beyond the terminal.

/// A language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// French.
    Fr,
}
