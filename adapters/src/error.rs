//! The one error type of the crate: each message names the file, the place in it, the value found and what was
//! expected.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::nearest;

/// Everything that reading or writing base models and adapters can end with.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// The operating system refused an operation on a file or folder.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `open`, `write`, `rename`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own reason.
        #[source]
        source: io::Error,
    },

    /// A file is not of the kind that its place or name says.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and the remedy.
        problem: String,
    },

    /// The target of a write exists and the caller did not ask to replace it.
    #[error("{} exists already and is not overwritten; choose another path, or replace it with --force", path.display())]
    Exists {
        /// The file or folder in the way.
        path: PathBuf,
    },

    /// A JSON file does not parse, or a value in it has the wrong type.
    #[error("{}: not the JSON that was expected", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's reason, with line and column.
        #[source]
        source: serde_json::Error,
    },

    /// The header of a binary file breaks the format.
    #[error("{}: byte {offset}: {problem}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes from its start.
        offset: usize,
        /// What was found there and what was expected.
        problem: String,
    },

    /// A key of a GGUF file's metadata is missing.
    #[error("{}: metadata key `{key}` is missing", path.display())]
    MetadataMissing {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },

    /// A key of a GGUF file's metadata has another type than its reader expects.
    #[error("{}: metadata key `{key}` is of type {found}, expected {expected}", path.display())]
    MetadataType {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The type in the file.
        found: String,
        /// The type that the reader expects.
        expected: &'static str,
    },

    /// A tensor is asked for that the file does not have.
    #[error("{}: no tensor `{tensor}` among the {count} it holds{hint}", path.display())]
    TensorMissing {
        /// The file or folder.
        path: PathBuf,
        /// The name asked for.
        tensor: String,
        /// How many tensors there are.
        count: usize,
        /// Empty, or `; did you mean ...`.
        hint: String,
    },

    /// A tensor's shape, offsets or values are not acceptable.
    #[error("{}: tensor `{tensor}`: {problem}", path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The tensor's name, as the file has it.
        tensor: String,
        /// What was found and what was expected.
        problem: String,
    },

    /// A tensor is stored in a type that has no conversion to 32-bit floats here.
    #[error("{}: tensor `{tensor}` is of type {found}, which is not supported; supported are {supported}", path.display())]
    UnsupportedType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The type in the file.
        found: String,
        /// The types that can be read, separated by commas.
        supported: String,
    },

    /// A weight cannot be split into the attention heads that the model's configuration names.
    #[error(
        "cannot un-permute {values} values as {rows} rows by {cols} columns in {heads} heads: \
         rows times columns must equal the values, and rows must be a multiple of twice the heads"
    )]
    HeadLayout {
        /// Number of values given.
        values: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Attention heads that the rows are divided into.
        heads: usize,
    },

    /// `adapter_config.json` asks for something that cannot be honoured, or contradicts the weights.
    #[error("{}: key `{key}`: {problem}", path.display())]
    PeftConfig {
        /// The file.
        path: PathBuf,
        /// The key in it.
        key: String,
        /// The value found, why it is refused, and the remedy.
        problem: String,
    },

    /// Something is not what was signed, or its signature cannot be read.
    #[error("{}: {problem}", path.display())]
    Signature {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        problem: String,
    },

    /// An adapter cannot be combined with others.
    #[error("{}: cannot be combined: {problem}", path.display())]
    Combination {
        /// The adapter's folder.
        path: PathBuf,
        /// What does not fit, and the remedy.
        problem: String,
    },

    /// A setting of a combination of adapters is missing, out of range or without effect.
    #[error("{setting} is {value}, expected {expected}")]
    CombinationSetting {
        /// The setting, as the command's flag is called.
        setting: &'static str,
        /// The value given, or `missing`.
        value: String,
        /// What it may be.
        expected: String,
    },

    /// A value of the recipe's `lora:` section is out of range.
    #[error("lora.{key} is {value}, expected {expected}")]
    Config {
        /// The key inside the section.
        key: &'static str,
        /// The value given.
        value: String,
        /// The allowed range.
        expected: &'static str,
    },
}

impl AdapterError {
    /// Whether something could not be written: a full disk, a folder without permission. No other input mends that.
    pub fn is_write(&self) -> bool {
        matches!(self, Self::Io { action, .. } if !matches!(*action, "open" | "inspect" | "map" | "read" | "draw from"))
    }

    /// Wraps an input/output error with the path and the verb; made for `map_err`. An error of this crate that came
    /// through a writer as an input/output error is given back as it was.
    pub(crate) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.downcast::<Self>() {
            Ok(own) => own,
            Err(source) => Self::Io { action, path, source },
        }
    }

    /// The error for a tensor that is not among `names`, with the nearest of them.
    pub(crate) fn tensor_missing<'a>(path: &Path, tensor: &str, names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.collect();
        let count = names.len();
        let hint = nearest(tensor, names).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        Self::TensorMissing { path: path.into(), tensor: tensor.into(), count, hint }
    }
}
