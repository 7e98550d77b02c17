//! The ranks as those who prepare data and make samples see them.

use datasets::{DataError, Peers};

use super::Collective;
use crate::error::TrainError;

impl Peers for &dyn Collective {
    fn rank(&self) -> usize {
        Collective::rank(*self)
    }

    fn ranks(&self) -> usize {
        Collective::ranks(*self)
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, DataError> {
        self.all_gather(own).map_err(|error| of_peer(*self, error))
    }
}

/// An error of work on data that the ranks do together.
pub fn of_peer(collective: &dyn Collective, error: TrainError) -> DataError {
    match error {
        TrainError::Data(error) => error,
        TrainError::Cluster { rank, ranks, reason } => DataError::Peer { rank, ranks, reason },
        error => {
            let (rank, ranks) = (collective.rank(), collective.ranks());
            DataError::Peer { rank, ranks, reason: error.with_causes() }
        }
    }
}
