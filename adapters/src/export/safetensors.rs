//! Writing a safetensors file tensor by tensor, so that the weights are never held a second time as bytes.
//!
//! The bytes are those of `safetensors::serialize`, to which a test holds them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::gguf::{GgmlType, quantize};
use crate::{AdapterError, write_atomic};

/// A float32 tensor on its way into a file.
#[derive(Clone, Debug)]
pub struct NamedTensor<'a> {
    /// Its name.
    pub name: String,
    /// Its row-major shape.
    pub shape: Vec<usize>,
    /// Its values, as many as the shape says.
    pub values: Cow<'a, [f32]>,
}

/// A tensor whose values are made when they are written, so that only one at a time is in memory.
pub struct LazyTensor<'a> {
    /// Its name.
    pub name: String,
    /// Its row-major shape.
    pub shape: Vec<usize>,
    /// Makes its values, as many as the shape says.
    pub values: Box<dyn Fn() -> Result<Cow<'a, [f32]>, AdapterError> + 'a>,
}

impl LazyTensor<'_> {
    /// The number of values that the shape says.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it has no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// How floating-point numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatType {
    /// Four bytes, as they are computed.
    F32,
    /// Two bytes, of which five bits are the exponent.
    F16,
    /// Two bytes, with the range of four.
    Bf16,
}

impl FloatType {
    /// Its name in a `config.json`, as PyTorch has it.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::Bf16 => "bfloat16",
        }
    }

    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        self.ggml_type().block_bytes()
    }

    /// ggml's name for it, whose layout is the same.
    pub fn ggml_type(self) -> GgmlType {
        match self {
            Self::F32 => GgmlType::F32,
            Self::F16 => GgmlType::F16,
            Self::Bf16 => GgmlType::Bf16,
        }
    }

    fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }
}

/// Writes the tensors in the order of their names; `format` becomes the one entry of the file's metadata, which
/// transformers looks for. Equal arguments give equal bytes.
///
/// # Errors
/// [`AdapterError::Exists`] when the file is there; [`AdapterError::File`] when two tensors have one name;
/// [`AdapterError::Tensor`] when a shape does not fit its values; [`AdapterError::Io`] when writing fails.
#[expect(clippy::needless_pass_by_value, reason = "callers make the tensors for the file and are done with them")]
pub fn write(path: &Path, tensors: Vec<NamedTensor<'_>>, format: Option<&str>) -> Result<(), AdapterError> {
    let lazy = tensors.iter().map(|tensor| LazyTensor {
        name: tensor.name.clone(),
        shape: tensor.shape.clone(),
        values: Box::new(|| Ok(Cow::Borrowed(&*tensor.values))),
    });
    write_lazy(path, lazy.collect(), FloatType::F32, format)
}

/// As [`write()`], with each tensor made when its turn comes, and stored as `float`.
///
/// # Errors
/// As [`write()`], and what making a tensor says; [`AdapterError::Tensor`] when a number is too large for `float`.
pub fn write_lazy(
    path: &Path,
    mut tensors: Vec<LazyTensor<'_>>,
    float: FloatType,
    format: Option<&str>,
) -> Result<(), AdapterError> {
    tensors.sort_by(|left, right| left.name.cmp(&right.name));
    let header =
        header(&tensors, float, format).map_err(|problem| AdapterError::File { path: path.into(), problem })?;
    write_atomic(path, false, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for tensor in &tensors {
            let values = (tensor.values)().map_err(io::Error::other)?;
            check_values(path, tensor, &values, float).map_err(io::Error::other)?;
            // In pieces, so that the bytes are no second copy of the tensor.
            for values in values.chunks(1 << 18) {
                let bytes = quantize(float.ggml_type(), values);
                out.write_all(&bytes.ok_or_else(|| io::Error::other("floating-point types can be written"))?)?;
            }
        }
        Ok(())
    })
}

/// As many values as the shape says, each of which the type can hold.
fn check_values(path: &Path, tensor: &LazyTensor<'_>, values: &[f32], float: FloatType) -> Result<(), AdapterError> {
    let refuse = |problem: String| AdapterError::Tensor { path: path.into(), tensor: tensor.name.clone(), problem };
    if values.len() != tensor.len() {
        return Err(refuse(format!("has {} values, which do not fit its shape {:?}", values.len(), tensor.shape)));
    }
    match too_large_for(float.ggml_type(), values) {
        Some(value) => Err(refuse(format!("holds {value}, which is too large for F16; write it as BF16 or F32"))),
        None => Ok(()),
    }
}

/// The first finite value that half precision would make infinite.
pub(super) fn too_large_for(ggml_type: GgmlType, values: &[f32]) -> Option<f32> {
    // What half precision rounds to infinity begins half a step above its largest number, 65504.
    let is_too_large = |value: &&f32| value.abs() >= 65520.0 && value.is_finite();
    if ggml_type == GgmlType::F16 { values.iter().find(is_too_large).copied() } else { None }
}

/// The JSON header, filled up with spaces to a multiple of 8 bytes.
fn header(tensors: &[LazyTensor<'_>], float: FloatType, format: Option<&str>) -> Result<String, String> {
    let mut offset = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = offset;
        offset += tensor.len() * float.bytes();
        let info = TensorInfo { dtype: float.dtype(), shape: tensor.shape.clone(), data_offsets: (start, offset) };
        (tensor.name.clone(), info)
    });
    let metadata = format.map(|format| HashMap::from([("format".to_owned(), format.to_owned())]));
    let metadata = Metadata::new(metadata, infos.collect()).map_err(|error| error.to_string())?;
    if metadata.tensors().len() < tensors.len() {
        return Err("would hold two tensors of one name".to_owned());
    }
    let mut header = serde_json::to_string(&metadata).map_err(|error| error.to_string())?;
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    #[test]
    fn the_bytes_are_those_of_the_safetensors_crate() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let values: Vec<f32> = (0..40_000_u16).map(|i| f32::from(i) * 0.37 - 3.0).collect();
        let tensors: [(&str, Vec<usize>, &[f32]); 3] =
            [("b.weight", vec![2, 3], &values[..6]), ("a", vec![39_994], &values[6..]), ("c", vec![0], &[])];
        let named = tensors.iter().map(|(name, shape, values)| NamedTensor {
            name: (*name).to_owned(),
            shape: shape.clone(),
            values: Cow::Borrowed(values),
        });
        write(&path, named.collect(), Some("pt")).unwrap();
        let bytes: Vec<Vec<u8>> =
            tensors.iter().map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|((name, shape, _), bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        let expected = safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into())).unwrap();
        assert!(std::fs::read(&path).unwrap() == expected);
    }

    #[test]
    fn half_precision_and_bfloat16_are_those_of_the_half_crate_and_too_large_a_number_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let values = [1.0_f32, -0.1, 65519.9, 3e-8, 0.0];
        let lazy = |values: &'static [f32]| LazyTensor {
            name: "a".to_owned(),
            shape: vec![values.len()],
            values: Box::new(move || Ok(Cow::Borrowed(values))),
        };
        for (float, expected) in [
            (FloatType::F16, values.map(|v| half::f16::from_f32(v).to_bits())),
            (FloatType::Bf16, values.map(|v| half::bf16::from_f32(v).to_bits())),
        ] {
            let path = folder.path().join(float.torch_name());
            write_lazy(&path, vec![lazy(&[1.0, -0.1, 65519.9, 3e-8, 0.0])], float, None).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            assert_eq!(file.tensor("a").unwrap().dtype(), float.dtype());
            let expected: Vec<u8> = expected.iter().flat_map(|bits| bits.to_le_bytes()).collect();
            assert_eq!(file.tensor("a").unwrap().data(), expected);
        }
        let path = folder.path().join("large");
        let error = write_lazy(&path, vec![lazy(&[1.0, -65520.0])], FloatType::F16, None).unwrap_err();
        assert!(error.to_string().contains("tensor `a`: holds -65520, which is too large for F16"), "{error}");
        assert!(!error.is_write() && !path.exists());
    }

    #[test]
    fn a_name_that_comes_twice_and_a_wrong_shape_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let tensor = |name: &str, shape| NamedTensor { name: name.to_owned(), shape, values: vec![1.0, 2.0].into() };
        let twice = write(&path, vec![tensor("a", vec![2]), tensor("a", vec![2])], None);
        assert!(matches!(twice, Err(AdapterError::File { .. })), "{twice:?}");
        let wrong = write(&path, vec![tensor("a", vec![3])], None).unwrap_err();
        assert!(wrong.to_string().ends_with("tensor `a`: has 2 values, which do not fit its shape [3]"), "{wrong}");
        assert!(!path.exists());
    }
}
