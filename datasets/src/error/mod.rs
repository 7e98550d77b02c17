//! Everything that can be wrong with the data, each with its place and its remedy.
//!
//! The text of an error is one line; an underlying error, where there is one, is its `source`. One file for each part
//! of the data's way; [`DataError`] is what all of them give.

mod example;
mod hub;
mod probe;
mod record;
mod screen;
mod synth;
mod template;
mod tokenizer;

use std::error::Error;
use std::path::PathBuf;

use crate::conversation::Origin;

pub use example::ExampleError;
pub use hub::HubError;
pub use probe::{InstructionError, ProbeError};
pub use record::RecordError;
pub use screen::ScreenError;
pub use synth::SynthError;
pub use template::TemplateError;
pub use tokenizer::TokenizerError;

/// What can go wrong between a recipe's `data` part and the rows of tokens.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A value of the configuration is out of range.
    #[error("{key}: got {got}, expected {expected}")]
    Config {
        /// The key, relative to the recipe's `data`, for example `train[0].weight`.
        key: String,
        /// The value found.
        got: String,
        /// What would be accepted.
        expected: String,
    },
    /// A file cannot be opened or read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// A file or folder cannot be written.
    #[error("{}: cannot be written", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },
    /// A file's name does not say how to read it.
    #[error(
        "{}: cannot tell how to read a file with the ending {ending:?}, expected .jsonl, .json or .parquet \
         (decompress it first if it is compressed)",
        path.display()
    )]
    UnknownEnding {
        /// The file.
        path: PathBuf,
        /// The end of its name, without the dot.
        ending: String,
    },
    /// A file has no record.
    #[error("{}: has no record, expected at least one", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// An error inside a JSON document, where the line alone does not lead to the record.
    #[error("{error} (record {record} of the file)")]
    InDocument {
        /// The record, counted from 1.
        record: usize,
        /// What is wrong with it; part of the message, so it is not also the source.
        error: Box<DataError>,
    },
    /// A record, or the text around it, cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A file of the hub cannot be had.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A tokenizer cannot be used, or not on a text.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A chat template cannot be used, or not on a conversation.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// A conversation cannot be learned from.
    #[error(transparent)]
    Example(#[from] ExampleError),
    /// Data may not be used, or cannot be screened.
    #[error(transparent)]
    Screen(#[from] ScreenError),
    /// A probe item cannot be asked.
    #[error(transparent)]
    Probe(#[from] ProbeError),
    /// Samples cannot be made.
    #[error(transparent)]
    Synth(#[from] SynthError),
    /// The processes of a work cannot go on together.
    #[error("rank {rank} of {ranks}: {reason}")]
    Peer {
        /// The process that cannot, counted from 0.
        rank: usize,
        /// How many there are.
        ranks: usize,
        /// Why, and the remedy.
        reason: String,
    },
}

/// An error's message with its causes, as a command prints it.
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl DataError {
    /// Adds the conversation to an error of rendering or encoding that does not name one yet.
    #[must_use]
    pub fn at(mut self, place: &Origin) -> Self {
        if let Self::Tokenizer(TokenizerError::Encoding { origin, .. })
        | Self::Template(
            TemplateError::Raised { origin, .. }
            | TemplateError::Failed { origin, .. }
            | TemplateError::Generation { origin, .. },
        ) = &mut self
        {
            origin.get_or_insert_with(|| place.clone());
        }
        self
    }
}

/// The start of a message about a conversation: `chat.jsonl:1042: `.
fn place(origin: Option<&Origin>) -> String {
    origin.map(|origin| format!("{origin}: ")).unwrap_or_default()
}

/// The candidate that `word` most likely is a slip of, for a "did you mean".
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.trim().to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && *distance * 2 < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `, did you mean "assistant"?`, or nothing.
pub(crate) fn did_you_mean(suggestion: Option<&str>) -> String {
    suggestion.map(|word| format!(", did you mean {word:?}?")).unwrap_or_default()
}
