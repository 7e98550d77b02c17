//! One safetensors file, mapped and checked.
//!
//! The `safetensors` crate has the last word on a header. Before it is asked, the header is checked here, because the
//! crate does not name the tensor that is wrong, lets the last of two equal names win, and adds offsets without
//! checking for overflow. Base models (`checkpoint`) and adapters (`peft`) are read through this.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use safetensors::tensor::TensorInfo;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use crate::AdapterError;
use crate::file::{self, UniqueEntries};
use crate::gguf::{GgmlType, dequantize};

/// The bytes before the header: its length.
const LENGTH_BYTES: usize = 8;
/// The header's key that is not a tensor.
const METADATA_KEY: &str = "__metadata__";

/// A safetensors file whose tensors are known to lie inside it, one after the other, in the size of their shape.
#[derive(Debug)]
pub struct SafetensorsFile {
    path: PathBuf,
    /// The mapped file; parts of it can be handed out without copying.
    map: Bytes,
    tensors: BTreeMap<String, Located>,
}

/// A tensor and its place in the file.
#[derive(Debug)]
struct Located {
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

impl SafetensorsFile {
    /// Maps the file and checks its header; no tensor is read yet.
    ///
    /// # Errors
    /// [`AdapterError::Io`] or [`AdapterError::File`] when it cannot be opened; [`AdapterError::Header`] or
    /// [`AdapterError::Tensor`] when it is truncated, malformed or hostile.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, AdapterError> {
        let path = path.into();
        let map = Bytes::from_owner(file::map(&path)?);
        let tensors = check(&path, &map)?;
        Ok(Self { path, map, tensors })
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`].
    pub fn shape(&self, name: &str) -> Result<&[usize], AdapterError> {
        Ok(&self.tensor(name)?.shape)
    }

    /// How the values of a tensor are stored.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`].
    pub fn dtype(&self, name: &str) -> Result<Dtype, AdapterError> {
        Ok(self.tensor(name)?.dtype)
    }

    /// The values of a tensor as they are stored, little-endian and row-major, in the mapped file itself.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`].
    pub fn mapped(&self, name: &str) -> Result<Bytes, AdapterError> {
        Ok(self.map.slice(self.tensor(name)?.range.clone()))
    }

    /// The values of a tensor as 32-bit floats, row-major; stored as F32, F16 or BF16.
    ///
    /// # Errors
    /// [`AdapterError::TensorMissing`], [`AdapterError::UnsupportedType`].
    pub fn f32(&self, name: &str) -> Result<Vec<f32>, AdapterError> {
        let tensor = self.tensor(name)?;
        let float = self.float_type(name, tensor)?;
        let mut values = vec![0.0; tensor.range.len() / float.block_bytes()];
        self.f32_into(name, &mut values)?;
        Ok(values)
    }

    /// Writes the values of a tensor as 32-bit floats, row-major, into a slice of exactly their number.
    ///
    /// # Errors
    /// As [`SafetensorsFile::f32`], and [`AdapterError::Tensor`] when the slice has another length.
    pub fn f32_into(&self, name: &str, out: &mut [f32]) -> Result<(), AdapterError> {
        let tensor = self.tensor(name)?;
        let float = self.float_type(name, tensor)?;
        let len = tensor.range.len() / float.block_bytes();
        if out.len() != len {
            let problem = format!("holds {len} values of shape {:?}, expected {}", tensor.shape, out.len());
            return Err(AdapterError::Tensor { path: self.path.clone(), tensor: name.into(), problem });
        }
        if dequantize(float, &self.map[tensor.range.clone()], out) {
            Ok(())
        } else {
            Err(self.unsupported(name, tensor))
        }
    }

    fn tensor(&self, name: &str) -> Result<&Located, AdapterError> {
        self.tensors.get(name).ok_or_else(|| AdapterError::tensor_missing(&self.path, name, self.names()))
    }

    /// ggml's name for a floating-point type, which has the same layout there.
    fn float_type(&self, name: &str, tensor: &Located) -> Result<GgmlType, AdapterError> {
        match tensor.dtype {
            Dtype::F32 => Ok(GgmlType::F32),
            Dtype::F16 => Ok(GgmlType::F16),
            Dtype::BF16 => Ok(GgmlType::Bf16),
            _ => Err(self.unsupported(name, tensor)),
        }
    }

    fn unsupported(&self, name: &str, tensor: &Located) -> AdapterError {
        AdapterError::UnsupportedType {
            path: self.path.clone(),
            tensor: name.into(),
            found: tensor.dtype.to_string(),
            supported: "F32, F16, BF16".into(),
        }
    }
}

/// Checks the header against the file and returns where each tensor lies.
fn check(path: &Path, bytes: &[u8]) -> Result<BTreeMap<String, Located>, AdapterError> {
    let error = |offset: usize, problem: String| AdapterError::Header { path: path.into(), offset, problem };
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(error(0, format!("the file ends after {} bytes, before its header", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    let header = usize::try_from(length).ok().and_then(|length| rest.get(..length));
    let Some(header) = header else {
        let problem = format!(
            "claims a header of {length} bytes, but the file ends after {}; it is truncated or not safetensors",
            rest.len()
        );
        return Err(error(0, problem));
    };
    let entries: UniqueEntries<serde_json::Value> = serde_json::from_slice(header)
        .map_err(|source| error(LENGTH_BYTES, format!("the header is not the JSON that was expected: {source}")))?;

    let data_start = LENGTH_BYTES + header.len();
    let data_len = bytes.len() - data_start;
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries.0 {
        if name == METADATA_KEY {
            continue;
        }
        let problem = |problem: String| AdapterError::Tensor { path: path.into(), tensor: name.clone(), problem };
        let info = TensorInfo::deserialize(&entry).map_err(|source| problem(source.to_string()))?;
        let (start, end) = info.data_offsets;
        if start > end || end > data_len {
            return Err(problem(format!(
                "its bytes {start}..{end} do not lie in the {data_len} bytes of data; the file is truncated or its \
                 header is wrong"
            )));
        }
        let size = info
            .shape
            .iter()
            .try_fold(info.dtype.bitsize(), |product, dim| product.checked_mul(*dim))
            .filter(|bits| bits.is_multiple_of(8))
            .map(|bits| bits / 8);
        if size != Some(end - start) {
            return Err(problem(format!(
                "its shape {:?} of type {} does not fit its {} bytes",
                info.shape,
                info.dtype,
                end - start
            )));
        }
        let range = data_start + start..data_start + end;
        tensors.insert(name, Located { dtype: info.dtype, shape: info.shape, range });
    }
    check_order(path, &tensors, data_start)?;

    SafeTensors::read_metadata(bytes).map_err(|source| error(LENGTH_BYTES, source.to_string()))?;
    Ok(tensors)
}

/// Refuses tensors that overlap or leave gaps; the end of the file is left to the `safetensors` crate.
fn check_order(path: &Path, tensors: &BTreeMap<String, Located>, data_start: usize) -> Result<(), AdapterError> {
    let mut by_start: Vec<(&String, &Range<usize>)> =
        tensors.iter().map(|(name, tensor)| (name, &tensor.range)).collect();
    by_start.sort_by_key(|(_, range)| (range.start, range.end));
    let mut end = data_start;
    for (name, range) in by_start {
        if range.start != end {
            let problem = format!(
                "starts at byte {}, but the tensors before it end at {end}: overlaps and gaps are not allowed",
                range.start
            );
            return Err(AdapterError::Tensor { path: path.into(), tensor: name.clone(), problem });
        }
        end = range.end;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;
    use serde_json::json;

    use super::*;

    /// A file with this header and so many bytes of data.
    fn bytes(header: &str, data_len: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend((0..data_len).map(|i| u8::try_from(i % 100).expect("below 100")));
        bytes
    }

    fn open_bytes(bytes: &[u8]) -> Result<SafetensorsFile, AdapterError> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("model.safetensors");
        fs::write(&path, bytes).expect("room for a small file");
        SafetensorsFile::open(path)
    }

    #[track_caller]
    fn refused(bytes: &[u8], expected: &str) {
        let error = open_bytes(bytes).expect_err("must be refused").to_string();
        assert!(error.contains("model.safetensors: ") && error.contains(expected), "{error}");
    }

    fn entry(dtype: &str, shape: &[u64], start: u64, end: u64) -> serde_json::Value {
        json!({"dtype": dtype, "shape": shape, "data_offsets": [start, end]})
    }

    fn small() -> Vec<u8> {
        let header = json!({
            "__metadata__": {"format": "pt"},
            "first": entry("F32", &[2, 2], 0, 16),
            "second": entry("BF16", &[3], 16, 22),
            "third": entry("F16", &[], 22, 24),
        });
        bytes(&header.to_string(), 24)
    }

    #[test]
    fn the_three_float_types_are_read() {
        let file = open_bytes(&small()).expect("well formed");
        assert_eq!(file.names().collect::<Vec<_>>(), ["first", "second", "third"]);
        assert_eq!(file.shape("first").expect("there"), [2, 2]);
        assert_eq!(file.dtype("second").expect("there"), Dtype::BF16);
        let bits = |name| file.f32(name).expect("a float").iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits("first"), [0x0302_0100, 0x0706_0504, 0x0b0a_0908, 0x0f0e_0d0c]);
        assert_eq!(bits("second"), [0x1110_0000, 0x1312_0000, 0x1514_0000]);
        // 0x1716 in half precision: 2^(5 - 15) times 1 + 0x316 / 1024.
        assert_eq!(file.f32("third").expect("a float"), [(1.0 + 790.0 / 1024.0) / 1024.0]);
        let error = file.f32_into("first", &mut [0.0; 5]).expect_err("five for four").to_string();
        assert!(error.ends_with("tensor `first`: holds 4 values of shape [2, 2], expected 5"), "{error}");
        let error = file.f32("frist").expect_err("misspelt").to_string();
        assert!(error.ends_with("no tensor `frist` among the 3 it holds; did you mean `first`?"), "{error}");
    }

    #[test]
    fn other_types_are_refused_by_name() {
        let file = open_bytes(&bytes(&json!({"ids": entry("I64", &[1], 0, 8)}).to_string(), 8)).expect("well formed");
        let error = file.f32("ids").expect_err("not a float").to_string();
        assert!(error.ends_with("tensor `ids` is of type I64, which is not supported; supported are F32, F16, BF16"));
    }

    #[test]
    fn truncated_files_are_refused() {
        let whole = small();
        refused(&[], "is empty");
        refused(&whole[..7], "byte 0: the file ends after 7 bytes, before its header");
        refused(&whole[..30], "bytes, but the file ends after 22; it is truncated or not safetensors");
        refused(&whole[..whole.len() - 1], "tensor `third`: its bytes 22..24 do not lie in the 23 bytes of data");
        refused(&[whole.as_slice(), &[0]].concat(), "byte 8: incomplete metadata, file not fully covered");
        refused(&[0xFF; 64], "byte 0: claims a header of 18446744073709551615 bytes");
        refused(&bytes("[1, 2]", 0), "byte 8: the header is not the JSON that was expected: invalid type: sequence");
        refused(&bytes(&"[".repeat(100_000), 0), "the header is not the JSON that was expected");
        refused(b"<!DOCTYPE html><html></html>", "it is truncated or not safetensors");
    }

    #[test]
    fn lying_headers_are_refused() {
        let one = |name: &str, entry: serde_json::Value| bytes(&json!({ name: entry }).to_string(), 16);
        refused(
            &one("x", entry("F32", &[5], 0, 16)),
            "tensor `x`: its shape [5] of type F32 does not fit its 16 bytes",
        );
        refused(&one("x", entry("F32", &[1 << 60, 1 << 60], 0, 16)), "tensor `x`: its shape [1152921504606846976, 115");
        refused(&one("x", entry("F32", &[1 << 60], 0, 1 << 62)), "tensor `x`: its bytes 0..4611686018427387904 do not");
        refused(&one("x", entry("F32", &[4], 16, 0)), "tensor `x`: its bytes 16..0 do not lie in");
        refused(&one("x", entry("F13", &[4], 0, 16)), "tensor `x`: unknown variant `F13`");
        refused(
            &one("x", json!({"dtype": "F32", "shape": [-1], "data_offsets": [0, 16]})),
            "tensor `x`: invalid value",
        );
        refused(&one("x", json!(3)), "tensor `x`: invalid type");
        refused(&one("__metadata__", json!({"format": 3})), "byte 8: invalid JSON in header");

        let two = |a, b, len| bytes(&json!({"a": a, "b": b}).to_string(), len);
        let overlap = two(entry("F32", &[4], 0, 16), entry("F32", &[4], 8, 24), 24);
        refused(&overlap, "tensor `b`: starts at byte 125, but the tensors before it end at 133: overlaps and gaps");
        let gap = two(entry("F32", &[4], 0, 16), entry("F32", &[4], 20, 36), 36);
        refused(&gap, "tensor `b`: starts at byte");
        let twice = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}"#;
        refused(&bytes(twice, 4), "key `a` comes twice");
    }

    /// Eight tensors of 2^61 - 1 bytes, one after the other: their end overflows once the header is added.
    #[test]
    fn offsets_near_the_largest_number_do_not_overflow() {
        let step = (1_u64 << 61) - 1;
        let entries: serde_json::Map<String, serde_json::Value> =
            (0..8).map(|i| (format!("t{i}"), entry("U8", &[step], i * step, (i + 1) * step))).collect();
        refused(&bytes(&serde_json::Value::from(entries).to_string(), 16), "do not lie in the 16 bytes of data");
    }

    /// Random, but the same in every run.
    fn seeded(cases: u32) -> ProptestConfig {
        ProptestConfig { rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::with_cases(cases) }
    }

    proptest! {
        #![proptest_config(seeded(512))]

        #[test]
        fn a_damaged_file_never_panics(
            cut in any::<prop::sample::Index>(),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        ) {
            let mut bytes = small();
            for (at, to) in flips {
                let at = at.index(bytes.len());
                bytes[at] = to;
            }
            for bytes in [&bytes[..], &bytes[..cut.index(bytes.len())]] {
                // In memory first, since most damaged files go no further than this.
                if check(Path::new("model.safetensors"), bytes).is_ok() {
                    let file = open_bytes(bytes).expect("the same bytes");
                    for name in file.names() {
                        let _ = file.f32(name);
                    }
                }
            }
        }
    }
}
