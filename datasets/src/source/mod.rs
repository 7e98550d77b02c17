//! From files to [`Conversation`]s: finds the format, reads, and says where each conversation stood.
//!
//! `jsonl` and `parquet` yield JSON records in the file's order, `format` settles their form on the
//! first one and turns each into a conversation, `stream` hands them on in batches.

mod document;
mod format;
mod instruct;
mod jsonl;
mod messages;
mod parquet;
pub(crate) mod prompt;
mod record;
mod squad;
mod stream;
mod whole;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::SourceConfig;
use crate::conversation::Conversation;
use crate::error::DataError;
use crate::hub::{Hub, HubFile, RepoKind};

pub use document::Document;
pub(crate) use document::{document_files, files_in, read_plain};
pub use format::Format;
pub(crate) use format::{ending, is_lines};
pub(crate) use jsonl::{BYTE_ORDER_MARK, parse_line};
pub(crate) use record::{got, keys, shorten, wrong_type};
pub(crate) use stream::Stream;
pub(crate) use whole::{Entry, Understood, Whole};

/// What one source holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The conversations in the file's order; at least one.
    pub conversations: Vec<Conversation>,
    /// The format of the records, never `auto`.
    pub format: Format,
}

/// Reads a source, with the hub and its cache as the environment describes them ([`Hub::from_env`]).
///
/// # Errors
/// As [`load_with`].
pub fn load(source: &SourceConfig, root: &Path) -> Result<Loaded, DataError> {
    load_with(source, root, &Hub::from_env())
}

/// Reads a source. A relative path starts at `root`, the folder of the recipe; a hub file comes from
/// `hub`. Origins name the file as the recipe does, a hub file as `owner/name/file`.
///
/// The result does not depend on the number of threads.
///
/// # Errors
/// The first record that does not fit, with file, line and key; a file that cannot be read, is
/// empty, or is damaged; a hub file that cannot be had.
pub fn load_with(source: &SourceConfig, root: &Path, hub: &Hub) -> Result<Loaded, DataError> {
    let located = Located::new(source, root, hub)?;
    let mut stream = located.stream()?;
    let mut conversations = Vec::new();
    loop {
        let batch = stream.next_batch(Ok)?;
        match stream.format() {
            Some(format) if batch.is_empty() => return Ok(Loaded { conversations, format }),
            _ => conversations.extend(batch),
        }
    }
}

/// A source whose file is on this machine.
pub(crate) struct Located<'a> {
    /// What the recipe says.
    pub(crate) source: &'a SourceConfig,
    /// Where the file lies.
    pub(crate) file: PathBuf,
    /// What the file is called in origins.
    pub(crate) name: Arc<Path>,
}

impl<'a> Located<'a> {
    /// Finds the file of a source; a hub file is fetched.
    pub(crate) fn new(source: &'a SourceConfig, root: &Path, hub: &Hub) -> Result<Self, DataError> {
        let (file, name) = match (&source.path, &source.hub) {
            (Some(path), None) => (root.join(path), path.clone()),
            (None, Some(remote)) => {
                let file = hub.fetch(&HubFile {
                    kind: RepoKind::Dataset,
                    repo: remote.dataset.clone(),
                    revision: remote.revision.clone(),
                    file: remote.file.clone(),
                })?;
                (file, Path::new(&remote.dataset).join(&remote.file))
            }
            (path, _) => {
                let got = if path.is_some() { "both path and hub" } else { "neither path nor hub" };
                return Err(DataError::Config {
                    key: "source".to_owned(),
                    got: got.to_owned(),
                    expected: "exactly one of them".to_owned(),
                });
            }
        };
        Ok(Self { source, file, name: name.into() })
    }

    /// Opens the file.
    pub(crate) fn stream(&self) -> Result<Stream<'_>, DataError> {
        Stream::open(self)
    }
}

#[cfg(test)]
mod tests;
