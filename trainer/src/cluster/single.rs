//! The engine of a run that is one process.

use super::{Collective, Wire};
use crate::error::TrainError;

/// One process alone.
#[derive(Clone, Copy, Debug)]
pub struct Single;

impl Collective for Single {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn local_rank(&self) -> usize {
        0
    }

    fn local_ranks(&self) -> usize {
        1
    }

    fn all_reduce_sum(&self, _values: &mut [f32], _wire: Wire) -> Result<(), TrainError> {
        Ok(())
    }

    fn all_gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, TrainError> {
        Ok(vec![own.to_vec()])
    }

    fn broadcast(&self, bytes: Vec<u8>) -> Result<Vec<u8>, TrainError> {
        Ok(bytes)
    }

    fn abort(&self, code: u8) {
        std::process::exit(code.into());
    }
}
