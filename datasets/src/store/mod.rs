//! Tokenized examples in a file: written once while the sources are read, mapped into memory for training.
//!
//! Memory does not grow with the data: the writer holds one example, a reader maps the file. All that a run needs of
//! its data is inside, so that the same file serves as the cache of a later run.
//!
//! ```text
//! MAGIC                                       16 bytes
//! an example, again and again                 line, tokens, place, length of the lineage: u64 each; ids: u32 each;
//!                                             mask: a byte each; SHA-256 of the messages: 32 bytes; lineage: JSON;
//!                                             zeros up to a multiple of 8
//! summary                                     JSON
//! length of the summary, magic, SHA-256       u64, 16 and 32 bytes; the digest is that of everything before it
//! ```
//!
//! Numbers have the byte order of the machine: the file never leaves it. `place` is twice the number of the source,
//! plus one for an example held out for validation.

mod reader;
mod writer;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use crate::conversation::Origin;
use crate::digest::hex;
use crate::samples::{Lineage, SampleRecord, Split};
use crate::screen::Screened;
use crate::source::Format;
use crate::tokenize::Example;

pub(crate) use reader::{Expected, check};
pub(crate) use writer::Writer;

/// Begins the file and stands near its end; other than on a machine of the other byte order.
const MAGIC: [u64; 2] = [u64::from_le_bytes(*b"greffon\n"), 0x0102_0304_0506_0708];
const MAGIC_BYTES: usize = size_of::<[u64; 2]>();
/// Line, tokens, place and length of the lineage of an example.
const HEAD: usize = size_of::<[u64; 4]>();
/// A SHA-256.
const DIGEST: usize = 32;
/// Length of the summary, magic, digest.
const FOOTER: usize = 8 + MAGIC_BYTES + 32;

/// The bytes that an example of so many tokens and bytes of lineage takes, with what fills it up.
const fn body_bytes(tokens: usize, lineage: usize) -> usize {
    (tokens * 5 + DIGEST + lineage).next_multiple_of(8)
}

/// What was counted over one part of the data, training or validation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Conversations that were read.
    pub conversations: u64,
    /// Examples that were made of them.
    pub examples: u64,
    /// Tokens of all examples.
    pub tokens: u64,
    /// Tokens that are supervised.
    pub supervised: u64,
    /// Conversations left out as near-duplicates of others.
    pub near_duplicates: u64,
    /// Conversations left out for their length.
    pub dropped_overlong: u64,
    /// Conversations that were cut on the right.
    pub truncated: u64,
    /// Assistant turns that are not learned; see [`Rendered::unsupervised_turns`](crate::Rendered).
    pub unsupervised_turns: u64,
}

/// What is known of the data beside the examples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Summary {
    /// What the examples were made from; see [`key`](crate::key).
    pub(crate) key: String,
    /// The form of the records of each source, the training sources first.
    pub(crate) formats: Vec<Format>,
    pub(crate) train: Counts,
    pub(crate) validation: Counts,
    /// Validation conversations that are trained on too.
    pub(crate) leaked: u64,
    /// SHA-256 over the tokens and masks of the training examples.
    pub(crate) fingerprint: String,
    /// What `strftime_now` printed, by format.
    pub(crate) printed: BTreeMap<String, String>,
    /// What screening found, by kind.
    #[serde(default)]
    pub(crate) screened: Screened,
}

/// Where the examples of a file begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Index {
    pub(crate) train: Vec<u64>,
    pub(crate) validation: Vec<u64>,
    /// How many training examples each source has.
    pub(crate) counts: Vec<usize>,
}

/// A file that was checked, or just written.
struct Mapped {
    map: Mmap,
    /// What the files of the sources are called.
    names: Vec<Arc<Path>>,
}

/// The parts of an example in a file.
struct Stored<'a> {
    line: usize,
    place: usize,
    ids: &'a [u8],
    mask: &'a [u8],
    digest: &'a [u8],
    lineage: &'a [u8],
}

/// Examples in a mapped file.
#[derive(Clone)]
pub struct Examples {
    file: Arc<Mapped>,
    offsets: Arc<[u64]>,
}

/// A tokenized conversation, lent from where it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExampleRef<'a> {
    /// The token ids, at most `max_length`.
    pub input_ids: &'a [u32],
    /// Whether token i is a target; see [`Example::loss_mask`].
    pub loss_mask: &'a [bool],
    /// The place the conversation was read from.
    pub origin: Origin,
}

impl ExampleRef<'_> {
    /// How many tokens are supervised.
    pub fn supervised(&self) -> usize {
        self.loss_mask.iter().filter(|learned| **learned).count()
    }
}

impl<'a> From<&'a Example> for ExampleRef<'a> {
    fn from(example: &'a Example) -> Self {
        Self { input_ids: &example.input_ids, loss_mask: &example.loss_mask, origin: example.origin.clone() }
    }
}

impl<'a> From<&&'a Example> for ExampleRef<'a> {
    fn from(example: &&'a Example) -> Self {
        (*example).into()
    }
}

impl From<&Self> for ExampleRef<'_> {
    fn from(example: &Self) -> Self {
        example.clone()
    }
}

/// Maps the file of an index; the training and the validation examples.
pub(crate) fn map(file: &File, index: &Index, names: Vec<Arc<Path>>) -> std::io::Result<(Examples, Examples)> {
    #[expect(
        unsafe_code,
        reason = "a map is undefined when the file changes under it: it has no name, or got its name by a rename after \
                  its last byte, and is never written again"
    )]
    // SAFETY: see the reason above; every byte pattern is read through checked casts.
    let map = unsafe { Mmap::map(file) }?;
    let file = Arc::new(Mapped { map, names });
    let examples = |offsets: &[u64]| Examples { file: file.clone(), offsets: offsets.into() };
    Ok((examples(&index.train), examples(&index.validation)))
}

impl Examples {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.offsets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.offsets.is_empty()
    }

    /// The example at a place.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub fn get(&self, index: usize) -> ExampleRef<'_> {
        let Stored { line, place, ids, mask, .. } = self.stored(index);
        ExampleRef {
            input_ids: bytemuck::cast_slice(ids),
            loss_mask: bytemuck::checked::cast_slice(mask),
            origin: Origin { path: self.file.names[place / 2].clone(), line },
        }
    }

    /// What the example at a place is; `seen` is how many times it was trained on.
    ///
    /// # Panics
    /// When `index` is not below [`len`](Self::len).
    pub(crate) fn sample(&self, index: usize, seen: u64) -> SampleRecord {
        let Stored { line, place, digest, lineage, .. } = self.stored(index);
        let lineage: Lineage = serde_json::from_slice(lineage).expect("it was checked, or written from one");
        let origin = Origin { path: self.file.names[place / 2].clone(), line };
        let split = if place % 2 == 1 { Split::Validation } else { Split::Train };
        SampleRecord::new(split, hex(digest), &origin, seen, lineage)
    }

    /// The number of the source of the example at a place.
    pub(crate) fn source(&self, index: usize) -> usize {
        self.stored(index).place / 2
    }

    fn stored(&self, index: usize) -> Stored<'_> {
        let at = usize::try_from(self.offsets[index]).expect("the file is mapped, so its length fits");
        let bytes = &self.file.map[at..];
        let head: &[u64] = bytemuck::cast_slice(&bytes[..HEAD]);
        let number = |value: u64| usize::try_from(value).expect("it was checked, or written from one");
        let (tokens, lineage) = (number(head[1]), number(head[3]));
        let (ids, rest) = bytes[HEAD..].split_at(tokens * 4);
        let (mask, rest) = rest.split_at(tokens);
        let (digest, rest) = rest.split_at(DIGEST);
        Stored { line: number(head[0]), place: number(head[2]), ids, mask, digest, lineage: &rest[..lineage] }
    }

    /// All of them, in the order of the sources.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ExampleRef<'_>> {
        (0..self.len()).map(|index| self.get(index))
    }
}

impl fmt::Debug for Examples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Examples").field("len", &self.len()).finish_non_exhaustive()
    }
}
