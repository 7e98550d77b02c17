//! How sure a difference is: the paired bootstrap, `McNemar`'s test, and the power of a number of items.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Enough that a level of one in a thousand has some resamples beyond it.
const RESAMPLES: usize = 10_000;

/// The items of one task: each with its part of a numerator and of a denominator. The value of the task is their ratio,
/// such as a weighted difference over the weights.
pub type Paired = Vec<(f64, f64)>;

/// The values that a figure takes when its items are drawn again, ascending.
#[derive(Clone, Debug)]
pub struct Resampled(Vec<f64>);

/// Draws the items of every task again, with replacement and seeded; the figure is the mean of the tasks' values.
///
/// Source: Efron and Tibshirani 1993, *An Introduction to the Bootstrap*, percentile interval.
///
/// # Panics
/// When there is no task, or one has no item.
pub fn resample(tasks: &[Paired]) -> Resampled {
    assert!(!tasks.is_empty() && tasks.iter().all(|task| !task.is_empty()), "there are items to draw from");
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut draw = |task: &Paired| {
        let (mut numerator, mut denominator) = (0.0, 0.0);
        for _ in 0..task.len() {
            let (above, below) = task[rng.random_range(0..task.len())];
            numerator += above;
            denominator += below;
        }
        numerator / denominator
    };
    let mut values: Vec<f64> =
        (0..RESAMPLES).map(|_| tasks.iter().map(&mut draw).sum::<f64>() / tasks.len() as f64).collect();
    values.sort_by(f64::total_cmp);
    Resampled(values)
}

impl Resampled {
    /// Between which values the middle share `confidence` of the resamples lies.
    pub fn interval(&self, confidence: f64) -> (f64, f64) {
        let outside = (1.0 - confidence) / 2.0;
        (self.quantile(outside), self.quantile(1.0 - outside))
    }

    /// The value above which the figure lies with a confidence.
    pub fn at_least(&self, confidence: f64) -> f64 {
        self.quantile(1.0 - confidence)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the number of resamples")]
    fn quantile(&self, share: f64) -> f64 {
        let last = self.0.len() - 1;
        self.0[((share * last as f64).round() as usize).min(last)]
    }
}

/// The two-sided exact probability that as uneven a split of changed answers comes by chance.
///
/// Source: `McNemar` 1947, <https://doi.org/10.1007/BF02295996>; exact by the binomial distribution.
pub fn mcnemar(lost: usize, gained: usize) -> f64 {
    let changed = lost + gained;
    let fewer = lost.min(gained);
    // In logarithms: a binomial of a few thousand exceeds what a number holds.
    let mut log_choose = 0.0;
    let mut total = 0.0;
    for k in 0..=fewer {
        if k > 0 {
            log_choose += ((changed - k + 1) as f64 / k as f64).ln();
        }
        total += (log_choose - changed as f64 * std::f64::consts::LN_2).exp();
    }
    (2.0 * total).min(1.0)
}

/// The lower end of Wilson's interval for a share seen in `count` items, one-sided 95 %.
///
/// Source: Wilson 1927, <https://doi.org/10.1080/01621459.1927.10502953>.
pub fn share_at_least(share: f64, count: usize) -> f64 {
    let (z, n) = (1.645, count as f64);
    let centre = share + z * z / (2.0 * n);
    let spread = z * (share * (1.0 - share) / n + z * z / (4.0 * n * n)).sqrt();
    (centre - spread) / (1.0 + z * z / n)
}

/// How many items it takes to see with a confidence, and in four cases of five, that an ability is lost altogether:
/// that accuracy fell from `base` to `chance`, by more than `limit`. `None` when such a loss is within the limit.
///
/// The answers of a model that guesses have nothing to do with those of the base.
pub fn items_needed(base: f64, chance: f64, limit: f64, confidence: f64) -> Option<usize> {
    let loss = base - chance;
    if loss - limit < 1e-9 {
        return None;
    }
    let variance = base * (1.0 - chance) + (1.0 - base) * chance - loss * loss;
    let z = normal_quantile(confidence) + normal_quantile(0.8);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive; the cast saturates")]
    let items = (z * z * variance / ((loss - limit) * (loss - limit))).ceil() as usize;
    Some(items.max(1))
}

/// The value below which a standard normal number lies with a probability of 0.5 to below 1; to 5e-4.
///
/// Source: Abramowitz and Stegun 1964, formula 26.2.23.
fn normal_quantile(probability: f64) -> f64 {
    let t = (-2.0 * (1.0 - probability).ln()).sqrt();
    let above = 0.010_328_f64.mul_add(t, 0.802_853).mul_add(t, 2.515_517);
    let below = 0.001_308_f64.mul_add(t, 0.189_269).mul_add(t, 1.432_788).mul_add(t, 1.0);
    t - above / below
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(values: impl IntoIterator<Item = f64>) -> Paired {
        values.into_iter().map(|value| (value, 1.0)).collect()
    }

    #[test]
    fn an_unchanged_model_has_an_interval_of_zero() {
        assert_eq!(resample(&[differences([0.0; 40])]).interval(0.95), (0.0, 0.0));
    }

    #[test]
    fn a_clear_gain_excludes_zero() {
        let items = (0..50).map(|i| f64::from(u8::from(i % 2 == 0)));
        let (low, high) = resample(&[differences(items)]).interval(0.95);
        assert!(low > 0.3 && high < 0.7, "{low} to {high}");
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_distribution() {
        // 400 items of mean 0 and variance 1: a standard error of 0.05.
        let items = (0..400).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 });
        let (low, high) = resample(&[differences(items)]).interval(0.95);
        assert!((low + 0.098).abs() < 0.006 && (high - 0.098).abs() < 0.006, "{low} to {high}");
    }

    #[test]
    fn tasks_count_alike_whatever_their_size() {
        let tasks = [differences(vec![1.0; 10]), differences(vec![0.0; 1000])];
        assert_eq!(resample(&tasks).interval(0.95), (0.5, 0.5));
    }

    /// Values of `2 Σ C(n, k) / 2^n` in Python's exact integers.
    #[test]
    fn mcnemar_is_the_exact_binomial_test() {
        for (lost, gained, p) in [
            (0, 0, 1.0),
            (5, 5, 1.0),
            (10, 2, 0.038_574),
            (0, 8, 0.007_812_5),
            (120, 80, 0.005_685),
            (1500, 1600, 0.075_4),
        ] {
            let got = mcnemar(lost, gained);
            assert!((got - p).abs() < 2e-4, "{lost} and {gained}: {got} instead of {p}");
        }
    }

    #[test]
    fn the_normal_quantile_is_that_of_the_tables() {
        for (probability, z) in [(0.5, 0.0), (0.8, 0.8416), (0.95, 1.6449), (0.99, 2.3263), (0.999, 3.0902)] {
            assert!((normal_quantile(probability) - z).abs() < 5e-4, "{probability}");
        }
    }

    #[test]
    fn wilson_bounds_a_share() {
        // Wilson's formula for 30 of 100 and z = 1.644854, in Python.
        assert!((share_at_least(0.3, 100) - 0.2307).abs() < 1e-3);
    }

    #[test]
    fn more_items_are_needed_for_less_to_lose() {
        assert_eq!(items_needed(0.55, 0.25, 0.3, 0.95), None);
        let many = items_needed(0.42, 0.25, 0.05, 0.95).expect("it can be lost");
        let few = items_needed(0.8, 0.5, 0.05, 0.95).expect("it can be lost");
        assert!((100..400).contains(&many) && few < many / 2, "{many} and {few}");
    }
}
