//! Checks a file of examples from its first byte to its last, in one pass and with one example in memory.
//!
//! Nothing that the file says is believed: a file which passes holds what the writer promises, whoever wrote it.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};

use sha2::{Digest as _, Sha256};

use super::{DIGEST, FOOTER, HEAD, Index, MAGIC, MAGIC_BYTES, Summary, body_bytes};
use crate::samples::Lineage;
use crate::tokenize::is_learnable;

/// What a file must hold to be used.
pub(crate) struct Expected<'a> {
    /// What the examples are made from.
    pub(crate) key: &'a str,
    /// How many sources there are.
    pub(crate) sources: usize,
    /// The most tokens of an example.
    pub(crate) max_length: usize,
    /// One more than the largest token id.
    pub(crate) vocab_size: usize,
}

/// Reads a file through; where its examples are and what is known of them, or what is wrong with it.
pub(crate) fn check(file: &File, expected: &Expected<'_>) -> Result<(Index, Summary), String> {
    Checker::open(file).and_then(|checker| checker.run(expected))
}

/// A pass over a file.
struct Checker<'a> {
    reader: BufReader<&'a File>,
    hash: Sha256,
    at: u64,
    /// Where the examples end.
    end: u64,
    summary_bytes: usize,
}

const CUT_OFF: &str = "it is cut off, or no file of tokens";

impl<'a> Checker<'a> {
    /// Reads the footer, and goes back to the beginning.
    fn open(file: &'a File) -> Result<Self, String> {
        let mut reader = BufReader::with_capacity(1 << 18, file);
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        if length < (MAGIC_BYTES + FOOTER) as u64 {
            return Err(CUT_OFF.to_owned());
        }
        let mut footer = [0; 8 + MAGIC_BYTES];
        let read = reader.seek(SeekFrom::Start(length - FOOTER as u64)).and_then(|_| reader.read_exact(&mut footer));
        read.and_then(|()| reader.rewind()).map_err(|error| error.to_string())?;
        let (summary, magic) = footer.split_at(8);
        if magic != bytemuck::bytes_of(&MAGIC) {
            return Err(CUT_OFF.to_owned());
        }
        let summary = u64::from_ne_bytes(summary.try_into().expect("eight bytes"));
        let end = (length - FOOTER as u64).checked_sub(summary).filter(|end| *end >= MAGIC_BYTES as u64);
        let (end, summary_bytes) = end.zip(usize::try_from(summary).ok()).ok_or(CUT_OFF)?;
        Ok(Self { reader, hash: Sha256::new(), at: 0, end, summary_bytes })
    }

    fn run(mut self, expected: &Expected<'_>) -> Result<(Index, Summary), String> {
        let mut magic = [0; MAGIC_BYTES];
        self.take(&mut magic)?;
        if magic != bytemuck::bytes_of(&MAGIC) {
            return Err(CUT_OFF.to_owned());
        }
        let mut index = Index { counts: vec![0; expected.sources], ..Index::default() };
        let (mut body, mut latest) = (Vec::new(), 0);
        while self.at < self.end {
            let begin = self.at;
            let (source, held_out) = self.example(&mut body, expected)?;
            if held_out {
                index.validation.push(begin);
            } else if source < latest {
                return Err(format!("the example at byte {begin} is out of order"));
            } else {
                latest = source;
                index.train.push(begin);
                index.counts[source] += 1;
            }
        }
        let mut json = vec![0; self.summary_bytes];
        self.take(&mut json)?;
        let mut tail = [0; 8 + MAGIC_BYTES];
        self.take(&mut tail)?;
        let mut digest = [0; 32];
        self.reader.read_exact(&mut digest).map_err(|error| error.to_string())?;
        if self.hash.finalize()[..] != digest {
            return Err("its content does not have the digest it was written with".to_owned());
        }
        let summary: Summary = serde_json::from_slice(&json).map_err(|error| format!("its summary: {error}"))?;
        if summary.key != expected.key || summary.formats.len() != expected.sources {
            return Err("it was made from other data than its name says".to_owned());
        }
        Ok((index, summary))
    }

    /// Reads the next example; its source, and whether it is held out.
    fn example(&mut self, body: &mut Vec<u8>, expected: &Expected<'_>) -> Result<(usize, bool), String> {
        let begin = self.at;
        let wrong = |what: &str| format!("the example at byte {begin} {what}");
        let mut head = [0_u64; HEAD / 8];
        if self.end - begin < HEAD as u64 {
            return Err(wrong("is cut off"));
        }
        self.take(bytemuck::bytes_of_mut(&mut head))?;
        let [line, tokens, place, lineage] = head.map(usize::try_from);
        let (Ok(_), Ok(tokens), Ok(place), Ok(lineage)) = (line, tokens, place, lineage) else {
            return Err(wrong("has a place that is no number of this machine"));
        };
        if tokens > expected.max_length || place / 2 >= expected.sources {
            return Err(wrong("is longer than the recipe allows, or of a source that there is not"));
        }
        // The lineage alone first: the sum below must not overflow.
        let left = self.end - self.at;
        if left < lineage as u64 || left < body_bytes(tokens, lineage) as u64 {
            return Err(wrong("is cut off"));
        }
        body.resize(body_bytes(tokens, lineage), 0);
        self.take(body)?;
        let (ids, rest) = body.split_at(tokens * 4);
        if serde_json::from_slice::<Lineage>(&rest[tokens + DIGEST..][..lineage]).is_err() {
            return Err(wrong("does not say where it comes from"));
        }
        let in_vocabulary = |id: &[u8]| {
            let id = u32::from_ne_bytes(id.try_into().expect("four bytes"));
            (id as usize) < expected.vocab_size
        };
        if !ids.chunks_exact(4).all(in_vocabulary) {
            return Err(wrong("has a token that is not in the vocabulary"));
        }
        match bytemuck::checked::try_cast_slice(&rest[..tokens]) {
            Ok(mask) if is_learnable(mask) => Ok((place / 2, place % 2 == 1)),
            _ => Err(wrong("has no loss mask")),
        }
    }

    /// Fills the buffer with the next bytes.
    fn take(&mut self, buffer: &mut [u8]) -> Result<(), String> {
        self.reader.read_exact(buffer).map_err(|error| error.to_string())?;
        self.hash.update(&*buffer);
        self.at += buffer.len() as u64;
        Ok(())
    }
}
