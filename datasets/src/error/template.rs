//! What can be wrong with a chat template and the conversations it is given.

use std::path::PathBuf;

use super::place;
use crate::conversation::Origin;

/// A chat template cannot be used, or not on a conversation.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// A model without a chat template, as base models are.
    #[error(
        "{}: the model has no chat template, as is usual for base models; \
         set `data.chat_template` to a Jinja file, for example the one of the model's instruct version",
        path.display()
    )]
    Missing {
        /// Where the tokenizer was read.
        path: PathBuf,
    },
    /// A chat template that is not valid Jinja.
    #[error(
        "{}: line {line} of the chat template does not parse: {message}; \
         correct it, or set `data.chat_template` to another",
        path.display()
    )]
    Syntax {
        /// Where the template was read.
        path: PathBuf,
        /// The line within the template, counted from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// A chat template refused a conversation through `raise_exception`.
    #[error(
        "{}the chat template of {} refuses the conversation: {message}; \
         change the conversation, or set `data.chat_template`",
        place(origin.as_ref()),
        path.display()
    )]
    Raised {
        /// Where the template was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// The template's own message.
        message: String,
    },
    /// A chat template failed while it rendered a conversation.
    #[error(
        "{}line {line} of the chat template of {} fails: {message}; \
         correct the template, or set `data.chat_template` to another",
        place(origin.as_ref()),
        path.display()
    )]
    Failed {
        /// Where the template was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// The line within the template, counted from 1.
        line: usize,
        /// What the template engine says.
        message: String,
    },
    /// The `{% generation %}` blocks of a template do not show what to supervise.
    #[error(
        "{}the generation blocks of the chat template of {} cannot be followed: {message}; \
         put {{% generation %}} and {{% endgeneration %}} around the assistant's text where it is printed",
        place(origin.as_ref()),
        path.display()
    )]
    Generation {
        /// Where the template was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// What was found.
        message: String,
    },
    /// A clock setting that is no date and time.
    #[error("{value:?} is no date and time for the chat template, expected the form 2026-11-22T09:30:00: {message}")]
    Clock {
        /// The value got.
        value: String,
        /// Why it was refused.
        message: String,
    },
}
