//! What can be wrong with the making of samples.

use std::path::PathBuf;

/// Samples cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// The kept answers cannot be used.
    #[error("{}:{line}: is no answer of a teacher ({reason}); name another output, or remove the line", path.display())]
    Journal {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The kept answers are in use.
    #[error(
        "{}: is in use by another program that makes the same samples; wait for it, or name another output",
        path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The teacher answers nothing.
    #[error("teacher {teacher}: {reason}")]
    Teacher {
        /// Its model and address.
        teacher: String,
        /// What it says, and what to do.
        reason: String,
    },
    /// The schema of templates cannot be used.
    #[error("{}: {key}: {problem}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The key, such as `fields.plate.kind`, or the line and column where the text cannot be read.
        key: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// A layout cannot be used.
    #[error("{}:{line}: {problem}", path.display())]
    Layout {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong, and what is expected.
        problem: String,
    },
}
