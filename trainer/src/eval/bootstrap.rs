//! How sure a difference is: the paired bootstrap.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Score;

const RESAMPLES: usize = 2000;

/// The 95 % interval of `adapted - base` in the weighted mean, by resampling items with replacement, seeded.
///
/// Source: Efron and Tibshirani 1993, *An Introduction to the Bootstrap*, percentile interval.
///
/// # Panics
/// When the two scores do not hold the same items.
pub fn difference_interval(base: &Score, adapted: &Score) -> (f64, f64) {
    assert_eq!(base.items.len(), adapted.items.len(), "paired scores hold the same items");
    let n = base.items.len();
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut differences: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (mut sum, mut weight) = (0.0, 0.0);
            for _ in 0..n {
                let i = rng.random_range(0..n);
                sum += (adapted.items[i] - base.items[i]) * base.weights[i];
                weight += base.weights[i];
            }
            sum / weight
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    (differences[RESAMPLES / 40], differences[RESAMPLES - 1 - RESAMPLES / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(items: Vec<f64>) -> Score {
        let weights = vec![1.0; items.len()];
        Score { metric: "exact match", items, weights, higher_is_better: true, is_share: true }
    }

    #[test]
    fn an_unchanged_model_has_an_interval_of_zero() {
        let base = score(vec![0.0, 1.0, 1.0, 0.0]);
        assert_eq!(difference_interval(&base, &base), (0.0, 0.0));
    }

    #[test]
    fn a_clear_gain_excludes_zero() {
        let base = score(vec![0.0; 50]);
        let adapted = score((0..50).map(|i| f64::from(u8::from(i % 2 == 0))).collect());
        let (low, high) = difference_interval(&base, &adapted);
        assert!(low > 0.3 && high < 0.7, "{low} to {high}");
    }
}
