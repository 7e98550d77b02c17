//! Files to be screened, in pieces that fit into memory: lines of JSON, or parts of a plain text.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::{Finding, Screening};
use crate::conversation::Origin;
use crate::error::{DataError, ScreenError};

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
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    let json = matches!(ending.as_str(), "jsonl" | "ndjson");
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
    let mut value: Value = serde_json::from_str(record.trim_start_matches('\u{feff}')).map_err(|error| {
        let origin = Origin { path: path.clone(), line };
        DataError::Screen(ScreenError::Json { origin, message: error.to_string() })
    })?;
    let mut texts = Vec::new();
    collect(&value, &mut texts);
    let new = screening.texts(&texts, |number, finding| found(texts[number], finding));
    if new.iter().all(Option::is_none) {
        return Ok(record.to_owned());
    }
    put(&mut value, &mut new.into_iter());
    Ok(format!("{value}\n"))
}

fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(list) => list.iter().for_each(|value| collect(value, texts)),
        Value::Object(fields) => {
            fields
                .iter()
                .filter(|(key, _)| !NOT_SCREENED.contains(&key.as_str()))
                .for_each(|(_, value)| collect(value, texts));
        }
        _ => {}
    }
}

/// Puts the new texts in, in the order in which [`collect`] took the old ones.
fn put(value: &mut Value, new: &mut impl Iterator<Item = Option<String>>) {
    match value {
        Value::String(text) => {
            if let Some(Some(new)) = new.next() {
                *text = new;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| put(value, new)),
        Value::Object(fields) => {
            fields
                .iter_mut()
                .filter(|(key, _)| !NOT_SCREENED.contains(&key.as_str()))
                .for_each(|(_, value)| put(value, new));
        }
        _ => {}
    }
}
