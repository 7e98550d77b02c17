//! What can be wrong with a tokenizer and the texts it is given.

use std::path::PathBuf;

use super::place;
use crate::conversation::Origin;

/// A tokenizer cannot be used, or not on a text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// A model folder has no `tokenizer.json`.
    #[error(
        "{}: there is no tokenizer.json here; give the folder of a model with a fast tokenizer, or save one \
         with `AutoTokenizer.from_pretrained(..).save_pretrained(..)`",
        folder.display()
    )]
    Missing {
        /// The folder that was looked into.
        folder: PathBuf,
    },
    /// A tokenizer file has content that makes no tokenizer.
    #[error("{}: {message}; fetch the file again, or point `model` at a complete copy", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },
    /// The vocabulary in a GGUF file makes no tokenizer.
    #[error("{}: {key}: {message}", path.display())]
    GgufVocabulary {
        /// The GGUF file.
        path: PathBuf,
        /// The metadata key at fault.
        key: &'static str,
        /// What was expected, what was found, and the remedy.
        message: String,
    },
    /// The tokenizer does something that the vocabulary of a GGUF file cannot say.
    #[error("{}: the tokenizer has no form in a GGUF file: {part}: {message}", path.display())]
    NotInGguf {
        /// Where the tokenizer was read.
        path: PathBuf,
        /// The part of `tokenizer.json` at fault.
        part: &'static str,
        /// What was found, what was expected, and the remedy.
        message: String,
    },
    /// The tokenizer can make ids that the model has no embedding for.
    #[error(
        "{}: the tokenizer has token {token:?} with id {id}, but the model's vocabulary has {vocab_size} entries; \
         use the tokenizer that belongs to this model",
        path.display()
    )]
    TooLarge {
        /// Where the tokenizer was read.
        path: PathBuf,
        /// The first token beyond the model's vocabulary.
        token: String,
        /// Its id.
        id: u32,
        /// The number of rows of the model's embedding.
        vocab_size: usize,
    },
    /// The tokenizer refused a text.
    #[error("{}the tokenizer of {} cannot encode or decode this: {message}", place(origin.as_ref()), path.display())]
    Encoding {
        /// Where the tokenizer was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// The tokenizer's own words.
        message: String,
    },
}
