//! Successive halving: all combinations for a few steps, the better part of them for more, the best for all.
//!
//! Each rung trains from the start with a schedule of its own length, so that a trial's loss is that of a whole run of so
//! many steps. The steps of a rung grow as its trials become fewer, so each rung costs about as much.
//!
//! Source: Jamieson and Talwalkar 2016, <https://arxiv.org/abs/1502.07943>.

/// How many trials are made for how many steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The trials: the best of the rung before.
    pub trials: usize,
    /// Their optimizer steps.
    pub steps: u64,
}

/// The rungs for so many combinations, of which each keeps one in `factor`; the last has `steps`.
///
/// # Panics
/// When the factor is below 2.
pub fn rungs(combinations: usize, steps: u64, factor: u64) -> Vec<Rung> {
    assert!(factor >= 2, "each rung keeps fewer trials");
    let keep = usize::try_from(factor).unwrap_or(usize::MAX);
    let mut trials = vec![combinations.max(1)];
    while let Some(&last) = trials.last().filter(|last| **last >= keep) {
        trials.push(last / keep);
    }
    let rungs = trials.len();
    (0..rungs)
        .zip(trials)
        .map(|(rung, trials)| {
            let shorter = u32::try_from(rungs - 1 - rung).unwrap_or(u32::MAX);
            Rung { trials, steps: (steps / factor.saturating_pow(shorter)).max(1) }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rung_has_fewer_trials_of_more_steps() {
        let of = |combinations, steps| -> Vec<(usize, u64)> {
            rungs(combinations, steps, 3).into_iter().map(|rung| (rung.trials, rung.steps)).collect()
        };
        assert_eq!(of(9, 900), [(9, 100), (3, 300), (1, 900)]);
        assert_eq!(of(10, 900), [(10, 100), (3, 300), (1, 900)]);
        assert_eq!(of(2, 900), [(2, 900)]);
        assert_eq!(of(27, 4), [(27, 1), (9, 1), (3, 1), (1, 4)]);
    }
}
