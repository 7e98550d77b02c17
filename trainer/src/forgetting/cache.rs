//! Scores that are kept: what a model answers to a suite does not change, so the base is asked once.

use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use datasets::{Cache, hex};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::error::TrainError;
use crate::model::BaseModel;
use crate::recipe::Recipe;

/// How many files are kept: those used last.
const KEPT: usize = 256;

/// To be raised when a score's definition changes.
const VERSION: u32 = 1;

/// The folder `scores` beside that of the tokens. Deleting it, at any time, loses nothing but time.
#[derive(Clone, Debug)]
pub struct ScoreCache {
    folder: Option<PathBuf>,
}

impl ScoreCache {
    /// The folder that the environment names, see [`Cache::from_env`].
    pub fn from_env() -> Self {
        let tokens = Cache::from_env();
        Self { folder: tokens.folder().and_then(|folder| folder.parent()).map(|folder| folder.join("scores")) }
    }

    /// Keeps nothing.
    pub fn off() -> Self {
        Self { folder: None }
    }

    /// What is kept under a key; a file that cannot be read counts as none.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let path = self.path(key)?;
        let kept = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        // Used now; the pruning goes by it. Best effort.
        let _ = fs::File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
        Some(kept)
    }

    /// Keeps a value. A folder that cannot be written to keeps nothing, which is no error.
    pub fn put<T: Serialize>(&self, key: &str, value: &T) {
        let (Some(folder), Some(path)) = (&self.folder, self.path(key)) else { return };
        let written = serde_json::to_vec(value).map_err(std::io::Error::from).and_then(|bytes| {
            fs::create_dir_all(folder)?;
            adapters::write_atomic(&path, true, |out| out.write_all(&bytes)).map_err(std::io::Error::other)
        });
        if let Err(error) = written {
            tracing::warn!("the scores are not kept for the next time: {error}");
        }
        self.prune();
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        Some(self.folder.as_ref()?.join(format!("{key}.json")))
    }

    /// Best effort: what cannot be removed is left to the next time.
    fn prune(&self) {
        let entries = self.folder.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
        let mut files: Vec<(SystemTime, PathBuf)> =
            entries.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()))).collect();
        files.sort_unstable();
        for (_, path) in files.iter().rev().skip(KEPT) {
            let _ = fs::remove_file(path);
        }
    }
}

/// Under which names the scores are kept.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// A digest of all that the base's answers follow from.
    pub base: String,
    /// The same of the adapted model; `None` for one that is still in training.
    pub adapted: Option<String>,
}

impl Keys {
    /// Of a base as a recipe uses it.
    ///
    /// # Errors
    /// When a file of the base cannot be read.
    pub fn new(recipe: &Recipe, base: &BaseModel) -> Result<Self, TrainError> {
        let tokenizer = base.tokenizer.digest()?;
        let computed = format!("{} {:?} {:?}", recipe.device, recipe.kernels.for_questions(), recipe.model.dtype);
        let base = key(&[&base.digest()?, &tokenizer, &computed]);
        Ok(Self { base, adapted: None })
    }

    /// The same with an adapter, by the digest of its files.
    #[must_use]
    pub fn with_adapter(&self, digest: Option<&str>) -> Self {
        Self { base: self.base.clone(), adapted: digest.map(|digest| key(&[&self.base, digest])) }
    }
}

/// The name of a model's scores: a digest of all that they follow from.
pub fn key(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    hash.update(VERSION.to_le_bytes());
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_got_and_damage_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let cache = ScoreCache { folder: Some(folder.path().join("scores")) };
        let key = key(&["model", "suite"]);
        assert_eq!(cache.get::<Vec<f64>>(&key), None);
        cache.put(&key, &[0.1, -2.5]);
        assert_eq!(cache.get::<Vec<f64>>(&key), Some(vec![0.1, -2.5]));
        fs::write(cache.path(&key).unwrap(), "[0.1, ").unwrap();
        assert_eq!(cache.get::<Vec<f64>>(&key), None);
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
    }
}
