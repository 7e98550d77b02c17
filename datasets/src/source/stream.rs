//! A file as a stream: its records come in batches, and only one batch is in memory.
//!
//! The readers of the kinds of file implement [`Records`]. [`Batches`] settles the form of the records on the first one
//! and works on a batch on all cores, in the file's order; [`Stream`] does so on the conversations of a source.

use std::borrow::Cow;
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

/// Records and bytes worked on together: enough to keep the threads busy, little enough to hold in memory.
const BATCH: (usize, usize) = (512, 8 << 20);

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

impl Content {
    /// The record, to look at.
    fn value(&self, origin: &Origin) -> Result<Cow<'_, Value>, DataError> {
        match self {
            Self::Line(line) => parse_line(line, origin).map(Cow::Owned),
            Self::Value(value) | Self::Document { value, .. } => Ok(Cow::Borrowed(value)),
        }
    }

    /// Does some work on the record; an error inside a document names the record.
    pub(super) fn read<T>(
        self,
        origin: Origin,
        work: impl FnOnce(&Value, Origin) -> Result<T, DataError>,
    ) -> Result<T, DataError> {
        match self {
            Self::Line(line) => work(&parse_line(&line, &origin)?, origin),
            Self::Value(value) => work(&value, origin),
            Self::Document { record, value } => {
                work(&value, origin).map_err(|error| DataError::InDocument { record, error: Box::new(error) })
            }
        }
    }
}

/// The records of an open file, one after the other.
pub(super) trait Records {
    /// The next record, none when the file is over. Not called again after that, nor after an error.
    fn next(&mut self) -> Result<Option<Raw>, DataError>;

    /// About how many bytes of the file are read.
    fn done_bytes(&self) -> u64;
}

/// The records of a file with their form, which is settled on the first one.
pub(super) struct Batches<F> {
    pub(super) name: Arc<Path>,
    pub(super) records: Box<dyn Records>,
    /// None before the first batch.
    pub(super) form: Option<F>,
    /// The most records of a batch, and the most bytes of lines, unless one line alone has more.
    size: (usize, usize),
    /// How many records may still be read.
    left: usize,
}

impl<F: Sync> Batches<F> {
    /// Opens a file, of which at most `limit` records are read.
    pub(super) fn open(file: &Path, name: Arc<Path>, limit: usize, size: (usize, usize)) -> Result<Self, DataError> {
        Ok(Self { records: format::open(file, &name)?, name, form: None, size, left: limit })
    }

    /// Does some work on each of the next records; an empty list when the file is over.
    ///
    /// # Errors
    /// The first error in the file's order, be it of reading or of the work; [`DataError::Empty`] for a file without a
    /// record.
    pub(super) fn next<T: Send>(
        &mut self,
        settle: impl Fn(&Value, &Origin) -> Result<F, DataError>,
        work: impl Fn(&F, Origin, Content) -> Result<T, DataError> + Sync,
    ) -> Result<Vec<T>, DataError> {
        let batch = self.read(settle);
        self.work(batch, work)
    }

    /// Does some work on each of the records that were read.
    fn work<T: Send>(
        &self,
        batch: Vec<Result<Raw, DataError>>,
        work: impl Fn(&F, Origin, Content) -> Result<T, DataError> + Sync,
    ) -> Result<Vec<T>, DataError> {
        let Some(form) = &self.form else {
            return match batch.into_iter().next() {
                Some(Err(error)) => Err(error),
                _ => Err(DataError::Empty { path: self.name.to_path_buf() }),
            };
        };
        let name = &self.name;
        let work = |raw: Result<Raw, DataError>| {
            let Raw { line, content } = raw?;
            work(form, Origin { path: name.clone(), line }, content)
        };
        // Collected in order first: of several errors, the first one of the file is told.
        let done: Vec<Result<T, DataError>> = batch.into_par_iter().map(work).collect();
        done.into_iter().collect()
    }

    /// The next records; an error stands last, and nothing comes after it.
    pub(super) fn read(
        &mut self,
        settle: impl Fn(&Value, &Origin) -> Result<F, DataError>,
    ) -> Vec<Result<Raw, DataError>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < self.size.0.min(self.left) && bytes < self.size.1 {
            match self.one(&settle) {
                Ok(Some(raw)) => {
                    if let Content::Line(line) = &raw.content {
                        bytes += line.len();
                    }
                    batch.push(Ok(raw));
                }
                end => {
                    batch.extend(end.transpose());
                    self.left = 0;
                    return batch;
                }
            }
        }
        self.left -= batch.len();
        batch
    }

    /// The next record; the first one settles the form.
    fn one(&mut self, settle: impl Fn(&Value, &Origin) -> Result<F, DataError>) -> Result<Option<Raw>, DataError> {
        let raw = self.records.next()?;
        if let (None, Some(raw)) = (&self.form, &raw) {
            let origin = Origin { path: self.name.clone(), line: raw.line };
            self.form = Some(settle(&*raw.content.value(&origin)?, &origin)?);
        }
        Ok(raw)
    }
}

/// The conversations of a source.
pub(crate) struct Stream<'a> {
    source: &'a SourceConfig,
    batches: Batches<Converter<'a>>,
}

impl<'a> Stream<'a> {
    /// Opens the file of a source.
    pub(super) fn open(located: &'a Located<'_>) -> Result<Self, DataError> {
        let (source, name) = (located.source, located.name.clone());
        let limit = source.limit.unwrap_or(usize::MAX);
        Ok(Self { source, batches: Batches::open(&located.file, name, limit, BATCH)? })
    }

    /// Does some work on each of the next conversations; an empty list when the source is over.
    ///
    /// The results are in the file's order, and do not depend on the number of threads.
    ///
    /// # Errors
    /// As [`Batches::next`].
    pub(crate) fn next_batch<T: Send>(
        &mut self,
        work: impl Fn(Conversation) -> Result<T, DataError> + Sync,
    ) -> Result<Vec<T>, DataError> {
        self.next_share(0, 1, work).unwrap_or_else(|| Ok(Vec::new()))
    }

    /// Reads as many batches as there are processes, and does some work on that of this one; none when the source is over.
    /// What the processes make of theirs is, in the order of the ranks, in the file's order.
    ///
    /// # Errors
    /// As [`Batches::next`], of what this process works on.
    pub(crate) fn next_share<T: Send>(
        &mut self,
        rank: usize,
        ranks: usize,
        work: impl Fn(Conversation) -> Result<T, DataError> + Sync,
    ) -> Option<Result<Vec<T>, DataError>> {
        let settle = |first: &Value, origin: &Origin| Converter::new(self.source, first, origin);
        let (mut own, mut is_over) = (Vec::new(), true);
        for turn in 0..ranks {
            let batch = self.batches.read(settle);
            is_over &= batch.is_empty();
            if turn == rank {
                own = batch;
            }
        }
        if own.is_empty() && (!is_over || self.batches.form.is_some()) {
            return (!is_over).then(|| Ok(Vec::new()));
        }
        Some(self.batches.work(own, |converter, origin, content| {
            work(content.read(origin, |value, origin| converter.convert(value, origin))?)
        }))
    }

    /// The form of the records, never `auto`; none before the first batch.
    pub(crate) fn format(&self) -> Option<Format> {
        self.batches.form.as_ref().map(|converter| converter.format)
    }

    /// About how many bytes of the file are read.
    pub(crate) fn done_bytes(&self) -> u64 {
        self.batches.records.done_bytes()
    }
}
