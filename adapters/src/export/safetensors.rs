//! Writing a safetensors file tensor by tensor, so that the weights are never held a second time as bytes.
//!
//! The bytes are those of `safetensors::serialize`, to which a test holds them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

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

/// Writes the tensors in the order of their names; `format` becomes the one entry of the file's metadata, which
/// transformers looks for. Equal arguments give equal bytes.
///
/// # Errors
/// [`AdapterError::Exists`] when the file is there; [`AdapterError::File`] when two tensors have one name or a shape
/// does not fit its values; [`AdapterError::Io`] when writing fails.
pub fn write(path: &Path, mut tensors: Vec<NamedTensor<'_>>, format: Option<&str>) -> Result<(), AdapterError> {
    let fail = |problem: String| AdapterError::File { path: path.into(), problem };
    tensors.sort_by(|left, right| left.name.cmp(&right.name));
    let header = header(&tensors, format).map_err(fail)?;
    write_atomic(path, false, |out| {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(header.as_bytes())?;
        for tensor in &tensors {
            for values in tensor.values.chunks(1 << 14) {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
                out.write_all(&bytes)?;
            }
        }
        Ok(())
    })
}

/// The JSON header, filled up with spaces to a multiple of 8 bytes.
fn header(tensors: &[NamedTensor<'_>], format: Option<&str>) -> Result<String, String> {
    let mut offset = 0;
    let infos = tensors.iter().map(|tensor| {
        let start = offset;
        offset += size_of_val(&*tensor.values);
        let info = TensorInfo { dtype: Dtype::F32, shape: tensor.shape.clone(), data_offsets: (start, offset) };
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
    fn a_name_that_comes_twice_and_a_wrong_shape_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        let tensor = |name: &str, shape| NamedTensor { name: name.to_owned(), shape, values: vec![1.0, 2.0].into() };
        let twice = write(&path, vec![tensor("a", vec![2]), tensor("a", vec![2])], None);
        assert!(matches!(twice, Err(AdapterError::File { .. })), "{twice:?}");
        let wrong = write(&path, vec![tensor("a", vec![3])], None);
        assert!(matches!(wrong, Err(AdapterError::File { .. })), "{wrong:?}");
        assert!(!path.exists());
    }
}
