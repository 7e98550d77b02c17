//! Parquet files written by the crate itself and by pyarrow, whole and damaged.

use std::sync::Arc;

use ::parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use ::parquet::column::writer::ColumnWriter;
use ::parquet::data_type::ByteArray;
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::super::tests::{CHAT, read, shown};
use super::*;
use crate::config::SourceConfig;
use crate::source::{Loaded, load};
use insta::assert_snapshot;
use std::fs;
use tempfile::TempDir;

/// One row group with text columns; values come with their definition and repetition levels.
fn write(schema: &str, compression: Compression, columns: &[(Vec<&str>, Vec<i16>, Vec<i16>)]) -> Vec<u8> {
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let mut bytes = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, properties).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for (values, definition, repetition) in columns {
        let mut column = group.next_column().unwrap().unwrap();
        let ColumnWriter::ByteArrayColumnWriter(typed) = column.untyped() else { panic!("a text column") };
        let values: Vec<ByteArray> = values.iter().map(|value| ByteArray::from(*value)).collect();
        typed.write_batch(&values, Some(definition), Some(repetition)).unwrap();
        column.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
    bytes
}

/// Two Alpaca rows, the second without input.
fn alpaca(compression: Compression) -> Vec<u8> {
    let schema = "message m { required binary instruction (UTF8); optional binary input (UTF8); \
                  required binary output (UTF8); }";
    let required = |values| (values, vec![0, 0], vec![0, 0]);
    write(
        schema,
        compression,
        &[required(vec!["Count.", "é"]), (vec!["1"], vec![1, 0], vec![0, 0]), required(vec!["2", "e"])],
    )
}

fn parquet(bytes: &[u8]) -> Result<Loaded, DataError> {
    read("a.parquet", bytes, |_| {})
}

#[test]
fn rows_of_texts_in_each_usual_compression() {
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::ZSTD(ZstdLevel::default()),
        Compression::GZIP(GzipLevel::default()),
        Compression::LZ4_RAW,
        Compression::BROTLI(BrotliLevel::default()),
    ] {
        let loaded = parquet(&alpaca(compression)).unwrap();
        let texts: Vec<_> = loaded.conversations.iter().map(|c| &c.messages[0].content[..]).collect();
        assert_eq!(texts, ["Count.\n\n1", "é"], "{compression}");
        assert_eq!(loaded.conversations[1].origin.to_string(), "a.parquet:2");
    }
}

#[test]
fn lists_of_messages() {
    let schema = "message m { optional group messages (LIST) { repeated group list { optional group element { \
                  optional binary role (UTF8); optional binary content (UTF8); } } } }";
    // Two rows: a message of the user and one of the assistant; the assistant alone.
    let levels = (vec![4, 4, 4], vec![0, 1, 0]);
    let column = |values| (values, levels.0.clone(), levels.1.clone());
    let roles = column(vec!["user", "assistant", "assistant"]);
    let bytes = write(schema, Compression::SNAPPY, &[roles.clone(), column(vec!["a", "b", "c"])]);
    assert_snapshot!(shown(&parquet(&bytes).unwrap()), @r#"
    messages
    a.parquet:1
      user: "a"
      assistant: "b"
    a.parquet:2
      assistant: "c"
    "#);
    let empty = write(schema, Compression::SNAPPY, &[roles, column(vec!["a", "b", ""])]);
    assert_eq!(
        parquet(&empty).unwrap_err().to_string(),
        "a.parquet:2: message 1 of the assistant is empty, expected text, remove the record or fill it in"
    );
    assert_eq!(read("a.parquet", empty, |source| source.limit = Some(1)).unwrap().conversations.len(), 1);
}

/// Files that pyarrow and pandas wrote: `tests-data/parquet.py`.
#[test]
fn a_file_from_pyarrow() {
    let bytes = include_bytes!("../../../tests-data/squad.parquet");
    assert_snapshot!(shown(&parquet(bytes).unwrap()), @r#"
    squad
    a.parquet:1
      user: "Le chat dort.\n\nQui dort ?"
      assistant: "Le chat"
      references: ["Le chat", "chat"]
    a.parquet:2
      user: "Il pleut à Brest.\n\nOù pleut-il ?"
      assistant: "à Brest"
      references: ["à Brest"]
    "#);
}

#[test]
fn what_is_no_parquet_file_is_an_error() {
    assert_snapshot!(
        parquet(b"PAR1").unwrap_err().to_string(),
        @"a.parquet: not a readable Parquet file: its footer lies outside of the file, it is cut off or not a Parquet file"
    );
    assert_snapshot!(
        parquet(CHAT.as_bytes()).unwrap_err().to_string(),
        @"a.parquet: not a readable Parquet file: its footer lies outside of the file, it is cut off or not a Parquet file"
    );
    let no_rows =
        write("message m { required binary prompt (UTF8); }", Compression::SNAPPY, &[(vec![], vec![], vec![])]);
    assert_snapshot!(parquet(&no_rows).unwrap_err().to_string(), @"a.parquet: has no record, expected at least one");
}

/// Each byte changed in two ways, and each length: an answer or an error, never a panic.
#[test]
fn damaged_files_are_errors() {
    let folder = TempDir::new().unwrap();
    let mut files = 0;
    // A new file each time: some file systems flush a file that is written over, which takes long.
    let mut parquet = |bytes: &[u8]| {
        files += 1;
        let name = format!("{files}.parquet");
        fs::write(folder.path().join(&name), bytes).unwrap();
        load(&SourceConfig::from_path(name), folder.path())
    };
    let whole = alpaca(Compression::UNCOMPRESSED);
    let mut refused = 0;
    for length in 0..whole.len() {
        assert!(parquet(&whole[..length]).is_err(), "{length} bytes");
    }
    for at in 0..whole.len() {
        for change in [0xFF, 0x10] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            refused += usize::from(parquet(&bytes).is_err());
        }
    }
    assert!(refused > whole.len() / 2, "only {refused} of the damaged files were refused");
}

/// The reader overflows the stack on some ten thousand nested groups; too large a count alone is refused.
#[test]
fn a_schema_made_to_overflow_the_stack_is_refused() {
    let mut bytes = b"PAR1".to_vec();
    // Version 1, then a list of 20001 schema parts: 20001 = 0x21 + (0x1C << 7) + (1 << 14).
    let footer: [u8; 8] = [0x15, 0x02, 0x19, 0xFC, 0xA1, 0x9C, 0x01, 0x48];
    bytes.extend(footer);
    bytes.extend([8, 0, 0, 0]);
    bytes.extend(b"PAR1");
    assert_snapshot!(
        parquet(&bytes).unwrap_err().to_string(),
        @"a.parquet: not a readable Parquet file: its schema has 20001 columns and groups, expected at most 1000"
    );
}
