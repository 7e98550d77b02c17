//! The engine over NCCL, for NVIDIA cards.
//!
//! The library is looked for when the engine is opened, so that the program is built and starts without it. Gradients go
//! through buffers of the engine's own on this rank's card; NCCL adds them up in an order that is the same in every run on
//! the same cards. It type-checks and has not been run: see the README's limits.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DeviceRepr, DriverError, sys as driver};
use cudarc::nccl::{Comm, Id, NcclType, ReduceOp, result::NcclError, sys as nccl};
use half::bf16;
use half::slice::HalfFloatSliceExt as _;

use super::patience::Patience;
use super::rendezvous::Meeting;
use super::{Collective, Make, Place, Wire};
use crate::error::TrainError;

/// A process with a card.
pub(super) struct Nccl {
    place: Place,
    patience: Patience,
    comm: Comm,
    stream: Arc<CudaStream>,
}

impl Nccl {
    /// Joins the processes that were started together, each with the card of its number on its machine.
    pub(super) fn open(place: &Place) -> Result<Self, TrainError> {
        if !is_there() {
            return Err(place.error(
                "NCCL is not on this machine: libcuda.so or libnccl.so is not found; install NVIDIA's driver and NCCL \
                 (Debian: libnccl2), and name its folder in LD_LIBRARY_PATH",
            ));
        }
        let driver = |error: DriverError| place.error(format!("card {}: {error}", place.local_rank));
        let stream = CudaContext::new(place.local_rank).and_then(|card| card.new_stream()).map_err(driver)?;
        let id = Meeting::from_env(place)?.share(place, || {
            let id = Id::new().map_err(|error| broken(place, &error))?;
            Ok(id.internal().map(i8::cast_unsigned))
        })?;
        let id = Id::uninit(id.map(u8::cast_signed));
        let comm =
            Comm::from_rank(stream.clone(), place.rank, place.ranks, id).map_err(|error| broken(place, &error))?;
        Ok(Self { place: *place, patience: Patience::from_env(place)?, comm, stream })
    }

    fn driver(&self, error: DriverError) -> TrainError {
        self.place.error(format!("card {}: {error}", self.place.local_rank))
    }

    /// What each rank gives, all of the same length, one after the other.
    fn gather_equal(&self, own: &[u8]) -> Result<Vec<u8>, TrainError> {
        let send = self.stream.clone_htod(own).map_err(|error| self.driver(error))?;
        let mut all =
            self.stream.alloc_zeros::<u8>(own.len() * self.place.ranks).map_err(|error| self.driver(error))?;
        self.comm.all_gather(&send, &mut all).map_err(|error| broken(&self.place, &error))?;
        self.patience.during(|| self.stream.clone_dtoh(&all)).map_err(|error| self.driver(error))
    }
}

impl Nccl {
    /// The card's stream copies and adds up each part while the host makes those after it.
    fn sum<T: NcclType + Copy + DeviceRepr>(
        &self,
        lengths: &[usize],
        make: &mut Make<'_>,
        to_wire: impl Fn(&[f32]) -> Vec<T>,
        from_wire: impl Fn(Vec<T>) -> Vec<f32>,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut on_card: Vec<Result<CudaSlice<T>, TrainError>> = Vec::with_capacity(lengths.len());
        make(&mut |part| {
            let sum =
                self.stream.clone_htod(&to_wire(part)).map_err(|error| self.driver(error)).and_then(|mut card| {
                    let added = self.comm.all_reduce_in_place(&mut card, &ReduceOp::Sum);
                    added.map(|_| card).map_err(|error| broken(&self.place, &error))
                });
            on_card.push(sum);
        });
        let back = |card: Result<CudaSlice<T>, TrainError>| {
            let sum = self.patience.during(|| self.stream.clone_dtoh(&card?).map_err(|error| self.driver(error)))?;
            Ok(from_wire(sum))
        };
        on_card.into_iter().map(back).collect()
    }
}

/// Whether both libraries can be loaded.
#[expect(unsafe_code, reason = "asks the dynamic loader, which runs the initialisers of libraries that it finds")]
fn is_there() -> bool {
    // SAFETY: both are NVIDIA's own libraries, whose initialisers are sound, and no symbol is called.
    unsafe { driver::is_culib_present() && nccl::is_culib_present() }
}

fn broken(place: &Place, error: &NcclError) -> TrainError {
    place.error(format!("NCCL: {error:?}; NCCL_DEBUG=INFO says more"))
}

impl Collective for Nccl {
    fn place(&self) -> Place {
        self.place
    }

    fn all_reduce_sum(&self, lengths: &[usize], wire: Wire, make: &mut Make<'_>) -> Result<Vec<Vec<f32>>, TrainError> {
        match wire {
            Wire::F32 => self.sum(lengths, make, <[f32]>::to_vec, |sum| sum),
            Wire::Bf16 => {
                let rounded = |part: &[f32]| part.iter().map(|value| bf16::from_f32(*value)).collect();
                self.sum(lengths, make, rounded, |sum| sum.to_f32_vec())
            }
        }
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        let lengths: Vec<usize> = self
            .gather_equal(&(own.len() as u64).to_le_bytes())?
            .as_chunks()
            .0
            .iter()
            .map(|bytes| usize::try_from(u64::from_le_bytes(*bytes)).unwrap_or(usize::MAX))
            .collect();
        let longest = lengths.iter().copied().max().unwrap_or(0).max(1);
        let mut padded = own.to_vec();
        padded.resize(longest, 0);
        let all = self.gather_equal(&padded)?;
        Ok(all.chunks_exact(longest).zip(lengths).map(|(bytes, length)| bytes[..length].to_vec()).collect())
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TrainError> {
        let own = if self.place.rank == 0 { bytes } else { Vec::new() };
        Ok(self.all_gather(&own)?.swap_remove(0))
    }

    fn abort(&self, code: u8) {
        // The launcher ends the others when one process fails.
        std::process::exit(code.into());
    }
}
