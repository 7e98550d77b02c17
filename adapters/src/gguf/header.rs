//! Parses the header of a GGUF file: magic, version, metadata, tensor infos.
//!
//! The bytes are hostile until proven otherwise. Every count and length is checked against the bytes that are left
//! before anything is allocated for it, and every tensor against the data section and its neighbours.
//! Source: the GGUF specification, <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::types::GgmlType;
use super::value::{GgufArray, GgufValue, ValueType};
use crate::AdapterError;

/// Alignment of the tensors where the metadata names none.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// The metadata key of the alignment.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// Most dimensions that ggml gives a tensor.
const MAX_DIMS: u32 = 4;
/// Arrays of arrays nest no deeper than this; no known file nests at all.
const MAX_ARRAY_DEPTH: usize = 4;
/// The fewest bytes of a metadata entry: length of the key, type, a value of one byte.
const MIN_ENTRY_BYTES: usize = 8 + 4 + 1;
/// The fewest bytes of a tensor info: length of the name, number of dimensions, type, offset.
const MIN_TENSOR_BYTES: usize = 8 + 4 + 4 + 8;

/// A tensor of a GGUF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GgufTensor {
    /// The name: `blk.0.attn_q.weight`.
    pub name: String,
    /// The shape in row-major order, `[out, in]` for a linear layer: the reverse of how the file writes it.
    pub shape: Vec<usize>,
    /// How the values are stored.
    pub ggml_type: GgmlType,
    /// Where the bytes lie in the file.
    pub(super) range: Range<usize>,
}

impl GgufTensor {
    /// The number of values.
    pub fn len(&self) -> usize {
        // Checked against overflow when the header was read.
        self.shape.iter().product()
    }

    /// Never true in a file that was read, since dimensions of 0 are refused.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What the header says, checked against the file.
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) metadata: BTreeMap<String, GgufValue>,
    pub(super) tensors: Vec<GgufTensor>,
}

/// Parses and checks the header of the file whose bytes are given.
///
/// # Errors
/// [`AdapterError::Header`] with the byte offset, [`AdapterError::Tensor`] with the tensor's name.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Header, AdapterError> {
    let mut cursor = Cursor {
        path,
        bytes,
        offset: 0,
    };
    cursor.magic()?;
    let version = cursor.version()?;
    let n_tensors = cursor.count("tensors", MIN_TENSOR_BYTES)?;
    let n_entries = cursor.count("metadata entries", MIN_ENTRY_BYTES)?;

    let mut metadata = BTreeMap::new();
    for _ in 0..n_entries {
        let start = cursor.offset;
        let key = cursor.string("metadata key")?;
        let value = cursor.value(&key)?;
        if metadata.contains_key(&key) {
            return Err(cursor.error_at(start, format!("metadata key `{key}` comes twice")));
        }
        metadata.insert(key, value);
    }

    let mut infos = Vec::new();
    let mut names = BTreeSet::new();
    for _ in 0..n_tensors {
        let start = cursor.offset;
        let info = cursor.tensor_info()?;
        if !names.insert(info.name.clone()) {
            return Err(cursor.error_at(start, format!("tensor `{}` comes twice", info.name)));
        }
        infos.push(info);
    }

    let alignment = alignment(path, &metadata)?;
    let tensors = place(path, infos, cursor.offset, alignment, bytes.len())?;
    Ok(Header {
        version,
        metadata,
        tensors,
    })
}

/// The alignment that the metadata names, or the default.
fn alignment(path: &Path, metadata: &BTreeMap<String, GgufValue>) -> Result<usize, AdapterError> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT as usize),
        Some(GgufValue::U32(alignment)) if alignment.is_power_of_two() => Ok(*alignment as usize),
        Some(GgufValue::U32(alignment)) => {
            let problem =
                format!("metadata key `{ALIGNMENT_KEY}` is {alignment}, expected a power of two");
            Err(AdapterError::File {
                path: path.into(),
                problem,
            })
        }
        Some(other) => Err(AdapterError::MetadataType {
            path: path.into(),
            key: ALIGNMENT_KEY.into(),
            found: other.type_name(),
            expected: "u32",
        }),
    }
}

/// A tensor info as the file has it, before its bytes are located.
struct TensorInfo {
    name: String,
    shape: Vec<usize>,
    ggml_type: GgmlType,
    /// Size in bytes.
    size: usize,
    /// From the start of the data section.
    offset: u64,
}

/// Turns offsets in the data section into ranges of the file, and refuses what lies outside, askew or on top of
/// something else.
fn place(
    path: &Path,
    infos: Vec<TensorInfo>,
    header_end: usize,
    alignment: usize,
    file_len: usize,
) -> Result<Vec<GgufTensor>, AdapterError> {
    let data_start = header_end.next_multiple_of(alignment);
    let mut tensors = Vec::with_capacity(infos.len());
    for TensorInfo {
        name,
        shape,
        ggml_type,
        size,
        offset,
    } in infos
    {
        let range = usize::try_from(offset)
            .ok()
            .and_then(|offset| offset.checked_add(data_start))
            .and_then(|start| Some(start..start.checked_add(size)?))
            .filter(|range| range.end <= file_len);
        let Some(range) = range else {
            let problem = format!(
                "its {size} bytes at offset {offset} of the data section, which starts at byte {data_start}, end \
                 beyond the file of {file_len} bytes; the file is truncated or its header is wrong"
            );
            return Err(AdapterError::Tensor {
                path: path.into(),
                tensor: name,
                problem,
            });
        };
        if !offset.is_multiple_of(alignment as u64) {
            let problem =
                format!("its offset {offset} is not a multiple of the alignment {alignment}");
            return Err(AdapterError::Tensor {
                path: path.into(),
                tensor: name,
                problem,
            });
        }
        tensors.push(GgufTensor {
            name,
            shape,
            ggml_type,
            range,
        });
    }

    let mut by_start: Vec<&GgufTensor> = tensors.iter().collect();
    by_start.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    for pair in by_start.windows(2) {
        let [first, second] = pair else { continue };
        if second.range.start < first.range.end {
            let problem = format!(
                "its bytes {:?} overlap those of tensor `{}`, {:?}",
                second.range, first.name, first.range
            );
            return Err(AdapterError::Tensor {
                path: path.into(),
                tensor: second.name.clone(),
                problem,
            });
        }
    }
    Ok(tensors)
}

/// Reads little-endian values and keeps the place for messages.
struct Cursor<'a> {
    path: &'a Path,
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn error_at(&self, offset: usize, problem: String) -> AdapterError {
        AdapterError::Header {
            path: self.path.into(),
            offset,
            problem,
        }
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
        Ok(*taken
            .as_array()
            .expect("take returns exactly the length asked for"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, AdapterError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, AdapterError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn magic(&mut self) -> Result<(), AdapterError> {
        let magic = self.array::<4>("the magic number")?;
        if &magic == b"GGUF" {
            return Ok(());
        }
        let found = magic.escape_ascii();
        let hint = match &magic {
            b"lmgg" | b"tjgg" | b"fmgg" | b"algg" => {
                "; this is an older ggml format, convert it with llama.cpp"
            }
            b"FUGG" => "; big-endian files are not supported",
            _ => "",
        };
        Err(self.error_at(
            0,
            format!("found the magic number \"{found}\", expected \"GGUF\"{hint}"),
        ))
    }

    fn version(&mut self) -> Result<u32, AdapterError> {
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
    fn count(&mut self, what: &str, min_bytes: usize) -> Result<usize, AdapterError> {
        let start = self.offset;
        let claimed = self.u64(what)?;
        let limit = self.remaining() / min_bytes;
        match usize::try_from(claimed) {
            Ok(count) if count <= limit => Ok(count),
            _ => Err(self.error_at(
                start,
                format!(
                    "claims {claimed} {what}, but the rest of the file has room for at most {limit}"
                ),
            )),
        }
    }

    fn string(&mut self, what: &str) -> Result<String, AdapterError> {
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
            [other] => {
                Err(self.error_at(start, format!("found {other} for a bool, expected 0 or 1")))
            }
        }
    }

    fn value_type(&mut self, key: &str) -> Result<ValueType, AdapterError> {
        let start = self.offset;
        let id = self.u32("a value type")?;
        ValueType::from_id(id).ok_or_else(|| {
            self.error_at(
                start,
                format!("metadata key `{key}` has the unknown value type {id}, known are 0 to 12"),
            )
        })
    }

    fn value(&mut self, key: &str) -> Result<GgufValue, AdapterError> {
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
            let problem = format!(
                "metadata key `{key}` nests arrays more than {MAX_ARRAY_DEPTH} deep, the limit"
            );
            return Err(self.error_at(start, problem));
        }
        let element_type = self.value_type(key)?;
        let len = self.count(
            &format!("elements of the array `{key}`"),
            element_type.min_bytes(),
        )?;
        Ok(match element_type {
            ValueType::U8 => GgufArray::U8(self.numbers(len, u8::from_le_bytes)?),
            ValueType::I8 => GgufArray::I8(self.numbers(len, i8::from_le_bytes)?),
            ValueType::U16 => GgufArray::U16(self.numbers(len, u16::from_le_bytes)?),
            ValueType::I16 => GgufArray::I16(self.numbers(len, i16::from_le_bytes)?),
            ValueType::U32 => GgufArray::U32(self.numbers(len, u32::from_le_bytes)?),
            ValueType::I32 => GgufArray::I32(self.numbers(len, i32::from_le_bytes)?),
            ValueType::F32 => GgufArray::F32(self.numbers(len, f32::from_le_bytes)?),
            ValueType::Bool => {
                GgufArray::Bool((0..len).map(|_| self.bool()).collect::<Result<_, _>>()?)
            }
            ValueType::String => GgufArray::String(
                (0..len)
                    .map(|_| self.string("an array's string"))
                    .collect::<Result<_, _>>()?,
            ),
            ValueType::Array => GgufArray::Array(
                (0..len)
                    .map(|_| self.array_value(key, depth + 1))
                    .collect::<Result<_, _>>()?,
            ),
            ValueType::U64 => GgufArray::U64(self.numbers(len, u64::from_le_bytes)?),
            ValueType::I64 => GgufArray::I64(self.numbers(len, i64::from_le_bytes)?),
            ValueType::F64 => GgufArray::F64(self.numbers(len, f64::from_le_bytes)?),
        })
    }

    /// `len` numbers of `N` bytes each; `len` was checked against what is left of the file.
    fn numbers<const N: usize, T>(
        &mut self,
        len: usize,
        from: fn([u8; N]) -> T,
    ) -> Result<Vec<T>, AdapterError> {
        let bytes = self.take(len * N, "an array")?;
        Ok(bytes
            .as_chunks::<N>()
            .0
            .iter()
            .map(|number| from(*number))
            .collect())
    }

    fn tensor_info(&mut self) -> Result<TensorInfo, AdapterError> {
        let name = self.string("tensor name")?;
        let error = |problem: String| AdapterError::Tensor {
            path: self.path.into(),
            tensor: name.clone(),
            problem,
        };

        let n_dims = self.u32("the number of dimensions")?;
        if n_dims > MAX_DIMS {
            return Err(error(format!(
                "has {n_dims} dimensions, at most {MAX_DIMS} are supported"
            )));
        }
        let mut dims = Vec::new();
        for _ in 0..n_dims {
            dims.push(self.u64("a dimension")?);
        }
        let id = self.u32("a tensor type")?;
        let offset = self.u64("a tensor offset")?;

        let Some(ggml_type) = GgmlType::from_id(id) else {
            return Err(error(format!(
                "is of the unknown tensor type {id}; the file may be newer than this program"
            )));
        };
        let Some((shape, size)) = shape_and_size(&dims, ggml_type) else {
            return Err(error(format!(
                "its dimensions {dims:?} are not possible: each must be at least 1, the first a multiple of {} for \
                 {ggml_type}, and the product must fit into memory",
                ggml_type.block_size()
            )));
        };
        Ok(TensorInfo {
            name,
            shape,
            ggml_type,
            size,
            offset,
        })
    }
}

/// The row-major shape and the size in bytes of a tensor whose dimensions the file gives innermost first.
///
/// None when a dimension is 0, a row is not whole blocks, or a product overflows.
fn shape_and_size(dims: &[u64], ggml_type: GgmlType) -> Option<(Vec<usize>, usize)> {
    let shape: Vec<usize> = dims
        .iter()
        .rev()
        .map(|dim| usize::try_from(*dim).ok())
        .collect::<Option<_>>()?;
    let values = shape
        .iter()
        .try_fold(1_usize, |product, dim| product.checked_mul(*dim))?;
    let row = shape.last().copied().unwrap_or(1);
    if values == 0 || !row.is_multiple_of(ggml_type.block_size()) {
        return None;
    }
    let size = (values / ggml_type.block_size()).checked_mul(ggml_type.block_bytes())?;
    Some((shape, size))
}
