//! Personal data on its way through a set: documents and seeds are screened before a teacher sees them, and what a teacher
//! adds is not let out.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::config::SynthConfig;
use super::document::Document;
use super::rejected::Rejected;
use super::sample::Sample;
use crate::conversation::{Conversation, Origin};
use crate::error::{DataError, ScreenError};
use crate::screen::{Action, Kind, Screened, Screening};

/// What screening did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ScreenReport {
    /// What was done with what was found.
    pub action: Action,
    /// What was found in documents and seeds.
    pub sources: Screened,
    /// What was found in the samples, masks and aliases of their sources included.
    pub samples: Screened,
    /// What licences ask for, a line each.
    pub owed: Vec<String>,
}

/// The screening of a set.
pub(super) struct Gate {
    screening: Screening,
    pub(super) report: ScreenReport,
}

impl Gate {
    /// As the recipe says.
    ///
    /// # Errors
    /// When a key that is needed cannot be had.
    pub(super) fn new(config: &SynthConfig) -> Result<Self, DataError> {
        let report = ScreenReport {
            action: config.screen.action,
            sources: Screened::new(),
            samples: Screened::new(),
            owed: Vec::new(),
        };
        Ok(Self { screening: Screening::new(&config.screen)?, report })
    }

    /// Checks the licences of documents, seeds and the teacher's outputs.
    ///
    /// # Errors
    /// [`ScreenError::NoLicence`] and [`ScreenError::Licence`] with the first that is not accepted.
    pub(super) fn check_licences(&mut self, config: &SynthConfig, documents: &[Document]) -> Result<(), DataError> {
        let Some(rules) = &config.screen.licences else { return Ok(()) };
        self.report.owed = config.screen.check_licences(&config.seeds)?;
        let mut named =
            documents.iter().map(|document| (document.id.as_str(), document.licence.as_deref())).collect::<Vec<_>>();
        named.sort_by_key(|(_, licence)| *licence);
        named.dedup_by_key(|(_, licence)| *licence);
        let teacher =
            config.teacher.as_ref().map(|teacher| ("teacher.outputs_licence", teacher.outputs_licence.as_deref()));
        for (name, licence) in named.into_iter().chain(teacher) {
            let (licence, asks) = rules.check(Path::new(name), licence)?;
            if asks != crate::screen::Owed::default() {
                self.report.owed.push(format!("{name}: {} asks for {asks}", licence.name()));
            }
        }
        Ok(())
    }

    /// Screens documents; their digests stay those of the texts as they were read.
    ///
    /// # Errors
    /// [`ScreenError::Refused`] when something is found and the action is to refuse.
    pub(super) fn documents(&mut self, documents: &mut [Document]) -> Result<(), DataError> {
        let screened: Vec<(Screened, Option<String>)> = documents
            .par_iter()
            .map(|document| {
                let mut counts = Screened::new();
                let count = |_, finding: &crate::screen::Finding| *counts.entry(finding.kind).or_default() += 1;
                let text = self.screening.texts(&[&document.text], count).pop().flatten();
                (counts, text)
            })
            .collect();
        for (document, (counts, text)) in documents.iter_mut().zip(screened) {
            if self.report.action == Action::Refuse
                && let Some((kind, count)) = counts.first_key_value()
            {
                let origin = Origin { path: Arc::from(Path::new(&document.id)), line: 1 };
                let count = usize::try_from(*count).unwrap_or(usize::MAX);
                return Err(ScreenError::Refused { origin, kind: *kind, count }.into());
            }
            add(&mut self.report.sources, counts);
            if let Some(text) = text {
                document.text = text;
            }
        }
        Ok(())
    }

    /// Screens a seed.
    ///
    /// # Errors
    /// [`ScreenError::Refused`] when something is found and the action is to refuse.
    pub(super) fn seed(&mut self, seed: &mut Conversation) -> Result<(), DataError> {
        add(&mut self.report.sources, self.screening.conversation(seed)?);
        Ok(())
    }

    /// Leaves out samples with personal data that their passage or the seeds do not have; with `report` counts only.
    pub(super) fn samples(&mut self, samples: Vec<Sample>, seeds: &[Sample], rejected: &mut Rejected) -> Vec<Sample> {
        let known: String =
            seeds.iter().flat_map(|seed| &seed.messages).map(|message| message.content.as_str()).collect();
        let found: Vec<Vec<(Kind, bool)>> = samples
            .par_iter()
            .map(|sample| {
                let source = sample.grounding.as_ref().map_or(known.as_str(), |grounding| &grounding.context);
                let texts: Vec<&str> = sample.messages.iter().map(|message| message.content.as_str()).collect();
                let mut found = Vec::new();
                self.screening.texts(&texts, |number, finding| {
                    found.push((finding.kind, source.contains(&texts[number][finding.range.clone()])));
                });
                found
            })
            .collect();
        let mut kept = Vec::new();
        for (mut sample, found) in samples.into_iter().zip(found) {
            let added = found.iter().find(|(_, is_known)| !is_known);
            if let (Some((kind, _)), false) = (added, self.report.action == Action::Report) {
                // The text itself is what must not be kept.
                rejected.add(&format!("personal data that its sources do not have: {kind}"), &sample.id);
                continue;
            }
            for (kind, _) in &found {
                *self.report.samples.entry(*kind).or_default() += 1;
            }
            sample.provenance.filters.push("screening".to_owned());
            kept.push(sample);
        }
        kept
    }
}

fn add(sum: &mut Screened, counts: Screened) {
    for (kind, count) in counts {
        *sum.entry(kind).or_default() += count;
    }
}
