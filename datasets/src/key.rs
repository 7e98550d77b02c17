//! What tokens follow from, in one digest: the content of the files, the tokenizer with its template, the settings,
//! the code.
//!
//! The files are read through each time, so a changed file never has the key of what it was. What a template prints of
//! the clock is not in the key but beside the tokens, since it is known only once the template has run.

use std::io;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::config::{DataConfig, Overlong};
use crate::digest::{hex, sha256_files};
use crate::error::DataError;
use crate::near_duplicates::DedupConfig;
use crate::screen::Screening;
use crate::source::{Format, Located};
use crate::tokenizer::ChatTokenizer;

/// A digest of this crate and of the versions it is built with; see `build.rs`.
const CODE: &str = env!("DATASETS_CODE");

#[derive(Serialize)]
struct Key<'a> {
    code: &'static str,
    tokenizer: String,
    sources: Vec<Source<'a>>,
    /// How many of the sources are trained on; they come first.
    train: usize,
    validation_fraction: f64,
    max_length: usize,
    overlong: Overlong,
    system_prompt: Option<&'a str>,
    dedup: Option<DedupConfig>,
    /// What screening does to the conversations, its key as a digest.
    screening: Option<String>,
}

#[derive(Serialize)]
struct Source<'a> {
    /// The end of the file's name, which decides how it is read.
    ending: Option<&'a str>,
    content: &'a str,
    format: Format,
    limit: Option<usize>,
    prompt: Option<&'a str>,
}

/// The digests of the files of all sources; `None` for one that is not a regular file, such as a pipe, which can be read
/// but once.
///
/// # Errors
/// [`DataError::Read`] when a file cannot be read.
pub(crate) fn digests(sources: &[Located<'_>]) -> Result<Vec<Option<String>>, DataError> {
    let of = |source: &Located<'_>| {
        digest(&source.file).map_err(|error| DataError::Read { path: source.name.to_path_buf(), source: error })
    };
    sources.iter().map(of).collect()
}

fn digest(file: &Path) -> io::Result<Option<String>> {
    if file.metadata()?.is_file() { sha256_files([file]).map(Some) } else { Ok(None) }
}

/// The key of the data, in hexadecimal; `digests` are those of the sources, the training sources first.
///
/// # Errors
/// [`TokenizerError::Encoding`](crate::TokenizerError::Encoding) when the tokenizer cannot be written down.
pub(crate) fn key(
    config: &DataConfig,
    sources: &[Located<'_>],
    digests: &[String],
    tokenizer: &ChatTokenizer,
    screening: Option<&Screening>,
) -> Result<String, DataError> {
    let sources = sources.iter().zip(digests).map(|(located, content)| Source {
        ending: located.name.extension().and_then(|ending| ending.to_str()),
        content,
        format: located.source.format,
        limit: located.source.limit,
        prompt: located.source.prompt.as_deref(),
    });
    let key = Key {
        code: CODE,
        tokenizer: tokenizer.digest()?,
        sources: sources.collect(),
        train: config.train.len(),
        validation_fraction: config.validation_fraction,
        max_length: config.max_length,
        overlong: config.overlong,
        system_prompt: config.system_prompt.as_deref(),
        dedup: config.dedup,
        screening: screening.zip(config.screen.as_ref()).map(|(done, screen)| done.fingerprint(&screen.kinds)),
    };
    let json = serde_json::to_vec(&key).expect("numbers and texts can be written as JSON");
    Ok(hex(&Sha256::digest(json)))
}
