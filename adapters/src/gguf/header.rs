//! Parses the header of a GGUF file: magic, version, metadata, tensor infos.
//!
//! The bytes are hostile until proven otherwise: `cursor` checks every count and length against the bytes that are
//! left, and here every tensor is checked against the data section and its neighbours.
//! Source: the GGUF specification, <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use super::cursor::Cursor;
use super::types::GgmlType;
use super::value::GgufValue;
use crate::AdapterError;

/// Alignment of the tensors where the metadata names none.
pub(super) const DEFAULT_ALIGNMENT: u32 = 32;
/// The metadata key of the alignment.
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";
/// Most dimensions that ggml gives a tensor.
const MAX_DIMS: u32 = 4;
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
    let mut cursor = Cursor::new(path, bytes);
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
        let info = tensor_info(&mut cursor)?;
        if !names.insert(info.name.clone()) {
            return Err(cursor.error_at(start, format!("tensor `{}` comes twice", info.name)));
        }
        infos.push(info);
    }

    let alignment = alignment(path, &metadata)?;
    let tensors = place(path, infos, cursor.offset, alignment, bytes.len())?;
    Ok(Header { version, metadata, tensors })
}

/// The alignment that the metadata names, or the default.
fn alignment(path: &Path, metadata: &BTreeMap<String, GgufValue>) -> Result<usize, AdapterError> {
    match metadata.get(ALIGNMENT_KEY) {
        None => Ok(DEFAULT_ALIGNMENT as usize),
        Some(GgufValue::U32(alignment)) if alignment.is_power_of_two() => Ok(*alignment as usize),
        Some(GgufValue::U32(alignment)) => {
            let problem = format!("metadata key `{ALIGNMENT_KEY}` is {alignment}, expected a power of two");
            Err(AdapterError::File { path: path.into(), problem })
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
    for TensorInfo { name, shape, ggml_type, size, offset } in infos {
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
            return Err(AdapterError::Tensor { path: path.into(), tensor: name, problem });
        };
        if !offset.is_multiple_of(alignment as u64) {
            let problem = format!("its offset {offset} is not a multiple of the alignment {alignment}");
            return Err(AdapterError::Tensor { path: path.into(), tensor: name, problem });
        }
        tensors.push(GgufTensor { name, shape, ggml_type, range });
    }

    let mut by_start: Vec<&GgufTensor> = tensors.iter().collect();
    by_start.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    for pair in by_start.windows(2) {
        let [first, second] = pair else { continue };
        if second.range.start < first.range.end {
            let problem =
                format!("its bytes {:?} overlap those of tensor `{}`, {:?}", second.range, first.name, first.range);
            return Err(AdapterError::Tensor { path: path.into(), tensor: second.name.clone(), problem });
        }
    }
    Ok(tensors)
}

/// Reads one tensor info and checks it by itcursor.
fn tensor_info(cursor: &mut Cursor<'_>) -> Result<TensorInfo, AdapterError> {
    let path = cursor.path;
    let name = cursor.string("tensor name")?;
    let error = |problem: String| AdapterError::Tensor { path: path.into(), tensor: name.clone(), problem };

    let n_dims = cursor.u32("the number of dimensions")?;
    if n_dims > MAX_DIMS {
        return Err(error(format!("has {n_dims} dimensions, at most {MAX_DIMS} are supported")));
    }
    let mut dims = Vec::new();
    for _ in 0..n_dims {
        dims.push(cursor.u64("a dimension")?);
    }
    let id = cursor.u32("a tensor type")?;
    let offset = cursor.u64("a tensor offset")?;

    let Some(ggml_type) = GgmlType::from_id(id) else {
        return Err(error(format!("is of the unknown tensor type {id}; the file may be newer than this program")));
    };
    let Some((shape, size)) = shape_and_size(&dims, ggml_type) else {
        return Err(error(format!(
            "its dimensions {dims:?} are not possible: each must be at least 1, the first a multiple of {} for \
             {ggml_type}, and the product must fit into memory",
            ggml_type.block_size()
        )));
    };
    Ok(TensorInfo { name, shape, ggml_type, size, offset })
}

/// The row-major shape and the size in bytes of a tensor whose dimensions the file gives innermost first.
///
/// None when a dimension is 0, a row is not whole blocks, or a product overflows.
fn shape_and_size(dims: &[u64], ggml_type: GgmlType) -> Option<(Vec<usize>, usize)> {
    let shape: Vec<usize> = dims.iter().rev().map(|dim| usize::try_from(*dim).ok()).collect::<Option<_>>()?;
    let values = shape.iter().try_fold(1_usize, |product, dim| product.checked_mul(*dim))?;
    let row = shape.last().copied().unwrap_or(1);
    if values == 0 || !row.is_multiple_of(ggml_type.block_size()) {
        return None;
    }
    let size = (values / ggml_type.block_size()).checked_mul(ggml_type.block_bytes())?;
    Some((shape, size))
}
