//! The model's own chat template: a conversation becomes text, and the part to learn becomes ranges.
//!
//! The template is the Jinja source that comes with the model, rendered as Hugging Face renders it. What
//! the model is to learn comes from the template's `{% generation %}` blocks where it has them, and else
//! from the difference between the prompt of a turn and the text with the turn.

mod environment;
mod generation;

use std::collections::BTreeMap;
use std::error::Error;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use minijinja::{Environment, Value};

use environment::Printed;

use crate::{DataError, Message, Role, TemplateError};

/// The special tokens as text, under the names that templates know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `bos_token`: what a text begins with.
    pub bos: Option<String>,
    /// `eos_token`: what ends a text or a turn.
    pub eos: Option<String>,
    /// `pad_token`: what fills a row.
    pub padding: Option<String>,
    /// `unk_token`: what stands for unknown text.
    pub unknown: Option<String>,
    /// Every token that ends a turn, `eos_token` among them.
    pub terminators: Vec<String>,
}

/// A conversation as text, with the parts that the model is to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The whole text, special tokens in their textual form.
    pub text: String,
    /// The byte ranges of `text` to be learned, in order, apart from each other and not empty.
    pub supervised: Vec<Range<usize>>,
    /// How many assistant turns are not learned, since the template writes them differently once
    /// other messages follow, so that the model never sees the text that it would have produced.
    pub unsupervised_turns: usize,
}

/// A compiled chat template.
pub struct ChatTemplate {
    source: String,
    path: PathBuf,
    special: SpecialTokens,
    clock: DateTime,
    printed: Printed,
    plain: Environment<'static>,
    /// The template with its generation blocks marked; `None` when it has none.
    marked: Option<Environment<'static>>,
}

impl ChatTemplate {
    /// Compiles a template. `path` is where it was read, for error messages.
    ///
    /// `strftime_now` tells the time (UTC) at which the template was compiled; see
    /// [`with_clock`](Self::with_clock).
    ///
    /// # Errors
    /// [`TemplateError::Syntax`] when the template is not valid Jinja.
    pub fn new(source: &str, path: &Path, special: SpecialTokens) -> Result<Self, DataError> {
        let now = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).datetime();
        Self::compile(source, path, special, now)
    }

    /// The same template with another time for `strftime_now`, in the form `2026-11-22T09:30:00`.
    ///
    /// Some templates print the date, so a run that is to be repeated or resumed must keep its time.
    ///
    /// # Errors
    /// [`TemplateError::Clock`] when the value is no date and time.
    pub fn with_clock(self, clock: &str) -> Result<Self, DataError> {
        let clock = clock.parse().map_err(|error: jiff::Error| {
            DataError::Template(TemplateError::Clock { value: clock.to_owned(), message: error.to_string() })
        })?;
        Self::compile(&self.source, &self.path, self.special, clock)
    }

    /// The time that `strftime_now` tells, in the form that [`with_clock`](Self::with_clock) takes;
    /// `None` when the template does not ask for it.
    pub fn clock(&self) -> Option<String> {
        self.source.contains("strftime_now").then(|| self.clock.to_string())
    }

    /// What `strftime_now` printed so far, by format.
    pub(crate) fn printed(&self) -> BTreeMap<String, String> {
        self.printed.so_far()
    }

    /// Whether `strftime_now` prints now what it printed then.
    pub(crate) fn prints(&self, printed: &BTreeMap<String, String>) -> bool {
        let same = |(format, text): (&String, &String)| {
            environment::strftime(format, self.clock).is_ok_and(|now| now == *text)
        };
        printed.iter().all(same)
    }

    /// The Jinja source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The whole text of a conversation; with `add_generation_prompt`, also the opening of the turn
    /// that the assistant is to speak next.
    ///
    /// # Errors
    /// [`TemplateError::Raised`] when the template refuses the messages, and
    /// [`TemplateError::Failed`] when it fails on them.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String, DataError> {
        self.run(&self.plain, messages, add_generation_prompt)
    }

    /// The whole text of a conversation, with the parts that the model is to learn.
    ///
    /// With generation blocks those are the blocks. Without them, assistant turn i is learned when the
    /// whole text begins with the prompt that generation would use for it, `messages[..i]`: the part
    /// learned is what follows that prompt, up to the turn's end without trailing white space. Where a
    /// template rewrites a turn once others follow (some fold the system message into the last
    /// question, or take the thoughts out), the turn is left unlearned and counted, since its text in
    /// the whole is not what the model would produce.
    ///
    /// # Errors
    /// Those of [`render`](Self::render), and [`TemplateError::Generation`] when the generation
    /// blocks cannot be followed.
    pub fn render_supervised(&self, messages: &[Message]) -> Result<Rendered, DataError> {
        let text = self.render(messages, false)?;
        let turns = messages.iter().filter(|message| message.role == Role::Assistant).count();
        let supervised = match &self.marked {
            Some(marked) => self.supervised_by_blocks(marked, messages, &text)?,
            None => self.supervised_by_prompts(messages, &text)?,
        };
        Ok(Rendered { unsupervised_turns: turns.saturating_sub(supervised.len()), text, supervised })
    }

    fn supervised_by_blocks(
        &self,
        marked: &Environment<'static>,
        messages: &[Message],
        text: &str,
    ) -> Result<Vec<Range<usize>>, DataError> {
        let failed = |message: &str| {
            DataError::Template(TemplateError::Generation {
                path: self.path.clone(),
                origin: None,
                message: message.to_owned(),
            })
        };
        // A mark in the data would be taken for one of ours; it cannot pass, since it is in the text too.
        if text.contains([generation::OPEN, generation::CLOSE]) {
            return Err(failed("the text holds the private-use character U+10FFF0 or U+10FFF1, which must be removed"));
        }
        let (unmarked, supervised) = generation::unmark(&self.run(marked, messages, false)?).map_err(failed)?;
        if unmarked != text {
            return Err(failed("the template works on the block's text after the block, so that its place is lost"));
        }
        Ok(supervised)
    }

    fn supervised_by_prompts(&self, messages: &[Message], text: &str) -> Result<Vec<Range<usize>>, DataError> {
        let mut supervised = Vec::new();
        for (index, message) in messages.iter().enumerate() {
            if message.role != Role::Assistant {
                continue;
            }
            // A template may refuse the beginning of a conversation which it accepts as a whole.
            let prompt = match self.render(&messages[..index], true) {
                Ok(prompt) => prompt,
                Err(DataError::Template(TemplateError::Raised { .. } | TemplateError::Failed { .. })) => {
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !text.starts_with(&prompt) {
                continue;
            }
            let end = if index + 1 == messages.len() {
                Some(text.len())
            } else {
                self.turn_end(&self.render(&messages[..=index], false)?, text)
            };
            let Some(end) = end.filter(|end| *end > prompt.len()) else {
                continue;
            };
            let learned = text[prompt.len()..end].trim_end();
            if !learned.is_empty() {
                supervised.push(prompt.len()..prompt.len() + learned.len());
            }
        }
        Ok(supervised)
    }

    /// Where a turn ends in the whole text, given the text that ends with this turn.
    fn turn_end(&self, until_turn: &str, text: &str) -> Option<usize> {
        if text.starts_with(until_turn) {
            return Some(until_turn.len());
        }
        // Some templates close the whole text, so that a text that ends with this turn is no beginning of
        // the whole. The turn is intact all the same when the common part reaches its terminator.
        let common = text.char_indices().zip(until_turn.chars()).find(|((_, a), b)| a != b)?.0.0;
        let terminators = self.special.terminators.iter();
        terminators.filter_map(|token| text[..common].rfind(token).map(|start| start + token.len())).max()
    }

    fn compile(source: &str, path: &Path, special: SpecialTokens, clock: DateTime) -> Result<Self, DataError> {
        // Jinja reads every line break as a plain one.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let failed = |error: minijinja::Error| {
            DataError::Template(TemplateError::Syntax {
                path: path.to_owned(),
                line: error.line().unwrap_or(1),
                message: describe(&error),
            })
        };
        let rewritten = generation::rewrite(&source);
        let printed = Printed::default();
        let mut plain =
            environment::compile(rewritten.clone().unwrap_or_else(|| source.clone()), clock, printed.clone())
                .map_err(failed)?;
        plain.add_filter(generation::FILTER, |body: String| body);
        let marked = match rewritten {
            Some(rewritten) => {
                let mut marked = environment::compile(rewritten, clock, printed.clone()).map_err(failed)?;
                marked.add_filter(generation::FILTER, |body: String| {
                    format!("{}{body}{}", generation::OPEN, generation::CLOSE)
                });
                Some(marked)
            }
            None => None,
        };
        Ok(Self { source, path: path.to_owned(), special, clock, printed, plain, marked })
    }

    fn run(
        &self,
        environment: &Environment<'static>,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, DataError> {
        let special = &self.special;
        let tokens = [
            ("bos_token", &special.bos),
            ("eos_token", &special.eos),
            ("pad_token", &special.padding),
            ("unk_token", &special.unknown),
        ];
        let mut context: BTreeMap<&str, Value> =
            tokens.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?.into()))).collect();
        context.insert("messages", messages.iter().map(to_value).collect());
        context.insert("tools", ().into());
        context.insert("documents", ().into());
        context.insert("add_generation_prompt", add_generation_prompt.into());
        environment.get_template(environment::NAME).and_then(|template| template.render(context)).map_err(|error| {
            let path = self.path.clone();
            match raised(&error) {
                Some(message) => DataError::Template(TemplateError::Raised { path, origin: None, message }),
                None => DataError::Template(TemplateError::Failed {
                    path,
                    origin: None,
                    line: error.line().unwrap_or(1),
                    message: describe(&error),
                }),
            }
        })
    }
}

/// A message as templates see it: a dictionary.
fn to_value(message: &Message) -> Value {
    let role = match message.role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::Tool => "tool",
    };
    Value::from_pairs([("role", role), ("content", message.content.as_str())])
}

/// The message given to `raise_exception`, when that is the cause.
fn raised(error: &minijinja::Error) -> Option<String> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(environment::Raised(message)) = error.downcast_ref() {
            return Some(message.clone());
        }
        cause = error.source();
    }
    None
}

/// What went wrong, without the engine's own place, which the caller tells.
fn describe(error: &minijinja::Error) -> String {
    match error.detail() {
        Some(detail) => format!("{}: {detail}", error.kind()),
        None => error.kind().to_string(),
    }
}

#[cfg(test)]
mod tests;
