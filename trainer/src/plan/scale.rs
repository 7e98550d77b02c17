//! What several processes make of a run: the division of its compute, and what travels between them.
//!
//! Every rank computes its own part of a step, which [`Division`](crate::train::share::Division) gives it, then sends each
//! other rank a part of its gradient and gets a part of the sum back: of `P` numbers of `w` bytes each of `n` ranks sends
//! `2 (n - 1) / n · P · w` bytes a step, whatever the base's size. `docs/scale.md` has the arithmetic for large runs and
//! the measurements against it.

use serde::Serialize;

use crate::cluster::{BUCKET, Wire};

/// Processes, and what joins them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cluster {
    /// Processes.
    pub ranks: usize,
    /// Devices that they run on, at most as many; several ranks on one device take turns.
    pub devices: usize,
    /// Bytes a second that a link carries in one direction; `None` where it is no limit.
    pub link: Option<f64>,
    /// Ranks that send over the same link: those of a machine with one network card; all of them on one machine.
    pub ranks_per_link: usize,
    /// The numbers in which gradients travel.
    pub wire: Wire,
}

/// The compute of a step, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Compute {
    /// Of each device, on average.
    pub mean: f64,
    /// Until the last rank is done.
    pub longest: f64,
    /// At the end of that, in which gradients travel already: the last backward pass.
    pub overlap: f64,
}

/// A step of several processes, on average.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScalePlan {
    /// The processes.
    #[serde(flatten)]
    pub cluster: Cluster,
    /// Bytes that each rank sends in a step.
    pub bytes_per_rank: f64,
    /// Seconds of a step until the last rank has computed its part.
    pub compute_seconds: f64,
    /// Seconds in which a step's gradients travel.
    pub travel_seconds: f64,
    /// Those of them that are left when all ranks have computed.
    pub communication_seconds: f64,
    /// Tokens a second of all of them.
    pub tokens_per_second: f64,
    /// What of the devices' time is compute, 0 to 1; the rest is waiting, for the slowest rank and for gradients.
    pub efficiency: f64,
}

impl Wire {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

impl Cluster {
    /// One process on one device.
    pub const ALONE: Self = Self { ranks: 1, devices: 1, link: None, ranks_per_link: 1, wire: Wire::F32 };

    /// Bytes that each rank sends in a step, for so many trained numbers.
    pub fn bytes_per_rank(self, parameters: usize) -> f64 {
        let ranks = self.ranks as f64;
        2.0 * (ranks - 1.0) / ranks * (parameters * self.wire.bytes()) as f64
    }

    /// Seconds until the last of the ranks has done work that takes each of them so long with a device of its own. Ranks
    /// that share devices take turns on them, so that all devices work to the end or to that of the longest part.
    pub fn longest(self, of_ranks: &[f64]) -> f64 {
        let longest = of_ranks.iter().copied().fold(0.0, f64::max);
        longest.max(self.mean(of_ranks))
    }

    /// Seconds that each device works, on average.
    pub fn mean(self, of_ranks: &[f64]) -> f64 {
        of_ranks.iter().sum::<f64>() / self.used_devices()
    }

    /// Devices that have a rank.
    pub fn used_devices(self) -> f64 {
        self.devices.min(self.ranks) as f64
    }

    /// Seconds in which the gradients of so many trained numbers travel.
    pub fn travel_seconds(self, parameters: usize) -> f64 {
        let (ranks, sharing) = (self.ranks as f64, self.ranks_per_link as f64);
        // Of what a rank sends to each other one alike, the part for those behind the same link does not cross it; on
        // one machine, where all are, everything goes over the one that there is.
        let crossing = if sharing < ranks { (ranks - sharing) / (ranks - 1.0) } else { 1.0 };
        self.link.map_or(0.0, |link| sharing * crossing * self.bytes_per_rank(parameters) / link)
    }

    /// A step of so many trained numbers and tokens.
    pub fn step(self, parameters: usize, tokens: f64, compute: Compute) -> ScalePlan {
        let travel_seconds = self.travel_seconds(parameters);
        // The last part travels when there is nothing more to compute.
        let last = travel_seconds / parameters.div_ceil(BUCKET).max(1) as f64;
        let communication_seconds = (travel_seconds - compute.overlap).max(last);
        let step = compute.longest + communication_seconds;
        ScalePlan {
            cluster: self,
            bytes_per_rank: self.bytes_per_rank(parameters),
            compute_seconds: compute.longest,
            travel_seconds,
            communication_seconds,
            tokens_per_second: tokens / step,
            efficiency: compute.mean / step,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Devices that work alike, with nothing that hides the exchange.
    fn even(seconds: f64) -> Compute {
        Compute { mean: seconds, longest: seconds, overlap: 0.0 }
    }

    #[test]
    fn one_process_sends_nothing_and_many_send_twice_the_vector() {
        let of = |ranks| Cluster { ranks, devices: ranks, link: Some(1e9), ranks_per_link: 1, wire: Wire::F32 };
        let alone = of(1).step(1_000_000, 500.0, even(2.0));
        assert_eq!((alone.bytes_per_rank.to_bits(), alone.tokens_per_second.to_bits()), (0, 250_f64.to_bits()));
        assert!((of(2).bytes_per_rank(1_000_000) - 4e6).abs() < 1.0);
        assert!((of(512).bytes_per_rank(1_000_000) - 8e6).abs() < 2e4);
        // 4 MB over a gigabyte a second beside one second of compute.
        let two = of(2).step(1_000_000, 500.0, even(1.0));
        assert!((two.efficiency - 1.0 / 1.004).abs() < 1e-9, "{two:?}");
        assert!((Cluster { wire: Wire::Bf16, ..of(2) }.bytes_per_rank(1_000_000) - 2e6).abs() < 1.0);
        // Of four milliseconds three are hidden; of those that a longer backward pass would hide the last quarter is not.
        for (overlap, left) in [(0.003, 0.001), (0.5, 0.001)] {
            let plan = of(2).step(1_000_000, 500.0, Compute { overlap, ..even(1.0) });
            assert!((plan.communication_seconds - left).abs() < 1e-9, "{plan:?}");
        }
    }

    /// The bases of `docs/scale.md`: weights, and trained numbers at rank 16.
    const BASES: [(&str, f64, usize); 3] =
        [("1 B", 1.236e9, 11_272_192), ("8 B", 8.03e9, 41_943_040), ("70 B", 70.55e9, 207_093_760)];

    #[test]
    fn the_table_of_the_document_is_what_the_formula_gives() {
        const TOKENS: f64 = 512_000.0;
        const MICRO_BATCH: f64 = 2000.0;
        let document = include_str!("../../../docs/scale.md");
        for (base, weights, parameters) in BASES {
            let alone = 6.0 * weights * TOKENS / 4e14;
            for ranks in [1, 8, 64, 512] {
                let (link, ranks_per_link) = if ranks <= 8 { (450e9, 1) } else { (50e9, 8) };
                let of = |wire| {
                    let cluster = Cluster { ranks, devices: ranks, link: Some(link), ranks_per_link, wire };
                    let compute = even(alone / ranks as f64);
                    // Of a micro-batch that is computed twice two thirds follow its first forward pass.
                    let last = (MICRO_BATCH * ranks as f64 / TOKENS).min(1.0);
                    cluster.step(parameters, TOKENS, Compute { overlap: compute.longest * last * 2.0 / 3.0, ..compute })
                };
                let plan = of(Wire::F32);
                let row = format!(
                    "| {base} | {ranks} | {:.3} | {:.0} | {:.1} | {:.1} | {:.1} | {:.1} | {:.0} |",
                    plan.compute_seconds,
                    plan.bytes_per_rank / 1e6,
                    1e3 * plan.travel_seconds,
                    1e3 * plan.communication_seconds,
                    100.0 * plan.efficiency,
                    100.0 * of(Wire::Bf16).efficiency,
                    plan.tokens_per_second / 1e3
                );
                assert!(document.contains(&row), "{row}");
            }
        }
    }

    #[test]
    fn ranks_behind_one_link_share_it() {
        let four = Cluster { ranks: 4, devices: 2, link: Some(1e6), ranks_per_link: 4, wire: Wire::F32 };
        // 6,000 bytes a rank, all four over the one link.
        assert!((four.travel_seconds(1000) - 0.024).abs() < 1e-9);
        let pairs = Cluster { ranks_per_link: 2, ..four }.travel_seconds(1000);
        // Of three other ranks two are behind the other link.
        assert!((pairs - 0.008).abs() < 1e-9, "{pairs}");
    }

    #[test]
    fn a_step_lasts_as_long_as_its_slowest_rank() {
        let on = |devices| Cluster { ranks: 4, devices, link: None, ranks_per_link: 4, wire: Wire::F32 };
        for (devices, of_ranks, longest, efficiency) in [
            (4, [1.0, 2.0, 1.0, 1.0], 2.0, 0.625),
            // Two devices have five seconds to do.
            (2, [1.0, 2.0, 1.0, 1.0], 2.5, 1.0),
            (2, [0.0, 3.0, 1.0, 1.0], 3.0, 2.5 / 3.0),
            (1, [1.0; 4], 4.0, 1.0),
        ] {
            let cluster = on(devices);
            let plan = cluster.step(
                1000,
                100.0,
                Compute { mean: cluster.mean(&of_ranks), longest: cluster.longest(&of_ranks), overlap: 0.0 },
            );
            assert!((plan.compute_seconds - longest).abs() < 1e-9, "{plan:?}");
            assert!((plan.efficiency - efficiency).abs() < 1e-9, "{plan:?}");
        }
    }
}
