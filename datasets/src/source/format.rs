//! Which form the records of a file have, and the way from a record to a [`Conversation`].
//!
//! **The one place to add a data format.** A form of record: a variant of [`Format`], its keys in
//! [`detect`], a function in a file beside this one, and a line in [`Converter::convert`]. A kind of
//! file: its ending in [`open`], and a file beside this one.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::record::{Record, keys, wrong_type};
use super::stream::Records;
use super::{instruct, jsonl, messages, parquet, prompt, squad};
use crate::config::SourceConfig;
use crate::conversation::{Conversation, Message, Origin, Role};
use crate::error::{DataError, RecordError};
use crate::samples::Lineage;

/// The ending of a file's name in lower case, without the dot.
pub(crate) fn ending(path: &Path) -> String {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase()
}

/// Whether files with this ending have one JSON value a line.
pub(crate) fn is_lines(ending: &str) -> bool {
    matches!(ending, "jsonl" | "ndjson")
}

/// Opens a file, by the ending of its name.
pub(super) fn open(file: &Path, name: &Arc<Path>) -> Result<Box<dyn Records>, DataError> {
    let ending = ending(name);
    match ending.as_str() {
        lines if is_lines(lines) => jsonl::open_lines(file, name),
        "json" => jsonl::open_document(file, name),
        "parquet" => parquet::open(file, name),
        _ => Err(DataError::UnknownEnding { path: name.to_path_buf(), ending }),
    }
}

/// The forms of record that are understood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// Found by looking at the keys of the first record.
    #[default]
    Auto,
    /// `messages`: a list of `role` (system, user, assistant, tool) and `content`.
    Messages,
    /// `conversations`: a list of `from` (human, gpt, system, tool and their usual aliases) and `value`.
    Sharegpt,
    /// `instruction`, `output`, and optionally `input`, `system` and `history`.
    Alpaca,
    /// `prompt` and `completion`, each a text or a list of messages.
    PromptCompletion,
    /// `context`, `question` and `answers`; also the nested file of the original SQuAD.
    Squad,
}

impl Format {
    /// The name used in recipes and messages, for example `prompt-completion`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Messages => "messages",
            Self::Sharegpt => "sharegpt",
            Self::Alpaca => "alpaca",
            Self::PromptCompletion => "prompt-completion",
            Self::Squad => "squad",
        }
    }

    /// The placeholders that [`SourceConfig::prompt`] may use with this format.
    pub fn placeholders(self) -> &'static [&'static str] {
        match self {
            Self::Auto => &["instruction", "input", "context", "question"],
            Self::Alpaca => &["instruction", "input"],
            Self::Squad => &["context", "question"],
            Self::Messages | Self::Sharegpt | Self::PromptCompletion => &[],
        }
    }
}

impl Display for Format {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The format that has the keys of this record. A record may have the keys of several; the first in
/// this order is taken, since a file that carries messages was made for chat.
pub(super) fn detect(fields: &Map<String, Value>) -> Option<Format> {
    let has = |keys: &[&str]| keys.iter().all(|key| fields.contains_key(*key));
    [
        (Format::Messages, &["messages"][..]),
        (Format::Sharegpt, &["conversations"]),
        (Format::Alpaca, &["instruction", "output"]),
        (Format::PromptCompletion, &["prompt", "completion"]),
        (Format::Squad, &["context", "question", "answers"]),
    ]
    .into_iter()
    .find(|(_, keys)| has(keys))
    .map(|(format, _)| format)
}

/// Turns the records of one file into conversations.
pub(super) struct Converter<'a> {
    /// The format of the file, never `auto`.
    pub(super) format: Format,
    prompt: Option<&'a str>,
}

impl<'a> Converter<'a> {
    /// Settles the format by the file's first record.
    pub(super) fn new(source: &'a SourceConfig, first: &Value, origin: &Origin) -> Result<Self, DataError> {
        let format = match source.format {
            Format::Auto => {
                let fields = object(first, origin)?;
                detect(fields).ok_or_else(|| {
                    DataError::Record(RecordError::UnknownFormat { origin: origin.clone(), keys: keys(fields) })
                })?
            }
            named => named,
        };
        let prompt = source.prompt.as_deref();
        check_prompt(prompt, format, &origin.path)?;
        Ok(Self { format, prompt })
    }

    /// Turns one record into a conversation with an assistant message.
    pub(super) fn convert(&self, value: &Value, origin: Origin) -> Result<Conversation, DataError> {
        let record = Record { fields: object(value, &origin)?, origin: &origin, format: self.format };
        let mut references = Vec::new();
        let messages = match self.format {
            Format::Auto => unreachable!("the format is settled in Converter::new"),
            Format::Messages => messages::messages(&record, "messages")?,
            Format::Sharegpt => messages::sharegpt(&record)?,
            Format::Alpaca => instruct::alpaca(&record, self.prompt)?,
            Format::PromptCompletion => instruct::prompt_completion(&record)?,
            Format::Squad => {
                references = squad::answers(&record)?;
                squad::messages(&record, self.prompt, &references)?
            }
        };
        let lineage = Lineage::of(record.fields);
        let labels = labels(record.fields);
        check_assistant(&messages, &origin)?;
        Ok(Conversation { messages, references, origin, lineage, labels })
    }
}

/// The values of a record that are a switch, a number, or a few words; its `id` is its own and says nothing of others.
fn labels(fields: &Map<String, Value>) -> BTreeMap<String, String> {
    /// Bytes of the longest.
    const LONGEST: usize = 60;
    let label = |value: &Value| match value {
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) if text.len() <= LONGEST => Some(text.clone()),
        _ => None,
    };
    let labels = fields.iter().filter(|(key, _)| *key != "id");
    labels.filter_map(|(key, value)| Some((key.clone(), label(value)?))).collect()
}

/// The keys of a record, which must be an object.
pub(super) fn object<'a>(value: &'a Value, origin: &Origin) -> Result<&'a Map<String, Value>, DataError> {
    value.as_object().ok_or_else(|| wrong_type(origin, "the record", value, "an object"))
}

/// Refuses a prompt that the format does not fill; `auto` is known only once a record was seen.
fn check_prompt(prompt: Option<&str>, format: Format, path: &Path) -> Result<(), DataError> {
    let foreign = prompt
        .and_then(|text| prompt::placeholders(text).into_iter().find(|name| !format.placeholders().contains(name)));
    match foreign {
        Some(name) => {
            Err(DataError::Record(RecordError::PromptFormat { path: path.to_owned(), format, name: name.to_owned() }))
        }
        None => Ok(()),
    }
}

fn check_assistant(messages: &[Message], origin: &Origin) -> Result<(), DataError> {
    let mut assistants = messages.iter().enumerate().filter(|(_, m)| m.role == Role::Assistant).peekable();
    if assistants.peek().is_none() {
        return Err(DataError::Record(RecordError::NoAssistant { origin: origin.clone() }));
    }
    match assistants.find(|(_, message)| message.content.trim().is_empty()) {
        Some((i, _)) => Err(DataError::Record(RecordError::EmptyAssistant { origin: origin.clone(), message: i + 1 })),
        None => Ok(()),
    }
}
