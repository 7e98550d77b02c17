//! One download: taken up again when it breaks off, checked when it is there, its failures explained.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hf_hub::Cache;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError};

use super::names::At;
use super::{Hub, OnProgress, TransferProgress};
use crate::digest::sha256_files;
use crate::error::{DataError, HubError};

/// How often a download that breaks off is taken up again.
const ATTEMPTS: u32 = 5;

impl Hub {
    /// Downloads a file, taking a broken-off download up where it stopped, and checks its digest.
    pub(super) fn download(&self, at: &At<'_>, file: &str) -> Result<PathBuf, DataError> {
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
                Err(DataError::Hub(HubError::Damaged { repo, file, path, got, expected }))
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

    pub(super) fn api(&self, at: &At<'_>) -> Result<Api, DataError> {
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

    /// Explains a failure of the client; `what` is the file, or what else was asked for.
    pub(super) fn error(&self, at: &At<'_>, what: &str, error: &ApiError) -> DataError {
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
            _ => DataError::Hub(HubError::Unreachable {
                repo: at.repo.to_owned(),
                revision: at.revision.to_owned(),
                endpoint: self.endpoint.clone(),
                cache: self.cache.clone(),
                message: error.to_string(),
            }),
        }
    }
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
    let got = sha256_files([&blob]).unwrap_or_else(|error| error.to_string());
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
pub(super) fn is_broken_connection(error: &std::io::Error) -> bool {
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
        let progress = TransferProgress { file: self.file, done_bytes: self.done, total_bytes: self.total };
        (self.listener)(&progress);
    }

    fn finish(&mut self) {}
}
