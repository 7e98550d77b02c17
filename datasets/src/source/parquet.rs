//! Parquet files, read row by row without Arrow: each row becomes a JSON record.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ::parquet::file::reader::SerializedFileReader;
use ::parquet::record::reader::RowIter;
use serde_json::Value;

use super::Loaded;
use super::format::Converter;
use crate::config::SourceConfig;
use crate::conversation::Origin;
use crate::error::DataError;

/// Reads the rows of a Parquet file.
pub(super) fn read(file: &Path, name: &Arc<Path>, source: &SourceConfig) -> Result<Loaded, DataError> {
    let error = |row, message| DataError::Parquet { path: name.to_path_buf(), row, message };
    let input = File::open(file).map_err(|source| DataError::Read { path: name.to_path_buf(), source })?;
    let mut rows = guard(|| {
        let reader = SerializedFileReader::new(input).map_err(|e| e.to_string())?;
        Ok(RowIter::from_file_into(Box::new(reader)))
    })
    .map_err(|message| error(0, message))?;

    let mut converter: Option<Converter<'_>> = None;
    let mut conversations = Vec::new();
    while conversations.len() < source.limit.unwrap_or(usize::MAX) {
        let read = conversations.len();
        let next = guard(|| next(&mut rows)).map_err(|message| error(read, message))?;
        let Some(record) = next else { break };
        let origin = Origin { path: name.clone(), line: read + 1 };
        let converter = match &mut converter {
            Some(converter) => converter,
            none => none.insert(Converter::new(source, &record, &origin)?),
        };
        conversations.push(converter.convert(&record, origin)?);
    }
    match converter {
        Some(converter) => Ok(Loaded { conversations, format: converter.format }),
        None => Err(DataError::Empty { path: name.to_path_buf() }),
    }
}

fn next(rows: &mut RowIter<'_>) -> Result<Option<Value>, String> {
    match rows.next() {
        Some(Ok(row)) => Ok(Some(row.to_json_value())),
        Some(Err(error)) => Err(error.to_string()),
        None => Ok(None),
    }
}

/// Runs the Parquet reader, and turns its panics into errors. The reader trusts counts and offsets of
/// the file in places, so a damaged file can make it index out of bounds; nothing of its state is used
/// after that, which is why unwinding is safe here.
fn guard<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err("the file's pages contradict its own header, it is damaged".to_owned()))
}
