//! From files to [`Conversation`]s: finds the format, reads, and says where each conversation stood.
//!
//! `jsonl` and `parquet` yield JSON records in the file's order, `format` settles their form on the
//! first one and turns each into a conversation.

mod format;
mod instruct;
mod jsonl;
mod messages;
mod parquet;
pub(crate) mod prompt;
mod record;
mod squad;

use std::path::Path;
use std::sync::Arc;

use crate::config::SourceConfig;
use crate::conversation::Conversation;
use crate::error::DataError;
use crate::hub::{Hub, HubFile, RepoKind};

pub use format::Format;

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
    let name: Arc<Path> = name.into();
    let loaded = format::read(&file, &name, source)?;
    tracing::debug!(
        path = %name.display(), format = %loaded.format, conversations = loaded.conversations.len(), "source read"
    );
    Ok(loaded)
}

#[cfg(test)]
mod tests;
