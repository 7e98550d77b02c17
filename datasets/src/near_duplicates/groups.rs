//! From shared keys to candidate pairs, and from verified pairs to groups.

use rayon::prelude::*;

/// In a bucket of more texts than this, each is compared with so many before it: a bound on the work that a bucket of
/// texts that only look alike can make. A pair further apart may still meet in another band.
const WINDOW: usize = 512;

/// Two texts at or above the threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SimilarPair {
    /// The earlier text.
    pub first: usize,
    /// The later text.
    pub second: usize,
    /// Their Jaccard similarity, that of the less similar part where there are two.
    pub similarity: f64,
}

/// The texts of a set in groups of near-duplicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupGroups {
    /// For each text the first of its group, itself where it is alone.
    first: Vec<u32>,
    /// Texts without a letter or digit.
    empty: usize,
}

impl DedupGroups {
    /// The number of texts.
    pub fn len(&self) -> usize {
        self.first.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// The text that is kept in place of this one: the first of its group, itself where that is it.
    ///
    /// # Panics
    /// When there is no text of this number.
    pub fn kept_for(&self, text: usize) -> usize {
        self.first[text] as usize
    }

    /// Whether a text is kept; also true of a number that no text has.
    pub fn is_kept(&self, text: usize) -> bool {
        self.first.get(text).is_none_or(|first| *first as usize == text)
    }

    /// How many texts are kept.
    pub fn kept(&self) -> usize {
        (0..self.len()).filter(|text| self.is_kept(*text)).count()
    }

    /// How many texts have no letter or digit; they are near-duplicates of nothing.
    pub fn empty(&self) -> usize {
        self.empty
    }

    /// The groups of two or more texts, each in order, by their first texts.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut members: Vec<(u32, u32)> = self.first.iter().copied().zip(0..).collect();
        members.sort_unstable();
        let groups = members.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1);
        groups.map(|group| group.iter().map(|(_, text)| *text as usize).collect()).collect()
    }
}

/// Texts in disjoint groups; the root of each is its first text.
#[derive(Debug, Default)]
pub(super) struct UnionFind {
    parents: Vec<u32>,
}

impl UnionFind {
    /// Adds a text in a group of its own, and gives its number.
    pub(super) fn push(&mut self) -> u32 {
        let text = u32::try_from(self.parents.len()).expect("memory ends before four thousand million texts");
        self.parents.push(text);
        text
    }

    pub(super) fn len(&self) -> usize {
        self.parents.len()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.parents.as_slice())
    }

    pub(super) fn root(&self, mut text: u32) -> u32 {
        while self.parents[text as usize] != text {
            text = self.parents[text as usize];
        }
        text
    }

    pub(super) fn unite(&mut self, a: u32, b: u32) {
        let (a, b) = (self.halve(a), self.halve(b));
        let (first, later) = (a.min(b), a.max(b));
        self.parents[later as usize] = first;
    }

    /// The root, with every other step on the way to it skipped from now on.
    fn halve(&mut self, mut text: u32) -> u32 {
        while self.parents[text as usize] != text {
            let next = self.parents[self.parents[text as usize] as usize];
            self.parents[text as usize] = next;
            text = next;
        }
        text
    }

    pub(super) fn into_groups(mut self, empty: usize) -> DedupGroups {
        // A parent stands before its children, so its own root is known.
        for text in 0..self.parents.len() {
            self.parents[text] = self.parents[self.parents[text] as usize];
        }
        DedupGroups { first: self.parents, empty }
    }
}

/// The sets in the order of their keys, a key above its set.
fn sorted(keys: &[u32]) -> Vec<u64> {
    let mut sorted: Vec<u64> = keys.iter().zip(0u64..).map(|(key, set)| u64::from(*key) << 32 | set).collect();
    sorted.par_sort_unstable();
    sorted
}

/// The buckets of two or more sets that share a key.
fn buckets(sorted: &[u64]) -> Vec<&[u64]> {
    sorted.chunk_by(|a, b| a >> 32 == b >> 32).filter(|bucket| bucket.len() > 1).collect()
}

fn set(entry: u64) -> u32 {
    u32::try_from(entry & u64::from(u32::MAX)).expect("32 bits are left")
}

/// All pairs of sets that share a key, the earlier one first.
pub(super) fn candidates(keys: &[u32]) -> Vec<(u32, u32)> {
    let sorted = sorted(keys);
    let pairs = buckets(&sorted).into_par_iter().flat_map_iter(|bucket| {
        (1..bucket.len())
            .flat_map(move |i| (i.saturating_sub(WINDOW)..i).map(move |j| (set(bucket[j]), set(bucket[i]))))
    });
    pairs.collect()
}

/// Pairs of sets that share a key and are alike, as many as are needed to connect all that are; `roots` tells the group
/// of each set, and pairs within one are not looked at.
pub(super) fn joined(keys: &[u32], roots: &[u32], alike: impl Fn(u32, u32) -> bool + Sync) -> Vec<(u32, u32)> {
    let sorted = sorted(keys);
    let pairs = buckets(&sorted).into_par_iter().flat_map_iter(|bucket| {
        let mut groups: Vec<u32> = bucket.iter().map(|entry| roots[set(*entry) as usize]).collect();
        let mut pairs = Vec::new();
        for i in 1..bucket.len() {
            for j in i.saturating_sub(WINDOW)..i {
                let (own, other) = (groups[i], groups[j]);
                if own != other && alike(set(bucket[j]), set(bucket[i])) {
                    pairs.push((set(bucket[j]), set(bucket[i])));
                    groups[i.saturating_sub(WINDOW)..=i]
                        .iter_mut()
                        .filter(|group| **group == own)
                        .for_each(|group| *group = other);
                }
            }
        }
        pairs
    });
    pairs.collect()
}
