//! JSON text: one record a line, read in batches that are parsed in parallel, or one document that
//! holds all records.
//!
//! A document is a JSON array, a nested SQuAD file, or records one after the other over any number of
//! lines. It is read whole, since a record can only be found by parsing what stands before it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::Value;
use serde_json::error::Category;

use super::format::Converter;
use super::{Loaded, squad};
use crate::config::SourceConfig;
use crate::conversation::{Conversation, Origin};
use crate::error::DataError;

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";
/// Lines parsed together: enough to keep the threads busy, few enough to hold in memory.
const BATCH_LINES: usize = 4096;
/// Bytes parsed together, unless one line alone has more.
const BATCH_BYTES: usize = 8 << 20;

/// A line of a file with its number, counted from 1.
type Line = (usize, Vec<u8>);

/// Reads a file of one record a line. Blank lines are skipped. A file that begins with `[` is one array.
pub(super) fn read_lines(file: &Path, name: &Arc<Path>, source: &SourceConfig) -> Result<Loaded, DataError> {
    let mut lines = Lines { reader: BufReader::with_capacity(1 << 20, open(file, name)?), number: 0, name };
    let mut left = source.limit.unwrap_or(usize::MAX);
    let mut converter: Option<Converter<'_>> = None;
    let mut conversations = Vec::new();
    loop {
        let batch = lines.batch(left.min(BATCH_LINES))?;
        let Some((number, first)) = batch.first() else {
            break;
        };
        left -= batch.len();
        let converter = match &mut converter {
            Some(converter) => converter,
            none => {
                if first.trim_ascii_start().starts_with(b"[") {
                    return read_document(file, name, source);
                }
                let origin = Origin { path: name.clone(), line: *number };
                none.insert(Converter::new(source, &parse_line(first, &origin)?, &origin)?)
            }
        };
        let parsed: Vec<Result<Conversation, DataError>> = batch
            .par_iter()
            .map(|(number, line)| {
                let origin = Origin { path: name.clone(), line: *number };
                converter.convert(&parse_line(line, &origin)?, origin)
            })
            .collect();
        // Collected in order first: of several errors, the first one of the file is told.
        for conversation in parsed {
            conversations.push(conversation?);
        }
    }
    loaded(converter, conversations, name)
}

/// Reads a document that holds all records.
pub(super) fn read_document(file: &Path, name: &Arc<Path>, source: &SourceConfig) -> Result<Loaded, DataError> {
    let mut bytes = Vec::new();
    open(file, name)?.read_to_end(&mut bytes).map_err(|source| read_error(name, source))?;
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let (line, column) = position(before);
        DataError::NotUtf8 { origin: Origin { path: name.clone(), line }, byte: column }
    })?;
    let mut document = Document::new(text, name);
    let mut converter: Option<Converter<'_>> = None;
    let mut conversations = Vec::new();
    let limit = source.limit.unwrap_or(usize::MAX);
    'document: while let Some((line, value)) = document.next()? {
        let origin = Origin { path: name.clone(), line };
        for record in squad::flatten(value) {
            if conversations.len() == limit {
                break 'document;
            }
            let converter = match &mut converter {
                Some(converter) => converter,
                none => none.insert(Converter::new(source, &record, &origin)?),
            };
            let conversation = converter
                .convert(&record, origin.clone())
                .map_err(|error| DataError::InDocument { record: conversations.len() + 1, error: Box::new(error) })?;
            conversations.push(conversation);
        }
    }
    loaded(converter, conversations, name)
}

fn loaded(
    converter: Option<Converter<'_>>,
    conversations: Vec<Conversation>,
    name: &Path,
) -> Result<Loaded, DataError> {
    match converter {
        Some(converter) => Ok(Loaded { conversations, format: converter.format }),
        None => Err(DataError::Empty { path: name.to_owned() }),
    }
}

fn open(file: &Path, name: &Path) -> Result<File, DataError> {
    File::open(file).map_err(|source| read_error(name, source))
}

fn read_error(name: &Path, source: std::io::Error) -> DataError {
    DataError::Read { path: name.to_owned(), source }
}

/// The lines of a file that are not blank.
struct Lines<'a> {
    reader: BufReader<File>,
    number: usize,
    name: &'a Path,
}

impl Lines<'_> {
    /// The next lines, without their ends; none when the file is over.
    fn batch(&mut self, most: usize) -> Result<Vec<Line>, DataError> {
        let (mut lines, mut bytes) = (Vec::new(), 0);
        while lines.len() < most && bytes < BATCH_BYTES {
            let mut line = Vec::new();
            let read = self.reader.read_until(b'\n', &mut line).map_err(|source| read_error(self.name, source))?;
            if read == 0 {
                break;
            }
            self.number += 1;
            if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
                line.drain(..BYTE_ORDER_MARK.len());
            }
            line.truncate(line.trim_ascii_end().len());
            if !line.is_empty() {
                bytes += read;
                lines.push((self.number, line));
            }
        }
        Ok(lines)
    }
}

fn parse_line(line: &[u8], origin: &Origin) -> Result<Value, DataError> {
    let text = std::str::from_utf8(line)
        .map_err(|error| DataError::NotUtf8 { origin: origin.clone(), byte: error.valid_up_to() + 1 })?;
    serde_json::from_str(text).map_err(|error| {
        let remedy = match error.classify() {
            Category::Eof => ", a record must stand on one line (a .json file may spread it over several)",
            _ => "",
        };
        json_error(&error, origin.clone(), error.column(), remedy)
    })
}

fn json_error(error: &serde_json::Error, origin: Origin, column: usize, remedy: &'static str) -> DataError {
    // The parser ends its message with a place of its own, which counts from where it started.
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let message = text.strip_suffix(&place).unwrap_or(&text).to_owned();
    DataError::Json { origin, column, message, remedy }
}

/// How many lines end in `bytes`.
fn lines(bytes: &[u8]) -> usize {
    bytes.split(|byte| *byte == b'\n').count() - 1
}

/// The line and the byte within it, both counted from 1, of what follows `before`.
fn position(before: &[u8]) -> (usize, usize) {
    let line = 1 + lines(before);
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    (line, before.len() - start + 1)
}

/// The values of a JSON document: the elements of an array, or values one after the other.
struct Document<'a> {
    text: &'a str,
    name: &'a Arc<Path>,
    /// How far the text is read, in bytes, and the line reached.
    at: usize,
    line: usize,
    is_array: bool,
    count: usize,
}

impl<'a> Document<'a> {
    fn new(text: &'a str, name: &'a Arc<Path>) -> Self {
        let mut document = Self { text, name, at: 0, line: 1, is_array: false, count: 0 };
        if document.peek() == Some(b'[') {
            document.is_array = true;
            document.advance(1);
        }
        document
    }

    /// The next value with the line on which it begins.
    fn next(&mut self) -> Result<Option<(usize, Value)>, DataError> {
        if self.is_array {
            match (self.peek(), self.count) {
                (Some(b']'), _) => {
                    self.advance(1);
                    return match self.peek() {
                        None => Ok(None),
                        Some(_) => Err(self.error("text after the end of the list")),
                    };
                }
                (None, _) => return Err(self.error("the list is not closed, expected `,` or `]`")),
                (_, 0) => {}
                (Some(b','), _) => {
                    self.advance(1);
                    if self.peek().is_none() {
                        return Err(self.error("the list is not closed, expected a value"));
                    }
                }
                _ => return Err(self.error("expected `,` or `]`")),
            }
        }
        if self.peek().is_none() && !self.is_array {
            return Ok(None);
        }
        let line = self.line;
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                let length = values.byte_offset();
                self.advance(length);
                self.count += 1;
                Ok(Some((line, value)))
            }
            Some(Err(error)) => {
                let (_, start) = position(&self.text.as_bytes()[..self.at]);
                let column = if error.line() == 1 { start + error.column() - 1 } else { error.column() };
                let origin = Origin { path: self.name.clone(), line: line + error.line() - 1 };
                Err(json_error(&error, origin, column, ""))
            }
            None => Err(self.error("expected a value")),
        }
    }

    /// The next byte that is not white space, which is skipped.
    fn peek(&mut self) -> Option<u8> {
        let rest = &self.text.as_bytes()[self.at..];
        let blank = rest.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(rest.len());
        self.advance(blank);
        self.text.as_bytes().get(self.at).copied()
    }

    fn advance(&mut self, bytes: usize) {
        let passed = &self.text.as_bytes()[self.at..self.at + bytes];
        self.line += lines(passed);
        self.at += bytes;
    }

    fn error(&self, message: &str) -> DataError {
        let (line, column) = position(&self.text.as_bytes()[..self.at]);
        let origin = Origin { path: self.name.clone(), line };
        DataError::Json { origin, column, message: message.to_owned(), remedy: "" }
    }
}
