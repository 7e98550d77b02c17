//! What is varied: keys of a recipe with their values, and the combinations that are tried.

use std::fmt;
use std::str::FromStr;

use rand::seq::IndexedRandom as _;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::error::TrainError;

/// A key and the values that it may have.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// The recipe's key, such as `train.learning_rate`.
    pub key: String,
    /// Its values.
    pub values: Values,
}

/// Values of a key.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// These, as YAML.
    List(Vec<String>),
    /// Any number between the two, drawn by its logarithm where both are above 0.
    Range(f64, f64),
}

impl fmt::Display for Values {
    /// As they are written on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(values) => f.write_str(&values.join(",")),
            Self::Range(low, high) => write!(f, "{low}..{high}"),
        }
    }
}

impl FromStr for Axis {
    type Err = String;

    /// `KEY=VALUE,VALUE`, where a value may be a list in brackets, or `KEY=LOW..HIGH`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "expected KEY=VALUE,VALUE,… or KEY=LOW..HIGH";
        let (key, values) = text.split_once('=').ok_or_else(|| format!("{text:?} has no `=`, {expected}"))?;
        let (key, values) = (key.trim(), values.trim());
        if key.is_empty() || values.is_empty() {
            return Err(format!("{text:?} has no key or no value, {expected}"));
        }
        let values = match values.split_once("..") {
            Some((low, high)) => {
                let number = |text: &str| text.trim().parse::<f64>().ok().filter(|number| number.is_finite());
                match (number(low), number(high)) {
                    (Some(low), Some(high)) if low < high => Values::Range(low, high),
                    _ => return Err(format!("{values:?} is no range of numbers from low to high, {expected}")),
                }
            }
            None => Values::List(split(values)),
        };
        Ok(Self { key: key.to_owned(), values })
    }
}

/// Splits at commas outside brackets.
fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0_usize;
    for c in text.chars() {
        match c {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("there is a first").push(c);
    }
    parts.into_iter().map(|part| part.trim().to_owned()).collect()
}

/// A combination: a value for each axis, in their order.
pub type Point = Vec<String>;

/// All combinations, the last axis changing fastest.
///
/// # Errors
/// [`TrainError::Run`] for a range, which has no end of values.
pub fn grid(axes: &[Axis]) -> Result<Vec<Point>, TrainError> {
    let mut points = vec![Point::new()];
    for axis in axes {
        let Values::List(values) = &axis.values else {
            let reason = format!("{} is a range, of which a grid has no end; draw from it with --random N", axis.key);
            return Err(TrainError::Run(reason));
        };
        points = points.iter().flat_map(|point| values.iter().map(|value| with(point, value.clone()))).collect();
    }
    Ok(points)
}

/// So many different combinations drawn by a seed; fewer where there are no more.
pub fn random(axes: &[Axis], count: usize, seed: u64) -> Vec<Point> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut points: Vec<Point> = Vec::with_capacity(count.min(1 << 16));
    let mut in_vain = 0;
    while points.len() < count && in_vain < 1000 {
        let point = axes.iter().map(|axis| draw(&axis.values, &mut rng)).collect();
        if points.contains(&point) {
            in_vain += 1;
        } else {
            points.push(point);
        }
    }
    points
}

fn draw(values: &Values, rng: &mut ChaCha8Rng) -> String {
    match values {
        Values::List(values) => values.choose(rng).cloned().unwrap_or_default(),
        Values::Range(low, high) => {
            let part: f64 = rng.random();
            let number = if *low > 0.0 { low * (high / low).powf(part) } else { low + (high - low) * part };
            format!("{number:.3e}")
        }
    }
}

fn with(point: &Point, value: String) -> Point {
    point.iter().cloned().chain([value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(text: &str) -> Axis {
        text.parse().unwrap()
    }

    #[test]
    fn a_grid_has_every_combination_once() {
        let axes = [axis("lora.rank=8,16"), axis("lora.targets=[q_proj, v_proj],all-linear")];
        let expected =
            [["8", "[q_proj, v_proj]"], ["8", "all-linear"], ["16", "[q_proj, v_proj]"], ["16", "all-linear"]];
        assert_eq!(grid(&axes).unwrap(), expected);
        let error = grid(&[axis("train.learning_rate=1e-5..1e-3")]).unwrap_err().to_string();
        assert!(error.contains("draw from it with --random N"), "{error}");
    }

    #[test]
    fn what_is_drawn_is_within_its_range_different_and_the_same_by_the_same_seed() {
        let axes = [axis("train.learning_rate=1e-5..1e-3"), axis("lora.rank=4,8")];
        let points = random(&axes, 40, 7);
        assert_eq!((points.len(), &points), (40, &random(&axes, 40, 7)));
        let numbers: Vec<f64> = points.iter().map(|point| point[0].parse().unwrap()).collect();
        assert!(numbers.iter().all(|number| (1e-5..=1e-3).contains(number)));
        // By the logarithm half of them are below the middle of the exponents.
        let below = numbers.iter().filter(|number| **number < 1e-4).count();
        assert!((10..=30).contains(&below), "{below}");
        assert_eq!(random(&axes[1..], 10, 0).len(), 2, "there are no more");
    }

    #[test]
    fn what_is_no_axis_is_told() {
        for (text, expected) in [
            ("train.learning_rate", "has no `=`, expected KEY=VALUE,VALUE"),
            ("=1", "has no key or no value"),
            ("lora.rank=", "has no key or no value"),
            ("lora.rank=8..4", "is no range of numbers from low to high"),
            ("lora.rank=a..b", "is no range of numbers from low to high"),
        ] {
            let error = text.parse::<Axis>().unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
