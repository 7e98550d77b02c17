//! Files to be screened, in pieces that fit into memory: lines of JSON, or parts of a plain text.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{Finding, Screening};
use crate::conversation::Origin;
use crate::error::{DataError, ScreenError};
use crate::source::{BYTE_ORDER_MARK, ending, is_lines};

/// The bytes that are read together.
const CHUNK_BYTES: usize = 4 << 20;
/// The bytes of a piece of plain text, unless a line is longer.
const PIECE_BYTES: usize = 1 << 16;
/// Keys whose values say what a record is, not what it holds.
const NOT_SCREENED: [&str; 4] = ["id", "role", "from", "lang"];

/// Records that were read together.
#[derive(Debug)]
pub struct Chunk {
    /// Each record with the line on which it begins, its end of line included.
    pub records: Vec<(usize, String)>,
    /// Whether the records are JSON.
    pub json: bool,
    /// The bytes of the file that are read by now.
    pub done_bytes: u64,
}

/// Reads a file in chunks of a few megabytes: each line a record where the name ends in `.jsonl` or `.ndjson`, else
/// pieces of some ten kilobytes that end with a line.
///
/// # Errors
/// [`DataError::Read`]; [`ScreenError::NotText`] for bytes that are no UTF-8; what `work` gives.
pub fn read_chunks(path: &Path, mut work: impl FnMut(Chunk) -> Result<(), DataError>) -> Result<(), DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let json = is_lines(&ending(path));
    let mut reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    let (mut line, mut done) = (0, 0_u64);
    loop {
        let (mut records, mut bytes): (Vec<(usize, String)>, usize) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES {
            let mut read = Vec::new();
            if reader.read_until(b'\n', &mut read).map_err(failed)? == 0 {
                break;
            }
            line += 1;
            bytes += read.len();
            let text = String::from_utf8(read).map_err(|error| {
                let byte = done + error.utf8_error().valid_up_to() as u64 + 1;
                DataError::Screen(ScreenError::NotText { path: path.to_owned(), byte })
            })?;
            done += text.len() as u64;
            match records.last_mut() {
                Some((_, piece)) if !json && piece.len() < PIECE_BYTES => piece.push_str(&text),
                _ => records.push((line, text)),
            }
        }
        if records.is_empty() {
            return Ok(());
        }
        work(Chunk { records, json, done_bytes: done })?;
    }
}

/// Screens a record of a chunk: every text of a JSON value, or the plain text itself. Gives what stands in its place.
///
/// # Errors
/// [`ScreenError::Json`] with the line when the record is no JSON.
pub fn screen_value(
    screening: &Screening,
    path: &Arc<Path>,
    (line, record): (usize, &str),
    json: bool,
    mut found: impl FnMut(&str, &Finding),
) -> Result<String, DataError> {
    if !json || record.trim().is_empty() {
        let new = screening.texts(&[record], |_, finding| found(record, finding)).pop().flatten();
        return Ok(new.unwrap_or_else(|| record.to_owned()));
    }
    let mut value: Value = serde_json::from_str(record.trim_start_matches(BYTE_ORDER_MARK)).map_err(|error| {
        let origin = Origin { path: path.clone(), line };
        DataError::Screen(ScreenError::Json { origin, message: error.to_string() })
    })?;
    let mut texts = Vec::new();
    collect(&mut value, &mut texts);
    let old: Vec<&str> = texts.iter().map(|text| text.as_str()).collect();
    let new = screening.texts(&old, |number, finding| found(old[number], finding));
    if new.iter().all(Option::is_none) {
        return Ok(record.to_owned());
    }
    for (text, new) in texts.into_iter().zip(new) {
        if let Some(new) = new {
            *text = new;
        }
    }
    Ok(format!("{value}\n"))
}

/// The texts of a value that are screened.
fn collect<'a>(value: &'a mut Value, texts: &mut Vec<&'a mut String>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter_mut().for_each(|value| collect(value, texts)),
        Value::Object(fields) => {
            fields
                .iter_mut()
                .filter(|(key, _)| !NOT_SCREENED.contains(&key.as_str()))
                .for_each(|(_, value)| collect(value, texts));
        }
        _ => {}
    }
}
