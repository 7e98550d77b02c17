//! What can go wrong between a name on the hub and a file on this machine.

use std::path::PathBuf;

/// A file of the hub cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A name, revision or file of the hub is not well formed.
    #[error("hub {what} {got:?} is not valid, expected {expected}")]
    Name {
        /// `repository`, `revision` or `file`.
        what: &'static str,
        /// The text found.
        got: String,
        /// The form expected.
        expected: &'static str,
    },
    /// The hub cannot be reached.
    #[error(
        "could not reach the hub for {repo}@{revision} ({endpoint}): {message}; check the connection, or give a \
         local path instead of the hub name; what is already in the cache {} is used without a connection",
        cache.display()
    )]
    Unreachable {
        /// The repository, `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
        /// The address of the hub.
        endpoint: String,
        /// The cache folder.
        cache: PathBuf,
        /// What the client says.
        message: String,
    },
    /// The hub answers with a refusal.
    #[error("the hub refused {what} of {repo}@{revision}: {message}")]
    Refused {
        /// The file, or `the list of files`.
        what: String,
        /// The repository, `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
        /// The reason and the remedy.
        message: String,
    },
    /// A file is not in the cache, and the network may not be used.
    #[error(
        "{what} of {repo}@{revision} is not in the cache {} and HF_HUB_OFFLINE forbids the network; \
         unset HF_HUB_OFFLINE, or give a local path instead of the hub name",
        cache.display()
    )]
    Offline {
        /// The file, or `the model`.
        what: String,
        /// The repository, `owner/name`.
        repo: String,
        /// The branch, tag or commit.
        revision: String,
        /// The cache folder.
        cache: PathBuf,
    },
    /// Something could not be uploaded.
    #[error("could not push {what} to {repo}@{revision} ({endpoint}): {message}")]
    Push {
        /// The file, or what else was sent.
        what: String,
        /// The repository, `owner/name`.
        repo: String,
        /// The branch.
        revision: String,
        /// The address of the hub.
        endpoint: String,
        /// The reason and the remedy.
        message: String,
    },
    /// A downloaded file is not the one that the hub announced.
    #[error(
        "{}: the download of {file} of {repo} is damaged: SHA-256 is {got}, expected {expected}; try again",
        path.display()
    )]
    Damaged {
        /// The repository, `owner/name`.
        repo: String,
        /// The file.
        file: String,
        /// Where it was stored; it has been removed.
        path: PathBuf,
        /// The digest of what arrived, in hexadecimal.
        got: String,
        /// The digest that the hub announced, in hexadecimal.
        expected: String,
    },
}
