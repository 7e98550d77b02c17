//! The runs below a folder: listed, and cleaned away.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

use super::{RunReport, Standing};
use crate::error::TrainError;
use crate::track::{Lock, RunFolder};

/// A run below a folder.
#[derive(Debug)]
pub struct Listed {
    /// Its folder.
    pub path: PathBuf,
    /// What is known of it; the error where it cannot be read.
    pub run: Result<RunReport, TrainError>,
}

/// Which runs are to go, and what of them. A run goes that all of it holds for.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// So many of the newest stay.
    pub keep_last: Option<usize>,
    /// Only those that failed or were cut off.
    pub failed: bool,
    /// Only those of which nothing was written for so long.
    pub older_than: Option<SignedDuration>,
    /// The checkpoints alone, of runs that are finished and have their result.
    pub checkpoints: bool,
    /// What holds files of somebody's own goes with them.
    pub force: bool,
}

/// What is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doomed {
    /// The run's folder.
    pub run: PathBuf,
    /// What is deleted: the folder, or its checkpoints.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: u64,
}

/// What stays although it was asked for, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spared {
    /// The run's folder.
    pub run: PathBuf,
    /// Why.
    pub reason: String,
}

/// The runs below a folder, or the folder itself where it is one; the newest first, then those that cannot be read. Links
/// are not followed.
///
/// # Errors
/// [`TrainError::Read`] when a folder cannot be listed; [`TrainError::Run`] when there is none.
pub fn runs(folder: &Path) -> Result<Vec<Listed>, TrainError> {
    if !folder.is_dir() {
        return Err(TrainError::Run(format!(
            "{}: there is no such folder; name the one that holds the runs",
            folder.display()
        )));
    }
    let failed = |source| TrainError::Read { path: folder.to_owned(), source };
    // A run is renamed before it is deleted, which `.` cannot be, and a link would be in its place.
    let has_own_name = folder.file_name().is_some() && !folder.is_symlink();
    let root = if has_own_name { folder.to_owned() } else { folder.canonicalize().map_err(failed)? };
    let (mut found, mut folders) = (Vec::new(), vec![root]);
    while let Some(folder) = folders.pop() {
        if RunFolder::is_run(&folder) {
            found.push(folder);
            continue;
        }
        let failed = |source| TrainError::Read { path: folder.clone(), source };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found.sort();
    let mut listed: Vec<Listed> = found.into_iter().map(|path| Listed { run: RunReport::read(&path), path }).collect();
    // Stable: those of one moment stay in the order of their names.
    listed.sort_by_key(|listed| std::cmp::Reverse(listed.run.as_ref().ok().and_then(RunReport::started)));
    Ok(listed)
}

impl Selection {
    /// What goes of these runs, and what stays although it was asked for. Nothing is deleted.
    ///
    /// # Errors
    /// [`TrainError::Read`] when a folder cannot be listed.
    pub fn of(&self, listed: &[Listed], now: Timestamp) -> Result<(Vec<Doomed>, Vec<Spared>), TrainError> {
        let (mut doomed, mut spared) = (Vec::new(), Vec::new());
        for (index, Listed { path, run }) in listed.iter().enumerate() {
            let mut spare = |reason: String| spared.push(Spared { run: path.clone(), reason });
            let run = match run {
                Ok(run) => run,
                Err(error) => {
                    spare(format!("it cannot be read: {}", error.with_causes()));
                    continue;
                }
            };
            if !self.takes(run, index, now) {
                continue;
            }
            if Lock::is_held(path) {
                spare("a process is writing to it".to_owned());
                continue;
            }
            if self.checkpoints && !(run.standing == Standing::Finished && run.folder.adapter().is_dir()) {
                spare("it is not finished, and goes on from its checkpoints".to_owned());
                continue;
            }
            let unknown = run.folder.unknown()?;
            let theirs = unknown.iter().find(|path| !self.checkpoints || path.starts_with(run.folder.checkpoints()));
            if let Some(theirs) = theirs.filter(|_| !self.force) {
                spare(format!("{} is no run's; move it, or delete it too with --force", theirs.display()));
                continue;
            }
            let (target, bytes) = if self.checkpoints {
                (run.folder.checkpoints(), run.folder.checkpoint_bytes()?)
            } else {
                (path.clone(), run.bytes)
            };
            if target.symlink_metadata().is_ok() {
                doomed.push(Doomed { run: path.clone(), path: target, bytes });
            }
        }
        Ok((doomed, spared))
    }

    /// Whether a run, the `index`th from the newest, is asked for.
    fn takes(&self, run: &RunReport, index: usize, now: Timestamp) -> bool {
        let is_old = |age: SignedDuration| run.updated().is_some_and(|updated| now.duration_since(updated) > age);
        self.keep_last.is_none_or(|keep| index >= keep)
            && (!self.failed || matches!(run.standing, Standing::Failed | Standing::CutOff))
            && self.older_than.is_none_or(is_old)
    }
}

impl Doomed {
    /// Deletes it, under the run's lock. It gets another name first, so that nobody takes what is left of a deletion that
    /// was stopped for a run.
    ///
    /// # Errors
    /// [`TrainError::Run`] when a process writes to the run by now; [`TrainError::Write`].
    pub fn delete(&self) -> Result<(), TrainError> {
        let failed = |source| TrainError::Write { path: self.path.clone(), source };
        let _lock = Lock::take(&self.run)?;
        let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let aside = self.path.with_file_name(format!(".{name}.{}.partial", std::process::id()));
        fs::rename(&self.path, &aside).map_err(failed)?;
        // Of a link it takes the link alone.
        fs::remove_dir_all(&aside).map_err(failed)
    }
}
