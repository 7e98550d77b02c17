//! How evenly the ranks of a run work, so that a slow machine is told and not only suffered.

use serde::Serialize;

use super::reduce::RanksRecord;

/// Steps that are looked at together.
const WINDOW: usize = 20;
/// A rank is slow when it takes so many times what the others take.
const SLOW: f64 = 1.3;

/// The ranks' times so far.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Of the steps looked at now, seconds by rank.
    window: Vec<f64>,
    steps: usize,
    told: bool,
    total: Waits,
    seconds: f64,
    idle_seconds: f64,
    communication_seconds: f64,
}

/// What of a run's time its ranks did not compute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Waits {
    /// Waiting for the slowest, 0 to 1.
    pub idle: f64,
    /// Adding up gradients, 0 to 1.
    pub communication: f64,
}

impl Pace {
    /// Takes a step of so many seconds up. Returns a sentence, once in a run, when a rank is slow.
    pub fn add(&mut self, record: &RanksRecord, seconds: f64) -> Option<String> {
        self.seconds += seconds;
        self.communication_seconds += record.communication_seconds;
        let longest = record.seconds.iter().copied().fold(0.0, f64::max);
        self.idle_seconds += record.idle * longest;
        self.total =
            Waits { idle: self.idle_seconds / self.seconds, communication: self.communication_seconds / self.seconds };
        self.window.resize(record.seconds.len(), 0.0);
        self.window.iter_mut().zip(&record.seconds).for_each(|(sum, seconds)| *sum += seconds);
        self.steps += 1;
        if self.steps < WINDOW || self.told {
            return None;
        }
        let window = std::mem::take(&mut self.window);
        self.steps = 0;
        let (rank, slowest) = window.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
        let others = (window.iter().sum::<f64>() - slowest) / (window.len() - 1).max(1) as f64;
        if slowest <= SLOW * others {
            return None;
        }
        self.told = true;
        Some(format!(
            "rank {rank} takes {:.1} times as long as the others for as many tokens, and they wait for it: look at what else \
             runs on its machine",
            slowest / others
        ))
    }

    /// Of all steps; `None` for one process alone.
    pub fn waits(&self) -> Option<Waits> {
        (self.seconds > 0.0).then_some(self.total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seconds: &[f64]) -> RanksRecord {
        RanksRecord { seconds: seconds.to_vec(), idle: 0.25, communication_seconds: 0.1 }
    }

    #[test]
    fn a_slow_rank_is_told_once() {
        let mut pace = Pace::default();
        let told: Vec<String> = (0..100).filter_map(|_| pace.add(&record(&[1.0, 1.0, 2.0]), 2.5)).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with("rank 2 takes 2.0 times as long as the others"), "{told:?}");
        let waits = pace.waits().unwrap();
        assert!((waits.idle - 0.2).abs() < 1e-9 && (waits.communication - 0.04).abs() < 1e-9, "{waits:?}");
    }

    #[test]
    fn even_ranks_are_not_told() {
        let mut pace = Pace::default();
        assert_eq!(pace.waits(), None);
        // One step is another's unlucky long text.
        let uneven = (0..100).map(|step| if step % 20 == 0 { [1.0, 3.0] } else { [1.0, 1.05] });
        assert_eq!(uneven.into_iter().find_map(|seconds| pace.add(&record(&seconds), 3.0)), None);
    }
}
