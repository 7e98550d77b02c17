//! Asks records: which adapters learned from a sample, a document or a source, and so must be trained again without it.
//!
//! A sample that was made after another (`parents`) comes from that one and from its document. Since a chain of such
//! samples may lead through several adapters, all records are read, and again as long as one more sample is found.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use datasets::{SampleRecord, Split};
use serde::Serialize;

use super::{Data, Place, RunData};
use crate::error::TrainError;
use crate::model::adapter;

/// The samples of an adapter that are kept to be shown.
const SHOWN: usize = 20;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// A sample, by its id or by the SHA-256 over its messages. One with the same messages is the same sample.
    Sample(String),
    /// A document, by its name, its address or the SHA-256 of its text.
    Document(String),
    /// A source, by its file or the SHA-256 of that.
    Source(Source),
}

/// A source that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// As it was given.
    given: String,
    /// The path from the root, and with its links followed where it is there.
    paths: Vec<PathBuf>,
    /// SHA-256 of the file as it is now, where it is there.
    sha256: Option<String>,
}

impl Source {
    /// A source by its file, which need not be there any more, by its folder, by the end of its path, or by the SHA-256
    /// of the file.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub fn new(given: &str) -> Result<Self, TrainError> {
        let failed = |source| TrainError::Read { path: given.into(), source };
        let path = std::path::absolute(given).map_err(failed)?;
        let sha256 = path.is_file().then(|| datasets::sha256_files([&path])).transpose().map_err(failed)?;
        let paths = path.canonicalize().into_iter().chain([path]).collect();
        Ok(Self { given: given.to_owned(), paths, sha256 })
    }

    fn is(&self, path: &Path, sha256: Option<&str>) -> bool {
        let is_digest =
            |digest: &str| self.given.eq_ignore_ascii_case(digest) || self.sha256.as_deref() == Some(digest);
        sha256.is_some_and(is_digest)
            || self.paths.iter().any(|of| path.starts_with(of))
            || path.starts_with(&self.given)
            || path.ends_with(&self.given)
    }
}

/// What an adapter has of what is asked for, or of all samples where nothing is.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Found {
    /// The adapter's folder or file, or the run's folder.
    pub path: PathBuf,
    /// Samples that were learned.
    pub learned: u64,
    /// How many times they were trained on, added up.
    pub seen: u64,
    /// Samples that are in its data and were not trained on: held out for validation, or not reached.
    pub not_learned: u64,
    /// The base.
    pub base: Option<String>,
    /// When it was recorded, UTC.
    pub date: Option<String>,
    /// The step up to which samples are counted.
    pub step: Option<u64>,
    /// The first of the samples.
    pub samples: Vec<SampleRecord>,
    /// Adapters that it comes from whose samples nobody recorded.
    pub unknown: Vec<String>,
    /// Why its record cannot be used.
    pub damaged: Option<String>,
}

impl Found {
    /// Whether it cannot be told what the adapter learned.
    pub fn is_unknown(&self) -> bool {
        !self.unknown.is_empty()
    }
}

/// What a run has of one source.
#[derive(Clone, Debug, Serialize)]
pub struct OfSource {
    /// What the run does with these samples.
    pub split: Split,
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Option<String>,
    /// Its licence.
    pub licence: Option<String>,
    /// What was found.
    #[serde(flatten)]
    pub counts: Counts,
}

/// How many samples there are of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Samples.
    pub samples: u64,
    /// Those that were learned.
    pub learned: u64,
    /// How many times they were trained on, added up.
    pub seen: u64,
}

impl Counts {
    fn add(&mut self, sample: &SampleRecord) {
        self.samples += 1;
        self.learned += u64::from(sample.seen > 0);
        self.seen += sample.seen;
    }
}

/// What a run learned from, in short.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The entry of the manifest.
    #[serde(flatten)]
    pub run: RunData,
    /// By source.
    pub by_source: Vec<OfSource>,
    /// By document; samples that name none are not among them.
    pub by_document: BTreeMap<String, Counts>,
}

/// An adapter whose record was looked for.
struct Recorded {
    found: Found,
    /// The entries of its manifest, with their files, which were checked.
    runs: Vec<(RunData, PathBuf)>,
}

/// What each place learned of what is asked for; of everything where nothing is asked.
///
/// A record that was altered does not end the search: it stands in [`Found::damaged`].
///
/// # Errors
/// When a manifest or a record cannot be read.
pub fn trace(places: &[Place], query: Option<&Query>) -> Result<Vec<Found>, TrainError> {
    let mut all = places.iter().map(Recorded::open).collect::<Result<Vec<_>, _>>()?;
    let mut family = Family::new(query);
    // What is found by its own words first; then what was made after it, until nothing more is.
    while family.grown {
        family.grown = false;
        for recorded in &all {
            recorded.read(|run, sample| {
                family.takes(run, sample);
            })?;
        }
    }
    for recorded in &mut all {
        let mut found = std::mem::take(&mut recorded.found);
        recorded.read(|run, sample| {
            if family.takes(run, sample) {
                found.add(sample);
            }
        })?;
        recorded.found = found;
    }
    Ok(all.into_iter().map(|recorded| recorded.found).collect())
}

/// What the runs of a place learned from, in short.
///
/// # Errors
/// When the record was altered or cannot be read.
pub fn summary(place: &Place, data: &Data) -> Result<Vec<Summary>, TrainError> {
    let of_run = |run: &RunData| {
        let mut by_source: Vec<OfSource> = run
            .sources
            .iter()
            .map(|source| OfSource {
                split: source.split,
                path: source.path.clone(),
                sha256: source.sha256.clone(),
                licence: source.licence.clone(),
                counts: Counts::default(),
            })
            .collect();
        let mut by_document: BTreeMap<String, Counts> = BTreeMap::new();
        place.samples(run, |sample| {
            let source = by_source.iter_mut().find(|of| of.split == sample.split && of.path == sample.source);
            if let Some(source) = source {
                source.counts.add(&sample);
            }
            if let Some(document) = sample.ancestry.document.as_ref().or(sample.ancestry.document_sha256.as_ref()) {
                by_document.entry(document.clone()).or_default().add(&sample);
            }
        })?;
        Ok(Summary { run: run.clone(), by_source, by_document })
    };
    data.runs.iter().map(of_run).collect()
}

/// The samples that were found, and what is made after them.
struct Family<'a> {
    query: Option<&'a Query>,
    ids: HashSet<String>,
    /// Of the messages of the samples themselves, for a sample is asked for by its content too.
    digests: HashSet<String>,
    grown: bool,
}

impl<'a> Family<'a> {
    fn new(query: Option<&'a Query>) -> Self {
        let ids = match query {
            // A seed may not have been learned itself.
            Some(Query::Sample(id)) => HashSet::from([id.clone()]),
            _ => HashSet::new(),
        };
        Self { query, ids, digests: HashSet::new(), grown: query.is_some() }
    }

    /// Whether a sample is among them; takes it in.
    fn takes(&mut self, run: &RunData, sample: &SampleRecord) -> bool {
        let itself = match self.query {
            None => return true,
            Some(Query::Sample(asked)) => {
                let same = sample.id == *asked
                    || sample.sha256.eq_ignore_ascii_case(asked)
                    || self.digests.contains(&sample.sha256);
                if same && self.digests.insert(sample.sha256.clone()) {
                    self.grown = true;
                }
                same
            }
            Some(Query::Document(asked)) => {
                let is_asked = |name: &String| name == asked;
                [&sample.ancestry.document, &sample.ancestry.url].into_iter().flatten().any(is_asked)
                    || sample.ancestry.document_sha256.as_ref().is_some_and(|digest| digest.eq_ignore_ascii_case(asked))
            }
            Some(Query::Source(source)) => {
                let same = |of: &&datasets::SourceRecord| of.split == sample.split && of.path == sample.source;
                let sha256 = run.sources.iter().find(same).and_then(|of| of.sha256.as_deref());
                source.is(&sample.source, sha256)
            }
        };
        let found = itself || sample.ancestry.parents.iter().any(|parent| self.ids.contains(parent));
        if found && self.ids.insert(sample.id.clone()) {
            self.grown = true;
        }
        found
    }
}

impl Recorded {
    fn open(place: &Place) -> Result<Self, TrainError> {
        let mut found = Found { path: place.path.clone(), ..Found::default() };
        let Some(Data { runs, unknown }) = place.data()? else {
            found.base = named_base(place);
            found.unknown = vec![place.path.display().to_string()];
            return Ok(Self { found, runs: Vec::new() });
        };
        found.unknown = unknown;
        if let Some(run) = runs.first() {
            (found.base, found.date) = (Some(run.base.clone()), Some(run.date.clone()));
            found.step = Some(run.step);
        }
        let mut checked = Vec::with_capacity(runs.len());
        for run in runs {
            if !place.samples_file(&run)?.exists() {
                // Such as an adapter from the hub, where the record of its samples does not go.
                found.unknown.push(place.path.display().to_string());
                continue;
            }
            match place.checked(&run) {
                Ok(path) => checked.push((run, path)),
                Err(error) => {
                    found.damaged.get_or_insert(error.with_causes());
                }
            }
        }
        Ok(Self { found, runs: checked })
    }

    fn read(&self, mut visit: impl FnMut(&RunData, &SampleRecord)) -> Result<(), TrainError> {
        for (run, path) in &self.runs {
            datasets::read_samples(path, |sample| visit(run, &sample))?;
        }
        Ok(())
    }
}

impl Found {
    fn add(&mut self, sample: &SampleRecord) {
        if sample.seen > 0 {
            self.learned += 1;
            self.seen += sample.seen;
        } else {
            self.not_learned += 1;
        }
        if self.samples.len() < SHOWN {
            self.samples.push(sample.clone());
        }
    }
}

/// The base that an adapter's configuration names.
fn named_base(place: &Place) -> Option<String> {
    let [config, _] = adapter::files(&place.path);
    let [of_run, _] = adapter::files(&place.path.join("adapter"));
    let text = fs::read(config).or_else(|_| fs::read(of_run)).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(config.get("base_model_name_or_path")?.as_str()?.to_owned())
}
