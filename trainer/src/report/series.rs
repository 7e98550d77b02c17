//! What a plot shows of a long series.

/// What the smoothed value of a step remembers: the weight of a step falls to a third over this share of the series.
const MEMORY: f64 = 0.02;

/// At most two points a column over the series' own width: the smallest and the largest value, in their order, and
/// always the first and the last point. So what stands out stays.
pub(super) fn thinned(points: &[(f64, f64)], columns: usize) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    if points.len() <= 2 * columns {
        return points.to_vec();
    }
    let width = (last.0 - first.0) / columns as f64;
    let mut kept = vec![*first];
    let column = |x: f64| column_of(x - first.0, width);
    for column in points.chunk_by(|a, b| column(a.0) == column(b.0)) {
        let by_value = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let (low, high) = (column.iter().min_by(by_value), column.iter().max_by(by_value));
        let mut ends: Vec<(f64, f64)> = low.into_iter().chain(high).copied().collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        kept.extend(ends);
    }
    kept.push(*last);
    kept.dedup();
    kept
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates; steps ascend")]
fn column_of(x: f64, width: f64) -> usize {
    (x / width) as usize
}

/// The exponential mean of what was seen so far, without the pull of its start.
pub(crate) fn smoothed(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let keep = (-1.0 / (MEMORY * points.len() as f64).max(1.0)).exp();
    let (mut sum, mut weight) = (0.0, 0.0);
    let smooth = |(x, y): &(f64, f64)| {
        (sum, weight) = (keep * sum + y, keep * weight + 1.0);
        (*x, sum / weight)
    };
    points.iter().map(smooth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spike_of_a_long_series_stays() {
        let spike = |step: i32| if step == 7_777 { 1e3 } else { f64::from(step % 7) };
        let points: Vec<(f64, f64)> = (1..=10_000).map(|step| (f64::from(step), spike(step))).collect();
        let kept = thinned(&points, 500);
        assert!(kept.len() <= 1002, "{}", kept.len());
        assert!(kept.contains(&(7777.0, 1e3)));
        assert!(kept.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!((kept.first(), kept.last()), (points.first(), points.last()));
        assert!(kept.iter().all(|point| points.contains(point)));
        assert_eq!(thinned(&points[..40], 500), points[..40]);
        assert!(thinned(&[], 500).is_empty());
    }

    #[test]
    fn a_smoothed_constant_is_itself_and_noise_is_less() {
        let flat: Vec<(f64, f64)> = (0..100).map(|step| (f64::from(step), 2.0)).collect();
        assert!(smoothed(&flat).iter().all(|(_, y)| (y - 2.0).abs() < 1e-12));
        let noisy: Vec<(f64, f64)> = (0..1000).map(|step| (f64::from(step), f64::from(step % 2))).collect();
        assert!(smoothed(&noisy).iter().skip(100).all(|(_, y)| (y - 0.5).abs() < 0.05));
        assert!(smoothed(&[]).is_empty());
    }
}
