//! How the loss falls with time: a power law through a few points.

/// `loss = floor + scale · seconds^-exponent`.
///
/// Source: Hestness et al. 2017, <https://arxiv.org/abs/1712.00409>.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// What the loss tends to.
    pub floor: f64,
    /// The loss above it after a second.
    pub scale: f64,
    /// How fast it falls, above 0.
    pub exponent: f64,
}

/// Floors that are tried, as parts of the lowest loss seen.
const FLOORS: usize = 100;

impl Curve {
    /// The curve through `(seconds, loss)` with the least squares of logarithms; `None` for fewer than three points, or where
    /// the loss does not fall.
    pub fn through(points: &[(f64, f64)]) -> Option<Self> {
        let lowest = points.iter().map(|point| point.1).fold(f64::INFINITY, f64::min);
        let is_usable = |point: &&(f64, f64)| point.0 > 0.0 && point.1.is_finite();
        if points.iter().filter(is_usable).count() < 3 || points.len() < 3 || lowest <= 0.0 {
            return None;
        }
        let fits = (0..FLOORS).filter_map(|step| fit(points, lowest * step as f64 / FLOORS as f64));
        fits.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(curve, _)| curve)
    }

    /// The loss after so many seconds.
    pub fn at(&self, seconds: f64) -> f64 {
        self.floor + self.scale * seconds.powf(-self.exponent)
    }
}

/// The line through the logarithms above a floor, and the sum of its squared errors; `None` where it does not fall.
fn fit(points: &[(f64, f64)], floor: f64) -> Option<(Curve, f64)> {
    let logarithms: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x.ln(), (y - floor).ln())).collect();
    let count = logarithms.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logarithms.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let spread: f64 = logarithms.iter().map(|p| (p.0 - x).powi(2)).sum();
    let slope = logarithms.iter().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>() / spread;
    let error = logarithms.iter().map(|p| (p.1 - y - slope * (p.0 - x)).powi(2)).sum();
    let curve = Curve { floor, scale: (y - slope * x).exp(), exponent: -slope };
    (slope < 0.0 && slope.is_finite()).then_some((curve, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_law_is_found_again_and_foretells_what_comes() {
        let truth = Curve { floor: 0.4, scale: 3.0, exponent: 0.5 };
        let points: Vec<(f64, f64)> = [10.0, 20.0, 40.0, 80.0].map(|x| (x, truth.at(x))).into();
        let found = Curve::through(&points).unwrap();
        for seconds in [160.0, 640.0] {
            assert!((found.at(seconds) - truth.at(seconds)).abs() < 0.01, "{found:?}");
        }
    }

    #[test]
    fn nothing_is_foretold_from_too_little_or_from_what_does_not_fall() {
        assert_eq!(Curve::through(&[(1.0, 2.0), (2.0, 1.0)]), None);
        assert_eq!(Curve::through(&[(1.0, 1.0), (2.0, 1.1), (4.0, 1.2)]), None);
        assert_eq!(Curve::through(&[(1.0, 1.0), (2.0, f64::NAN), (4.0, 0.5)]), None);
    }
}
