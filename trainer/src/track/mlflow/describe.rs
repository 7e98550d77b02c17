//! What MLflow is told of a run beside its metrics: params, tags, data sets, files.

use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::rows::name;
use super::server::{Input, Pair};
use crate::error::TrainError;
use crate::forgetting::Forgetting;
use crate::provenance::Place;
use crate::recipe::{MlflowConfig, Recipe};
use crate::track::{RunFolder, RunInfo, RunStatus};

/// The tag by which a run is found again.
pub(super) const RUN: &str = "greffon.run";
/// The longest value of a param, in characters.
const LONGEST_PARAM: usize = 6000;
/// The longest value of a tag, in bytes.
const LONGEST_TAG: usize = 5000;
/// The longest digest of a data set, in characters.
const LONGEST_DIGEST: usize = 36;

/// A name that no other run has, the same whenever and from wherever this one is delivered.
pub(super) fn unique(folder: &RunFolder, info: &RunInfo) -> Result<String, TrainError> {
    let path = folder.recipe();
    let recipe = std::fs::read(&path).map_err(|source| TrainError::Read { path, source })?;
    let mut digest = Sha256::new();
    for part in [info.started.as_bytes(), info.host.as_bytes(), &recipe] {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    Ok(datasets::hex(&digest.finalize())[..32].to_owned())
}

/// The run's name: the recipe's, else that of its folder.
pub(super) fn run_name(config: &MlflowConfig, folder: &RunFolder) -> String {
    config.run_name.clone().unwrap_or_else(|| folder.name())
}

/// Every value of the resolved recipe under its dotted key.
pub(super) fn params(recipe: &Recipe) -> Vec<Pair> {
    let tree = serde_json::to_value(recipe).expect("a loaded recipe is plain data with UTF-8 paths");
    let mut params = Vec::new();
    flatten("", &tree, &mut params);
    params
}

fn flatten(key: &str, value: &Value, params: &mut Vec<Pair>) {
    let below = |part: &str| if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") };
    match value {
        Value::Object(map) if !map.is_empty() => map.iter().for_each(|(k, value)| flatten(&below(k), value, params)),
        Value::Array(list) if !list.is_empty() => {
            list.iter().enumerate().for_each(|(index, value)| flatten(&below(&index.to_string()), value, params));
        }
        Value::String(text) => params.push((name(key), text.chars().take(LONGEST_PARAM).collect())),
        other => params.push((name(key), other.to_string())),
    }
}

/// The tags that a run is made with.
pub(super) fn first_tags(config: &MlflowConfig, unique: &str, info: &RunInfo) -> Vec<Pair> {
    let mut tags = vec![
        (RUN, unique.to_owned()),
        ("greffon.version", info.greffon_version.clone()),
        ("greffon.base_sha256", info.base_digest.clone()),
        ("greffon.host", info.host.clone()),
        ("mlflow.source.type", "JOB".to_owned()),
        ("mlflow.source.name", info.recipe.display().to_string()),
    ];
    if let Some(git) = &info.git {
        let commit = git.strip_suffix("-dirty");
        tags.push(("mlflow.source.git.commit", commit.unwrap_or(git).to_owned()));
        tags.push(("greffon.git.dirty", commit.is_some().to_string()));
    }
    tags.extend(std::env::var("USER").ok().filter(|user| !user.is_empty()).map(|user| ("mlflow.user", user)));
    tags.extend(config.parent_run.clone().map(|parent| ("mlflow.parentRunId", parent)));
    let own = tags.into_iter().map(|(key, value)| (key.to_owned(), cut(&value)));
    own.chain(config.tags.clone()).collect()
}

/// The tags that say what came of a run.
pub(super) fn last_tags(info: &RunInfo, forgetting: Option<&Forgetting>) -> Vec<Pair> {
    let status = match info.status {
        RunStatus::Running => "killed",
        RunStatus::Interrupted => "interrupted",
        RunStatus::Failed => "failed",
        RunStatus::Finished => "finished",
    };
    let mut tags = vec![("greffon.status", status.to_owned()), ("greffon.steps", info.step.to_string())];
    tags.extend(info.reason.clone().map(|reason| ("greffon.reason", reason)));
    if let Some((loss, step)) = info.best {
        tags.push(("greffon.best_validation_loss", figure(loss)));
        tags.push(("greffon.best_step", step.to_string()));
    }
    if let Some(energy) = &info.energy {
        tags.push(("greffon.energy_kwh", figure(energy.kwh)));
        tags.extend(energy.grams_co2e.map(|grams| ("greffon.co2e_grams", figure(grams))));
    }
    let verdict = forgetting.map(|found| if found.verdict.passed { "passed" } else { "refused" });
    tags.extend(verdict.map(|verdict| ("greffon.forgetting", verdict.to_owned())));
    tags.into_iter().map(|(key, value)| (key.to_owned(), cut(&value))).collect()
}

/// A number in few letters: a millionth has an exponent, and no zeros.
fn figure(value: f64) -> String {
    format!("{value:?}")
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(LONGEST_TAG)].to_owned()
}

/// The files that the run read, by its own record of them.
pub(super) fn inputs(folder: &RunFolder) -> Result<Vec<Input>, TrainError> {
    let data = Place::of_run(folder.path()).data()?.unwrap_or_default();
    // The first is the run's own, those after it are of the adapters that it goes on from.
    let sources = data.runs.into_iter().next().map(|run| run.sources).unwrap_or_default();
    let inputs = sources.into_iter().map(|source| Input {
        name: source.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        digest: source.sha256.map_or_else(|| "unknown".to_owned(), |sha256| sha256[..LONGEST_DIGEST].to_owned()),
        source: source.path.display().to_string(),
        context: match source.split.name() {
            "train" => "training",
            split => split,
        },
    });
    Ok(inputs.collect())
}

/// The files of a run that are uploaded, by their names there, as far as they are there.
pub(super) fn files(folder: &RunFolder) -> Result<Vec<(String, PathBuf)>, TrainError> {
    let root = folder.path();
    let mut files: Vec<_> = ["recipe.yaml", "run.json", "forgetting.json", "greffon.json"]
        .map(|name| (name.to_owned(), root.join(name)))
        .into_iter()
        .collect();
    files.extend(adapter_files(folder)?.into_iter().map(|(name, path)| (format!("adapter/{name}"), path)));
    files.retain(|(_, path)| path.is_file());
    Ok(files)
}

/// The files of the adapter; none before the run has made it.
pub(super) fn adapter_files(folder: &RunFolder) -> Result<Vec<(String, PathBuf)>, TrainError> {
    let adapter = folder.adapter();
    let failed = |source| TrainError::Read { path: adapter.clone(), source };
    if !adapter.is_dir() {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&adapter).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let file = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'));
        files.extend(file.filter(|_| path.is_file()).map(|name| (name.to_owned(), path.clone())));
    }
    files.sort();
    Ok(files)
}
