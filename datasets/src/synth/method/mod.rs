//! How samples are made: a file a method, each with its paper.
//!
//! A method asks through the [`Workshop`], which keeps count of what is left out; what it makes goes to the next step, and
//! all of it to the filters.

mod evolve;
mod grounded;
mod magpie;
mod paraphrase;
mod personas;
mod prompts;
mod self_instruct;
mod self_replay;
mod spans;
#[cfg(test)]
mod tests;
mod translate;
mod written;

use minijinja::Value;

use super::config::{StepConfig, Style, SynthConfig};
use super::document::{CountTokens, Document};
use super::rejected::Rejected;
use super::sample::{Provenance, Sample};
use super::screening::Gate;
use super::teacher::ask::{Answer, Answered, Asking, Early, Progress, ask};
use super::teacher::{Prompt, Request, Sampling};
use super::template;
use crate::conversation::{Message, Role};
use crate::error::{DataError, SynthError};
use crate::hub::Hub;

pub(super) use self::written::{Written, numbers};

/// The most tokens of a question, of an instruction, or of an answer that is a span.
pub(super) const LINE_TOKENS: usize = 96;

/// What a method works with.
pub struct Workshop<'a> {
    /// The recipe.
    pub config: &'a SynthConfig,
    /// The documents.
    pub documents: &'a [Document],
    /// The examples that steps begin with.
    pub seeds: &'a [Sample],
    /// Where sources on the hub come from.
    pub hub: &'a Hub,
    /// What every source goes through before a teacher sees it.
    pub(super) gate: &'a mut Gate,
    /// Who is asked; none where no step asks anybody.
    pub asking: Option<Asking<'a>>,
    /// How passages are measured.
    pub count_tokens: CountTokens<'a>,
    /// Told of each answer: what is under way, and how far it is.
    pub progress: &'a mut dyn FnMut(&str, Progress),
    /// What was left out.
    pub rejected: Rejected,
    /// Why the asking ended before its last request; nothing is asked from then on.
    pub early: Option<Early>,
}

/// One thing that the teacher is asked for.
pub(super) struct Task {
    /// The prompt's name.
    pub(super) prompt: &'static str,
    /// What the prompt is filled with.
    pub(super) values: Value,
    /// The language of the answer.
    pub(super) lang: String,
    pub(super) temperature: f64,
    pub(super) max_tokens: usize,
    pub(super) seed: u64,
}

/// A conversation that waits for its answer, and how it came about.
pub(super) struct Open {
    messages: Vec<Message>,
    lang: String,
    /// The prompt that its question was asked for with.
    prompt: String,
    /// The answers that it is made of.
    keys: Vec<String>,
    parents: Vec<String>,
    seed: u64,
}

impl Open {
    /// The request that a task gave, which now wants its answer.
    fn new(task: Task, request: &str, key: String, parents: Vec<String>) -> Self {
        Self {
            messages: vec![Message { role: Role::User, content: request.to_owned() }],
            lang: task.lang,
            prompt: prompts::version(task.prompt),
            keys: vec![key],
            parents,
            seed: task.seed,
        }
    }
}

impl Workshop<'_> {
    /// Makes the samples of one step, which may begin with those made `before`.
    ///
    /// # Errors
    /// When the teacher as a whole does not answer, an answer cannot be kept, or a source of the step cannot be read.
    pub fn make(&mut self, step: &StepConfig, before: &[Sample]) -> Result<Vec<Sample>, DataError> {
        let start = if before.is_empty() { self.seeds } else { before };
        match step {
            StepConfig::Grounded(config) => grounded::make(self, config),
            StepConfig::SelfInstruct(config) => self_instruct::make(self, config),
            StepConfig::Evolve(config) => evolve::make(self, config, start),
            StepConfig::Magpie(config) => magpie::make(self, config),
            StepConfig::Paraphrase(config) => paraphrase::make(self, config, start),
            StepConfig::Translate(config) => translate::make(self, config, start),
            StepConfig::Personas(config) => personas::make(self, config),
            StepConfig::SelfReplay(config) => self_replay::make(self, config),
            StepConfig::Template(config) => template::make(config, self.config.seed),
        }
    }

    /// How the teacher is spoken to.
    pub(super) fn style(&self) -> Style {
        self.config.teacher.as_ref().map(|teacher| teacher.style).unwrap_or_default()
    }

    /// Asks for one line each. What is no answer is counted as left out.
    pub(super) fn write(&mut self, what: &str, tasks: &[Task]) -> Result<Vec<Option<Written>>, DataError> {
        let style = self.style();
        let request = |task: &Task| {
            let text = prompts::render(task.prompt, style, &task.lang, &task.values);
            // A completion ends with its line.
            let (prompt, stop) = match style {
                Style::Chat => (Prompt::Chat(vec![Message { role: Role::User, content: text }]), Vec::new()),
                Style::Completion => (Prompt::Text(text), vec!["\n".to_owned()]),
            };
            let Task { temperature, max_tokens, seed, .. } = *task;
            Request { prompt, sampling: Sampling { temperature, top_p: 1.0, max_tokens, seed, stop } }
        };
        self.ask(what, &tasks.iter().map(request).collect::<Vec<_>>())
    }

    /// Asks; gives each answer, where there is one. What failed or was cut off is counted as left out.
    fn ask(&mut self, what: &str, requests: &[Request]) -> Result<Vec<Option<Written>>, DataError> {
        if self.early.is_some() || requests.is_empty() {
            return Ok(requests.iter().map(|_| None).collect());
        }
        let Some(asking) = self.asking else {
            let reason = format!("there is none to ask for {what}; name one in the recipe");
            return Err(SynthError::Teacher { teacher: "none".to_owned(), reason }.into());
        };
        let progress = &mut *self.progress;
        let (answers, early) = ask(asking, requests, &mut |at| progress(what, at))?;
        self.early = early;
        let rejected = &mut self.rejected;
        let written = answers.into_iter().map(|Answered { key, answer }| match answer {
            Answer::Written(completion) if !completion.finished => {
                rejected.add("cut off at the limit", &completion.text);
                None
            }
            Answer::Written(completion) if completion.text.trim().is_empty() => {
                rejected.add("empty", "");
                None
            }
            Answer::Written(completion) => Some(Written { text: completion.text, key }),
            Answer::Failed(reason) => {
                rejected.add("not answered", &reason);
                None
            }
            Answer::NotAsked => None,
        });
        Ok(written.collect())
    }

    /// Has the teacher answer conversations, each of which becomes a sample.
    fn answer(
        &mut self,
        method: &str,
        open: Vec<Open>,
        temperature: f64,
        max_tokens: usize,
    ) -> Result<Vec<Sample>, DataError> {
        let style = self.style();
        let request = |open: &Open| {
            let last = || open.messages.last().map(|message| message.content.as_str()).unwrap_or_default();
            let (prompt, stop) = match style {
                Style::Chat => (Prompt::Chat(open.messages.clone()), Vec::new()),
                Style::Completion => {
                    let values = minijinja::context! { instruction => last() };
                    (Prompt::Text(prompts::render("respond", style, &open.lang, &values)), vec!["\n\n".to_owned()])
                }
            };
            let sampling = Sampling { temperature, top_p: 1.0, max_tokens, seed: open.seed, stop };
            Request { prompt, sampling }
        };
        let written = self.ask("answers", &open.iter().map(request).collect::<Vec<_>>())?;
        let samples = open.into_iter().zip(written).filter_map(|(open, written)| {
            let Written { text, key } = written?;
            let Open { mut messages, lang, prompt, mut keys, parents, seed } = open;
            keys.push(key);
            messages.push(Message { role: Role::Assistant, content: text.trim().to_owned() });
            let provenance = Provenance { parents, ..self.provenance(method, prompt, seed, keys) };
            let lang = Some(lang).filter(|lang| !lang.is_empty());
            Some(Sample { lang, ..Sample::new(messages, None, provenance) })
        });
        Ok(samples.collect())
    }

    fn provenance(&self, method: &str, prompt: String, seed: u64, answers: Vec<String>) -> Provenance {
        let identity = self.asking.map(|asking| asking.teacher.identity());
        Provenance {
            teacher: identity.map(|identity| identity.model.clone()),
            revision: identity.and_then(|identity| identity.revision.clone()),
            answers,
            outputs_licence: self.config.teacher.as_ref().and_then(|teacher| teacher.outputs_licence.clone()),
            ..Provenance::by_program(method, prompt, seed)
        }
    }
}
