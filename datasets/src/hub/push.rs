//! Files of this machine as one commit of a model repository on the hub.
//!
//! The hub is asked to make the repository, then which files go through its large file storage and which it has
//! already; what is new is sent, and one commit names all of it. Written on `ureq`, since `hf-hub` 0.5 cannot upload, and
//! 1.0 sends large files by the Xet protocol alone: without it they would go into the commit itself.
//! Source: `huggingface_hub` 2.4, `_commit_api.py` and `lfs.py`.

mod large;
mod request;
#[cfg(test)]
mod tests;

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use self::request::{Body, Client, Method};
use super::names::{At, check_file, is_commit};
use super::{Hub, RepoKind};
use crate::digest::{hex, sha256_files};
use crate::error::{DataError, HubError};

/// How many bytes of a file the hub looks at to say how it goes in.
const SAMPLE_BYTES: usize = 512;

/// What is uploaded, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// The model repository, `owner/name`; made when it is not there.
    pub repo: String,
    /// The branch, which must be there; `main` always is.
    pub revision: String,
    /// Whether a repository that is made is private. One that is there stays as it is.
    pub private: bool,
    /// The commit's message.
    pub message: String,
    /// The files.
    pub files: Vec<PushFile>,
}

/// A file to upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushFile {
    /// Its path in the repository.
    pub name: String,
    /// Where it lies on this machine.
    pub path: PathBuf,
}

/// What came of a push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// The repository's page.
    pub url: String,
    /// The new commit; none when the repository had everything already.
    pub commit: Option<String>,
    /// The files in the commit.
    pub committed: Vec<String>,
    /// The files that the repository had already.
    pub unchanged: Vec<String>,
}

/// A file with what the hub says of it.
struct Candidate<'a> {
    file: &'a PushFile,
    size: u64,
    /// Its SHA-256, which is its name in the large file storage.
    sha256: String,
    is_large: bool,
}

/// The hub's answer on one file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answered {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
    /// The name of the content that the branch has under this path.
    oid: Option<String>,
}

impl Hub {
    /// Uploads files as one commit.
    ///
    /// # Errors
    /// [`HubError::Name`] for a malformed name; [`HubError::Push`] without a token, without the permission, when the
    /// hub cannot be reached or refuses something; [`DataError::Read`] for a file that cannot be read.
    pub fn push(&self, push: &Push) -> Result<Pushed, DataError> {
        let at = At::new(RepoKind::Model, &push.repo, &push.revision)?;
        let error = |what: &str, message: String| self.push_error(&at, what, message);
        let Some((owner, name)) = at.repo.split_once('/') else {
            let expected = "owner/name of letters, digits, dots, hyphens and underscores";
            return Err(DataError::Hub(HubError::Name { what: "repository", got: at.repo.to_owned(), expected }));
        };
        push.files.iter().try_for_each(|file| check_file(&file.name))?;
        if self.offline {
            return Err(error("the folder", "HF_HUB_OFFLINE forbids the network; unset it to push".to_owned()));
        }
        let Some(token) = &self.token else {
            let message = "it needs a token with write permission; set HF_TOKEN to one".to_owned();
            return Err(error("the folder", message));
        };
        let client = Client::new(self, token, at);
        create(&client, owner, name, push.private)?;
        let mut pushed = Pushed {
            url: format!("{}/{}", self.endpoint, at.repo),
            commit: None,
            committed: Vec::new(),
            unchanged: Vec::new(),
        };
        let candidates = candidates(&client, push, &mut pushed)?;
        if candidates.is_empty() {
            return Ok(pushed);
        }
        large::upload(&client, &candidates)?;
        pushed.commit = Some(commit(&client, push, &candidates)?);
        pushed.committed = candidates.iter().map(|candidate| candidate.file.name.clone()).collect();
        Ok(pushed)
    }

    fn push_error(&self, at: &At<'_>, what: &str, message: String) -> DataError {
        DataError::Hub(HubError::Push {
            what: what.to_owned(),
            repo: at.repo.to_owned(),
            revision: at.revision.to_owned(),
            endpoint: self.endpoint.clone(),
            message,
        })
    }
}

/// Makes the repository unless it is there.
fn create(client: &Client<'_>, owner: &str, name: &str, private: bool) -> Result<(), DataError> {
    let what = "the repository";
    let body = json!({ "type": "model", "organization": owner, "name": name, "private": private });
    let answer = client.send(what, Method::Post, &client.url("/api/repos/create"), &Body::json(&body))?;
    match answer.status() {
        // It is there.
        409 => Ok(()),
        // A token may be allowed to write into a repository and not to make one.
        401..=403 if client.send(what, Method::Get, &client.model_url(""), &Body::Empty)?.is_ok() => Ok(()),
        _ => client.accept(what, answer).map(drop),
    }
}

/// The files that the branch does not have as they are, each with the way that it goes in.
fn candidates<'a>(client: &Client<'_>, push: &'a Push, pushed: &mut Pushed) -> Result<Vec<Candidate<'a>>, DataError> {
    #[derive(Deserialize)]
    struct Modes {
        files: Vec<Answered>,
    }
    let what = "the list of files";
    let mut described = Vec::new();
    for file in &push.files {
        let read = |source| DataError::Read { path: file.path.clone(), source };
        let size = fs::metadata(&file.path).map_err(read)?.len();
        let sample = read_start(file)?;
        described.push(json!({ "path": file.name, "size": size, "sample": BASE64_STANDARD.encode(sample) }));
    }
    let body = json!({ "files": described });
    let url = client.model_url(&format!("/preupload/{}", client.revision()));
    let answer = client.send(what, Method::Post, &url, &Body::json(&body))?;
    let modes: Modes = client.json(what, answer)?;

    let mut candidates = Vec::new();
    for file in &push.files {
        let Some(mode) = modes.files.iter().find(|mode| mode.path == file.name) else {
            return Err(client.error(what, format!("the answer does not say how {} goes in", file.name)));
        };
        if mode.should_ignore {
            tracing::warn!(file = file.name, "left out, since the repository's .gitignore names it");
            continue;
        }
        let read = |source| DataError::Read { path: file.path.clone(), source };
        let size = fs::metadata(&file.path).map_err(read)?.len();
        let sha256 = sha256_files([&file.path]).map_err(read)?;
        // The storage for large files takes no empty ones.
        let is_large = mode.upload_mode == "lfs" && size > 0;
        let own = if is_large { sha256.clone() } else { git_name(file)? };
        if mode.oid.as_deref() == Some(&own) {
            pushed.unchanged.push(file.name.clone());
            continue;
        }
        candidates.push(Candidate { file, size, sha256, is_large });
    }
    Ok(candidates)
}

/// Commits the files: large ones by name, the others with their content.
fn commit(client: &Client<'_>, push: &Push, candidates: &[Candidate<'_>]) -> Result<String, DataError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Commit {
        commit_oid: String,
    }
    let what = "the commit";
    let mut lines =
        format!("{}\n", json!({ "key": "header", "value": { "summary": push.message, "description": "" } }));
    for candidate in candidates {
        let path = &candidate.file.name;
        let line = if candidate.is_large {
            let value = json!({ "path": path, "algo": "sha256", "oid": candidate.sha256, "size": candidate.size });
            json!({ "key": "lfsFile", "value": value })
        } else {
            let content = BASE64_STANDARD.encode(read_all(candidate.file)?);
            json!({ "key": "file", "value": { "path": path, "encoding": "base64", "content": content } })
        };
        lines.extend([line.to_string(), "\n".to_owned()]);
    }
    let url = client.model_url(&format!("/commit/{}", client.revision()));
    let answer = client.send(what, Method::Post, &url, &Body::Text { kind: "application/x-ndjson", content: lines })?;
    let commit: Commit = client.json(what, answer)?;
    if !is_commit(&commit.commit_oid) {
        return Err(
            client.error(what, format!("the answer names the commit {:?}, which is no hash", commit.commit_oid))
        );
    }
    Ok(commit.commit_oid)
}

fn read_all(file: &PushFile) -> Result<Vec<u8>, DataError> {
    fs::read(&file.path).map_err(|source| DataError::Read { path: file.path.clone(), source })
}

fn read_start(file: &PushFile) -> Result<Vec<u8>, DataError> {
    use std::io::Read as _;
    let mut start = Vec::new();
    fs::File::open(&file.path)
        .and_then(|opened| opened.take(SAMPLE_BYTES as u64).read_to_end(&mut start))
        .map_err(|source| DataError::Read { path: file.path.clone(), source })?;
    Ok(start)
}

/// The name that git gives a file's content.
fn git_name(file: &PushFile) -> Result<String, DataError> {
    let content = read_all(file)?;
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", content.len()));
    hash.update(&content);
    Ok(hex(&hash.finalize()))
}

/// A text of the hub's JSON, or nothing.
fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}
