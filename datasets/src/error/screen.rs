//! Why data may not be used, or cannot be screened.

use std::path::PathBuf;

use crate::conversation::Origin;
use crate::screen::Kind;

/// Data may not be used, or cannot be screened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScreenError {
    /// Pseudonymising without a key.
    #[error(
        "pseudonymising needs a key: name a file with --key or data.screen.key (it is made when it is missing and \
         --make-key is given), or set {variable}"
    )]
    NoKey {
        /// The environment variable that may hold it.
        variable: &'static str,
    },
    /// A key that could be guessed.
    #[error("{place}: the key has {bytes} bytes, expected at least {least} (for example 64 hexadecimal digits)")]
    Key {
        /// The file, or the variable.
        place: String,
        /// How long it is.
        bytes: usize,
        /// How long it has to be.
        least: usize,
    },
    /// A conversation holds what the recipe refuses. The value itself is not repeated.
    #[error(
        "{origin}: holds {count} of kind {kind}, expected none (data.screen.action is refuse); mask or pseudonymise the \
         file with `greffon data screen`, set another action, or leave the kind out of data.screen.kinds"
    )]
    Refused {
        /// The conversation.
        origin: Origin,
        /// The kind found first.
        kind: Kind,
        /// How many of the kind.
        count: usize,
    },
    /// A source whose licence is not known.
    #[error("{}: the recipe names no licence, expected one of {allowed}; set licence beside its path", path.display())]
    NoLicence {
        /// The source.
        path: PathBuf,
        /// What would be accepted.
        allowed: String,
    },
    /// A source whose licence is not accepted.
    #[error("{}: got the licence {licence}, expected {expected}; leave the source out, or change data.screen.licences", path.display())]
    Licence {
        /// The source.
        path: PathBuf,
        /// Its licence.
        licence: String,
        /// What would be accepted.
        expected: String,
    },
    /// A line that is no JSON.
    #[error(
        "{origin}: is no JSON: {message}; expected one JSON value a line, or a file of another ending for plain text"
    )]
    Json {
        /// The line.
        origin: Origin,
        /// What the parser says.
        message: String,
    },
    /// A file that is neither JSON nor text.
    #[error("{}: byte {byte} is not UTF-8, expected JSON Lines or plain text; convert the file to UTF-8 first", path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The first wrong byte, counted from 1.
        byte: u64,
    },
}
