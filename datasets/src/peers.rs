//! Several processes that do one work on the same data.
//!
//! Each reads the same input and comes to the same decisions; what takes long is shared out, and what was made of it is
//! gathered. How they speak to each other is not known here.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::DataError;

/// The processes of a work, from the view of one of them. All make the same calls in the same order.
pub trait Peers {
    /// Which of them this is, in `0..ranks()`. The first one writes.
    fn rank(&self) -> usize;

    /// How many there are, at least 1.
    fn ranks(&self) -> usize;

    /// What each gives, in the order of the ranks; the lengths may differ.
    ///
    /// # Errors
    /// [`DataError::Peer`] when the others cannot be reached.
    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, DataError>;
}

/// One process alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Peers for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, DataError> {
        Ok(vec![own.to_vec()])
    }
}

/// What each process has of something, in the order of the ranks.
///
/// # Errors
/// As [`Peers::gather`]; [`DataError::Peer`] when what another gives cannot be read, as from another version.
pub(crate) fn exchange<S: Serialize, T: DeserializeOwned>(peers: &dyn Peers, own: &S) -> Result<Vec<T>, DataError> {
    let parts = peers.gather(&serde_json::to_vec(own).expect("plain data"))?;
    let read = |(rank, part): (usize, &Vec<u8>)| {
        serde_json::from_slice(part).map_err(|error| DataError::Peer {
            rank,
            ranks: peers.ranks(),
            reason: format!("what it says cannot be read ({error}); start the same greffon everywhere"),
        })
    };
    parts.iter().enumerate().map(read).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Barrier, Mutex};
    use std::thread;

    use super::*;

    /// What the threads of a test lay down for each other.
    struct Table {
        barrier: Barrier,
        parts: Mutex<Vec<Vec<u8>>>,
    }

    /// A thread that stands for a process.
    struct Threads<'a> {
        rank: usize,
        table: &'a Table,
    }

    impl Peers for Threads<'_> {
        fn rank(&self) -> usize {
            self.rank
        }

        fn ranks(&self) -> usize {
            self.table.parts.lock().unwrap().len()
        }

        fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, DataError> {
            self.table.parts.lock().unwrap()[self.rank] = own.to_vec();
            self.table.barrier.wait();
            let parts = self.table.parts.lock().unwrap().clone();
            // Nobody lays down the next before all have taken this.
            self.table.barrier.wait();
            Ok(parts)
        }
    }

    /// Does a work with so many threads for processes; gives what each of them made, in order.
    pub(crate) fn together<T: Send>(ranks: usize, work: impl Fn(&dyn Peers) -> T + Sync) -> Vec<T> {
        let table = Table { barrier: Barrier::new(ranks), parts: Mutex::new(vec![Vec::new(); ranks]) };
        thread::scope(|scope| {
            let (table, work) = (&table, &work);
            let threads: Vec<_> = (0..ranks).map(|rank| scope.spawn(move || work(&Threads { rank, table }))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn all_have_what_each_gives() {
        for ranks in [1, 2, 5] {
            let all = together(ranks, |peers| {
                (0..3)
                    .map(|round| exchange(peers, &(peers.rank(), round)).unwrap())
                    .collect::<Vec<Vec<(usize, usize)>>>()
            });
            let expected: Vec<Vec<(usize, usize)>> =
                (0..3).map(|round| (0..ranks).map(|rank| (rank, round)).collect()).collect();
            assert!(all.iter().all(|seen| *seen == expected), "{all:?}");
        }
    }
}
