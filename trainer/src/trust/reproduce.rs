//! Runs the recipe of a manifest again, and compares the bytes.
//!
//! Training decides `adapter_model.safetensors` and `adapter_config.json`: equal runs give equal bytes. Card, working
//! record and manifest have dates, and the configuration names the base by its path on the machine; these are not what is
//! compared.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use adapters::SafetensorsFile;
use adapters::export::peft::{CONFIG_FILE, WEIGHTS_FILE};
use datasets::sha256_files;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::facts::{AdapterFacts, BaseFacts, Checkpoint, Facts, RunFacts};
use super::statement::{MANIFEST, Statement};
use crate::error::TrainError;
use crate::kernels;
use crate::model::{BaseModel, adapter};
use crate::prove::Export;
use crate::provenance::Data;
use crate::recipe::{Answers, Loaded, Recipe, TrackingConfig};
use crate::track::{BURN_VERSION, RunFolder, RunStatus};
use crate::train::checkpoint::Checkpoints;

/// A run that is made again.
#[derive(Debug)]
pub struct Original {
    /// The manifest.
    path: PathBuf,
    base: BaseFacts,
    run: RunFacts,
    /// The one that was exported.
    adapter: AdapterFacts,
    data: Option<Data>,
}

/// Something that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What.
    pub what: String,
    /// As the manifest has it.
    pub then: String,
    /// As it is now.
    pub now: String,
    /// The bytes cannot come out the same.
    pub decides: bool,
}

/// A file of the adapter then and now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileComparison {
    /// Its name.
    pub name: String,
    /// Whether it is the same.
    pub verdict: FileVerdict,
}

/// Whether a file is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileVerdict {
    /// Its bytes are.
    Same,
    /// All of it is but the path of the base.
    SameButTheBasesPath,
    /// It names the base by its path, and the original is not there to be compared without.
    NotCompared,
    /// It is another.
    Other,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Nothing that was compared is another, and the weights were compared.
    pub same: bool,
    /// File by file.
    pub files: Vec<FileComparison>,
    /// The tensor that is furthest off, and by how much at most; `None` where the original weights are not beside the
    /// manifest, or nothing differs.
    pub largest: Option<(String, f32)>,
}

impl Original {
    /// Opens a manifest, or that of an export's folder.
    ///
    /// # Errors
    /// When it cannot be read, is of no run, or of one that was not finished.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        let path = if path.is_dir() { path.join(MANIFEST) } else { path.to_owned() };
        let Facts { base, made_of, run, data, .. } = Statement::read(&path)?.predicate;
        let adapter = made_of.into_iter().next().filter(|adapter| adapter.files.contains_key(WEIGHTS_FILE));
        let (Some(run), Some(adapter)) = (run, adapter) else {
            return Err(TrainError::Run(format!(
                "{}: names no run that trained the export, so there is nothing to run again; expected the manifest of \
                 `greffon export`",
                path.display()
            )));
        };
        if run.status != RunStatus::Finished {
            return Err(TrainError::Run(format!(
                "{}: the run had not finished when it was exported, and its recipe would train on; export it again when \
                 it has",
                path.display()
            )));
        }
        Ok(Self { path, base, run, adapter, data })
    }

    /// How many processes the run was made by; `None` where that is not known.
    pub fn ranks(&self) -> Option<usize> {
        self.run.topology.as_ref().map(|topology| topology.ranks)
    }

    /// The name of the run.
    pub fn name(&self) -> &str {
        &self.run.name
    }

    /// The recipe, with each file looked for in the folders; `base` takes the place of the recipe's, `output` is the new
    /// run's folder.
    ///
    /// # Errors
    /// When the recipe is not one of this version, or a file is in none of the folders.
    pub fn recipe(&self, folders: &[PathBuf], base: Option<&str>, output: &Path) -> Result<Loaded, TrainError> {
        let mut recipe: Recipe = serde_json::from_value(self.run.recipe.clone()).map_err(|error| {
            TrainError::Run(format!("{}: its recipe is none of this version: {error}", self.path.display()))
        })?;
        // It is an experiment of whoever runs it again, not of those who watched the first.
        recipe.tracking = TrackingConfig::default();
        let recipe = recipe.with_paths(|key, path| {
            if key == "model.base" && base.is_some() { Ok(path.to_owned()) } else { self.find(folders, key, path) }
        })?;
        // Through its file, so that it is held to what every recipe is held to.
        let failed = |source| TrainError::Write { path: std::env::temp_dir(), source };
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().map_err(failed)?;
        std::fs::write(file.path(), recipe.resolved_yaml()).map_err(failed)?;
        let here = std::env::current_dir().map_err(|source| TrainError::Read { path: ".".into(), source })?;
        let set = |(key, value): (&str, &str)| format!("{key}={}", Value::from(value));
        let output = output.to_string_lossy();
        let set: Vec<String> =
            [("output", &*output)].into_iter().chain(base.map(|base| ("model.base", base))).map(set).collect();
        let mut loaded = Recipe::load(file.path(), &set)?;
        loaded.path.clone_from(&self.path);
        loaded.root = self.path.parent().and_then(|folder| folder.canonicalize().ok()).unwrap_or(here);
        Ok(loaded)
    }

    fn find(&self, folders: &[PathBuf], key: &str, path: &Path) -> Result<PathBuf, TrainError> {
        if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(TrainError::Refused(format!(
                "{}: the recipe's `{key}` is {}, which leaves the folder that it is looked for in; a manifest names no such \
                 file",
                self.path.display(),
                path.display()
            )));
        }
        let found = folders.iter().map(|folder| folder.join(path)).find(|path| path.exists());
        let Some(found) = found else {
            let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            let base = if key == "model.base" { ", or the base with --base" } else { "" };
            return Err(TrainError::Run(format!(
                "{}: the recipe's `{key}` is {}, which is not in {}; name the folder that has it with a further --files{base}",
                self.path.display(),
                path.display(),
                looked.join(", ")
            )));
        };
        found.canonicalize().map_err(|source| TrainError::Read { path: found, source })
    }

    /// What is not as it was, of all that can be known before training.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn differences(&self, loaded: &Loaded, base: &BaseModel) -> Result<Vec<Difference>, TrainError> {
        let run = &self.run;
        let mut all = Vec::new();
        let mut compare = |what: &str, then: Option<&str>, now: &str| {
            if then != Some(now) {
                let then = then.unwrap_or("not known").to_owned();
                all.push(Difference { what: what.to_owned(), decides: then != "not known", then, now: now.to_owned() });
            }
        };
        compare("greffon", Some(&run.code.greffon), env!("CARGO_PKG_VERSION"));
        compare("burn", Some(&run.code.burn), BURN_VERSION);
        let own = kernels::instructions(loaded.recipe.kernels);
        compare("instruction set", run.environment.instructions.as_deref(), own.as_deref().unwrap_or("not known"));
        compare("base, SHA-256 of its weights", self.base.sha256.as_deref(), &base.digest()?);
        if let Some(clock) = &run.template_clock {
            let now = base.tokenizer.template().ok().and_then(datasets::ChatTemplate::clock);
            compare("date in the chat template", Some(clock), now.as_deref().unwrap_or("none"));
        }
        all.extend(self.data_differences(&loaded.recipe)?);
        if loaded.recipe.energy.max_kwh.is_some() {
            all.push(Difference {
                what: "energy.max_kwh".to_owned(),
                then: "ends a run by what it takes".to_owned(),
                now: "may end it after another step".to_owned(),
                decides: false,
            });
        }
        Ok(all)
    }

    /// The training files whose content is not that which was learned from.
    fn data_differences(&self, recipe: &Recipe) -> Result<Vec<Difference>, TrainError> {
        let sources = self.data.iter().filter_map(|data| data.runs.first()).flat_map(|run| &run.sources);
        let known: Vec<_> = sources.collect();
        let mut all = Vec::new();
        // The base's own answers are made again.
        let replay = recipe.forgetting.replay.iter().filter(|replay| replay.answers == Answers::Own);
        let replayed = replay.flat_map(|replay| &replay.sources);
        for source in recipe.data.train.iter().chain(&recipe.data.validation).chain(replayed) {
            let Some(path) = &source.path else { continue };
            let name = path.file_name().unwrap_or_default();
            let recorded = known.iter().filter(|source| source.path.file_name() == Some(name));
            let digests: BTreeSet<&str> = recorded.filter_map(|source| source.sha256.as_deref()).collect();
            let now = sha256_files([path]).map_err(|source| TrainError::Read { path: path.clone(), source })?;
            if !digests.contains(now.as_str()) {
                all.push(Difference {
                    what: format!("data, SHA-256 of {}", path.display()),
                    then: digests.first().map_or_else(|| "not known".to_owned(), |digest| (*digest).to_owned()),
                    now,
                    decides: !digests.is_empty(),
                });
            }
        }
        Ok(all)
    }

    /// Compares what a new run made with what the manifest names.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn compare(&self, run: &RunFolder) -> Result<Comparison, TrainError> {
        let then = &self.adapter;
        let folder = match then.checkpoint {
            Some(Checkpoint::Last) => Checkpoints::new(run.checkpoints(), 1).last_adapter(),
            Some(Checkpoint::Best) | None => None,
        };
        let folder = folder.unwrap_or_else(|| run.adapter());
        let now = Export::open(&folder)?.digests()?;
        let beside = |name: &str| {
            let path = self.path.with_file_name(name);
            let is_it = sha256_files([&path]).is_ok_and(|digest| then.files.get(name) == Some(&digest));
            is_it.then_some(path)
        };
        let [config, weights] = adapter::files(&folder);
        let mut files = Vec::new();
        for (name, digest) in &then.files {
            let verdict = if now.get(name) == Some(digest) {
                FileVerdict::Same
            } else if name != CONFIG_FILE {
                FileVerdict::Other
            } else {
                match beside(name) {
                    Some(original) if configuration(&original)? == configuration(&config)? => {
                        FileVerdict::SameButTheBasesPath
                    }
                    Some(_) => FileVerdict::Other,
                    None => FileVerdict::NotCompared,
                }
            };
            files.push(FileComparison { name: name.clone(), verdict });
        }
        let same = files.iter().all(|file| file.verdict != FileVerdict::Other);
        let largest = match beside(WEIGHTS_FILE) {
            Some(original) if !same => largest_difference(&original, &weights)?,
            _ => None,
        };
        Ok(Comparison { same, files, largest })
    }
}

/// An adapter's configuration without the name of the base.
fn configuration(path: &Path) -> Result<Value, TrainError> {
    let bytes = std::fs::read(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
    let mut config: Value = serde_json::from_slice(&bytes)
        .map_err(|error| TrainError::Run(format!("{}: not the JSON that was expected: {error}", path.display())))?;
    if let Some(config) = config.as_object_mut() {
        config.remove("base_model_name_or_path");
    }
    Ok(config)
}

/// The tensor of two weight files that is furthest off; one that only one of them has, or in another shape, is so by
/// infinity.
fn largest_difference(then: &Path, now: &Path) -> Result<Option<(String, f32)>, TrainError> {
    let (then, now) = (SafetensorsFile::open(then)?, SafetensorsFile::open(now)?);
    let names: BTreeSet<&str> = then.names().chain(now.names()).collect();
    let mut largest: Option<(String, f32)> = None;
    for name in names {
        let difference = match (then.shape(name), now.shape(name)) {
            (Ok(one), Ok(other)) if one == other => {
                let pairs = then.f32(name)?.into_iter().zip(now.f32(name)?);
                pairs.map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
            }
            _ => f32::INFINITY,
        };
        if difference > largest.as_ref().map_or(0.0, |(_, largest)| *largest) {
            largest = Some((name.to_owned(), difference));
        }
    }
    Ok(largest)
}
