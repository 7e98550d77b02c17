//! Where records are looked for: the adapters, models and runs under some paths.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use adapters::GgufFile;

use super::Place;
use crate::error::TrainError;
use crate::model::adapter;
use crate::track::RunFolder;

/// The adapters, models and runs under some paths, in the order of the names.
///
/// A run stands for its result and its checkpoints: none of them learned anything else. Links are followed.
///
/// # Errors
/// When a path is not there, a folder cannot be listed, or nothing is found.
pub fn places(paths: &[PathBuf]) -> Result<Vec<Place>, TrainError> {
    let mut walk = Walk::default();
    for path in paths {
        path.metadata().map_err(|source| TrainError::Read { path: path.clone(), source })?;
        walk.visit(path)?;
    }
    if walk.places.is_empty() {
        let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        return Err(TrainError::Run(format!(
            "{}: no run and no adapter is there, expected run folders, PEFT folders or GGUF adapters; name the folder \
             that holds them",
            paths.join(", ")
        )));
    }
    Ok(walk.places)
}

#[derive(Default)]
struct Walk {
    places: Vec<Place>,
    visited: HashSet<PathBuf>,
}

impl Walk {
    fn visit(&mut self, path: &Path) -> Result<(), TrainError> {
        let failed = |source| TrainError::Read { path: path.to_owned(), source };
        // A link whose end is gone holds nothing.
        let Ok(canonical) = path.canonicalize() else { return Ok(()) };
        if !self.visited.insert(canonical) {
            return Ok(());
        }
        if path.is_file() {
            return self.visit_file(path);
        }
        if !path.is_dir() {
            return Ok(());
        }
        let is_run = RunFolder::is_run(path);
        if is_run {
            let run = RunFolder::open(path.to_owned())?;
            let has_adapter = fs::read_dir(run.checkpoints()).is_ok_and(|mut entries| entries.next().is_some())
                || run.adapter().is_dir();
            let place = Place::of_run(path);
            if has_adapter || place.data()?.is_some() {
                self.places.push(place);
            }
        } else if adapter::files(path)[0].is_file() || path.join("config.json").is_file() {
            let place = Place::open(path)?;
            // A model without the section is a base.
            if place.is_adapter || place.data()?.is_some() {
                self.places.push(place);
            }
        }
        let mut entries = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>())
            .map_err(failed)?;
        entries.sort();
        for entry in entries {
            let of_run = is_run && (entry.ends_with("adapter") || entry.ends_with("checkpoints"));
            if !of_run {
                self.visit(&entry)?;
            }
        }
        Ok(())
    }

    fn visit_file(&mut self, path: &Path) -> Result<(), TrainError> {
        if path.extension().is_none_or(|ending| ending != "gguf") {
            return Ok(());
        }
        if let Err(error) = GgufFile::open(path) {
            tracing::warn!("{}: passed over: {error}", path.display());
            return Ok(());
        }
        let place = Place::open(path)?;
        if place.is_adapter || place.data()?.is_some() {
            self.places.push(place);
        }
        Ok(())
    }
}
