//! Reads the primitive parts of a GGUF header: numbers, strings, values, each with its place for messages.
//!
//! Every count and length is checked against the bytes that are left before anything is allocated for it.

use std::path::Path;

use super::value::{GgufArray, GgufValue, ValueType};
use crate::AdapterError;

/// Arrays of arrays nest no deeper than this; no known file nests at all.
const MAX_ARRAY_DEPTH: usize = 4;

/// Reads little-endian values and keeps the place for messages.
pub(super) struct Cursor<'a> {
    pub(super) path: &'a Path,
    bytes: &'a [u8],
    /// From the start of the file, in bytes.
    pub(super) offset: usize,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(path: &'a Path, bytes: &'a [u8]) -> Self {
        Self { path, bytes, offset: 0 }
    }

    pub(super) fn error_at(&self, offset: usize, problem: String) -> AdapterError {
        AdapterError::Header { path: self.path.into(), offset, problem }
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    fn take(&mut self, len: usize, what: &str) -> Result<&'a [u8], AdapterError> {
        let Some(taken) = self.bytes[self.offset..].get(..len) else {
            let problem = format!(
                "{what} takes {len} bytes, but the file ends after {}; it is truncated or its header is wrong",
                self.remaining()
            );
            return Err(self.error_at(self.offset, problem));
        };
        self.offset += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], AdapterError> {
        let taken = self.take(N, what)?;
        Ok(*taken.as_array().expect("take returns exactly the length asked for"))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, AdapterError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, AdapterError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub(super) fn magic(&mut self) -> Result<(), AdapterError> {
        let magic = self.array::<4>("the magic number")?;
        if &magic == b"GGUF" {
            return Ok(());
        }
        let found = magic.escape_ascii();
        let hint = match &magic {
            b"lmgg" | b"tjgg" | b"fmgg" | b"algg" => "; this is an older ggml format, convert it with llama.cpp",
            b"FUGG" => "; big-endian files are not supported",
            _ => "",
        };
        Err(self.error_at(0, format!("found the magic number \"{found}\", expected \"GGUF\"{hint}")))
    }

    pub(super) fn version(&mut self) -> Result<u32, AdapterError> {
        let start = self.offset;
        let version = self.u32("the version")?;
        match version {
            2 | 3 => Ok(version),
            _ if matches!(version.swap_bytes(), 1..=3) => Err(self.error_at(
                start,
                "the file is big-endian, only little-endian files are supported; convert it with gguf-py's \
                 gguf_convert_endian.py"
                    .into(),
            )),
            _ => Err(self.error_at(start, format!("found GGUF version {version}, supported are 2 and 3"))),
        }
    }

    /// A number of things that each take at least `min_bytes` of what is left.
    pub(super) fn count(&mut self, what: &str, min_bytes: usize) -> Result<usize, AdapterError> {
        let start = self.offset;
        let claimed = self.u64(what)?;
        let limit = self.remaining() / min_bytes;
        match usize::try_from(claimed) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(self.error_at(
                start,
                format!("claims {claimed} {what}, but the rest of the file has room for at most {limit}"),
            )),
        }
    }

    pub(super) fn string(&mut self, what: &str) -> Result<String, AdapterError> {
        let start = self.offset;
        let len = self.count(&format!("bytes of {what}"), 1)?;
        let bytes = self.take(len, what)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|error| self.error_at(start, format!("{what} is not valid UTF-8: {error}")))?;
        Ok(text.to_owned())
    }

    fn bool(&mut self) -> Result<bool, AdapterError> {
        let start = self.offset;
        match self.array::<1>("a bool")? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.error_at(start, format!("found {other} for a bool, expected 0 or 1"))),
        }
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType, AdapterError> {
        let start = self.offset;
        let id = self.u32("a value type")?;
        ValueType::from_id(id).ok_or_else(|| {
            self.error_at(start, format!("metadata key `{key}` has the unknown value type {id}, known are 0 to 12"))
        })
    }

    pub(super) fn value(&mut self, key: &str) -> Result<GgufValue, AdapterError> {
        Ok(match self.value_type(key)? {
            ValueType::U8 => GgufValue::U8(u8::from_le_bytes(self.array("a u8")?)),
            ValueType::I8 => GgufValue::I8(i8::from_le_bytes(self.array("an i8")?)),
            ValueType::U16 => GgufValue::U16(u16::from_le_bytes(self.array("a u16")?)),
            ValueType::I16 => GgufValue::I16(i16::from_le_bytes(self.array("an i16")?)),
            ValueType::U32 => GgufValue::U32(self.u32("a u32")?),
            ValueType::I32 => GgufValue::I32(i32::from_le_bytes(self.array("an i32")?)),
            ValueType::F32 => GgufValue::F32(f32::from_le_bytes(self.array("an f32")?)),
            ValueType::Bool => GgufValue::Bool(self.bool()?),
            ValueType::String => GgufValue::String(self.string("a metadata string")?),
            ValueType::Array => GgufValue::Array(self.array_value(key, 1)?),
            ValueType::U64 => GgufValue::U64(self.u64("a u64")?),
            ValueType::I64 => GgufValue::I64(i64::from_le_bytes(self.array("an i64")?)),
            ValueType::F64 => GgufValue::F64(f64::from_le_bytes(self.array("an f64")?)),
        })
    }

    fn array_value(&mut self, key: &str, depth: usize) -> Result<GgufArray, AdapterError> {
        let start = self.offset;
        if depth > MAX_ARRAY_DEPTH {
            let problem = format!("metadata key `{key}` nests arrays more than {MAX_ARRAY_DEPTH} deep, the limit");
            return Err(self.error_at(start, problem));
        }
        let element_type = self.value_type(key)?;
        let len = self.count(&format!("elements of the array `{key}`"), element_type.min_bytes())?;
        Ok(match element_type {
            ValueType::U8 => GgufArray::U8(self.numbers(len, u8::from_le_bytes)?),
            ValueType::I8 => GgufArray::I8(self.numbers(len, i8::from_le_bytes)?),
            ValueType::U16 => GgufArray::U16(self.numbers(len, u16::from_le_bytes)?),
            ValueType::I16 => GgufArray::I16(self.numbers(len, i16::from_le_bytes)?),
            ValueType::U32 => GgufArray::U32(self.numbers(len, u32::from_le_bytes)?),
            ValueType::I32 => GgufArray::I32(self.numbers(len, i32::from_le_bytes)?),
            ValueType::F32 => GgufArray::F32(self.numbers(len, f32::from_le_bytes)?),
            ValueType::Bool => GgufArray::Bool((0..len).map(|_| self.bool()).collect::<Result<_, _>>()?),
            ValueType::String => {
                GgufArray::String((0..len).map(|_| self.string("an array's string")).collect::<Result<_, _>>()?)
            }
            ValueType::Array => {
                GgufArray::Array((0..len).map(|_| self.array_value(key, depth + 1)).collect::<Result<_, _>>()?)
            }
            ValueType::U64 => GgufArray::U64(self.numbers(len, u64::from_le_bytes)?),
            ValueType::I64 => GgufArray::I64(self.numbers(len, i64::from_le_bytes)?),
            ValueType::F64 => GgufArray::F64(self.numbers(len, f64::from_le_bytes)?),
        })
    }

    /// `len` numbers of `N` bytes each; `len` was checked against what is left of the file.
    fn numbers<const N: usize, T>(&mut self, len: usize, from: fn([u8; N]) -> T) -> Result<Vec<T>, AdapterError> {
        let bytes = self.take(len * N, "an array")?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|number| from(*number)).collect())
    }
}
