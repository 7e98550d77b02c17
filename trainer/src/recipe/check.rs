//! What can be said about a recipe before it runs: files that are not there, and settings that users regret.
//!
//! Nothing is loaded and the network is not used.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use adapters::{GgufFile, Init, LoraConfig};
use datasets::SourceConfig;
use serde_json::Value;

use super::Recipe;
use super::error::{FileProblem, RecipeError};
use super::forgetting::{ForgettingConfig, SuiteName};
use super::load::Loaded;
use super::model::is_commit;
use crate::kernels::{self, Kernels};

/// What `greffon check` tells about a sound recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The recipe, as it was named.
    pub path: PathBuf,
    /// What the run will do: a heading and a line for each part.
    pub summary: Vec<(&'static str, String)>,
    /// What is allowed and rarely meant, one line each.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// Looks whether the files are there, and collects warnings.
    ///
    /// # Errors
    /// [`RecipeError::Files`] with every file that is missing or of the wrong kind.
    pub fn check(&self) -> Result<Report, RecipeError> {
        let files = self.file_problems();
        if !files.is_empty() {
            return Err(RecipeError::Files { files });
        }
        let recipe = &self.recipe;
        Ok(Report { path: self.path.clone(), summary: summary(recipe), warnings: warnings(recipe) })
    }

    fn file_problems(&self) -> Vec<FileProblem> {
        let Recipe { model, data, forgetting, .. } = &self.recipe;
        let mut problems = Vec::new();
        let mut note = |key: String, path: &Path, problem: Option<String>| {
            if let Some(problem) = problem {
                let problem = format!("{problem}{}", self.remedy(&key, path));
                problems.push(FileProblem { place: self.source.place_of(&key), key, path: path.to_owned(), problem });
            }
        };
        if !model.is_on_hub() {
            let path = Path::new(&model.base);
            let problem = base_problem(path);
            let lacks_template = problem.is_none() && data.chat_template.is_none() && lacks_chat_template(path);
            note("model.base".to_owned(), path, problem);
            if lacks_template {
                note("data.chat_template".to_owned(), path, Some(NO_TEMPLATE.to_owned()));
            }
        }
        if let Some(path) = &model.adapter {
            let problem = folder_problem(path, "adapter_config.json", "a PEFT folder");
            note("model.adapter".to_owned(), path, problem);
        }
        if let Some(path) = &data.chat_template {
            note("data.chat_template".to_owned(), path, file_problem(path, "a Jinja file"));
        }
        for (index, path) in forgetting.probes.iter().enumerate() {
            note(format!("forgetting.probes[{index}]"), path, file_problem(path, "a file of questions (.jsonl)"));
        }
        for (index, path) in forgetting.orthogonal.iter().flat_map(|orthogonal| &orthogonal.adapters).enumerate() {
            let problem = folder_problem(path, "adapter_config.json", "a PEFT folder");
            note(format!("forgetting.orthogonal.adapters[{index}]"), path, problem);
        }
        for (key, source) in sources(&self.recipe) {
            if let Some(path) = &source.path {
                let problem = file_problem(path, "a file of conversations (.jsonl, .json or .parquet)");
                note(format!("{key}.path"), path, problem);
            }
        }
        problems
    }

    /// What may have been meant by a path that is not there, beginning with `; `; or nothing.
    fn remedy(&self, key: &str, path: &Path) -> String {
        if path.exists() {
            return String::new();
        }
        let Some(written) = self.source.text_in_file(key) else {
            return String::new();
        };
        if written.starts_with('~') {
            return "; `~` is not expanded in a recipe, write the whole path".to_owned();
        }
        if Path::new(written).exists() {
            return format!("; there is {written} in the current folder, but paths start at the recipe's folder");
        }
        String::new()
    }
}

/// All sources with their keys.
fn sources(recipe: &Recipe) -> impl Iterator<Item = (String, &SourceConfig)> {
    let lists = [
        ("data.train", &recipe.data.train),
        ("data.validation", &recipe.data.validation),
        ("eval.test", &recipe.eval.test),
    ];
    let replay = recipe.forgetting.replay.as_ref().map(|replay| ("forgetting.replay.sources", &replay.sources));
    lists.into_iter().chain(replay).flat_map(|(list, sources)| {
        sources.iter().enumerate().map(move |(index, source)| (format!("{list}[{index}]"), source))
    })
}

fn file_problem(path: &Path, expected: &str) -> Option<String> {
    if path.is_dir() {
        return Some(format!("this is a folder, expected {expected}"));
    }
    (!path.exists()).then(|| format!("no such file, expected {expected}"))
}

fn folder_problem(path: &Path, must_hold: &str, expected: &str) -> Option<String> {
    if path.is_dir() {
        return (!path.join(must_hold).is_file())
            .then(|| format!("the folder has no {must_hold}, expected {expected}"));
    }
    let is = if path.exists() { "this is a file" } else { "no such folder" };
    Some(format!("{is}, expected {expected}"))
}

const NO_TEMPLATE: &str = "the model has no chat template, as is usual for base models; set data.chat_template to a Jinja \
                           file, such as the one of the model's instruct version";

/// Whether a base that can be read is known to carry no chat template.
fn lacks_chat_template(base: &Path) -> bool {
    if base.is_file() {
        return GgufFile::open(base).is_ok_and(|file| !file.contains("tokenizer.chat_template"));
    }
    let config = fs::read(base.join("tokenizer_config.json")).ok();
    let config = config.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
    base.join("tokenizer.json").is_file()
        && !base.join("chat_template.jinja").is_file()
        && config.is_some_and(|config| config.get("chat_template").is_none_or(Value::is_null))
}

fn base_problem(path: &Path) -> Option<String> {
    let expected = "a Hugging Face folder, a .gguf file, or a hub name owner/name";
    if path.is_dir() {
        return folder_problem(path, "config.json", expected);
    }
    if !path.exists() {
        return Some(format!("no such file or folder, expected {expected}"));
    }
    let is_gguf = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("gguf"));
    (!is_gguf).then(|| format!("the file's name does not end in .gguf, expected {expected}"))
}

fn summary(recipe: &Recipe) -> Vec<(&'static str, String)> {
    let Recipe { model, data, lora, train, eval, forgetting, device, output, kernels, tracking, .. } = recipe;
    let revision = model.revision.as_deref().filter(|_| model.is_on_hub());
    let count = |sources: &[SourceConfig]| match sources.len() {
        1 => "1 source".to_owned(),
        n => format!("{n} sources"),
    };
    let validation = if data.validation.is_empty() {
        match data.validation_fraction {
            0.0 => "none".to_owned(),
            share => format!("{:.0} % of the training data", 100.0 * share),
        }
    } else {
        count(&data.validation)
    };
    let length = match train.max_steps {
        Some(steps) => format!("{steps} steps"),
        None if train.epochs.to_string() == "1" => "1 epoch".to_owned(),
        None => format!("{} epochs", train.epochs),
    };
    let mut lines = vec![
        ("base", revision.map_or_else(|| model.base.clone(), |revision| format!("{} at {revision}", model.base))),
        ("training data", format!("{}, at most {} tokens an example", count(&data.train), data.max_length)),
        ("validation", validation),
        ("test", if eval.test.is_empty() { "none".to_owned() } else { count(&eval.test) }),
        ("adapter", adapter(lora)),
        (
            "training",
            format!(
                "{length} of {} conversations a step, learning rate {:e}",
                train.global_batch_size, train.learning_rate
            ),
        ),
        ("forgetting", self::forgetting(forgetting)),
        (
            "device",
            match kernels {
                Kernels::Fused => device.clone(),
                Kernels::Bf16 if kernels::multiplies_bf16() => format!("{device}, with products in bfloat16"),
                Kernels::Bf16 => {
                    format!("{device}, with products in bfloat16, which this processor makes no faster than others")
                }
                Kernels::Reference => format!("{device}, with the reference kernels"),
            },
        ),
        ("output", output.display().to_string()),
    ];
    if let Some(mlflow) = &tracking.mlflow {
        lines.push(("MLflow", format!("{}, experiment {}", mlflow.url, mlflow.experiment)));
    }
    if let Some(prometheus) = &tracking.prometheus {
        lines.push(("Prometheus", prometheus.textfile.display().to_string()));
    }
    if let Some(adapter) = &model.adapter {
        lines.insert(1, ("continues", adapter.display().to_string()));
    }
    lines
}

fn adapter(lora: &LoraConfig) -> String {
    let kind = if lora.use_dora { "DoRA, " } else { "" };
    let start = if lora.init == Init::Pissa { "PiSSA, " } else { "" };
    let norms = if lora.train_norms { ", with the norms" } else { "" };
    format!("{kind}{start}rank {}, alpha {}, on {}{norms}", lora.rank, lora.alpha, lora.targets)
}

fn forgetting(config: &ForgettingConfig) -> String {
    let asked = match (config.suite, config.probes.len()) {
        _ if !config.is_measured() => "not measured".to_owned(),
        (SuiteName::None, files) => format!("asks {files} files"),
        (suite, 0) => format!("asks the suite {}", suite.name()),
        (suite, files) => format!("asks the suite {} and {files} files", suite.name()),
    };
    let held_back = [
        config.replay.as_ref().map(|replay| format!("replays {:.0} % more", 100.0 * replay.share)),
        (config.kl_weight > 0.0).then(|| format!("divergence from the base, weight {}", config.kl_weight)),
        (config.l2_weight > 0.0).then(|| format!("distance from the start, weight {}", config.l2_weight)),
        config.orthogonal.as_ref().map(|orthogonal| format!("apart from {} adapters", orthogonal.adapters.len())),
    ];
    std::iter::once(asked).chain(held_back.into_iter().flatten()).collect::<Vec<_>>().join(", ")
}

fn warnings(recipe: &Recipe) -> Vec<String> {
    let Recipe { model, data, lora, train, eval, output, .. } = recipe;
    let unpinned = |key: &str, name: &str, revision: &str| {
        format!("{key}: {name} at {revision} can change on the hub; name a commit of 40 hexadecimal digits to pin it")
    };
    let mut found = Vec::new();

    let revision = model.revision.as_deref().unwrap_or("main");
    if model.is_on_hub() && !is_commit(revision) {
        found.push(unpinned("model.revision", &model.base, revision));
    }
    if !model.is_on_hub() && model.revision.is_some() {
        found.push(format!("model.revision: without effect, {} is not on the hub", model.base));
    }
    if model.adapter.is_some() && *lora != (LoraConfig { dropout: lora.dropout, ..LoraConfig::default() }) {
        found.push("lora: rank, alpha and targets are without effect, those of model.adapter hold".to_owned());
    }
    for (key, source) in sources(recipe) {
        if let Some(hub) = source.hub.as_ref().filter(|hub| !is_commit(&hub.revision)) {
            found.push(unpinned(&format!("{key}.hub.revision"), &hub.dataset, &hub.revision));
        }
    }
    let is_trained_on = |key: &str| key.starts_with("data.train") || key.starts_with("forgetting.replay");
    for (key, held_out) in sources(recipe).filter(|(key, _)| !is_trained_on(key)) {
        if let Some(index) = data.train.iter().position(|source| same_file(source, held_out)) {
            found.push(format!(
                "{key}: the same file as data.train[{index}], so its figures say nothing about new questions"
            ));
        }
    }
    if data.validation.is_empty() && data.validation_fraction <= 0.0 {
        found.push(
            "data.validation: none, so no loss is measured during the run and the last adapter is the result; \
             set data.validation_fraction to 0.1 to set a tenth aside"
                .to_owned(),
        );
    }
    if eval.test.is_empty() {
        let instead = if data.validation.is_empty() { "has nothing to ask" } else { "asks the validation questions" };
        found.push(format!("eval.test: none, so `greffon eval` {instead}"));
    }
    let batch = train.global_batch_size;
    if let Some(records) = few_records(&data.train, batch) {
        let records = if records == 1 { "1 record".to_owned() } else { format!("{records} records") };
        found.push(format!("data.train: {records}, fewer than the {batch} of train.global_batch_size"));
    }
    if train.learning_rate > 5e-3 {
        let rate = train.learning_rate;
        found.push(format!("train.learning_rate: {rate:e} is far above what LoRA usually takes (1e-5 to 1e-3)"));
    }
    if output.join("recipe.yaml").exists() {
        found.push(format!("output: {} holds a run already", output.display()));
    }
    found
}

fn same_file(a: &SourceConfig, b: &SourceConfig) -> bool {
    (a.path.is_some() && a.path == b.path) || (a.hub.is_some() && a.hub == b.hub)
}

/// The number of training records, where all are JSON Lines on disk and they are fewer than `enough`.
fn few_records(train: &[SourceConfig], enough: usize) -> Option<usize> {
    let mut count = 0;
    for source in train {
        let path = source.path.as_deref().filter(|path| path.extension().is_some_and(|ending| ending == "jsonl"))?;
        let lines = BufReader::new(File::open(path).ok()?).lines();
        let records = lines.map_while(Result::ok).filter(|line| !line.trim().is_empty());
        count += records.take(source.limit.unwrap_or(usize::MAX).min(enough)).count();
        if count >= enough {
            return None;
        }
    }
    Some(count)
}
