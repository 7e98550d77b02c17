//! The engine over MPI.
//!
//! [`sum`] adds up gradients; what else the ranks tell each other is small and waits.

mod sum;

use std::thread;

use ::mpi::Threading;
use ::mpi::datatype::PartitionMut;
use ::mpi::environment::Universe;
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator as _, CommunicatorCollectives as _, Root as _};

use self::sum::{Bf16, Lanes, sum};
use super::patience::Patience;
use super::{Collective, Make, Place, Wire};
use crate::error::TrainError;

/// A process among those of `mpirun` or `srun`.
pub(super) struct Mpi {
    place: Place,
    patience: Patience,
    lanes: Lanes,
    /// Ends MPI when it is dropped.
    _universe: Universe,
}

impl Mpi {
    /// Joins the processes that were started together.
    pub(super) fn open(place: &Place) -> Result<Self, TrainError> {
        let error = |reason: &str| place.error(reason);
        // The calls are made one after the other, but not always from the same thread.
        let (universe, threading) =
            ::mpi::initialize_with_threading(Threading::Serialized).ok_or_else(|| error("MPI was started already"))?;
        if threading < Threading::Serialized {
            return Err(error("the MPI library was built without threads, expected MPI_THREAD_SERIALIZED"));
        }
        let world = SimpleCommunicator::world();
        let ranks = of(world.size());
        if (of(world.rank()), ranks) != (place.rank, place.ranks) {
            return Err(error(&format!(
                "MPI joined {ranks} of them: the launcher and the MPI library do not know each other. under Slurm, use \
                 `srun --mpi=pmix`; elsewhere, the mpirun of the library that this program is linked with"
            )));
        }
        Ok(Self {
            place: *place,
            patience: Patience::from_env(place)?,
            lanes: Lanes::open(&world),
            _universe: universe,
        })
    }
}

/// A rank or a count of MPI, which are never negative.
fn of(number: i32) -> usize {
    usize::try_from(number).unwrap_or(0)
}

impl Collective for Mpi {
    fn place(&self) -> Place {
        self.place
    }

    fn all_reduce_sum(&self, lengths: &[usize], wire: Wire, make: &mut Make<'_>) -> Result<Vec<Vec<f32>>, TrainError> {
        let Self { place, patience, lanes, .. } = self;
        Ok(match wire {
            Wire::F32 => sum::<f32>(lanes, place.ranks, patience, lengths, make),
            Wire::Bf16 => sum::<Bf16>(lanes, place.ranks, patience, lengths, make),
        })
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        let world = SimpleCommunicator::world();
        let mut lengths = vec![0_u64; self.place.ranks];
        self.patience.during(|| world.all_gather_into(&(own.len() as u64), &mut lengths[..]));
        let counts = lengths.iter().map(|&length| i32::try_from(length).map_err(|_| self.too_long()));
        let counts = counts.collect::<Result<Vec<i32>, TrainError>>()?;
        let starts = counts.iter().scan(0_i32, |end, count| {
            let start = *end;
            *end = end.checked_add(*count)?;
            Some(start)
        });
        let starts: Vec<i32> = starts.collect();
        if starts.len() < self.place.ranks {
            return Err(self.too_long());
        }
        let mut all = vec![0_u8; counts.iter().map(|&count| of(count)).sum()];
        if all.is_empty() {
            // Open MPI refuses to gather nothing from everybody.
            return Ok(vec![Vec::new(); self.place.ranks]);
        }
        let mut parts = PartitionMut::new(&mut all[..], &counts[..], &starts[..]);
        self.patience.during(|| world.all_gather_varcount_into(own, &mut parts));
        let slices = starts.iter().zip(&counts).map(|(&start, &count)| all[of(start)..of(start) + of(count)].to_vec());
        Ok(slices.collect())
    }

    fn broadcast(&self, mut bytes: Vec<u8>) -> Result<Vec<u8>, TrainError> {
        let world = SimpleCommunicator::world();
        let first = world.process_at_rank(0);
        let mut length = bytes.len() as u64;
        self.patience.during(|| first.broadcast_into(&mut length));
        bytes.resize(usize::try_from(length).map_err(|_| self.too_long())?, 0);
        // MPI counts in 32 bits.
        for part in bytes.chunks_mut(1 << 30) {
            self.patience.during(|| first.broadcast_into(part));
        }
        Ok(bytes)
    }

    fn abort(&self, code: u8) {
        SimpleCommunicator::world().abort(code.into());
    }
}

impl Mpi {
    fn too_long(&self) -> TrainError {
        let reason = "a message of more than 2 GiB cannot be gathered".to_owned();
        self.place.error(reason)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        // Ending MPI waits for the others, who wait for what this rank was about to do.
        if thread::panicking() {
            self.abort(101);
        }
    }
}
