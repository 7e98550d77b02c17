//! Writes examples one by one, with a digest over all of it.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};

use sha2::{Digest as _, Sha256};

use super::{DIGEST, HEAD, Index, MAGIC, Summary, body_bytes};
use crate::digest::hex;
use crate::samples::Lineage;
use crate::tokenize::Example;

/// A file of examples under way.
pub(crate) struct Writer {
    out: BufWriter<File>,
    hash: Sha256,
    /// Over the training examples.
    fingerprint: Sha256,
    at: u64,
    index: Index,
    buffer: Vec<u8>,
}

impl Writer {
    /// Begins a file for examples of so many sources; `file` is empty.
    pub(crate) fn new(file: File, sources: usize) -> io::Result<Self> {
        let mut writer = Self {
            out: BufWriter::with_capacity(1 << 18, file),
            hash: Sha256::new(),
            fingerprint: Sha256::new(),
            at: 0,
            index: Index { counts: vec![0; sources], ..Index::default() },
            buffer: Vec::new(),
        };
        writer.put(bytemuck::bytes_of(&MAGIC))?;
        Ok(writer)
    }

    /// Adds an example of a source, with the SHA-256 of its messages and what its record says of where it comes from.
    /// Training examples come in the order of their sources.
    pub(crate) fn push(
        &mut self,
        example: &Example,
        digest: &[u8; DIGEST],
        lineage: &Lineage,
        source: usize,
        held_out: bool,
    ) -> io::Result<()> {
        let lineage = serde_json::to_vec(lineage)?;
        let tokens = example.input_ids.len();
        let place = 2 * source as u64 + u64::from(held_out);
        if held_out {
            self.index.validation.push(self.at);
        } else {
            self.index.train.push(self.at);
            self.index.counts[source] += 1;
            self.fingerprint.update((tokens as u64).to_le_bytes());
            let pairs = example.input_ids.iter().zip(&example.loss_mask);
            let bytes: Vec<u8> = pairs
                .flat_map(|(id, learned)| {
                    let [a, b, c, d] = id.to_le_bytes();
                    [a, b, c, d, u8::from(*learned)]
                })
                .collect();
            self.fingerprint.update(&bytes);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        buffer.extend_from_slice(bytemuck::bytes_of(&[
            example.origin.line as u64,
            tokens as u64,
            place,
            lineage.len() as u64,
        ]));
        buffer.extend_from_slice(bytemuck::cast_slice(&example.input_ids));
        buffer.extend(example.loss_mask.iter().map(|learned| u8::from(*learned)));
        buffer.extend_from_slice(digest);
        buffer.extend_from_slice(&lineage);
        buffer.resize(HEAD + body_bytes(tokens, lineage.len()), 0);
        self.put(&buffer)?;
        self.buffer = buffer;
        Ok(())
    }

    /// Ends the file. Gives it back with where its examples are and what is known of them.
    pub(crate) fn finish(mut self, mut summary: Summary) -> io::Result<(File, Index, Summary)> {
        summary.fingerprint = hex(&std::mem::take(&mut self.fingerprint).finalize());
        let json = serde_json::to_vec(&summary)?;
        self.put(&json)?;
        self.put(&(json.len() as u64).to_ne_bytes())?;
        self.put(bytemuck::bytes_of(&MAGIC))?;
        self.out.write_all(&self.hash.finalize())?;
        let file = self.out.into_inner().map_err(io::IntoInnerError::into_error)?;
        Ok((file, self.index, summary))
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }
}
