//! Everything that can go wrong on the way from text to token rows, in one enum.
//!
//! Every message names the place (file and line, or tensor, or key), the value got, what was
//! expected, and the remedy.

use std::path::PathBuf;

use crate::Origin;

/// An error of the `datasets` crate.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A file could not be read.
    #[error("{}: cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },

    /// A file could not be written; nothing was written over.
    #[error("{}: cannot be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        source: std::io::Error,
    },

    /// A model folder has no `tokenizer.json`.
    #[error(
        "{}: there is no tokenizer.json here; give the folder of a model with a fast tokenizer, or save one \
         with `AutoTokenizer.from_pretrained(..).save_pretrained(..)`",
        folder.display()
    )]
    TokenizerMissing {
        /// The folder that was looked into.
        folder: PathBuf,
    },

    /// A tokenizer file has content that makes no tokenizer.
    #[error("{}: {message}; fetch the file again, or point `model` at a complete copy", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        message: String,
    },

    /// The vocabulary in a GGUF file makes no tokenizer.
    #[error("{}: {key}: {message}", path.display())]
    GgufVocabulary {
        /// The GGUF file.
        path: PathBuf,
        /// The metadata key at fault.
        key: &'static str,
        /// What was expected, what was found, and the remedy.
        message: String,
    },

    /// The tokenizer can make ids that the model has no embedding for.
    #[error(
        "{}: the tokenizer has token {token:?} with id {id}, but the model's vocabulary has {vocab_size} entries; \
         use the tokenizer that belongs to this model",
        path.display()
    )]
    TokenizerTooLarge {
        /// Where the tokenizer was read.
        path: PathBuf,
        /// The first token beyond the model's vocabulary.
        token: String,
        /// Its id.
        id: u32,
        /// The number of rows of the model's embedding.
        vocab_size: usize,
    },

    /// The tokenizer refused a text.
    #[error("{}the tokenizer of {} cannot encode or decode this: {message}", place(origin.as_ref()), path.display())]
    Encoding {
        /// Where the tokenizer was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// The tokenizer's own words.
        message: String,
    },

    /// A model without a chat template, as base models are.
    #[error(
        "{}: the model has no chat template, as is usual for base models; \
         set `data.chat_template` to a Jinja file, for example the one of the model's instruct version",
        path.display()
    )]
    NoTemplate {
        /// Where the tokenizer was read.
        path: PathBuf,
    },

    /// A chat template that is not valid Jinja.
    #[error(
        "{}: line {line} of the chat template does not parse: {message}; \
         correct it, or set `data.chat_template` to another",
        path.display()
    )]
    TemplateSyntax {
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
    TemplateRaised {
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
    TemplateFailed {
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
    TemplateGeneration {
        /// Where the template was read.
        path: PathBuf,
        /// The conversation, when there is one.
        origin: Option<Origin>,
        /// What was found.
        message: String,
    },

    /// A clock setting that is no date and time.
    #[error("{value:?} is no date and time for the chat template, expected the form 2026-11-22T09:30:00: {message}")]
    TemplateClock {
        /// The value got.
        value: String,
        /// Why it was refused.
        message: String,
    },

    /// A conversation of which the model would learn nothing.
    #[error("{origin}: nothing is supervised: {reason}")]
    NothingSupervised {
        /// The conversation.
        origin: Origin,
        /// Why, and the remedy.
        reason: String,
    },

    /// An assistant turn whose end the model would never learn.
    #[error(
        "{origin}: the turn terminator is not supervised: supervised span {span} ends in {found:?}, expected one of \
         {expected}; a model trained on this never stops; let the chat template print the terminator inside \
         the assistant's turn, or name it as eos_token in tokenizer_config.json"
    )]
    TerminatorNotSupervised {
        /// The conversation.
        origin: Origin,
        /// Which supervised span, counted from 1.
        span: usize,
        /// The last token of the span that is not white space.
        found: String,
        /// The tokens that end a turn.
        expected: String,
    },

    /// A conversation longer than a row, where the recipe asks for an error.
    #[error(
        "{origin}: the conversation has {tokens} tokens, more than data.max_length {max_length}; \
         raise it, or set data.overlong to drop or truncate"
    )]
    Overlong {
        /// The conversation.
        origin: Origin,
        /// Its length in tokens.
        tokens: usize,
        /// The greatest length allowed.
        max_length: usize,
    },

    /// No conversation is left once the over-long ones are dropped.
    #[error(
        "{origin}: all {dropped} conversations from here on are longer than data.max_length {max_length} (the \
         shortest has {shortest} tokens), so nothing is left; raise it, or set data.overlong to truncate"
    )]
    AllOverlong {
        /// The first conversation.
        origin: Origin,
        /// How many were dropped.
        dropped: usize,
        /// The length in tokens of the shortest.
        shortest: usize,
        /// The greatest length allowed.
        max_length: usize,
    },
}

impl DataError {
    /// Adds the conversation to an error of rendering or encoding that does not name one yet.
    #[must_use]
    pub fn at(mut self, place: &Origin) -> Self {
        if let Self::Encoding { origin, .. }
        | Self::TemplateRaised { origin, .. }
        | Self::TemplateFailed { origin, .. }
        | Self::TemplateGeneration { origin, .. } = &mut self
        {
            origin.get_or_insert_with(|| place.clone());
        }
        self
    }
}

/// The start of a message about a conversation: `chat.jsonl:1042: `.
fn place(origin: Option<&Origin>) -> String {
    origin.map(|origin| format!("{origin}: ")).unwrap_or_default()
}
