//! Catastrophic forgetting: measured against the base, limited by a gate, and repaired.
//!
//! `suite` has the questions, [`crate::eval::tasks`] scores one model on them, `comparison`, `divergence` and `chat` put
//! base and adapted model side by side, `gate` judges, and `scale` looks for a smaller scale of the adapter that passes.
//! What holds forgetting back during training is in [`crate::train`].

pub mod cache;
pub mod chat;
pub mod comparison;
pub mod divergence;
pub mod gate;
pub mod scale;
pub mod suite;
mod watch;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::tensor::Device;
use datasets::{ChatTokenizer, Contaminated, Hub};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cluster::{Collective, from_first};
use crate::error::TrainError;
use crate::eval::Subject;
use crate::eval::statistics::resample;
use crate::eval::tasks::{self, TaskScores};
use crate::model::Decoder;
use crate::prove::{Export, ForgettingNote, Manifest};
use crate::recipe::{ForgettingConfig, Recipe};
use crate::track::{ForgettingRecord, RunFolder};

use cache::{Keys, ScoreCache};
use chat::{ChatAnswer, ChatDrift};
use comparison::{Pair, TaskComparison};
use divergence::{Divergence, TextDivergence, divergences};
use gate::Verdict;
use suite::Questions;
pub use watch::Watch;

/// How many questions that were trained on a warning names.
const SHOWN: usize = 5;

/// What is compared.
#[derive(Clone, Copy)]
pub struct Models<'a> {
    /// The base, outside autodiff.
    pub base: &'a Decoder,
    /// The adapted model, outside autodiff.
    pub adapted: &'a Decoder,
    /// Their tokenizer.
    pub tokenizer: &'a ChatTokenizer,
    /// Where they lie.
    pub device: &'a Device,
    /// The ranks that measure together.
    pub collective: &'a dyn Collective,
}

impl Forgetting {
    /// Keeps it in a run folder, and what matters of it in the manifest of the run's adapter.
    ///
    /// # Errors
    /// When a file cannot be written; the one before stays.
    pub fn save(&self, folder: &RunFolder) -> Result<(), TrainError> {
        let path = folder.forgetting();
        let failed = |error: serde_json::Error| TrainError::Write { path: path.clone(), source: error.into() };
        let text = serde_json::to_string_pretty(self).map_err(failed)? + "\n";
        adapters::write_atomic(&path, true, |out| out.write_all(text.as_bytes()))?;
        self.note_in(&Export::open(&folder.adapter())?)
    }

    /// Writes what matters of it into the manifest of an adapter.
    ///
    /// # Errors
    /// When the file cannot be written; the one before stays.
    pub fn note_in(&self, adapter: &Export) -> Result<(), TrainError> {
        Manifest::note_forgetting(adapter, self.note())
    }

    /// What a manifest tells of it.
    fn note(&self) -> ForgettingNote {
        ForgettingNote {
            passed: self.verdict.passed,
            date: self.date.clone(),
            questions_digest: self.questions_digest.clone(),
            adapter_digest: self.adapter_digest.clone(),
            average_difference: self.average.map(|average| average.difference),
            kl: self.kl(),
            beyond: self.verdict.beyond(),
            accepted: None,
        }
    }

    /// The run's record of it.
    pub fn record(&self, step: u64) -> ForgettingRecord {
        ForgettingRecord {
            step,
            passed: self.verdict.passed,
            average_difference: self.average.map(|average| average.difference),
            kl: self.kl(),
            forgetting_seconds: self.seconds,
        }
    }

    /// The divergence from the base by language, in nats per token.
    fn kl(&self) -> BTreeMap<String, f64> {
        self.divergences.iter().map(|d| (d.lang.clone().unwrap_or_default(), d.kl)).collect()
    }
}

/// What a measurement is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The base answers.
    Base,
    /// The adapted model answers.
    Adapter,
    /// Both are compared on general text.
    Difference,
}

/// How far the questioning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is under way.
    pub model: Asked,
    /// Questions answered.
    pub done: usize,
    /// Of how many.
    pub total: usize,
}

/// What one model answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Task by task.
    pub tasks: Vec<TaskScores>,
    /// To the turns of the chat format; empty for a model without a chat template.
    pub chat: Vec<ChatAnswer>,
}

/// What an adapted model forgot: the whole comparison, `forgetting.json` in a run folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forgetting {
    /// Version of greffon.
    pub greffon_version: String,
    /// When, UTC.
    pub date: String,
    /// SHA-256 of the adapter's two files; none for an adapter in training.
    pub adapter_digest: Option<String>,
    /// SHA-256 over all that was asked.
    pub questions_digest: String,
    /// Task by task.
    pub tasks: Vec<TaskComparison>,
    /// The mean accuracy over the tasks on which the base is above chance; `None` where there are none.
    pub average: Option<Average>,
    /// The divergence from the base, language by language.
    pub divergences: Vec<Divergence>,
    /// The chat format; `None` for a model without a chat template.
    pub chat: Option<ChatDrift>,
    /// What the gate says.
    pub verdict: Verdict,
    /// Wall-clock seconds of the measurement.
    pub seconds: f64,
    /// Whether the base's answers were those of an earlier time.
    pub base_from_cache: bool,
}

/// The mean over the tasks whose answers are right or wrong, and on which the base is above chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Average {
    /// The base's.
    pub base: f64,
    /// The adapted model's.
    pub adapted: f64,
    /// `adapted - base`.
    pub difference: f64,
    /// Its 95 % interval, by the bootstrap within each task.
    pub interval: (f64, f64),
}

/// Questions both models, or takes the answers of an earlier time, and judges the difference.
///
/// # Errors
/// When a text cannot be tokenised; whatever `progress` ends the work with.
pub fn measure(
    models: Models<'_>,
    questions: &Questions,
    config: &ForgettingConfig,
    contaminated: &[String],
    (cache, keys): (&ScoreCache, &Keys),
    progress: &mut dyn FnMut(Progress) -> Result<(), TrainError>,
) -> Result<Forgetting, TrainError> {
    let started = Instant::now();
    let Models { base, adapted, tokenizer, device, collective } = models;
    let digest = questions.digest();
    let mut ask = |model: Asked, decoder: &Decoder, key: Option<&String>| {
        let key = key.map(|key| cache::key(&[key, &digest]));
        if let Some(kept) = kept::<Answers>(collective, cache, key.as_deref())? {
            return Ok((kept, true));
        }
        let total = questions.items.len() + questions.chat.len();
        let subject = Subject { decoder, tokenizer, device, collective };
        let answers = answers(&subject, questions, &mut |done| progress(Progress { model, done, total }))?;
        if let Some(key) = key {
            cache.put(&key, &answers);
        }
        Ok::<_, TrainError>((answers, false))
    };
    let (before, base_from_cache) = ask(Asked::Base, base, Some(&keys.base))?;
    let (after, _) = ask(Asked::Adapter, adapted, keys.adapted.as_ref())?;

    let key = keys.adapted.as_deref().map(|key| cache::key(&[key, &digest, "divergence"]));
    let texts = if let Some(kept) = kept::<Vec<TextDivergence>>(collective, cache, key.as_deref())? {
        kept
    } else {
        let total = questions.texts();
        let mut told = |done| progress(Progress { model: Asked::Difference, done, total });
        let subject = Subject { decoder: adapted, tokenizer, device, collective };
        let texts = divergences(&subject, base, &questions.items, &mut told)?;
        if let Some(key) = key {
            cache.put(&key, &texts);
        }
        texts
    };
    let pairs = Pair::all(&before.tasks, &after.tasks);
    Ok(Forgetting {
        greffon_version: env!("CARGO_PKG_VERSION").to_owned(),
        date: jiff::Timestamp::now().to_string(),
        adapter_digest: None,
        questions_digest: digest,
        tasks: pairs.iter().map(Pair::compare).collect(),
        average: average(&pairs),
        divergences: divergence::summarise(&texts),
        chat: ChatDrift::new(&before.chat, &after.chat),
        verdict: Verdict::new(&pairs, &texts, config, contaminated.to_vec()),
        seconds: started.elapsed().as_secs_f64(),
        base_from_cache,
    })
}

/// What rank 0 has kept under a key, so that all ranks ask or none.
fn kept<T: Serialize + DeserializeOwned>(
    collective: &dyn Collective,
    cache: &ScoreCache,
    key: Option<&str>,
) -> Result<Option<T>, TrainError> {
    from_first(collective, || Ok(key.and_then(|key| cache.get(key))))
}

/// The questions that the training data of a recipe holds, by name; a warning tells of them.
///
/// # Errors
/// When a source cannot be read.
fn contaminated(questions: &Questions, recipe: &Recipe, hub: &Hub) -> Result<Vec<String>, TrainError> {
    let mut sources = recipe.data.train.clone();
    sources.extend(recipe.forgetting.replay.iter().flat_map(|replay| replay.sources.iter().cloned()));
    // Paths are absolute by now.
    let found = datasets::contaminated(&questions.items, &sources, Path::new(""), hub)?;
    for Contaminated { item, origin, words } in found.iter().take(SHOWN) {
        let id = &questions.items[*item].id;
        tracing::warn!("question {id} stands in the training data: {origin}: \"{words}\"");
    }
    if found.len() > SHOWN {
        tracing::warn!("and {} further questions stand in the training data", found.len() - SHOWN);
    }
    Ok(found.iter().map(|found| questions.items[found.item].id.clone()).collect())
}

/// Questions one model.
///
/// # Errors
/// As [`measure`].
pub fn answers(
    subject: &Subject<'_>,
    questions: &Questions,
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Answers, TrainError> {
    let tasks = tasks::score(subject, &questions.items, progress)?;
    let asked = questions.items.len();
    let chat = match subject.tokenizer.template() {
        Ok(_) => chat::ask(subject, &questions.chat, &mut |done| progress(asked + done))?,
        Err(_) => Vec::new(),
    };
    Ok(Answers { tasks, chat })
}

fn average(pairs: &[Pair<'_>]) -> Option<Average> {
    let tasks: Vec<&Pair<'_>> = gate::averaged(pairs);
    if tasks.is_empty() {
        return None;
    }
    let mean = |of: fn(&Pair<'_>) -> f64| tasks.iter().map(|pair| of(pair)).sum::<f64>() / tasks.len() as f64;
    let (base, adapted) = (mean(|pair| pair.base.mean()), mean(|pair| pair.adapted.mean()));
    let losses: Vec<_> = tasks.iter().map(|pair| pair.losses()).collect();
    let (low, high) = resample(&losses).interval(0.95);
    Some(Average { base, adapted, difference: adapted - base, interval: (-high, -low) })
}
