//! What can be wrong with a record or with the text of a file, each with its line.

use std::path::PathBuf;

use crate::conversation::Origin;
use crate::source::Format;

/// A record, or the text around it, cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A text file is not UTF-8.
    #[error("{origin}: byte {byte} of the line is not valid UTF-8, save the file as UTF-8")]
    NotUtf8 {
        /// The file and line.
        origin: Origin,
        /// The first wrong byte of the line, counted from 1.
        byte: usize,
    },
    /// A line is not JSON.
    #[error("{origin}: not valid JSON at column {column}: {message}{remedy}")]
    Json {
        /// The file and line.
        origin: Origin,
        /// The byte of the line where reading stopped, counted from 1.
        column: usize,
        /// What the parser says.
        message: String,
        /// What to do, beginning with a comma, or nothing.
        remedy: &'static str,
    },
    /// A document, or a text that stands for itself, cannot be used.
    #[error("{place}: {problem}")]
    Document {
        /// The file, and the line where it has several documents.
        place: String,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// A Parquet file is damaged, or uses a feature that is not read.
    #[error("{}: not a readable Parquet file{}: {message}", path.display(), after_row(*row))]
    Parquet {
        /// The file.
        path: PathBuf,
        /// How many rows were read before.
        row: usize,
        /// What the reader says.
        message: String,
    },
    /// No known format has the keys of the first record.
    #[error(
        "{origin}: the record has {keys}, expected the keys of a known format: messages (messages), \
         sharegpt (conversations), alpaca (instruction, output), prompt-completion (prompt, completion) or \
         squad (context, question, answers)"
    )]
    UnknownFormat {
        /// The file and line.
        origin: Origin,
        /// The record's keys.
        keys: String,
    },
    /// A record lacks a key of its format.
    #[error("{origin}: a record of the format {format} needs the key {key:?}, the record has {keys}{hint}")]
    MissingKey {
        /// The file and line.
        origin: Origin,
        /// The format of the file.
        format: Format,
        /// The key that is missing.
        key: &'static str,
        /// The record's keys.
        keys: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A value has the wrong type.
    #[error("{origin}: {what} is {got}, expected {expected}")]
    WrongType {
        /// The file and line.
        origin: Origin,
        /// The key or the part of the record.
        what: String,
        /// The type found, with its article.
        got: String,
        /// The type expected.
        expected: &'static str,
    },
    /// A message lacks its role or its text.
    #[error("{origin}: message {message} needs the key {key:?}, it has {keys}")]
    MessageKey {
        /// The file and line.
        origin: Origin,
        /// The message, counted from 1.
        message: usize,
        /// The key that is missing.
        key: &'static str,
        /// The message's keys.
        keys: String,
    },
    /// A message has a role that does not exist.
    #[error("{origin}: message {message} has role {role:?}, expected one of {expected}{hint}")]
    UnknownRole {
        /// The file and line.
        origin: Origin,
        /// The message, counted from 1.
        message: usize,
        /// The role found.
        role: String,
        /// The roles of the format.
        expected: String,
        /// A suggestion, or nothing.
        hint: String,
    },
    /// A message calls tools in the structured form, which would be lost.
    #[error(
        "{origin}: message {message} has tool_calls, which are not read, expected text: \
         write the call into its content as the model shall write it"
    )]
    ToolCalls {
        /// The file and line.
        origin: Origin,
        /// The message, counted from 1.
        message: usize,
    },
    /// A conversation without an assistant message teaches nothing.
    #[error("{origin}: has no assistant message, expected at least one, there is nothing to learn from otherwise")]
    NoAssistant {
        /// The file and line.
        origin: Origin,
    },
    /// An assistant message without text.
    #[error("{origin}: message {message} of the assistant is empty, expected text, remove the record or fill it in")]
    EmptyAssistant {
        /// The file and line.
        origin: Origin,
        /// The message, counted from 1.
        message: usize,
    },
    /// A SQuAD question without an answer.
    #[error(
        "{origin}: \"answers\" is empty{}, expected at least one answer: write the text that the model shall \
         give when the context does not answer, or remove the record",
        if *impossible { " (the question is marked is_impossible)" } else { "" }
    )]
    NoAnswer {
        /// The file and line.
        origin: Origin,
        /// Whether the record says that the question cannot be answered.
        impossible: bool,
    },
    /// A prompt's placeholders do not belong to the format that was found.
    #[error(
        "{}: the prompt uses the placeholder {{{name}}}, but its records have the format {format}, which fills {}",
        path.display(),
        placeholders(*format)
    )]
    PromptFormat {
        /// The file.
        path: PathBuf,
        /// The format found.
        format: Format,
        /// The placeholder.
        name: String,
    },
}

fn after_row(row: usize) -> String {
    if row == 0 { String::new() } else { format!(", after row {row}") }
}

fn placeholders(format: Format) -> String {
    let names: Vec<_> = format.placeholders().iter().map(|name| format!("{{{name}}}")).collect();
    if names.is_empty() { "no prompt".to_owned() } else { names.join(" and ") }
}
