//! Names of repositories, revisions and files: which are well formed, and safe in paths and addresses.

use std::path::{Component, Path};

use hf_hub::{Repo, RepoType};

use super::RepoKind;
use crate::error::{DataError, HubError};

/// A repository at a revision, with names that are safe to use in paths and addresses.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) kind: RepoKind,
    pub(super) repo: &'a str,
    pub(super) revision: &'a str,
}

impl<'a> At<'a> {
    pub(super) fn new(kind: RepoKind, repo: &'a str, revision: &'a str) -> Result<Self, DataError> {
        let error = |what, got: &str, expected| DataError::Hub(HubError::Name { what, got: got.to_owned(), expected });
        if repo.split('/').count() > 2 || !is_path_of_names(repo) {
            return Err(error("repository", repo, "owner/name of letters, digits, dots, hyphens and underscores"));
        }
        if !is_path_of_names(revision) {
            return Err(error("revision", revision, "a branch, a tag or a commit hash"));
        }
        Ok(Self { kind, repo, revision })
    }

    pub(super) fn repo(&self) -> Repo {
        let kind = match self.kind {
            RepoKind::Model => RepoType::Model,
            RepoKind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.repo.to_owned(), kind, self.revision.to_owned())
    }

    pub(super) fn refused(&self, what: &str, message: String) -> DataError {
        DataError::Hub(HubError::Refused {
            what: what.to_owned(),
            repo: self.repo.to_owned(),
            revision: self.revision.to_owned(),
            message,
        })
    }
}

/// Parts of letters, digits and `._-`, none of them a step up in the folder tree.
fn is_path_of_names(text: &str) -> bool {
    let is_name = |part: &str| {
        let known = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        !part.is_empty() && part.chars().all(known) && part.chars().any(|c| c != '.')
    };
    text.split('/').all(is_name)
}

/// Refuses a file whose name would leave the snapshot folder, or would not survive in an address.
pub(super) fn check_file(file: &str) -> Result<(), DataError> {
    let stays = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    let plain = file.chars().all(|c| c.is_ascii_graphic() && !"?#%\\:".contains(c));
    if stays && plain && !file.is_empty() {
        return Ok(());
    }
    Err(DataError::Hub(HubError::Name {
        what: "file",
        got: file.to_owned(),
        expected: "a relative path inside the repository, in ASCII and without spaces or any of ?#%\\:",
    }))
}

pub(super) fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file has the name of a pattern with at most one `*`, which does not stand for a slash.
pub(super) fn matches(pattern: &str, file: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == file,
        Some((start, end)) => {
            file.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).is_some_and(|middle| !middle.contains('/'))
        }
    }
}
