//! Opening input files: memory maps for weights, bounded reads for JSON.
//!
//! The only place of the crate with `unsafe`. Everything behind it works on checked byte slices.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::marker::PhantomData;
use std::path::Path;

use memmap2::Mmap;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, Visitor};

use crate::AdapterError;

/// Largest JSON file that is read into memory; the safetensors format sets the same limit for its header.
const MAX_JSON_BYTES: u64 = 100_000_000;

/// What a clone without Git LFS leaves in the place of a weight file.
const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// Maps a non-empty regular file.
///
/// # Errors
/// [`AdapterError::Io`] when it cannot be opened or mapped, [`AdapterError::File`] when it is a folder, empty, or a
/// Git LFS pointer instead of the weights.
pub(crate) fn map(path: &Path) -> Result<Mmap, AdapterError> {
    let file = File::open(path).map_err(AdapterError::io("open", path))?;
    let metadata = file.metadata().map_err(AdapterError::io("inspect", path))?;
    let problem = |problem: &str| AdapterError::File { path: path.into(), problem: problem.into() };
    if !metadata.is_file() {
        return Err(problem("is not a regular file"));
    }
    if metadata.len() == 0 {
        return Err(problem("is empty; the download or copy did not finish, fetch it again"));
    }
    #[expect(
        unsafe_code,
        reason = "base weights are mapped so that processes share their pages; the map is read-only, and everything \
                  read from it is plain bytes without invalid patterns. A program that shortens the file while it is \
                  mapped would end this one with a bus error, which is the accepted price; our own writers replace \
                  files by renaming and never shorten one"
    )]
    let map = unsafe { Mmap::map(&file) }.map_err(AdapterError::io("map", path))?;
    if map.starts_with(LFS_POINTER) {
        return Err(problem("is a Git LFS pointer, not the weights; run `git lfs pull` in its folder"));
    }
    Ok(map)
}

/// Reads and parses a JSON file of at most [`MAX_JSON_BYTES`].
///
/// # Errors
/// [`AdapterError::Io`], [`AdapterError::File`] when it is too large, [`AdapterError::Json`] when it does not parse.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, AdapterError> {
    let file = File::open(path).map_err(AdapterError::io("open", path))?;
    let mut bytes = Vec::new();
    // One byte more than allowed, so that a file which grows while it is read is still noticed.
    file.take(MAX_JSON_BYTES + 1).read_to_end(&mut bytes).map_err(AdapterError::io("read", path))?;
    if bytes.len() as u64 > MAX_JSON_BYTES {
        let problem = format!("is larger than {MAX_JSON_BYTES} bytes, the limit for a JSON file");
        return Err(AdapterError::File { path: path.into(), problem });
    }
    serde_json::from_slice(&bytes).map_err(|source| AdapterError::Json { path: path.into(), source })
}

/// True when the path exists and is a regular file, links followed.
pub(crate) fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// The entries of a JSON object in file order; a key that comes twice is an error.
///
/// serde's own maps silently keep the last of two equal keys, which would let a file say two things at once.
pub(crate) struct UniqueEntries<V>(pub(crate) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueEntries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<V>(PhantomData<V>);

        impl<'de, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<V> {
            type Value = UniqueEntries<V>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut seen = BTreeSet::new();
                let mut entries = Vec::new();
                while let Some(key) = map.next_key::<String>()? {
                    if !seen.insert(key.clone()) {
                        return Err(A::Error::custom(format!("key `{key}` comes twice")));
                    }
                    let value = map.next_value().map_err(|error| A::Error::custom(format!("key `{key}`: {error}")))?;
                    entries.push((key, value));
                }
                Ok(UniqueEntries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}
