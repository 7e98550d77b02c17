//! How long the examples are: what a preview shows, and what a sensible `max_length` is chosen by.

use serde::Serialize;

/// Statistics over the lengths of examples, in tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LengthStats {
    /// How many examples there are.
    pub count: usize,
    /// The mean length; 0 without examples.
    pub mean: f64,
    /// The shortest.
    pub min: usize,
    /// The median: half of the examples are at most this long (nearest rank, as the two that follow).
    pub p50: usize,
    /// The length that nine of ten examples do not exceed.
    pub p90: usize,
    /// The length that 99 of 100 examples do not exceed.
    pub p99: usize,
    /// The longest.
    pub max: usize,
    /// All tokens.
    pub total: usize,
    /// The tokens that are supervised.
    pub supervised: usize,
}

impl LengthStats {
    /// The statistics of examples, each given as its tokens and how many of them are supervised.
    pub fn new(examples: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let (mut lengths, supervised): (Vec<usize>, Vec<usize>) = examples.into_iter().unzip();
        lengths.sort_unstable();
        let (Some(&min), Some(&max)) = (lengths.first(), lengths.last()) else {
            return Self::default();
        };
        let count = lengths.len();
        let total: usize = lengths.iter().sum();
        // Nearest rank: the smallest length that at least this share of the examples does not exceed.
        let percentile = |percent: usize| lengths[(count * percent).div_ceil(100) - 1];
        Self {
            count,
            mean: total as f64 / count as f64,
            min,
            p50: percentile(50),
            p90: percentile(90),
            p99: percentile(99),
            max,
            total,
            supervised: supervised.iter().sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let stats = LengthStats::new((1..=200).rev().map(|n| (n, n / 2)));
        let expected = LengthStats {
            count: 200,
            mean: 100.5,
            min: 1,
            p50: 100,
            p90: 180,
            p99: 198,
            max: 200,
            total: 20100,
            supervised: 10000,
        };
        assert_eq!(stats, expected);
        let one = LengthStats::new([(7, 3)]);
        assert_eq!((one.min, one.p50, one.p99, one.max, one.mean), (7, 7, 7, 7, 7.0));
        assert_eq!(LengthStats::new([]), LengthStats::default());
    }
}
