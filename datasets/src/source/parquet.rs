//! Parquet files, read row by row without Arrow: each row becomes a JSON record.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::record::reader::RowIter;

use super::stream::{Content, Raw, Records};
use crate::error::{DataError, RecordError};

/// The most columns and groups that a schema may have.
const MAX_SCHEMA_PARTS: u64 = 1000;

/// Opens a Parquet file.
pub(super) fn open(file: &Path, name: &Arc<Path>) -> Result<Box<dyn Records>, DataError> {
    let error = |message| DataError::Record(RecordError::Parquet { path: name.to_path_buf(), row: 0, message });
    let read_error = |source| DataError::Read { path: name.to_path_buf(), source };
    let mut input = File::open(file).map_err(read_error)?;
    let bytes = input.metadata().map_err(read_error)?.len();
    check_schema(&mut input).map_err(error)?;
    let (rows, count) = guard(|| {
        let reader = SerializedFileReader::new(input).map_err(|e| e.to_string())?;
        let count = u64::try_from(reader.metadata().file_metadata().num_rows()).unwrap_or(0);
        Ok((RowIter::from_file_into(Box::new(reader)), count))
    })
    .map_err(error)?;
    Ok(Box::new(Rows { reader: rows, read: 0, count, bytes, name: name.clone() }))
}

/// The rows of a file; the reader holds the pages of one row group.
struct Rows {
    reader: RowIter<'static>,
    read: usize,
    /// As the file claims, for the progress alone.
    count: u64,
    bytes: u64,
    name: Arc<Path>,
}

impl Records for Rows {
    fn next(&mut self) -> Result<Option<Raw>, DataError> {
        let next = guard(|| match self.reader.next() {
            Some(Ok(row)) => Ok(Some(row.to_json_value())),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(None),
        })
        .map_err(|message| {
            DataError::Record(RecordError::Parquet { path: self.name.to_path_buf(), row: self.read, message })
        })?;
        Ok(next.map(|value| {
            self.read += 1;
            Raw { line: self.read, content: Content::Value(value) }
        }))
    }

    fn done_bytes(&self) -> u64 {
        let share = (self.read as u64).min(self.count) as f64 / self.count.max(1) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the file's size")]
        let done = (share * self.bytes as f64) as u64;
        done
    }
}

/// Refuses a schema of too many parts before the reader, which goes down a nested schema by recursion
/// and would overflow the stack on a file made for it.
///
/// The footer begins with the version and the list of schema parts, in Thrift's compact form: a byte
/// 0x15 and a number, then 0x19 and the list's length, in the upper half of a byte or as a number after it.
///
/// Source: <https://github.com/apache/parquet-format>, `parquet.thrift`, and Thrift's
/// `thrift-compact-protocol.md`.
fn check_schema(input: &mut File) -> Result<(), String> {
    let mut start = Vec::new();
    let mut read = || -> std::io::Result<()> {
        let mut end = [0; 8];
        input.seek(SeekFrom::End(-8))?;
        input.read_exact(&mut end)?;
        let [a, b, c, d, ..] = end;
        input.seek(SeekFrom::End(-8 - i64::from(u32::from_le_bytes([a, b, c, d]))))?;
        input.by_ref().take(32).read_to_end(&mut start)?;
        input.rewind()
    };
    read().map_err(|_| "its footer lies outside of the file, it is cut off or not a Parquet file".to_owned())?;
    let mut bytes = start.into_iter();
    let parts = (|| {
        (bytes.next()? == 0x15).then_some(())?;
        varint(&mut bytes)?;
        (bytes.next()? == 0x19).then_some(())?;
        match bytes.next()? >> 4 {
            0xF => varint(&mut bytes),
            short => Some(u64::from(short)),
        }
    })();
    match parts {
        Some(parts) if parts <= MAX_SCHEMA_PARTS => Ok(()),
        Some(parts) => Err(format!("its schema has {parts} columns and groups, expected at most {MAX_SCHEMA_PARTS}")),
        None => Err("its footer does not begin with a version and a schema, it is damaged".to_owned()),
    }
}

/// A number of Thrift's compact form: seven bits a byte, the lowest first.
fn varint(bytes: &mut impl Iterator<Item = u8>) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let byte = bytes.next()?;
        number |= u64::from(byte & 0x7F) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Runs the Parquet reader, and turns its panics into errors. The reader trusts counts and offsets of
/// the file in places, so a damaged file can make it index out of bounds; nothing of its state is used
/// after that, which is why unwinding is safe here.
fn guard<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("the file's pages contradict its own header, it is damaged".to_owned()))
}

#[cfg(test)]
mod tests;
