//! Records as they stand in their file, for work that hands some of them on unchanged.
//!
//! Beside the forms that conversations have, a file of documents is read: records with a `text`. The form is settled on
//! the first record, as in [`Stream`](super::Stream).

use std::path::Path;
use std::sync::{Arc, LazyLock};

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::format::{self, Converter};
use super::jsonl::parse_line;
use super::record::{got, wrong_type};
use super::stream::{Content, Raw, Records};
use crate::config::SourceConfig;
use crate::conversation::{Conversation, Origin};
use crate::error::{DataError, RecordError};
use crate::source::Format;

/// Records worked on together.
const BATCH_RECORDS: usize = 4096;
/// Bytes of lines worked on together, unless one line alone has more.
const BATCH_BYTES: usize = 16 << 20;

/// Every key at its default.
static DEFAULTS: LazyLock<SourceConfig> = LazyLock::new(|| SourceConfig::from_path(""));

/// What the records of a file are.
enum Form {
    Document,
    Conversation(Converter<'static>),
}

/// The records of a file.
pub(crate) struct Whole {
    name: Arc<Path>,
    records: Box<dyn Records>,
    form: Option<Form>,
    over: bool,
}

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
        let name: Arc<Path> = file.into();
        Ok(Self { records: format::open(file, &name)?, name, form: None, over: false })
    }

    /// What the records are called: `documents`, or the name of their format; none before the first batch.
    pub(crate) fn form(&self) -> Option<&'static str> {
        self.form.as_ref().map(|form| match form {
            Form::Document => "documents",
            Form::Conversation(converter) => converter.format.name(),
        })
    }

    /// About how many bytes of the file are read.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.records.done_bytes()
    }

    /// Does some work on each of the next records, in the file's order; an empty list when the file is over.
    ///
    /// # Errors
    /// What cannot be read of the batch, otherwise the first record in the file's order that is not understood;
    /// [`DataError::Empty`] for a file without a record.
    pub(crate) fn next_batch<T: Send>(
        &mut self,
        work: impl Fn(Entry<'_>) -> Result<T, DataError> + Sync,
    ) -> Result<Vec<T>, DataError> {
        let batch = self.read()?;
        let Some(form) = &self.form else {
            return Err(DataError::Empty { path: self.name.to_path_buf() });
        };
        let entry = |raw: Raw| {
            let origin = Origin { path: self.name.clone(), line: raw.line };
            work(Entry { origin, content: raw.content, form })
        };
        // Collected in order first: of several errors, the first one of the file is told.
        let done: Vec<Result<T, DataError>> = batch.into_par_iter().map(entry).collect();
        done.into_iter().collect()
    }

    /// The next records as they are; none when the file is over.
    pub(crate) fn next_entries(&mut self) -> Result<Option<impl Iterator<Item = Entry<'_>>>, DataError> {
        let batch = self.read()?;
        let name = &self.name;
        let form = self.form.as_ref().filter(|_| !batch.is_empty());
        Ok(form.map(|form| {
            batch.into_iter().map(move |raw| {
                let origin = Origin { path: name.clone(), line: raw.line };
                Entry { origin, content: raw.content, form }
            })
        }))
    }

    fn read(&mut self) -> Result<Vec<Raw>, DataError> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while !self.over && batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let Some(raw) = self.records.next()? else {
                self.over = true;
                break;
            };
            if self.form.is_none() {
                let origin = Origin { path: self.name.clone(), line: raw.line };
                self.form = Some(match &raw.content {
                    Content::Line(line) => settle(&parse_line(line, &origin)?, &origin)?,
                    Content::Value(value) | Content::Document { value, .. } => settle(value, &origin)?,
                });
            }
            bytes += if let Content::Line(line) = &raw.content { line.len() } else { 0 };
            batch.push(raw);
        }
        Ok(batch)
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
        let (value, record) = match content {
            Content::Line(line) => (parse_line(&line, &origin)?, None),
            Content::Value(value) => (value, None),
            Content::Document { record, value } => (value, Some(record)),
        };
        understand(&value, origin, form).map_err(|error| match record {
            Some(record) => DataError::InDocument { record, error: Box::new(error) },
            None => error,
        })
    }
}

fn understand(value: &Value, origin: Origin, form: &Form) -> Result<Understood, DataError> {
    match form {
        Form::Document => {
            let fields = value.as_object().ok_or_else(|| wrong_type(&origin, "the record", value, "an object"))?;
            match fields.get("text") {
                Some(Value::String(text)) => Ok(Understood::Document(text.clone())),
                other => {
                    let got = other.map_or_else(|| "missing".to_owned(), got);
                    let what = "\"text\"".to_owned();
                    Err(DataError::Record(RecordError::WrongType { origin, what, got, expected: "a text" }))
                }
            }
        }
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
