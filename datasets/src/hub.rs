//! Files of models and data sets on the Hugging Face hub, through its cache.
//!
//! Built on `hf-hub` 0.5, which brings the cache's layout, locks and resumed downloads; this file adds
//! what it leaves to the caller: `HF_HUB_OFFLINE`, tokens from the environment, retries, the check of
//! digests, and errors that say what to do. (Version 1.0 needs four times as many crates, an async
//! runtime and a C toolchain, and starts a broken download anew.)

use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hf_hub::api::RepoInfo;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use crate::error::DataError;

const ENDPOINT: &str = "https://huggingface.co";
/// How often a download that breaks off is taken up again.
const ATTEMPTS: u32 = 5;
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

/// How far the download of one file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownloadProgress<'a> {
    /// The file's path in the repository.
    pub file: &'a str,
    /// The bytes that are there, those of an earlier attempt included.
    pub done_bytes: u64,
    /// The size of the file in bytes.
    pub total_bytes: u64,
}

type OnProgress = Arc<dyn Fn(&DownloadProgress<'_>) + Send + Sync>;

/// The hub and its cache on this machine.
#[derive(Clone)]
pub struct Hub {
    endpoint: String,
    cache: PathBuf,
    token: Option<String>,
    offline: bool,
    on_progress: OnProgress,
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

    /// Tells `on_progress` of each piece that arrives.
    #[must_use]
    pub fn with_progress(mut self, on_progress: impl Fn(&DownloadProgress<'_>) + Send + Sync + 'static) -> Self {
        self.on_progress = Arc::new(on_progress);
        self
    }

    /// The path of a file, downloaded unless the cache has it. A file that the cache has under this
    /// revision is used without asking the hub; name a commit to be sure which one it is.
    ///
    /// # Errors
    /// [`DataError::HubName`] for a malformed name; [`DataError::HubOffline`],
    /// [`DataError::HubUnreachable`], [`DataError::HubRefused`] or [`DataError::HubDamaged`].
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
    /// As [`fetch`](Self::fetch); [`DataError::HubRefused`] also when no file matches.
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
                if matches!(error, DataError::HubUnreachable { .. }) && self.cached_folder(at).is_ok() {
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

    /// Downloads a file, taking a broken-off download up where it stopped, and checks its digest.
    fn download(&self, at: &At<'_>, file: &str) -> Result<PathBuf, DataError> {
        let api = self.api(at)?;
        let repo = api.repo(at.repo());
        let mut attempt = 1;
        let path = loop {
            let progress = Progress { listener: &self.on_progress, file, done: 0, total: 0 };
            match repo.download_with_progress(file, progress) {
                Ok(path) => break path,
                Err(error) if attempt < ATTEMPTS && is_leftover(&error) => {
                    self.forget_part(at, &api, &repo.url(file));
                }
                Err(error) if attempt < ATTEMPTS && is_passing(&error) => {
                    tracing::warn!(%error, file, attempt, "the download broke off, it is taken up again");
                    std::thread::sleep(Duration::from_millis(200 << attempt));
                }
                Err(error) => return Err(self.error(at, file, &error)),
            }
            attempt += 1;
        };
        match check_digest(&path) {
            Ok(()) => Ok(path),
            Err((got, expected)) => {
                let (repo, file) = (at.repo.to_owned(), file.to_owned());
                Err(DataError::HubDamaged { repo, file, path, got, expected })
            }
        }
    }

    /// Removes what an earlier download left of a file, where it cannot be continued.
    fn forget_part(&self, at: &At<'_>, api: &Api, url: &str) {
        if let Ok(metadata) = api.metadata(url) {
            let blob = Cache::new(self.cache.clone()).repo(at.repo()).blob_path(metadata.etag());
            std::fs::remove_file(blob.with_extension("part")).ok();
        }
    }

    fn api(&self, at: &At<'_>) -> Result<Api, DataError> {
        // Retries are ours: after a failure without a byte the library's own retry starts at 0 and
        // appends to what is there.
        ApiBuilder::from_cache(Cache::new(self.cache.clone()))
            .with_endpoint(self.endpoint.clone())
            .with_token(self.token.clone())
            .with_retries(0)
            .with_progress(false)
            .build()
            .map_err(|error| self.error(at, "the client", &error))
    }

    fn offline_error(&self, at: &At<'_>, what: &str) -> DataError {
        DataError::HubOffline {
            what: what.to_owned(),
            repo: at.repo.to_owned(),
            revision: at.revision.to_owned(),
            cache: self.cache.clone(),
        }
    }

    fn error(&self, at: &At<'_>, what: &str, error: &ApiError) -> DataError {
        match (status(error), error) {
            (Some(401 | 403), _) if self.token.is_some() => at
                .refused(what, "the token gives no access; accept the terms on its page, or check its name".to_owned()),
            (Some(401 | 403), _) => {
                at.refused(what, "it needs an account, or does not exist; set HF_TOKEN, or check its name".to_owned())
            }
            (Some(404), _) => at.refused(what, "not found, check the name and the revision".to_owned()),
            (Some(status), _) if status < 500 => at.refused(what, format!("status {status}")),
            (None, ApiError::MissingHeader(_) | ApiError::InvalidHeader(_) | ApiError::ParseIntError(_)) => {
                at.refused(what, format!("{error}; is {} a hub?", self.endpoint))
            }
            (None, ApiError::IoError(source)) if !is_broken_connection(source) => {
                let source = std::io::Error::new(source.kind(), source.to_string());
                DataError::Write { path: self.cache.clone(), source }
            }
            _ => DataError::HubUnreachable {
                repo: at.repo.to_owned(),
                revision: at.revision.to_owned(),
                endpoint: self.endpoint.clone(),
                cache: self.cache.clone(),
                message: error.to_string(),
            },
        }
    }
}

/// A repository at a revision, with names that are safe to use in paths and addresses.
#[derive(Clone, Copy)]
struct At<'a> {
    kind: RepoKind,
    repo: &'a str,
    revision: &'a str,
}

impl<'a> At<'a> {
    fn new(kind: RepoKind, repo: &'a str, revision: &'a str) -> Result<Self, DataError> {
        let error = |what, got: &str, expected| DataError::HubName { what, got: got.to_owned(), expected };
        if repo.split('/').count() > 2 || !is_path_of_names(repo) {
            return Err(error("repository", repo, "owner/name of letters, digits, dots, hyphens and underscores"));
        }
        if !is_path_of_names(revision) {
            return Err(error("revision", revision, "a branch, a tag or a commit hash"));
        }
        Ok(Self { kind, repo, revision })
    }

    fn repo(&self) -> Repo {
        let kind = match self.kind {
            RepoKind::Model => RepoType::Model,
            RepoKind::Dataset => RepoType::Dataset,
        };
        Repo::with_revision(self.repo.to_owned(), kind, self.revision.to_owned())
    }

    fn refused(&self, what: &str, message: String) -> DataError {
        DataError::HubRefused {
            what: what.to_owned(),
            repo: self.repo.to_owned(),
            revision: self.revision.to_owned(),
            message,
        }
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
fn check_file(file: &str) -> Result<(), DataError> {
    let stays = Path::new(file).components().all(|part| matches!(part, Component::Normal(_)));
    let plain = file.chars().all(|c| c.is_ascii_graphic() && !"?#%\\:".contains(c));
    if stays && plain && !file.is_empty() {
        return Ok(());
    }
    Err(DataError::HubName {
        what: "file",
        got: file.to_owned(),
        expected: "a relative path inside the repository, in ASCII and without spaces or any of ?#%\\:",
    })
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a file has the name of a pattern with at most one `*`, which does not stand for a slash.
fn matches(pattern: &str, file: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == file,
        Some((start, end)) => {
            file.strip_prefix(start).and_then(|rest| rest.strip_suffix(end)).is_some_and(|middle| !middle.contains('/'))
        }
    }
}

/// The files that an index of sharded weights names, each once.
fn shards_of(index: &Path) -> Result<Vec<String>, DataError> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(|source| DataError::Read { path: index.to_owned(), source })?;
    let parsed: Index = serde_json::from_str(&text).map_err(|error| DataError::Json {
        origin: crate::Origin { path: index.into(), line: error.line() },
        column: error.column(),
        message: error.to_string(),
        remedy: ", expected an index of sharded weights",
    })?;
    let shards: std::collections::BTreeSet<String> = parsed.weight_map.into_values().collect();
    shards.iter().try_for_each(|shard| check_file(shard))?;
    Ok(shards.into_iter().collect())
}

/// Compares a large file with the SHA-256 that the hub uses as its name in the cache. Small files are
/// named by git's hash, which is not compared. A file that differs is removed.
fn check_digest(path: &Path) -> Result<(), (String, String)> {
    let Ok(blob) = path.canonicalize() else {
        return Ok(());
    };
    let expected = blob.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_lowercase();
    if expected.len() != 64 || !expected.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let got = sha256(&blob).unwrap_or_else(|error| error.to_string());
    if got == expected {
        return Ok(());
    }
    for file in [path, &blob] {
        if let Err(error) = std::fs::remove_file(file) {
            tracing::warn!(path = %file.display(), %error, "the damaged file cannot be removed");
        }
    }
    Err((got, expected))
}

/// The SHA-256 of a file in hexadecimal.
fn sha256(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))),
            n => hash.update(&buffer[..n]),
        }
    }
}

fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

/// Whether an earlier download left as much as the file has, or more, so that nothing can be added.
fn is_leftover(error: &ApiError) -> bool {
    status(error) == Some(416) || matches!(error, ApiError::InvalidResume)
}

/// Whether trying again may help: the connection broke, or the hub is overloaded.
fn is_passing(error: &ApiError) -> bool {
    match error {
        ApiError::IoError(error) => is_broken_connection(error),
        ApiError::RequestError(error) => match &**error {
            ureq::Error::StatusCode(status) => *status == 429 || *status >= 500,
            ureq::Error::Io(error) => is_broken_connection(error),
            ureq::Error::Protocol(_) | ureq::Error::Timeout(_) => true,
            _ => false,
        },
        _ => false,
    }
}

/// Whether an error comes from a connection that was there, and not from the disk.
fn is_broken_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, Interrupted, Other, TimedOut, UnexpectedEof,
    };
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | Interrupted | Other | TimedOut | UnexpectedEof
    )
}

/// Carries the client's progress to the caller's.
struct Progress<'a> {
    listener: &'a OnProgress,
    file: &'a str,
    done: u64,
    total: u64,
}

impl hf_hub::api::Progress for Progress<'_> {
    fn init(&mut self, size: usize, _filename: &str) {
        (self.done, self.total) = (0, size as u64);
    }

    fn update(&mut self, size: usize) {
        self.done += size as u64;
        let progress = DownloadProgress { file: self.file, done_bytes: self.done, total_bytes: self.total };
        (self.listener)(&progress);
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests;
