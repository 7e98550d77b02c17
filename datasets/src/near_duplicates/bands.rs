//! `MinHash` signatures cut into bands: similar sets share a key of a band, others hardly ever do.
//!
//! Two sets of Jaccard similarity s agree in a row of the signature with probability s, in a band of r rows with sʳ, and
//! in at least one of b bands with 1 - (1 - sʳ)ᵇ. Since candidates are verified, only a pair that shares no key is lost.

use super::shingle::mix;

/// The share of the pairs exactly at the threshold that become candidates, at least.
const RECALL: f64 = 0.99;
/// The most rows of a signature: what a shingle costs.
const MOST_HASHES: usize = 128;
/// The most rows of a band.
const MOST_ROWS: usize = 16;

/// How a signature is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bands {
    /// The number of bands.
    pub bands: usize,
    /// The rows of the signature in each band.
    pub rows: usize,
}

impl Bands {
    /// The most rows a band, hence the fewest candidates in vain, with which 99 of 100 pairs at the threshold become
    /// candidates and a signature has no more than 128 rows.
    pub fn for_threshold(threshold: f64) -> Self {
        let bands = |rows: usize| {
            let missed = 1.0 - threshold.powf(rows as f64);
            (1..=MOST_HASHES / rows).find(|bands| missed.powf(*bands as f64) <= 1.0 - RECALL)
        };
        let fitting = (1..=MOST_ROWS).rev().find_map(|rows| Some(Self { bands: bands(rows)?, rows }));
        fitting.unwrap_or(Self { bands: MOST_HASHES, rows: 1 })
    }

    /// The probability that a pair of this similarity becomes a candidate.
    pub fn probability(self, similarity: f64) -> f64 {
        1.0 - (1.0 - similarity.powf(self.rows as f64)).powf(self.bands as f64)
    }
}

/// The hash functions of a signature.
#[derive(Clone, Debug)]
pub(super) struct MinHash {
    bands: Bands,
    /// One a row: an odd factor and a summand.
    functions: Vec<(u64, u64)>,
}

impl MinHash {
    pub(super) fn new(bands: Bands, seed: u64) -> Self {
        let draw = |i: u64| mix(mix(seed).wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
        let functions = (0..).take(bands.bands * bands.rows).map(|i| (draw(2 * i) | 1, draw(2 * i + 1)));
        Self { bands, functions: functions.collect() }
    }

    pub(super) fn bands(&self) -> Bands {
        self.bands
    }

    /// The key of each band of a set of hashes.
    ///
    /// A row is the least value of a multiply-add hash over the set (Dietzfelbinger et al. 1997,
    /// <https://doi.org/10.1006/jagm.1997.0873>); the elements are well mixed already.
    pub(super) fn keys(&self, set: &[u32]) -> Vec<u32> {
        let mut least = vec![u64::MAX; self.functions.len()];
        for &element in set {
            let element = u64::from(element);
            for (least, (factor, summand)) in least.iter_mut().zip(&self.functions) {
                *least = (*least).min(element.wrapping_mul(*factor).wrapping_add(*summand));
            }
        }
        let key = |rows: &[u64]| rows.iter().fold(0, |key, row| mix(key ^ *row)) >> 32;
        let keys = least.chunks_exact(self.bands.rows).map(|rows| u32::try_from(key(rows)).expect("32 bits are left"));
        keys.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_follow_the_threshold() {
        for threshold in [0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0] {
            let bands = Bands::for_threshold(threshold);
            assert!(bands.probability(threshold) >= RECALL, "{threshold}: {bands:?}");
            assert!(bands.bands * bands.rows <= MOST_HASHES, "{threshold}: {bands:?}");
        }
        assert_eq!(Bands::for_threshold(0.8), Bands { bands: 16, rows: 6 });
        assert_eq!(Bands::for_threshold(1.0), Bands { bands: 1, rows: 16 });
    }

    /// Ranges of numbers that overlap as much as wanted, over many seeds.
    #[test]
    fn keys_are_shared_as_often_as_the_formula_says() {
        let bands = Bands { bands: 16, rows: 6 };
        for (shared, similarity) in [(60u32, 0.6), (80, 0.8)] {
            let set = |range: std::ops::Range<u32>, seed: u64| -> Vec<u32> {
                range.map(|x| u32::try_from(mix(u64::from(x) ^ mix(seed)) >> 32).unwrap()).collect()
            };
            let size = (100 - shared) / 2;
            let met = (0..2000u64).filter(|&seed| {
                let hash = MinHash::new(bands, seed);
                let a = hash.keys(&set(0..size + shared, seed));
                let b = hash.keys(&set(size..100, seed));
                a.iter().zip(&b).any(|(a, b)| a == b)
            });
            let share = met.count() as f64 / 2000.0;
            assert!((share - bands.probability(similarity)).abs() < 0.03, "{similarity}: {share}");
        }
    }
}
