//! The making of a set: sources, steps, selection, and the files of the set, in this order.
//!
//! A set is a folder: `answers.jsonl` is the [`Journal`], which only grows; `samples.jsonl` is what one trains on,
//! `report.json` says how it came about, and `README.md` and `croissant.json` describe it. Run again, it asks only what has
//! no answer yet; so a run that was killed goes on where it was.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::card;
use super::config::SynthConfig;
use super::document::{CountTokens, read_documents};
use super::method::Workshop;
use super::rejected::Rejected;
use super::sample::{Provenance, Sample};
use super::screening::{Gate, ScreenReport};
use super::select::{Scorer, select};
use super::teacher::ask::{Asking, Early, Progress};
use super::teacher::{Identity, Journal, Price, Spent, Teacher};
use crate::atomic;
use crate::error::DataError;
use crate::filter::{FilterReport, Filters, HeldOutQuestions};
use crate::hub::Hub;
use crate::peers::Peers;

/// The answers of the teacher.
pub const ANSWERS: &str = "answers.jsonl";
/// The samples.
pub const SAMPLES: &str = "samples.jsonl";
/// How they came about.
pub const REPORT: &str = "report.json";
/// The data card, as the hub shows it.
pub const CARD: &str = "README.md";
/// The set's description in Croissant's vocabulary.
pub const CROISSANT: &str = "croissant.json";

/// How a set came about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The recipe.
    pub recipe: SynthConfig,
    /// Who wrote; none where nobody was asked.
    pub teacher: Option<Identity>,
    /// Whether every step came to its end.
    pub finished: bool,
    /// Why it ended early.
    pub ended: Option<Early>,
    /// Documents read.
    pub documents: usize,
    /// Seeds read.
    pub seeds: usize,
    /// Samples made by each method, before they were filtered.
    pub made: BTreeMap<String, usize>,
    /// Samples kept.
    pub samples: usize,
    /// The same by method.
    pub methods: BTreeMap<String, usize>,
    /// The same by language.
    pub languages: BTreeMap<String, usize>,
    /// The same by the licence of what they rest on.
    pub licences: BTreeMap<String, usize>,
    /// What methods and models left out, and why.
    pub left_out: Rejected,
    /// What the rules left out, and how varied the rest is.
    pub filters: FilterReport,
    /// What was done with personal data and licences.
    pub screening: ScreenReport,
    /// What all answers took, those of earlier runs included.
    pub spent: Spent,
    /// The same in the currency of the price.
    pub cost: f64,
}

/// What a set is made with.
#[derive(Clone, Copy)]
pub struct Making<'a> {
    /// Who writes; none where no step asks anybody.
    pub teacher: Option<&'a dyn Teacher>,
    /// What its tokens cost.
    pub price: Price,
    /// How passages are measured.
    pub count_tokens: CountTokens<'a>,
    /// The model whose difficulty is asked for, where the recipe asks.
    pub scorer: Option<&'a dyn Scorer>,
    /// Where sources on the hub come from.
    pub hub: &'a Hub,
    /// Ends the work between two requests; what was answered is kept, and the set has what could be made of it.
    pub stop: &'a AtomicBool,
    /// The processes that make it together: all ask, and the first one writes.
    pub peers: &'a dyn Peers,
}

/// Makes a set in its folder, without a sample that holds one of the questions `held_out`. Returns how it came about, and
/// the samples: the same on any number of processes, as far as the teacher gives the same answers again.
///
/// # Errors
/// A source that cannot be read, has a licence that is not accepted, or personal data where that is refused; a teacher that
/// does not answer; a folder that cannot be written. What was answered up to then is in the folder.
pub fn make(
    config: &SynthConfig,
    making: Making<'_>,
    held_out: HeldOutQuestions,
    progress: &mut dyn FnMut(&str, Progress),
) -> Result<(Report, Vec<Sample>), DataError> {
    let filters = Filters::new(config.filters.clone(), None, held_out)?;
    let mut documents = read_documents(&config.documents)?;
    let mut gate = Gate::new(config)?;
    gate.check_licences(config, &documents)?;
    gate.documents(&mut documents)?;
    let Making { teacher, price, count_tokens, scorer, hub, stop, peers } = making;
    let seeds = read_seeds(config, hub, &mut gate)?;
    let folder = &config.output;
    if peers.rank() == 0 {
        std::fs::create_dir_all(folder).map_err(|source| DataError::Write { path: folder.clone(), source })?;
    }
    let journal = Mutex::new(Journal::open_together(&folder.join(ANSWERS), peers)?);
    let asking =
        teacher.map(|teacher| Asking { teacher, journal: &journal, budget: config.budget, price, stop, peers });
    let mut workshop = Workshop {
        config,
        documents: &documents,
        seeds: &seeds,
        hub,
        gate: &mut gate,
        asking,
        count_tokens,
        progress,
        rejected: Rejected::default(),
        early: None,
    };
    let mut samples = Vec::new();
    for step in &config.steps {
        let more = workshop.make(step, &samples)?;
        samples.extend(more);
    }
    let made = count(samples.iter().map(|sample| sample.provenance.method.clone()));
    let (samples, filtered) = select(&mut workshop, &filters, scorer, samples)?;
    let Workshop { mut rejected, early, .. } = workshop;
    let samples = gate.samples(samples, &mut rejected);
    let spent = journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).spent();
    let unknown = || "unknown".to_owned();
    let licence = |sample: &Sample| {
        let source = sample.grounding.as_ref().and_then(|grounding| grounding.licence.clone());
        source.or_else(|| sample.provenance.outputs_licence.clone()).unwrap_or_else(unknown)
    };
    let report = Report {
        recipe: config.clone(),
        teacher: teacher.map(|teacher| teacher.identity().clone()),
        finished: early.is_none(),
        ended: early,
        documents: documents.len(),
        seeds: seeds.len(),
        made,
        samples: samples.len(),
        methods: count(samples.iter().map(|sample| sample.provenance.method.clone())),
        languages: count(samples.iter().map(|sample| sample.lang.clone().unwrap_or_else(unknown))),
        licences: count(samples.iter().map(licence)),
        left_out: rejected,
        filters: filtered,
        screening: gate.report,
        spent,
        cost: spent.cost(price),
    };
    if peers.rank() == 0 {
        write(folder, &report, &samples)?;
    }
    Ok((report, samples))
}

/// The examples that steps begin with, screened.
fn read_seeds(config: &SynthConfig, hub: &Hub, gate: &mut Gate) -> Result<Vec<Sample>, DataError> {
    let mut seeds = Vec::new();
    for source in &config.seeds {
        for conversation in gate.read(source, hub)? {
            let made = Provenance::by_program("seed", conversation.origin.to_string(), config.seed);
            let provenance = Provenance { outputs_licence: source.licence.clone(), ..made };
            seeds.push(Sample::new(conversation.messages, None, provenance));
        }
    }
    Ok(seeds)
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    names.for_each(|name| *counts.entry(name).or_default() += 1);
    counts
}

/// Writes the files of the set, each as a whole or not at all; the samples first, since the others describe them.
fn write(folder: &Path, report: &Report, samples: &[Sample]) -> Result<(), DataError> {
    let lines: String =
        samples.iter().map(|sample| serde_json::to_string(sample).expect("plain data") + "\n").collect();
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let croissant =
        serde_json::to_string_pretty(&card::croissant(&name, report, samples, &lines)).expect("plain data") + "\n";
    let card = card::card(&name, report, samples);
    let report = serde_json::to_string_pretty(report).expect("plain data") + "\n";
    for (name, text) in [(SAMPLES, lines), (REPORT, report), (CARD, card), (CROISSANT, croissant)] {
        atomic::write(&folder.join(name), text.as_bytes())?;
    }
    Ok(())
}
