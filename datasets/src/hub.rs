//! Files of models and data sets on the Hugging Face hub, through its cache; [`push`](Hub::push) goes the other way.
//!
//! Built on `hf-hub` 0.5, which brings the cache's layout, locks and resumed downloads; this file adds
//! what it leaves to the caller: `HF_HUB_OFFLINE`, tokens from the environment, retries, the check of
//! digests, and errors that say what to do. (Version 1.0 needs four times as many crates, an async
//! runtime among them, and starts a broken download anew.)

mod download;
mod names;
mod push;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hf_hub::Cache;
use hf_hub::api::RepoInfo;

use self::names::{At, check_file, is_commit, matches};
use crate::error::{DataError, HubError, RecordError};

pub use self::push::{Push, PushFile, Pushed};

const ENDPOINT: &str = "https://huggingface.co";
/// The files of a model that training, evaluation and export need, weights apart.
const MODEL_FILES: &[&str] = &[
    "config.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
];
const WEIGHT_INDEX: &str = "model.safetensors.index.json";

/// What a repository holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// Weights with their configuration and tokenizer.
    Model,
    /// Data files.
    Dataset,
}

/// A file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubFile {
    /// What the repository holds.
    pub kind: RepoKind,
    /// The repository, `owner/name`.
    pub repo: String,
    /// A branch, a tag or a commit.
    pub revision: String,
    /// The file's path in the repository.
    pub file: String,
}

/// How far the transfer of one file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferProgress<'a> {
    /// The file's path in the repository.
    pub file: &'a str,
    /// The bytes that have arrived, those of an earlier attempt included.
    pub done_bytes: u64,
    /// The size of the file in bytes.
    pub total_bytes: u64,
}

type OnProgress = Arc<dyn Fn(&TransferProgress<'_>) + Send + Sync>;

/// The hub and its cache on this machine.
#[derive(Clone)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
    on_progress: OnProgress,
    /// What the pauses before the next attempt of a push are multiples of.
    retry_pause: Duration,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token must not reach a log.
        let Self { endpoint, cache, token, offline, .. } = self;
        write!(
            f,
            "Hub {{ endpoint: {endpoint:?}, cache: {cache:?}, has_token: {}, offline: {offline} }}",
            token.is_some()
        )
    }
}

impl Hub {
    /// A hub at `endpoint` (an address without a final slash) with its cache in the folder `cache`.
    pub fn new(endpoint: impl Into<String>, cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: endpoint.into().trim_end_matches('/').to_owned(),
            cache: cache.into(),
            token: None,
            offline: false,
            on_progress: Arc::new(|_| {}),
            retry_pause: Duration::from_millis(200),
        }
    }

    /// The hub as the usual variables describe it: `HF_ENDPOINT`, `HF_HUB_CACHE` or `HF_HOME` (default
    /// `~/.cache/huggingface`), `HF_TOKEN` or the file `token` in `HF_HOME`, and `HF_HUB_OFFLINE`.
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
        let home = var("HF_HOME")
            .map_or_else(|| std::env::home_dir().unwrap_or_default().join(".cache").join("huggingface"), PathBuf::from);
        let cache = var("HF_HUB_CACHE").map_or_else(|| home.join("hub"), PathBuf::from);
        let token = var("HF_TOKEN").or_else(|| std::fs::read_to_string(home.join("token")).ok());
        let is_set = |value: String| matches!(value.trim().to_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        Self::new(var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()), cache)
            .with_token(token)
            .with_offline(var("HF_HUB_OFFLINE").is_some_and(is_set))
    }

    /// Sends `token` with each request.
    #[must_use]
    pub fn with_token(mut self, token: Option<String>) -> Self {
        self.token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        self
    }

    /// Uses the cache only, never the network.
    #[must_use]
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Tells `on_progress` of each piece that arrives, or is sent.
    #[must_use]
    pub fn with_progress(mut self, on_progress: impl Fn(&TransferProgress<'_>) + Send + Sync + 'static) -> Self {
        self.on_progress = Arc::new(on_progress);
        self
    }

    /// The path of a file, downloaded unless the cache has it. A file that the cache has under this
    /// revision is used without asking the hub; name a commit to be sure which one it is.
    ///
    /// # Errors
    /// [`HubError::Name`] for a malformed name; [`HubError::Offline`],
    /// [`HubError::Unreachable`], [`HubError::Refused`] or [`HubError::Damaged`].
    pub fn fetch(&self, file: &HubFile) -> Result<PathBuf, DataError> {
        let at = At::new(file.kind, &file.repo, &file.revision)?;
        check_file(&file.file)?;
        if let Some(path) = self.cached(&at, &file.file) {
            return Ok(path);
        }
        if self.offline {
            return Err(self.offline_error(&at, &file.file));
        }
        self.download(&at, &file.file)
    }

    /// A folder with the files of a repository whose names match one of `wanted`; a `*` in a pattern
    /// stands for any part of a file name. All files are of one commit, also when a branch moves.
    ///
    /// When the hub cannot be reached, or may not be, the files that the cache has are taken.
    ///
    /// # Errors
    /// As [`fetch`](Self::fetch); [`HubError::Refused`] also when no file matches.
    pub fn snapshot(&self, kind: RepoKind, repo: &str, revision: &str, wanted: &[&str]) -> Result<PathBuf, DataError> {
        let at = At::new(kind, repo, revision)?;
        let matches = |file: &str| wanted.iter().any(|pattern| matches(pattern, file));
        match self.commit(&at)? {
            Some((commit, files)) => self.fetch_all(&at, &commit, files.iter().filter(|file| matches(file))),
            None => self.cached_folder(&at),
        }
    }

    /// A folder with a model: configuration, tokenizer, chat template and safetensors weights. When the
    /// weights have an index, only the shards that it names; other copies in the repository are left.
    ///
    /// # Errors
    /// As [`snapshot`](Self::snapshot).
    pub fn model(&self, repo: &str, revision: &str) -> Result<PathBuf, DataError> {
        let at = At::new(RepoKind::Model, repo, revision)?;
        let Some((commit, files)) = self.commit(&at)? else {
            return self.cached_folder(&at);
        };
        let mut chosen: Vec<&String> =
            files.iter().filter(|file| MODEL_FILES.iter().any(|pattern| matches(pattern, file))).collect();
        let has = |name: &str| files.iter().find(|file| *file == name);
        let shards;
        if let Some(index) = has(WEIGHT_INDEX) {
            chosen.push(index);
            let folder = self.fetch_all(&at, &commit, [index])?;
            shards = shards_of(&folder.join(WEIGHT_INDEX))?;
            chosen.extend(&shards);
        } else if let Some(weights) = has("model.safetensors") {
            chosen.push(weights);
        } else {
            chosen.extend(files.iter().filter(|file| matches("*.safetensors", file)));
        }
        self.fetch_all(&at, &commit, chosen)
    }

    /// The commit of a revision and its files; none when only the cache can help.
    fn commit(&self, at: &At<'_>) -> Result<Option<(String, Vec<String>)>, DataError> {
        if self.offline {
            return Ok(None);
        }
        let what = "the list of files";
        let info: RepoInfo = match self.api(at)?.repo(at.repo()).info() {
            Ok(info) => info,
            Err(error) => {
                let error = self.error(at, what, &error);
                if matches!(error, DataError::Hub(HubError::Unreachable { .. })) && self.cached_folder(at).is_ok() {
                    tracing::warn!(%error, repo = at.repo, "using the files in the cache");
                    return Ok(None);
                }
                return Err(error);
            }
        };
        if !is_commit(&info.sha) {
            return Err(at.refused(what, format!("its commit {:?} is not a hash", info.sha)));
        }
        let mut files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        files.retain(|file| check_file(file).is_ok());
        files.sort_unstable();
        Ok(Some((info.sha, files)))
    }

    /// Fetches files of one commit, and remembers that the revision stands for it.
    fn fetch_all<'a>(
        &self,
        at: &At<'_>,
        commit: &str,
        files: impl IntoIterator<Item = &'a String>,
    ) -> Result<PathBuf, DataError> {
        let pinned = At { revision: commit, ..*at };
        let mut found = false;
        for file in files {
            if self.cached(&pinned, file).is_none() {
                self.download(&pinned, file)?;
            }
            found = true;
        }
        if !found {
            return Err(at.refused("the snapshot", "it has none of the files that are needed".to_owned()));
        }
        let cache = Cache::new(self.cache.clone()).repo(at.repo());
        cache.create_ref(commit).map_err(|source| DataError::Write { path: self.cache.clone(), source })?;
        Ok(cache.pointer_path(commit))
    }

    /// The file in the cache, as this program or any other client of the hub left it.
    fn cached(&self, at: &At<'_>, file: &str) -> Option<PathBuf> {
        let path = self.cached_folder(at).ok()?.join(file);
        path.is_file().then_some(path)
    }

    /// The snapshot folder of a revision in the cache.
    fn cached_folder(&self, at: &At<'_>) -> Result<PathBuf, DataError> {
        let repo = at.repo();
        let root = self.cache.join(repo.folder_name());
        let commit = if is_commit(at.revision) {
            Some(at.revision.to_owned())
        } else {
            std::fs::read_to_string(root.join("refs").join(at.revision)).ok()
        };
        commit
            .map(|commit| root.join("snapshots").join(commit.trim()))
            .filter(|folder| folder.is_dir())
            .ok_or_else(|| self.offline_error(at, "the snapshot"))
    }

    fn offline_error(&self, at: &At<'_>, what: &str) -> DataError {
        DataError::Hub(HubError::Offline {
            what: what.to_owned(),
            repo: at.repo.to_owned(),
            revision: at.revision.to_owned(),
            cache: self.cache.clone(),
        })
    }
}

/// The files that an index of sharded weights names, each once.
fn shards_of(index: &Path) -> Result<Vec<String>, DataError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(|source| DataError::Read { path: index.to_owned(), source })?;
    let parsed: Index = serde_json::from_str(&text).map_err(|error| {
        DataError::Record(RecordError::Json {
            origin: crate::Origin { path: index.into(), line: error.line() },
            column: error.column(),
            message: error.to_string(),
            remedy: ", expected an index of sharded weights",
        })
    })?;
    let shards: std::collections::BTreeSet<String> = parsed.weight_map.into_values().collect();
    shards.iter().try_for_each(|shard| check_file(shard))?;
    Ok(shards.into_iter().collect())
}

#[cfg(test)]
mod tests;
