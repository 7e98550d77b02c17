//! Where tokenized data is kept between runs.
//!
//! A file is found under the digest of all that its examples follow from ([`crate::key`]) and read through before it
//! is used. It is written under a temporary name and renamed, so that runs at the same time each see whole files only.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::NamedTempFile;

use crate::atomic;

/// How many files are kept: those used last.
const KEPT: usize = 16;
/// After which time the file of a run that was killed is removed.
const ABANDONED: Duration = Duration::from_hours(24);
const ENDING: &str = "tokens";

/// The folder of tokenized data. Deleting it, at any time, loses nothing but time.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// A folder; it is made when it is needed.
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// The folder `data` in `GREFFON_CACHE`, or else in `greffon` in `XDG_CACHE_HOME` (default `~/.cache`).
    pub fn from_env() -> Self {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // The XDG specification has relative paths ignored.
        let folder = var("GREFFON_CACHE").or_else(|| {
            let caches = var("XDG_CACHE_HOME").filter(|path| path.is_absolute());
            Some(caches.or_else(|| Some(std::env::home_dir()?.join(".cache")))?.join("greffon"))
        });
        Self { folder: folder.map(|folder| folder.join("data")) }
    }

    /// The file under a key, if there is one.
    pub(crate) fn open(&self, key: &str) -> io::Result<Option<(File, PathBuf)>> {
        let Some(path) = self.path(key) else {
            return Ok(None);
        };
        match File::open(&path) {
            Ok(file) => {
                // Used now; the prune below goes by it. Best effort.
                let _ = file.set_modified(SystemTime::now());
                Ok(Some((file, path)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A new file in the folder, not yet under its name.
    pub(crate) fn create(&self) -> io::Result<NamedTempFile> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no home folder; set GREFFON_CACHE");
        let folder = self.folder.as_ref().ok_or_else(missing)?;
        fs::create_dir_all(folder)?;
        atomic::temporary(folder)
    }

    /// Gives a file that was written to its end the name of its key, and removes files that were not used for long.
    pub(crate) fn publish(&self, file: NamedTempFile, key: &str) -> io::Result<PathBuf> {
        let path = self.path(key).ok_or(io::ErrorKind::NotFound)?;
        atomic::publish(file, &path)?;
        if let Some(folder) = &self.folder {
            prune(folder);
        }
        Ok(path)
    }

    /// The folder; none on a machine that names no home.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(key).with_extension(ENDING))
    }
}

/// Keeps the files used last. Best effort: what cannot be removed is left to the next time.
fn prune(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut kept = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(used) = entry.metadata().and_then(|metadata| metadata.modified()) else { continue };
        match path.extension().and_then(OsStr::to_str) {
            Some(ENDING) => kept.push((used, path)),
            Some(atomic::ENDING) if used.elapsed().is_ok_and(|age| age > ABANDONED) => {
                let _ = fs::remove_file(path);
            }
            _ => {}
        }
    }
    kept.sort_unstable();
    for (_, path) in kept.iter().rev().skip(KEPT) {
        let _ = fs::remove_file(path);
    }
}
