//! How samples are made: a file a method, each with its paper.

mod grounded;
mod prompts;
mod spans;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Serialize;

use super::config::{StepConfig, Style, SynthConfig};
use super::document::{CountTokens, Document};
use super::sample::{Provenance, Sample};
use super::teacher::ask::{Answer, Asking, Early, Progress, ask};
use super::teacher::{Prompt, Request, Sampling};
use crate::conversation::{Message, Role};
use crate::error::DataError;

/// Of each reason, how many rejected texts are kept.
const EXAMPLES: usize = 3;

/// What a method works with.
pub struct Workshop<'a> {
    /// The recipe.
    pub config: &'a SynthConfig,
    /// The documents.
    pub documents: &'a [Document],
    /// Who is asked.
    pub asking: Asking<'a>,
    /// How passages are measured.
    pub count_tokens: CountTokens<'a>,
    /// Told of each answer: what is under way, and how far it is.
    pub progress: &'a mut dyn FnMut(&str, Progress),
    /// What was left out.
    pub rejected: Rejected,
}

/// What was left out, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rejected(pub BTreeMap<String, Reason>);

/// One reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// How often.
    pub count: usize,
    /// Some of the texts.
    pub examples: Vec<String>,
}

impl Rejected {
    /// Counts a text that is left out.
    pub fn add(&mut self, reason: &str, text: &str) {
        let entry = self.0.entry(reason.to_owned()).or_default();
        entry.count += 1;
        if entry.examples.len() < EXAMPLES {
            entry.examples.push(text.chars().take(300).collect());
        }
    }
}

/// A text that the teacher wrote, and the key of its answer.
struct Written {
    text: String,
    key: String,
}

impl Workshop<'_> {
    /// Makes the samples of one step. The second says why it ended early, if it did.
    ///
    /// # Errors
    /// When the teacher as a whole does not answer, or an answer cannot be kept.
    pub fn make(&mut self, step: &StepConfig) -> Result<(Vec<Sample>, Option<Early>), DataError> {
        match step {
            StepConfig { grounded: Some(config) } => grounded::make(self, config),
            // Refused where recipes are read.
            StepConfig { grounded: None } => Ok((Vec::new(), None)),
        }
    }

    /// Asks; gives the text of each answer, where there is one. What failed or was cut off is counted as left out.
    fn ask(&mut self, what: &str, requests: &[Request]) -> Result<(Vec<Option<Written>>, Option<Early>), DataError> {
        let identity = self.asking.teacher.identity();
        let progress = &mut *self.progress;
        let (answers, early) = ask(self.asking, requests, &mut |at| progress(what, at))?;
        let mut texts = Vec::with_capacity(answers.len());
        for (answer, request) in answers.into_iter().zip(requests) {
            texts.push(match answer {
                Answer::Written(completion) if !completion.finished => {
                    self.rejected.add("cut off at the limit", &completion.text);
                    None
                }
                Answer::Written(completion) if completion.text.trim().is_empty() => {
                    self.rejected.add("empty", "");
                    None
                }
                Answer::Written(completion) => {
                    Some(Written { text: completion.text, key: super::teacher::key(identity, request) })
                }
                Answer::Failed(reason) => {
                    self.rejected.add("not answered", &reason);
                    None
                }
                Answer::NotAsked => None,
            });
        }
        Ok((texts, early))
    }

    /// A request in the teacher's style. A completion ends with its line.
    fn request(&self, text: String, temperature: f64, max_tokens: usize, seed: u64) -> Request {
        let (prompt, stop) = match self.config.teacher.style {
            Style::Chat => (Prompt::Chat(vec![Message { role: Role::User, content: text }]), Vec::new()),
            Style::Completion => (Prompt::Text(text), vec!["\n".to_owned()]),
        };
        Request { prompt, sampling: Sampling { temperature, top_p: 1.0, max_tokens, seed, stop } }
    }

    fn provenance(&self, method: &str, prompt: &str, seed: u64, answers: Vec<String>) -> Provenance {
        let identity = self.asking.teacher.identity();
        Provenance {
            method: method.to_owned(),
            prompt: prompts::version(prompt),
            teacher: Some(identity.model.clone()),
            revision: identity.revision.clone(),
            seed,
            answers,
            parents: Vec::new(),
            outputs_licence: self.config.teacher.outputs_licence.clone(),
            filters: Vec::new(),
        }
    }
}
