//! What lies in a run folder: how much it is, and what of it is no run's.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::lock::LOCK;
use super::run_folder::is_unfinished;
use super::{METRICS, REPLAY, RunFolder, SELECTED};
use crate::error::TrainError;
use crate::train::checkpoint::is_kept;

/// What a run folder may hold beside files of samples and what is being written; a new file of runs is named here.
const NAMES: [&str; 14] = [
    "recipe.yaml",
    "run.json",
    METRICS,
    "log.txt",
    REPLAY,
    SELECTED,
    "checkpoints",
    "adapter",
    "greffon.json",
    LOCK,
    "forgetting.json",
    "eval.json",
    "report.html",
    "mlflow.json",
];

impl RunFolder {
    /// What lies in the folder that no run puts there: not among its own files, nor among its checkpoints.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn unknown(&self) -> Result<Vec<PathBuf>, TrainError> {
        let is_of_runs = |name: &str| NAMES.contains(&name) || is_samples(name) || is_unfinished(name);
        let mut unknown = others(self.path(), is_of_runs)?;
        unknown.extend(others(&self.checkpoints(), |name| is_kept(name) || is_unfinished(name))?);
        Ok(unknown)
    }

    /// The bytes of all its files; what has several names counts once.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn bytes(&self) -> Result<u64, TrainError> {
        bytes_of(self.path())
    }

    /// The bytes of its checkpoints alone.
    ///
    /// # Errors
    /// When a folder cannot be listed.
    pub fn checkpoint_bytes(&self) -> Result<u64, TrainError> {
        bytes_of(&self.checkpoints())
    }
}

/// Whether a name is that of a file of samples: `samples.jsonl`, or of an earlier run `samples-2.jsonl`.
fn is_samples(name: &str) -> bool {
    let number = name.strip_prefix("samples").and_then(|name| name.strip_suffix(".jsonl"));
    let is_number = |number: &str| number.strip_prefix('-').is_some_and(|number| number.parse::<u32>().is_ok());
    number.is_some_and(|number| number.is_empty() || is_number(number))
}

/// The entries of a folder; none where it is not there.
fn entries(folder: &Path) -> Result<Vec<fs::DirEntry>, TrainError> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.and_then(Iterator::collect),
    };
    listed.map_err(|source| TrainError::Read { path: folder.to_owned(), source })
}

/// The entries of a folder whose names are not known, in their order.
fn others(folder: &Path, is_known: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, TrainError> {
    let entries = entries(folder)?.into_iter();
    let others = entries.filter(|entry| entry.file_name().to_str().is_none_or(|name| !is_known(name)));
    let mut others: Vec<PathBuf> = others.map(|entry| entry.path()).collect();
    others.sort();
    Ok(others)
}

/// The bytes of all files below a folder. Links are not followed.
fn bytes_of(folder: &Path) -> Result<u64, TrainError> {
    let (mut bytes, mut seen, mut folders) = (0, HashSet::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in entries(&folder)? {
            // A file that has gone meanwhile has no bytes.
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if seen.insert(identity(&entry.path(), &metadata)) {
                bytes += metadata.len();
            }
        }
    }
    Ok(bytes)
}

/// What a file is the same by, whatever its name.
#[cfg(unix)]
fn identity(_: &Path, metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.dev(), metadata.ino())
}

/// Elsewhere its name.
#[cfg(not(unix))]
fn identity(path: &Path, _: &fs::Metadata) -> PathBuf {
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_somebodys_own_is_told_and_what_has_two_names_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["checkpoints/step-00000002/adapter", "checkpoints/best", "adapter"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        for name in ["recipe.yaml", "run.json", "samples.jsonl", "samples-2.jsonl", ".run.json1.partial"] {
            fs::write(path(name), "1234").unwrap();
        }
        fs::hard_link(path("samples.jsonl"), path("adapter/samples.jsonl")).unwrap();
        let run = RunFolder::open(folder.path().to_owned()).unwrap();
        assert_eq!(run.unknown().unwrap(), Vec::<PathBuf>::new());
        assert_eq!((run.bytes().unwrap(), run.checkpoint_bytes().unwrap()), (20, 0));
        for name in ["thesis.tex", "samples-b.jsonl", "checkpoints/mine"] {
            fs::write(path(name), "12345").unwrap();
        }
        assert_eq!(run.unknown().unwrap(), ["samples-b.jsonl", "thesis.tex", "checkpoints/mine"].map(path));
        assert_eq!((run.bytes().unwrap(), run.checkpoint_bytes().unwrap()), (35, 5));
    }
}
