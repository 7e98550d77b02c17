//! Records as they stand in their file, for work that hands some of them on unchanged.
//!
//! Beside the forms that conversations have, a file of documents is read: records with a `text`. The form is settled on
//! the first record, as in [`Stream`](super::Stream).

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::document::text_of;
use super::format::{self, Converter};
use super::stream::{Batches, Content, Raw};
use crate::config::SourceConfig;
use crate::conversation::{Conversation, Origin};
use crate::error::{DataError, RecordError};
use crate::source::Format;

/// What is worked on together: more than of conversations, which are tokenised.
const BATCH: (usize, usize) = (4096, 16 << 20);

/// Every key at its default.
static DEFAULTS: LazyLock<SourceConfig> = LazyLock::new(|| SourceConfig::from_path(""));

/// What the records of a file are.
enum Form {
    Document,
    Conversation(Converter<'static>),
}

/// The records of a file.
pub(crate) struct Whole(Batches<Form>);

/// One record.
pub(crate) struct Entry<'a> {
    /// Where it stands.
    pub(crate) origin: Origin,
    content: Content,
    form: &'a Form,
}

/// A record that was understood.
#[expect(clippy::large_enum_variant, reason = "there is one at a time")]
pub(crate) enum Understood {
    /// A document's text.
    Document(String),
    /// A conversation, with the question and the context of a `SQuAD` record.
    Conversation { conversation: Conversation, squad: Option<(String, String)> },
}

impl Whole {
    pub(crate) fn open(file: &Path) -> Result<Self, DataError> {
        Ok(Self(Batches::open(file, file.into(), usize::MAX, BATCH)?))
    }

    /// What the records are called: `documents`, or the name of their format; none before the first batch.
    pub(crate) fn form(&self) -> Option<&'static str> {
        self.0.form.as_ref().map(|form| match form {
            Form::Document => "documents",
            Form::Conversation(converter) => converter.format.name(),
        })
    }

    /// About how many bytes of the file are read.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.0.records.done_bytes()
    }

    /// Does some work on each of the next records; an empty list when the file is over.
    ///
    /// # Errors
    /// As [`Batches::next`].
    pub(crate) fn next_batch<T: Send>(
        &mut self,
        work: impl Fn(Entry<'_>) -> Result<T, DataError> + Sync,
    ) -> Result<Vec<T>, DataError> {
        self.0.next(settle, |form, origin, content| work(Entry { origin, content, form }))
    }

    /// The next records as they are; none when the file is over.
    pub(crate) fn next_entries(&mut self) -> Result<Option<impl Iterator<Item = Entry<'_>>>, DataError> {
        let batch = self.0.read(settle).into_iter().collect::<Result<Vec<_>, _>>()?;
        let Batches { name, form, .. } = &self.0;
        let form = form.as_ref().filter(|_| !batch.is_empty());
        Ok(form.map(|form| {
            batch.into_iter().map(move |Raw { line, content }| {
                let origin = Origin { path: name.clone(), line };
                Entry { origin, content, form }
            })
        }))
    }
}

/// The form of the records, by the first one.
fn settle(first: &Value, origin: &Origin) -> Result<Form, DataError> {
    let is_document =
        first.as_object().is_some_and(|fields| format::detect(fields).is_none() && fields.contains_key("text"));
    if is_document {
        return Ok(Form::Document);
    }
    match Converter::new(&DEFAULTS, first, origin) {
        Err(DataError::Record(RecordError::UnknownFormat { origin, keys })) => {
            Err(DataError::Record(RecordError::UnknownFormat {
                origin,
                keys: format!("{keys} (and no \"text\" of a document)"),
            }))
        }
        converter => Ok(Form::Conversation(converter?)),
    }
}

impl Entry<'_> {
    /// The record on one line, as its file has it where it stands on one there.
    pub(crate) fn into_json(self) -> Vec<u8> {
        match self.content {
            Content::Line(line) => line,
            Content::Value(value) | Content::Document { value, .. } => value.to_string().into_bytes(),
        }
    }

    /// What the record says.
    pub(crate) fn understand(self) -> Result<Understood, DataError> {
        let Self { origin, content, form } = self;
        content.read(origin, |value, origin| understand(value, origin, form))
    }
}

fn understand(value: &Value, origin: Origin, form: &Form) -> Result<Understood, DataError> {
    match form {
        Form::Document => Ok(Understood::Document(text_of(value, &origin)?.to_owned())),
        Form::Conversation(converter) => {
            let conversation = converter.convert(value, origin)?;
            let text = |fields: &Map<String, Value>, key: &str| {
                fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
            };
            let fields = value.as_object().filter(|_| converter.format == Format::Squad);
            let squad = fields.map(|fields| (text(fields, "question"), text(fields, "context")));
            Ok(Understood::Conversation { conversation, squad })
        }
    }
}
