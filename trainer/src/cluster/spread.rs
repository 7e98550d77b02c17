//! Work on a list that the ranks do together.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Collective;
use crate::error::TrainError;

/// What a rank made of its part.
#[derive(Serialize, Deserialize)]
enum Part<R> {
    Done(Vec<R>),
    Stopped,
    Failed(String),
}

/// Has each rank do its part of a list, every so-many-th thing, and gives all of them what was made of the whole, in the
/// list's order. `work` gives one result for each thing.
///
/// # Errors
/// This rank's own error, else [`TrainError::Stopped`] when another was stopped, else [`TrainError::Cluster`] with the
/// error of another. So no rank goes on alone.
pub fn spread<T: Clone, R: Serialize + DeserializeOwned>(
    collective: &dyn Collective,
    things: &[T],
    work: impl FnOnce(&[T]) -> Result<Vec<R>, TrainError>,
) -> Result<Vec<R>, TrainError> {
    let (rank, ranks) = (collective.rank(), collective.ranks());
    if ranks == 1 {
        return work(things);
    }
    let own: Vec<T> = things.iter().skip(rank).step_by(ranks).cloned().collect();
    let done = work(&own);
    let part = match &done {
        Ok(made) => Part::Done(made.iter().collect()),
        Err(TrainError::Interrupted { .. } | TrainError::StoppedBeforeStart | TrainError::Stopped) => Part::Stopped,
        Err(error) => Part::Failed(error.with_causes()),
    };
    let parts = collective.all_gather(&written(&part))?;
    done?;
    let mut made = Vec::with_capacity(ranks);
    for (rank, part) in parts.iter().enumerate() {
        match read(part) {
            Part::Done(part) => made.push(part.into_iter()),
            Part::Stopped => return Err(TrainError::Stopped),
            Part::Failed(reason) => return Err(TrainError::Cluster { rank, ranks, reason }),
        }
    }
    Ok((0..things.len()).filter_map(|index| made[index % ranks].next()).collect())
}

/// What rank 0 makes, on all ranks; the others wait for it.
///
/// # Errors
/// What the making gives on rank 0; [`TrainError::Cluster`] with it on the others.
pub fn from_first<R: Serialize + DeserializeOwned>(
    collective: &dyn Collective,
    make: impl FnOnce() -> Result<R, TrainError>,
) -> Result<R, TrainError> {
    if collective.ranks() == 1 {
        return make();
    }
    let made = if collective.is_first() { Some(make()) } else { None };
    let part = match &made {
        Some(Ok(made)) => Part::Done(vec![made]),
        Some(Err(error)) => Part::Failed(error.with_causes()),
        None => Part::Stopped,
    };
    let part = collective.broadcast(written(&part))?;
    if let Some(made) = made {
        return made;
    }
    match read(&part) {
        Part::Done(mut made) => Ok(made.remove(0)),
        Part::Stopped => Err(TrainError::Stopped),
        Part::Failed(reason) => Err(TrainError::Cluster { rank: 0, ranks: collective.ranks(), reason }),
    }
}

fn written<R: Serialize>(part: &Part<R>) -> Vec<u8> {
    serde_json::to_vec(part).expect("what is spread is plain data")
}

fn read<R: DeserializeOwned>(bytes: &[u8]) -> Part<R> {
    serde_json::from_slice(bytes).expect("the same program wrote it")
}
