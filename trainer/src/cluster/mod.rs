//! Several processes that make one run: how they find each other, and what they do together.
//!
//! A run is data parallel: each rank holds the whole base and the whole adapter, computes its share of every step
//! ([`share`](crate::train::share)) and adds its gradient to the others' through a [`Collective`]. Rank 0 alone writes
//! and prints. `launcher` finds out which rank a process is, [`open`] starts the engine that it needs.

mod launcher;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(feature = "nccl")]
mod nccl;
#[cfg(any(feature = "mpi", feature = "nccl"))]
mod patience;
mod peers;
#[cfg(feature = "nccl")]
mod rendezvous;
mod single;
mod spread;

pub use launcher::{Launcher, Place};
pub use peers::of_peer;
pub use single::Single;
pub use spread::{from_first, spread};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::TrainError;

/// The fewest trained numbers whose gradients travel together, but for the last: each journey costs some time of its own.
pub const BUCKET: usize = 1 << 18;

/// The numbers in which gradients travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wire {
    /// As they are computed.
    #[default]
    F32,
    /// Half the bytes; every gradient is rounded to eight significant bits before it is added up in float32, and the sum
    /// once more.
    Bf16,
}

/// Makes a vector part by part, and calls what it is given with each.
pub type Make<'a> = dyn FnMut(&mut dyn FnMut(&[f32])) + 'a;

/// The processes of one run, from the view of one of them.
///
/// Every call is made by all ranks in the same order. A rank that is gone ends the others through the engine or the
/// launcher; none waits for ever.
pub trait Collective {
    /// Which of the processes this is.
    fn place(&self) -> Place;

    /// Adds up a vector over all ranks while it is being made: `make` hands it out in parts of these lengths, the same on
    /// all ranks, and an engine may let each travel while those after it are made. Gives the sums of the parts.
    ///
    /// The order of the sum is that of the ranks, so the result is the same bits on all of them and in every run of as
    /// many.
    ///
    /// # Errors
    /// [`TrainError::Cluster`] when the engine fails.
    fn all_reduce_sum(&self, lengths: &[usize], wire: Wire, make: &mut Make<'_>) -> Result<Vec<Vec<f32>>, TrainError>;

    /// What each rank gives, in the order of the ranks; the lengths may differ.
    ///
    /// # Errors
    /// As [`Self::all_reduce_sum`].
    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError>;

    /// What rank 0 gives; the others' bytes are dropped.
    ///
    /// # Errors
    /// As [`Self::all_reduce_sum`].
    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TrainError>;

    /// Ends the processes of all ranks with this exit code, for an error that the others do not know of.
    fn abort(&self, code: u8);

    /// This process, in `0..ranks()`.
    fn rank(&self) -> usize {
        self.place().rank
    }

    /// How many processes there are.
    fn ranks(&self) -> usize {
        self.place().ranks
    }

    /// Which of the processes on its machine this is; it gets the card of that number.
    fn local_rank(&self) -> usize {
        self.place().local_rank
    }

    /// How many of the processes are on its machine, and share its memory.
    fn local_ranks(&self) -> usize {
        self.place().local_ranks
    }

    /// Whether this rank writes and prints.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }
}

/// Starts the engine for the place that the launcher gave this process.
///
/// # Errors
/// [`TrainError::Cluster`] when the processes that were started together cannot be joined: each would make the whole run
/// for itself, over the others' files.
pub fn open(place: &Place) -> Result<Box<dyn Collective>, TrainError> {
    if place.ranks == 1 {
        return Ok(Box::new(Single));
    }
    #[cfg(feature = "nccl")]
    if place.launcher == Launcher::Torchrun {
        return Ok(Box::new(nccl::Nccl::open(place)?));
    }
    #[cfg(feature = "mpi")]
    if place.launcher.speaks_mpi() {
        return Ok(Box::new(mpi::Mpi::open(place)?));
    }
    Err(place.error(place.launcher.remedy()))
}
