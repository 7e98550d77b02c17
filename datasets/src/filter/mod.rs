//! Which samples of a set are fit to be learned from, as far as a program can tell without asking a model.
//!
//! Each filter looks at one thing and gives its reason ([`Rejection`]). [`Filters::check`] asks those that look at one
//! sample, cheapest first, and the first that rejects it is told; [`Filters::run`] also compares the samples with each
//! other and with the questions that a model will be tested on, and reports what each filter rejected, with examples.

mod clusters;
mod config;
mod contamination;
mod distinct;
mod format;
mod grounding;
mod language;
mod length;
mod phrases;
mod rejection;
mod repetition;
mod report;

use rayon::prelude::*;

use crate::conversation::{Message, Role};
use crate::error::DataError;
use crate::near_duplicates::{DedupText, NearDuplicates};
use crate::tokenizer::ChatTokenizer;

pub use clusters::{ClusterCoverage, cluster_coverage};
pub use config::{Bounds, FilterConfig, RepetitionConfig};
pub use contamination::HeldOutQuestions;
pub use distinct::{Distinct, distinct};
pub use grounding::{GroundedSpan, ground};
pub use rejection::{Filter, Rejection};
pub use repetition::repeated_share;
pub use report::{FilterCount, FilterExample, FilterReport};

/// A sample under inspection.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The conversation.
    pub messages: &'a [Message],
    /// For an extractive sample, the answer and the passage that must hold it.
    pub extract: Option<Extract<'a>>,
}

/// An answer that claims to be a part of a passage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extract<'a> {
    /// The answer.
    pub answer: &'a str,
    /// The passage, or the whole document.
    pub passage: &'a str,
}

impl<'a> Candidate<'a> {
    /// A conversation that does not rest on a passage.
    pub fn conversation(messages: &'a [Message]) -> Self {
        Self { messages, extract: None }
    }

    /// What one side says.
    fn said_by(&self, role: Role) -> impl Iterator<Item = &'a str> + use<'a> {
        self.messages.iter().filter(move |message| message.role == role).map(|message| message.content.as_str())
    }
}

/// What the filters say of a sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// The filters that accept it, in the order in which they were asked.
    pub passed: Vec<Filter>,
    /// Where the answer stands in its passage, for an extractive sample whose answer does.
    pub span: Option<GroundedSpan>,
    /// Why it is rejected; filters after that were not asked.
    pub rejection: Option<Rejection>,
}

impl Verdict {
    /// Whether every filter accepts it.
    pub fn is_accepted(&self) -> bool {
        self.rejection.is_none()
    }

    /// Writes a filter's answer down.
    fn note(&mut self, filter: Filter, answer: Result<(), Rejection>) -> Result<(), Rejection> {
        answer.inspect(|()| self.passed.push(filter))
    }
}

/// The filters of a configuration.
pub struct Filters<'a> {
    config: FilterConfig,
    tokenizer: Option<&'a ChatTokenizer>,
    held_out: HeldOutQuestions,
}

/// What became of a set.
#[derive(Clone, Debug, PartialEq)]
pub struct Filtered {
    /// What is said of each sample.
    pub verdicts: Vec<Verdict>,
    /// What each filter did, and how varied the set is.
    pub report: FilterReport,
}

impl<'a> Filters<'a> {
    /// The filters; `tokenizer` counts tokens where the configuration bounds them, and no sample may hold one of the
    /// questions `held_out`.
    ///
    /// # Errors
    /// [`DataError::Config`] for a value out of range, or a bound on tokens without a tokenizer.
    pub fn new(
        config: FilterConfig,
        tokenizer: Option<&'a ChatTokenizer>,
        held_out: HeldOutQuestions,
    ) -> Result<Self, DataError> {
        config.validate("filters")?;
        if config.tokens.is_some() && tokenizer.is_none() {
            return Err(DataError::Config {
                key: "filters.tokens".to_owned(),
                got: "a bound on tokens without a model".to_owned(),
                expected: "a model whose tokenizer counts them, or null".to_owned(),
            });
        }
        Ok(Self { config, tokenizer, held_out })
    }

    /// Asks the filters that look at one sample, those of questions held out included.
    ///
    /// # Errors
    /// When the tokenizer cannot encode a text; that a sample is rejected is no error.
    pub fn check(&self, sample: Candidate<'_>) -> Result<Verdict, DataError> {
        let mut verdict = Verdict::default();
        let mut judged = self.judge(sample, &mut verdict);
        if let (Some(bounds), Some(tokenizer), Ok(())) = (self.config.tokens, self.tokenizer, &judged) {
            let answer = length::check_tokens(bounds, tokenizer, sample.messages)?;
            judged = verdict.note(Filter::Tokens, answer);
        }
        verdict.rejection = judged.err();
        Ok(verdict)
    }

    /// Asks the filters that cannot fail.
    fn judge(&self, sample: Candidate<'_>, verdict: &mut Verdict) -> Result<(), Rejection> {
        let config = &self.config;
        if config.format {
            verdict.note(Filter::Format, format::check(sample.messages))?;
        }
        if config.prompt_characters.is_some() || config.answer_characters.is_some() {
            verdict.note(Filter::Length, length::check(config, &sample))?;
        }
        if let (true, Some(Extract { answer, passage })) = (config.grounding, sample.extract) {
            verdict.span = ground(answer, passage);
            let found = verdict.span.as_ref().map(|_| ()).ok_or_else(|| Rejection::not_grounded(answer));
            verdict.note(Filter::Grounding, found)?;
        }
        if config.refusals {
            verdict.note(Filter::Refusal, phrases::refusal(&sample))?;
        }
        if config.toxicity {
            verdict.note(Filter::Toxicity, phrases::toxic(&sample))?;
        }
        if let Some(repetition) = &config.repetition {
            let answer = sample.said_by(Role::Assistant).try_for_each(|text| repetition::check(repetition, text));
            verdict.note(Filter::Repetition, answer)?;
        }
        if !config.languages.is_empty() {
            verdict.note(Filter::Language, language::check(&config.languages, &sample))?;
        }
        if !self.held_out.is_empty() {
            verdict.note(Filter::Contamination, self.held_out.check(sample.messages))?;
        }
        Ok(())
    }

    /// Asks all filters about all samples, on all cores. Of near-duplicates the first that nothing else rejects stays.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn run(&self, samples: &[Candidate<'_>], seed: u64) -> Result<Filtered, DataError> {
        let checked: Vec<_> = samples.par_iter().map(|sample| self.check(*sample)).collect();
        let mut verdicts = checked.into_iter().collect::<Result<Vec<_>, _>>()?;
        if let Some(config) = &self.config.near_duplicates {
            let mut search = NearDuplicates::new(config, seed)?;
            let standing: Vec<usize> = (0..samples.len()).filter(|sample| verdicts[*sample].is_accepted()).collect();
            for batch in standing.chunks(4096) {
                let text = |sample: &usize| DedupText::conversation(samples[*sample].messages, config.compare);
                search.extend(&batch.par_iter().map(text).collect::<Vec<_>>());
            }
            let groups = search.groups();
            for (number, &sample) in standing.iter().enumerate() {
                let of = standing[groups.kept_for(number)];
                let answer = if of == sample { Ok(()) } else { Err(Rejection::NearDuplicate { of }) };
                verdicts[sample].rejection = verdicts[sample].note(Filter::NearDuplicate, answer).err();
            }
        }
        let report = FilterReport::new(samples, &verdicts, seed);
        Ok(Filtered { verdicts, report })
    }
}

#[cfg(test)]
mod tests;
