//! A file as a stream: its records come in batches, and only one batch is in memory.
//!
//! The readers of the kinds of file implement [`Records`]. [`Stream`] settles the form of the records on the first one
//! and turns a batch into conversations, and those into whatever is wanted, on all cores and in the file's order.

use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::Value;

use super::format::{self, Converter};
use super::jsonl::parse_line;
use super::{Format, Located};
use crate::config::SourceConfig;
use crate::conversation::{Conversation, Origin};
use crate::error::DataError;

/// Records worked on together: enough to keep the threads busy, few enough to hold in memory.
const BATCH_RECORDS: usize = 512;
/// Bytes of lines worked on together, unless one line alone has more.
const BATCH_BYTES: usize = 8 << 20;

/// A record as its file holds it.
pub(super) struct Raw {
    /// The line or row on which it begins, counted from 1.
    pub(super) line: usize,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// The text of a line, not yet parsed.
    Line(Vec<u8>),
    /// A row.
    Value(Value),
    /// A record inside a document, by its number, counted from 1.
    Document { record: usize, value: Value },
}

/// The records of an open file, one after the other.
pub(super) trait Records {
    /// The next record, none when the file is over. Not called again after that, nor after an error.
    fn next(&mut self) -> Result<Option<Raw>, DataError>;

    /// About how many bytes of the file are read.
    fn done_bytes(&self) -> u64;
}

/// The conversations of a source.
pub(crate) struct Stream<'a> {
    source: &'a SourceConfig,
    name: Arc<Path>,
    records: Box<dyn Records>,
    converter: Option<Converter<'a>>,
    /// How many records may still be read.
    left: usize,
}

impl<'a> Stream<'a> {
    /// Opens the file of a source.
    pub(super) fn open(located: &'a Located<'_>) -> Result<Self, DataError> {
        let (source, name) = (located.source, located.name.clone());
        let records = format::open(&located.file, &name)?;
        Ok(Self { source, name, records, converter: None, left: source.limit.unwrap_or(usize::MAX) })
    }

    /// Does some work on each of the next conversations; an empty list when the source is over.
    ///
    /// The results are in the file's order, and do not depend on the number of threads.
    ///
    /// # Errors
    /// The first error in the file's order, be it of reading or of the work.
    pub(crate) fn next_batch<T: Send>(
        &mut self,
        work: impl Fn(Conversation) -> Result<T, DataError> + Sync,
    ) -> Result<Vec<T>, DataError> {
        let batch = self.read();
        let Some(converter) = &self.converter else {
            return match batch.into_iter().next() {
                Some(Err(error)) => Err(error),
                _ => Err(DataError::Empty { path: self.name.to_path_buf() }),
            };
        };
        let done: Vec<Result<T, DataError>> =
            batch.into_par_iter().map(|raw| work(convert(converter, raw?, &self.name)?)).collect();
        // Collected in order first: of several errors, the first one of the file is told.
        done.into_iter().collect()
    }

    /// The form of the records, never `auto`; none before the first batch.
    pub(crate) fn format(&self) -> Option<Format> {
        self.converter.as_ref().map(|converter| converter.format)
    }

    /// About how many bytes of the file are read.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.records.done_bytes()
    }

    /// The next records; an error stands last, and nothing comes after it.
    fn read(&mut self) -> Vec<Result<Raw, DataError>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_RECORDS.min(self.left) && bytes < BATCH_BYTES {
            match self.records.next().and_then(|raw| self.settle(raw)) {
                Ok(Some(raw)) => {
                    bytes += if let Content::Line(line) = &raw.content { line.len() } else { 0 };
                    batch.push(Ok(raw));
                }
                Ok(None) => {
                    self.left = 0;
                    return batch;
                }
                Err(error) => {
                    batch.push(Err(error));
                    self.left = 0;
                    return batch;
                }
            }
        }
        self.left -= batch.len();
        batch
    }

    /// Settles the form of the records on the first one.
    fn settle(&mut self, raw: Option<Raw>) -> Result<Option<Raw>, DataError> {
        if let (None, Some(raw)) = (&self.converter, &raw) {
            let origin = Origin { path: self.name.clone(), line: raw.line };
            let converter = match &raw.content {
                Content::Line(line) => Converter::new(self.source, &parse_line(line, &origin)?, &origin)?,
                Content::Value(value) | Content::Document { value, .. } => Converter::new(self.source, value, &origin)?,
            };
            self.converter = Some(converter);
        }
        Ok(raw)
    }
}

fn convert(converter: &Converter<'_>, raw: Raw, name: &Arc<Path>) -> Result<Conversation, DataError> {
    let origin = Origin { path: name.clone(), line: raw.line };
    match raw.content {
        Content::Line(line) => converter.convert(&parse_line(&line, &origin)?, origin),
        Content::Value(value) => converter.convert(&value, origin),
        Content::Document { record, value } => {
            converter.convert(&value, origin).map_err(|error| DataError::InDocument { record, error: Box::new(error) })
        }
    }
}
