//! Texts that say almost the same: found by their shingles, grouped, and all but the first of a group left out.
//!
//! A text becomes the set of its shingles (`shingle`), runs of words or characters. `MinHash` turns the set into a few
//! band keys (`bands`); two texts that share a key are a candidate pair, and a candidate is compared on the shingles
//! themselves (`sketch`), so that what is reported is similar and not just likely to be. Groups are the connected
//! parts (`groups`). Texts come as a stream: what is kept of one are its band keys and hashes of its shingles.
//!
//! Source: Broder 1997, <https://doi.org/10.1109/SEQUEN.1997.666900> (shingles, `MinHash`, and the sketch of the smallest
//! hashes); Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3 (banding).

mod bands;
mod config;
mod files;
mod groups;
mod shingle;
mod sketch;

use std::collections::HashMap;

use rayon::prelude::*;

use crate::conversation::{Conversation, Message, Role};
use crate::error::DataError;

use self::bands::MinHash;
use self::groups::UnionFind;
use self::shingle::Shingler;
use self::sketch::Sketches;

pub use bands::Bands;
pub use config::{Compare, DedupConfig, Shingle};
pub use files::{DedupExample, DedupFiles, DedupMember};
pub use groups::{DedupGroups, SimilarPair};

/// What of a text is compared: two texts are near-duplicates when they are in both parts.
///
/// The parts keep apart what a sum would mix up: two questions about the same long passage are not the same sample,
/// although most of their words are. A document has no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DedupText {
    /// What is asked, or the whole document.
    pub prompt: String,
    /// What is answered; empty where there is nothing to tell apart.
    pub answer: String,
}

impl DedupText {
    /// A document, which is compared as a whole.
    pub fn document(text: impl Into<String>) -> Self {
        Self { prompt: text.into(), answer: String::new() }
    }

    /// The turns of a conversation: those of the assistant are the answer, those of the user and of tools the prompt.
    /// System messages are not compared: whole files share one.
    pub fn conversation(messages: &[Message], compare: Compare) -> Self {
        let joined = |wanted: &dyn Fn(Role) -> bool| {
            let texts = messages.iter().filter(|message| wanted(message.role)).map(|message| message.content.as_str());
            texts.collect::<Vec<_>>().join("\n")
        };
        let prompt = || joined(&|role| matches!(role, Role::User | Role::Tool));
        let answer = || joined(&|role| role == Role::Assistant);
        match compare {
            Compare::Both => Self { prompt: prompt(), answer: answer() },
            Compare::Prompt => Self { prompt: prompt(), answer: String::new() },
            Compare::Answer => Self { prompt: String::new(), answer: answer() },
        }
    }
}

impl From<&Conversation> for DedupText {
    fn from(conversation: &Conversation) -> Self {
        Self::conversation(&conversation.messages, Compare::Both)
    }
}

/// A growing set of texts, and what is needed to find the near-duplicates in it.
///
/// A text that has the very shingles of an earlier one costs 4 bytes. Any other costs about 40 bytes, 4 for each band
/// and 4 for each of its different shingles, of which at most [`MOST_SHINGLES`](Self::MOST_SHINGLES) are kept in each
/// part; the texts themselves are not kept. See [`state_bytes`](Self::state_bytes).
#[derive(Debug)]
pub struct NearDuplicates {
    threshold: f64,
    shingler: Shingler,
    min_hash: MinHash,
    /// The first text of each different set of shingles.
    firsts: Vec<u32>,
    sketches: Sketches,
    /// For each band the keys of the different sets.
    keys: Vec<Vec<u32>>,
    /// The different sets by their digest.
    by_digest: HashMap<u64, u32>,
    groups: UnionFind,
    empty: usize,
}

/// What one text is reduced to.
struct Reduced {
    digest: u64,
    keys: Vec<u32>,
    sketch: Vec<u32>,
}

impl NearDuplicates {
    /// Parts of up to so many different shingles are compared exactly; of a longer one its smallest hashes stand for
    /// it, which estimates a similarity of 0.8 with a standard error of 0.018.
    pub const MOST_SHINGLES: usize = sketch::LIMIT;

    /// An empty set. Equal seeds give equal results.
    ///
    /// # Errors
    /// [`DataError::Config`] for a threshold or a shingle's size out of range.
    pub fn new(config: &DedupConfig, seed: u64) -> Result<Self, DataError> {
        config.validate("dedup")?;
        let bands = Bands::for_threshold(config.threshold);
        Ok(Self {
            threshold: config.threshold,
            shingler: Shingler::new(config.shingle, config.size, seed),
            min_hash: MinHash::new(bands, seed),
            firsts: Vec::new(),
            sketches: Sketches::default(),
            keys: vec![Vec::new(); bands.bands],
            by_digest: HashMap::new(),
            groups: UnionFind::default(),
            empty: 0,
        })
    }

    /// Adds texts, which are numbered in their order, on all cores.
    ///
    /// # Panics
    /// Beyond 2³² texts.
    pub fn extend(&mut self, texts: &[DedupText]) {
        let reduced: Vec<Option<Reduced>> = texts.par_iter().map(|text| self.reduce(text)).collect();
        for reduced in reduced {
            let text = self.groups.push();
            let Some(reduced) = reduced else {
                self.empty += 1;
                continue;
            };
            let next = u32::try_from(self.firsts.len()).expect("a set is a text, and texts are counted by u32");
            let set = *self.by_digest.entry(reduced.digest).or_insert(next);
            if set < next && self.sketches.get(set) == reduced.sketch {
                self.groups.unite(self.firsts[set as usize], text);
                continue;
            }
            // Where two sets share a digest, only the first is found by it; the other is found by its bands.
            self.firsts.push(text);
            self.sketches.push(&reduced.sketch);
            for (band, key) in self.keys.iter_mut().zip(reduced.keys) {
                band.push(key);
            }
        }
    }

    /// The number of texts.
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// Whether there is no text yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bands and rows chosen for the threshold.
    pub fn bands(&self) -> Bands {
        self.min_hash.bands()
    }

    /// The bytes that the texts so far take, spare room of growing lists not counted.
    pub fn state_bytes(&self) -> usize {
        // A bucket of the table: digest and index, one control byte, and room for one in eight to be free.
        let table = self.by_digest.capacity() * (size_of::<(u64, u32)>() + 1) * 8 / 7;
        let keys = self.keys.iter().map(|band| size_of_val(band.as_slice())).sum::<usize>();
        table + keys + size_of_val(self.firsts.as_slice()) + self.sketches.bytes() + self.groups.bytes()
    }

    /// Groups the texts: those that are connected by pairs at or above the threshold.
    ///
    /// Takes 8 bytes more for each different set while it works.
    pub fn groups(mut self) -> DedupGroups {
        for band in std::mem::take(&mut self.keys) {
            let groups = &self.groups;
            let roots: Vec<u32> = self.firsts.iter().map(|first| groups.root(*first)).collect();
            for (a, b) in groups::joined(&band, &roots, |a, b| self.similarity(a, b) >= self.threshold) {
                self.groups.unite(self.firsts[a as usize], self.firsts[b as usize]);
            }
        }
        self.groups.into_groups(self.empty)
    }

    /// All pairs at or above the threshold among the first texts of each set of shingles, in their order. For looking at
    /// what is found; [`groups`](Self::groups) does not need all of them.
    pub fn pairs(&self) -> Vec<SimilarPair> {
        let mut pairs: Vec<(u32, u32)> = self.keys.iter().flat_map(|band| groups::candidates(band)).collect();
        pairs.par_sort_unstable();
        pairs.dedup();
        let pair = |(a, b): (u32, u32)| {
            let similarity = self.similarity(a, b);
            let [first, second] = [a, b].map(|set| self.firsts[set as usize] as usize);
            (similarity >= self.threshold).then_some(SimilarPair { first, second, similarity })
        };
        pairs.into_par_iter().filter_map(pair).collect()
    }

    /// The similarity of two sets: the smaller one of their two parts.
    fn similarity(&self, a: u32, b: u32) -> f64 {
        sketch::similarity(self.sketches.get(a), self.sketches.get(b), self.threshold)
    }

    /// None for a text without a letter or digit.
    fn reduce(&self, text: &DedupText) -> Option<Reduced> {
        let mut shingles = Vec::new();
        for (part, text) in [&text.prompt, &text.answer].into_iter().enumerate() {
            self.shingler.shingles(text, |hash| shingles.push(sketch::element(hash, part)));
        }
        shingles.sort_unstable();
        shingles.dedup();
        if shingles.is_empty() {
            return None;
        }
        let digest = shingles.iter().fold(0, |digest, shingle| shingle::mix(digest ^ u64::from(*shingle)));
        let keys = self.min_hash.keys(&shingles);
        sketch::shorten(&mut shingles);
        Some(Reduced { digest, keys, sketch: shingles })
    }
}

#[cfg(test)]
mod tests;
