//! The making of a set: documents, steps, filters, and the files of the set, in this order.
//!
//! A set is a folder: `answers.jsonl` is the [`Journal`], which only grows; `samples.jsonl` is what one trains on, and
//! `report.json` says how it came about. Run again, it asks only what has no answer yet; so a run that was killed goes on
//! where it was.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::config::{FiltersConfig, SynthConfig};
use super::document::{CountTokens, read_documents};
use super::method::{Rejected, Workshop};
use super::sample::Sample;
use super::teacher::ask::{Asking, Early, Progress};
use super::teacher::{Identity, Journal, Price, Spent, Teacher};
use crate::conversation::Role;
use crate::error::DataError;
use crate::probes::instructions::language_of;

/// The answers of the teacher.
pub const ANSWERS: &str = "answers.jsonl";
/// The samples.
pub const SAMPLES: &str = "samples.jsonl";
/// How they came about.
pub const REPORT: &str = "report.json";

/// How a set came about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The recipe.
    pub recipe: SynthConfig,
    /// Who wrote.
    pub teacher: Identity,
    /// Whether every step came to its end; else why not.
    pub finished: bool,
    /// Why it ended early.
    pub ended: Option<String>,
    /// Documents read.
    pub documents: usize,
    /// Samples kept.
    pub samples: usize,
    /// The same by language.
    pub languages: BTreeMap<String, usize>,
    /// The same by the licence of what they rest on.
    pub licences: BTreeMap<String, usize>,
    /// What was left out, and why.
    pub rejected: Rejected,
    /// What all answers took, those of earlier runs included.
    pub spent: Spent,
    /// The same in the currency of the price.
    pub cost: f64,
}

/// What a set is made with.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// Who writes.
    pub teacher: &'a dyn Teacher,
    /// What its tokens cost.
    pub price: Price,
    /// How passages are measured.
    pub count_tokens: CountTokens<'a>,
    /// Ends the work between two requests; what was answered is kept, and the set has what could be made of it.
    pub stop: &'a AtomicBool,
}

/// Makes a set in its folder. Returns how it came about, and the samples.
///
/// # Errors
/// A document that cannot be read; a teacher that does not answer; a folder that cannot be written. What was answered up
/// to then is in the folder.
pub fn make(
    config: &SynthConfig,
    making: Making<'_>,
    progress: &mut dyn FnMut(&str, Progress),
) -> Result<(Report, Vec<Sample>), DataError> {
    let documents = read_documents(&config.documents)?;
    let folder = &config.output;
    std::fs::create_dir_all(folder).map_err(|source| DataError::Write { path: folder.clone(), source })?;
    let journal = Mutex::new(Journal::open(&folder.join(ANSWERS))?);
    let Making { teacher, price, count_tokens, stop } = making;
    let asking = Asking { teacher, journal: &journal, budget: config.budget, price, stop };
    let (mut samples, mut early) = (Vec::new(), None);
    let rejected = Rejected::default();
    let mut workshop = Workshop { config, documents: &documents, asking, count_tokens, progress, rejected };
    for step in &config.steps {
        let (made, ended) = workshop.make(step)?;
        samples.extend(made);
        early = ended;
        if early.is_some() {
            break;
        }
    }
    let mut rejected = workshop.rejected;
    let samples = keep(samples, &config.filters, &mut rejected);
    let spent = journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).spent();
    let mut report = Report {
        recipe: config.clone(),
        teacher: teacher.identity().clone(),
        finished: early.is_none(),
        ended: early.map(|early| match early {
            Early::Budget(limit) => format!("{limit}, is reached"),
            Early::Stopped => "stopped".to_owned(),
        }),
        documents: documents.len(),
        samples: samples.len(),
        languages: BTreeMap::new(),
        licences: BTreeMap::new(),
        rejected,
        spent,
        cost: spent.cost(price),
    };
    for sample in &samples {
        let lang = sample.lang.clone().unwrap_or_else(|| "unknown".to_owned());
        *report.languages.entry(lang).or_default() += 1;
        let licence = sample.grounding.as_ref().and_then(|grounding| grounding.licence.clone());
        *report.licences.entry(licence.unwrap_or_else(|| "unknown".to_owned())).or_default() += 1;
    }
    write(folder, &report, &samples)?;
    Ok((report, samples))
}

/// What passes the filters, each sample once.
fn keep(samples: Vec<Sample>, filters: &FiltersConfig, rejected: &mut Rejected) -> Vec<Sample> {
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for mut sample in samples {
        let text = |role: Role| -> String {
            let own = sample.messages.iter().filter(|message| message.role == role);
            own.map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
        };
        let (user, answer) = (text(Role::User), text(Role::Assistant));
        let question = sample.grounding.as_ref().map_or(user, |grounding| grounding.question.clone());
        let words = |text: &str| text.split_whitespace().count();
        let within = |(least, most): (usize, usize), count: usize| (least..=most).contains(&count);
        let in_language = |text: &str| {
            let asked = filters.lang.as_deref();
            // A text that is too short to tell is let pass.
            asked.is_none_or(|asked| language_of(text).is_none_or(|found| found == asked))
        };
        let reason = if !within(filters.question_words, words(&question)) {
            Some("question too short or too long")
        } else if !within(filters.answer_words, words(&answer)) {
            Some("answer too short or too long")
        } else if !in_language(&question) {
            Some("another language")
        } else if !seen.insert(sample.id.clone()) {
            Some("the same again")
        } else {
            None
        };
        if let Some(reason) = reason {
            rejected.add(reason, &format!("{question}\n{answer}"));
        } else {
            sample.provenance.filters = ["length", "language", "exact duplicates"].map(str::to_owned).to_vec();
            kept.push(sample);
        }
    }
    kept
}

/// Writes samples and report, each as a whole or not at all.
fn write(folder: &Path, report: &Report, samples: &[Sample]) -> Result<(), DataError> {
    let lines: String =
        samples.iter().map(|sample| serde_json::to_string(sample).expect("plain data") + "\n").collect();
    let report = serde_json::to_string_pretty(report).expect("plain data") + "\n";
    for (name, text) in [(SAMPLES, lines), (REPORT, report)] {
        let path: PathBuf = folder.join(name);
        let failed = |source| DataError::Write { path: path.clone(), source };
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        std::io::Write::write_all(&mut file, text.as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
    }
    Ok(())
}
