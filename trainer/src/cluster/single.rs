//! The engine of a run that is one process.

use super::{Collective, Make, Place, Wire};
use crate::error::TrainError;

/// One process alone.
#[derive(Clone, Copy, Debug)]
pub struct Single;

impl Collective for Single {
    fn place(&self) -> Place {
        Place::ALONE
    }

    fn all_reduce_sum(
        &self,
        _lengths: &[usize],
        _wire: Wire,
        make: &mut Make<'_>,
    ) -> Result<Vec<Vec<f32>>, TrainError> {
        let mut parts = Vec::new();
        make(&mut |part| parts.push(part.to_vec()));
        Ok(parts)
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
