//! JSON text: one record a line, read line by line, or one document that holds all records.
//!
//! A document is a JSON array, a nested SQuAD file, or records one after the other over any number of
//! lines. It is read whole, since a record can only be found by parsing what stands before it.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use serde_json::error::Category;

use super::squad;
use super::stream::{Content, Raw, Records};
use crate::conversation::Origin;
use crate::error::{DataError, RecordError};

/// What some editors put in front of a text.
pub(crate) const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Opens a file of one record a line. Blank lines are skipped. A file that begins with `[` is one array.
pub(super) fn open_lines(file: &Path, name: &Arc<Path>) -> Result<Box<dyn Records>, DataError> {
    let reader = BufReader::with_capacity(1 << 20, open(file, name)?);
    let mut lines = Lines { reader, number: 0, done: 0, first: None, name: name.clone() };
    lines.first = lines.read()?;
    match &lines.first {
        Some((_, line)) if line.trim_ascii_start().starts_with(b"[") => open_document(file, name),
        _ => Ok(Box::new(lines)),
    }
}

/// Opens a document that holds all records.
pub(super) fn open_document(file: &Path, name: &Arc<Path>) -> Result<Box<dyn Records>, DataError> {
    let document = Document::new(read_text(file, name)?, name.clone());
    Ok(Box::new(DocumentRecords { document, waiting: VecDeque::new(), count: 0 }))
}

/// The text of a file, without a byte order mark.
pub(super) fn read_text(file: &Path, name: &Arc<Path>) -> Result<String, DataError> {
    let mut bytes = Vec::new();
    open(file, name)?.read_to_end(&mut bytes).map_err(|source| read_error(name, source))?;
    drop_mark(&mut bytes);
    String::from_utf8(bytes).map_err(|error| {
        let before = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let (line, column) = position(before);
        DataError::Record(RecordError::NotUtf8 { origin: Origin { path: name.clone(), line }, byte: column })
    })
}

fn drop_mark(bytes: &mut Vec<u8>) {
    if bytes.starts_with(BYTE_ORDER_MARK.as_bytes()) {
        bytes.drain(..BYTE_ORDER_MARK.len());
    }
}

fn open(file: &Path, name: &Path) -> Result<File, DataError> {
    File::open(file).map_err(|source| read_error(name, source))
}

fn read_error(name: &Path, source: std::io::Error) -> DataError {
    DataError::Read { path: name.to_owned(), source }
}

/// The lines of a file that are not blank.
struct Lines {
    reader: BufReader<File>,
    number: usize,
    done: u64,
    /// The first line, which was read to see what the file is.
    first: Option<(usize, Vec<u8>)>,
    name: Arc<Path>,
}

impl Lines {
    /// The next line with its number, without its end; none when the file is over.
    fn read(&mut self) -> Result<Option<(usize, Vec<u8>)>, DataError> {
        loop {
            let mut line = Vec::new();
            let read = self.reader.read_until(b'\n', &mut line).map_err(|source| read_error(&self.name, source))?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.done += read as u64;
            if self.number == 1 {
                drop_mark(&mut line);
            }
            line.truncate(line.trim_ascii_end().len());
            if !line.is_empty() {
                return Ok(Some((self.number, line)));
            }
        }
    }
}

impl Records for Lines {
    fn next(&mut self) -> Result<Option<Raw>, DataError> {
        let next = match self.first.take() {
            Some(first) => Some(first),
            None => self.read()?,
        };
        Ok(next.map(|(line, text)| Raw { line, content: Content::Line(text) }))
    }

    fn done_bytes(&self) -> u64 {
        self.done
    }
}

/// The records of a document, those inside a nested SQuAD file one by one.
struct DocumentRecords {
    document: Document,
    waiting: VecDeque<(usize, Value)>,
    /// How many records were given out.
    count: usize,
}

impl Records for DocumentRecords {
    fn next(&mut self) -> Result<Option<Raw>, DataError> {
        while self.waiting.is_empty() {
            let Some((line, value)) = self.document.next()? else {
                return Ok(None);
            };
            self.waiting.extend(squad::flatten(value).into_iter().map(|record| (line, record)));
        }
        self.count += 1;
        let record = self.count;
        Ok(self.waiting.pop_front().map(|(line, value)| Raw { line, content: Content::Document { record, value } }))
    }

    fn done_bytes(&self) -> u64 {
        self.document.at as u64
    }
}

/// The record on a line.
pub(crate) fn parse_line(line: &[u8], origin: &Origin) -> Result<Value, DataError> {
    let text = std::str::from_utf8(line).map_err(|error| {
        DataError::Record(RecordError::NotUtf8 { origin: origin.clone(), byte: error.valid_up_to() + 1 })
    })?;
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
    DataError::Record(RecordError::Json { origin, column, message, remedy })
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
struct Document {
    text: String,
    name: Arc<Path>,
    /// How far the text is read, in bytes, and the line reached.
    at: usize,
    line: usize,
    is_array: bool,
    count: usize,
}

impl Document {
    fn new(text: String, name: Arc<Path>) -> Self {
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
        DataError::Record(RecordError::Json { origin, column, message: message.to_owned(), remedy: "" })
    }
}
