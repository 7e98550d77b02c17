//! Personal data on its way through a set: documents and seeds are screened before a teacher sees them, and what a teacher
//! adds is not let out.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde::Serialize;

use super::config::{StepConfig, SynthConfig};
use super::document::Document;
use super::rejected::Rejected;
use super::sample::Sample;
use crate::config::SourceConfig;
use crate::conversation::{Conversation, Origin};
use crate::error::DataError;
use crate::hub::Hub;
use crate::screen::{Action, Kind, Screened, Screening};
use crate::source::load_with;

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
    /// What seeds and prompts say, once it is screened.
    known: String,
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
        Ok(Self { screening: Screening::new(&config.screen)?, known: String::new(), report })
    }

    /// Checks the licences of documents, seeds and the teacher's outputs.
    ///
    /// # Errors
    /// The first licence that is not accepted, or is not named.
    pub(super) fn check_licences(&mut self, config: &SynthConfig, documents: &[Document]) -> Result<(), DataError> {
        let Some(rules) = &config.screen.licences else { return Ok(()) };
        let prompts = config.steps.iter().flat_map(|step| match step {
            StepConfig::SelfReplay(step) => step.prompts.as_slice(),
            _ => &[],
        });
        self.report.owed = config.screen.check_licences(config.seeds.iter().chain(prompts))?;
        let mut named =
            documents.iter().map(|document| (document.id.as_str(), document.licence.as_deref())).collect::<Vec<_>>();
        named.sort_by_key(|(_, licence)| *licence);
        named.dedup_by_key(|(_, licence)| *licence);
        let teacher =
            config.teacher.as_ref().map(|teacher| ("teacher.outputs_licence", teacher.outputs_licence.as_deref()));
        for (name, licence) in named.into_iter().chain(teacher) {
            self.report.owed.extend(rules.owed(Path::new(name), licence)?);
        }
        Ok(())
    }

    /// Screens documents; their digests stay those of the texts as they were read.
    ///
    /// # Errors
    /// [`ScreenError::Refused`](crate::ScreenError::Refused) when something is found and the action is to refuse.
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
            let origin = || Origin { path: Arc::from(Path::new(&document.id)), line: 1 };
            self.screening.let_in(&counts, origin)?;
            add(&mut self.report.sources, counts);
            if let Some(text) = text {
                document.text = text;
            }
        }
        Ok(())
    }

    /// Reads seeds, or the prompts of a step, and screens them.
    ///
    /// # Errors
    /// When the source cannot be read; [`ScreenError::Refused`](crate::ScreenError::Refused) when something is found and the
    /// action is to refuse.
    pub(super) fn read(&mut self, source: &SourceConfig, hub: &Hub) -> Result<Vec<Conversation>, DataError> {
        let mut conversations = load_with(source, Path::new(""), hub)?.conversations;
        for conversation in &mut conversations {
            add(&mut self.report.sources, self.screening.conversation(conversation)?);
            self.known.extend(conversation.messages.iter().flat_map(|message| [message.content.as_str(), "\n"]));
        }
        Ok(conversations)
    }

    /// Leaves out samples with personal data that neither their passage nor seeds and prompts have; with `report` counts only.
    pub(super) fn samples(&mut self, samples: Vec<Sample>, rejected: &mut Rejected) -> Vec<Sample> {
        let found: Vec<Vec<(Kind, bool)>> = samples
            .par_iter()
            .map(|sample| {
                let source = sample.grounding.as_ref().map_or(self.known.as_str(), |grounding| &grounding.context);
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
