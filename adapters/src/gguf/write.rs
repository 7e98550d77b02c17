//! Writes GGUF files of version 3, little-endian.
//!
//! The way out for adapters and merged models; what it writes, [`GgufFile`](super::GgufFile) and llama.cpp read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};

use super::header::{ALIGNMENT_KEY, DEFAULT_ALIGNMENT};
use super::types::GgmlType;
use super::value::{GgufArray, GgufValue};

/// Collects metadata and tensors, then writes them in one pass.
///
/// The same content gives the same bytes: metadata is written in order of its keys, tensors in the order added.
#[derive(Default)]
pub struct GgufWriter<'a> {
    metadata: BTreeMap<String, GgufValue>,
    tensors: Vec<Pending<'a>>,
}

/// The bytes of a tensor.
enum Source<'a> {
    /// They are there.
    Bytes(Cow<'a, [u8]>),
    /// They are made when their turn comes.
    Made(Box<dyn Fn() -> io::Result<Vec<u8>> + 'a>),
}

struct Pending<'a> {
    name: String,
    shape: Vec<usize>,
    ggml_type: GgmlType,
    bytes: Source<'a>,
}

impl<'a> GgufWriter<'a> {
    /// A file without metadata and tensors.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a metadata value; a second value for a key replaces the first.
    pub fn metadata(&mut self, key: impl Into<String>, value: GgufValue) -> &mut Self {
        self.metadata.insert(key.into(), value);
        self
    }

    /// Adds a tensor of the given row-major shape, whose bytes are whole blocks of its type.
    pub fn tensor(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        ggml_type: GgmlType,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> &mut Self {
        let source = Source::Bytes(bytes.into());
        self.tensors.push(Pending { name: name.into(), shape: shape.into(), ggml_type, bytes: source });
        self
    }

    /// As [`Self::tensor`], with bytes that are made when they are written.
    pub fn tensor_with(
        &mut self,
        name: impl Into<String>,
        shape: &[usize],
        ggml_type: GgmlType,
        bytes: impl Fn() -> io::Result<Vec<u8>> + 'a,
    ) -> &mut Self {
        let source = Source::Made(Box::new(bytes));
        self.tensors.push(Pending { name: name.into(), shape: shape.into(), ggml_type, bytes: source });
        self
    }

    /// Writes the file.
    ///
    /// # Errors
    /// Those of `out`, and [`io::ErrorKind::InvalidInput`] with the tensor's name when its bytes do not fit its shape
    /// and type.
    pub fn write(&self, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
        let alignment = match self.metadata.get(ALIGNMENT_KEY) {
            Some(GgufValue::U32(alignment)) => *alignment as usize,
            _ => DEFAULT_ALIGNMENT as usize,
        };
        let header = self.header(alignment)?;
        out.write_all(&header)?;
        pad(out, header.len(), alignment)?;
        for tensor in &self.tensors {
            let made;
            let bytes = match &tensor.bytes {
                Source::Bytes(bytes) => bytes.as_ref(),
                Source::Made(make) => {
                    made = make()?;
                    &made
                }
            };
            tensor.check(bytes.len())?;
            out.write_all(bytes)?;
            pad(out, bytes.len(), alignment)?;
        }
        Ok(())
    }

    fn header(&self, alignment: usize) -> io::Result<Vec<u8>> {
        let mut header = b"GGUF".to_vec();
        header.extend(3_u32.to_le_bytes());
        put_len(&mut header, self.tensors.len());
        put_len(&mut header, self.metadata.len());
        for (key, value) in &self.metadata {
            put_string(&mut header, key);
            header.extend(value.value_type().id().to_le_bytes());
            put_value(&mut header, value);
        }
        let mut offset = 0;
        for tensor in &self.tensors {
            let len = tensor.len();
            tensor.check(len)?;
            put_string(&mut header, &tensor.name);
            // At most four dimensions, as checked.
            header.extend([u8::try_from(tensor.shape.len()).unwrap_or(u8::MAX), 0, 0, 0]);
            for dim in tensor.shape.iter().rev() {
                put_len(&mut header, *dim);
            }
            header.extend(tensor.ggml_type.id().to_le_bytes());
            put_len(&mut header, offset);
            offset += len.next_multiple_of(alignment);
        }
        Ok(header)
    }
}

impl Pending<'_> {
    /// The bytes that shape and type say.
    fn len(&self) -> usize {
        let values: usize = self.shape.iter().product();
        values / self.ggml_type.block_size() * self.ggml_type.block_bytes()
    }

    fn check(&self, bytes: usize) -> io::Result<()> {
        let row = self.shape.last().copied().unwrap_or(1);
        let fits = self.shape.len() <= 4 && row.is_multiple_of(self.ggml_type.block_size()) && bytes == self.len();
        if fits {
            return Ok(());
        }
        let problem = format!(
            "tensor `{}`: {bytes} bytes do not fit the shape {:?} of type {}",
            self.name, self.shape, self.ggml_type
        );
        Err(io::Error::new(io::ErrorKind::InvalidInput, problem))
    }
}

/// Zeros up to the next multiple of the alignment.
fn pad(out: &mut (impl Write + ?Sized), len: usize, alignment: usize) -> io::Result<()> {
    out.write_all(&vec![0; len.next_multiple_of(alignment) - len])
}

fn put_len(header: &mut Vec<u8>, len: usize) {
    header.extend((len as u64).to_le_bytes());
}

fn put_string(header: &mut Vec<u8>, text: &str) {
    put_len(header, text.len());
    header.extend(text.as_bytes());
}

fn put_value(header: &mut Vec<u8>, value: &GgufValue) {
    match value {
        GgufValue::U8(number) => header.extend(number.to_le_bytes()),
        GgufValue::I8(number) => header.extend(number.to_le_bytes()),
        GgufValue::U16(number) => header.extend(number.to_le_bytes()),
        GgufValue::I16(number) => header.extend(number.to_le_bytes()),
        GgufValue::U32(number) => header.extend(number.to_le_bytes()),
        GgufValue::I32(number) => header.extend(number.to_le_bytes()),
        GgufValue::F32(number) => header.extend(number.to_le_bytes()),
        GgufValue::Bool(truth) => header.push(u8::from(*truth)),
        GgufValue::String(text) => put_string(header, text),
        GgufValue::Array(array) => put_array(header, array),
        GgufValue::U64(number) => header.extend(number.to_le_bytes()),
        GgufValue::I64(number) => header.extend(number.to_le_bytes()),
        GgufValue::F64(number) => header.extend(number.to_le_bytes()),
    }
}

fn put_array(header: &mut Vec<u8>, array: &GgufArray) {
    fn numbers<T: Copy, const N: usize>(header: &mut Vec<u8>, list: &[T], to_bytes: fn(T) -> [u8; N]) {
        put_len(header, list.len());
        header.extend(list.iter().flat_map(|number| to_bytes(*number)));
    }

    header.extend(array.element_type().id().to_le_bytes());
    match array {
        GgufArray::U8(list) => numbers(header, list, u8::to_le_bytes),
        GgufArray::I8(list) => numbers(header, list, i8::to_le_bytes),
        GgufArray::U16(list) => numbers(header, list, u16::to_le_bytes),
        GgufArray::I16(list) => numbers(header, list, i16::to_le_bytes),
        GgufArray::U32(list) => numbers(header, list, u32::to_le_bytes),
        GgufArray::I32(list) => numbers(header, list, i32::to_le_bytes),
        GgufArray::F32(list) => numbers(header, list, f32::to_le_bytes),
        GgufArray::Bool(list) => numbers(header, list, |truth| [u8::from(truth)]),
        GgufArray::String(list) => {
            put_len(header, list.len());
            for text in list {
                put_string(header, text);
            }
        }
        GgufArray::Array(list) => {
            put_len(header, list.len());
            for inner in list {
                put_array(header, inner);
            }
        }
        GgufArray::U64(list) => numbers(header, list, u64::to_le_bytes),
        GgufArray::I64(list) => numbers(header, list, i64::to_le_bytes),
        GgufArray::F64(list) => numbers(header, list, f64::to_le_bytes),
    }
}
