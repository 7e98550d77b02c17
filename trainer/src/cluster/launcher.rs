//! Which rank of how many this process is, by the variables that launchers set.

use std::env;

use crate::error::TrainError;

/// What started this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Launcher {
    /// Nothing that starts several.
    None,
    /// `mpirun` of Open MPI.
    OpenMpi,
    /// `mpirun` of MPICH or of Intel MPI.
    Mpich,
    /// Slurm's `srun`.
    Slurm,
    /// torchrun, or what sets the same variables, such as the jobs of Kubeflow.
    Torchrun,
}

/// The place of this process among those that were started together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// What started it.
    pub launcher: Launcher,
    /// In `0..ranks`.
    pub rank: usize,
    /// How many were started.
    pub ranks: usize,
    /// Which of those on this machine it is.
    pub local_rank: usize,
    /// How many of them are on this machine.
    pub local_ranks: usize,
}

/// The variables of a launcher: rank, ranks, rank on this machine, ranks on this machine.
///
/// Sources: Open MPI 4.1 FAQ, "running"; MPICH's Hydra; `srun(1)`, "output environment variables"; PyTorch's
/// `torch.distributed.run`. Of Slurm only what `srun` sets for a step counts: a batch script has `SLURM_NTASKS` too, and
/// is one process.
const VARIABLES: [(Launcher, [&str; 4]); 4] = [
    (
        Launcher::OpenMpi,
        ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_SIZE"],
    ),
    (Launcher::Mpich, ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"]),
    (Launcher::Slurm, ["SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE"]),
    (Launcher::Torchrun, ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"]),
];

impl Place {
    /// That of a process which was started alone.
    pub const ALONE: Self = Self { launcher: Launcher::None, rank: 0, ranks: 1, local_rank: 0, local_ranks: 1 };

    /// An error of this rank.
    pub(super) fn error(&self, reason: impl Into<String>) -> TrainError {
        TrainError::Cluster { rank: self.rank, ranks: self.ranks, reason: reason.into() }
    }

    /// The place that the environment names; alone where it names none.
    pub fn from_env() -> Self {
        Self::from(|name| env::var(name).ok())
    }

    fn from(variable: impl Fn(&str) -> Option<String>) -> Self {
        let number = |name: &str| {
            // Slurm writes how many tasks each machine has as `2(x3),1`.
            let text = variable(name)?;
            let digits = text.find(|c: char| !c.is_ascii_digit()).map_or(text.as_str(), |end| &text[..end]);
            digits.parse::<usize>().ok()
        };
        for (launcher, [rank, ranks, local_rank, local_ranks]) in VARIABLES {
            let (Some(rank), Some(ranks)) = (number(rank), number(ranks)) else { continue };
            if rank < ranks && ranks > 1 {
                let local_rank = number(local_rank).unwrap_or(0);
                let local_ranks = number(local_ranks).unwrap_or(1).max(local_rank + 1);
                return Self { launcher, rank, ranks, local_rank, local_ranks };
            }
        }
        Self::ALONE
    }
}

impl Launcher {
    /// Whether its processes can be joined over MPI.
    pub fn speaks_mpi(self) -> bool {
        matches!(self, Self::OpenMpi | Self::Mpich | Self::Slurm)
    }

    /// Why a build without its engine refuses to run, and what helps.
    pub(super) fn remedy(self) -> String {
        let feature = if self.speaks_mpi() { "mpi" } else { "nccl" };
        format!(
            "this build has no engine to join them: each would make the whole run for itself. build with `--features \
             {feature}`, or start one process"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> Place {
        Place::from(|name| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn each_launcher_is_known_by_its_variables() {
        let alone = Place { launcher: Launcher::None, rank: 0, ranks: 1, local_rank: 0, local_ranks: 1 };
        assert_eq!(place(&[]), alone);
        // A batch script under Slurm, and one task alone.
        assert_eq!(place(&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")]), alone);
        assert_eq!(place(&[("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "1")]), alone);
        assert_eq!(place(&[("RANK", "x"), ("WORLD_SIZE", "2")]), alone);
        let slurm = [
            ("SLURM_PROCID", "3"),
            ("SLURM_STEP_NUM_TASKS", "4"),
            ("SLURM_LOCALID", "1"),
            ("SLURM_STEP_TASKS_PER_NODE", "2(x2)"),
        ];
        let expected = Place { launcher: Launcher::Slurm, rank: 3, ranks: 4, local_rank: 1, local_ranks: 2 };
        assert_eq!(place(&slurm), expected);
        let torchrun = [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "0")];
        let expected = Place { launcher: Launcher::Torchrun, rank: 1, ranks: 2, local_rank: 0, local_ranks: 1 };
        assert_eq!(place(&torchrun), expected);
    }
}
