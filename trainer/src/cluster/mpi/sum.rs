//! Sums whose parts travel while those after them are being made.
//!
//! Gradients are added up in the order of the ranks, not as the library's own all-reduce would choose for the size and
//! the machines: every rank gets a piece of all vectors, adds it up, and hands its sum round. It moves as many bytes as the
//! best all-reduce does. MPI moves them when it is called, so every part that is made pushes those before it along.

use ::mpi::request::{LocalScope, Request, scope};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator as _, CommunicatorCollectives as _, Equivalence};
use half::bf16;
use half::slice::{HalfBitsSliceExt as _, HalfFloatSliceExt as _};

use crate::cluster::patience::Patience;
use crate::cluster::{BUCKET, Make};

/// The two journeys of a bucket. All ranks start those of a communicator in the same order, which is only certain when
/// each kind has its own.
pub(super) struct Lanes {
    exchange: SimpleCommunicator,
    gather: SimpleCommunicator,
}

impl Lanes {
    pub(super) fn open(world: &SimpleCommunicator) -> Self {
        Self { exchange: world.duplicate(), gather: world.duplicate() }
    }
}

/// A number as it travels.
pub(super) trait OnWire: Equivalence + Copy + Default {
    fn from_f32(values: &[f32], to: &mut [Self]);
    fn to_f32(values: &[Self]) -> Vec<f32>;
}

impl OnWire for f32 {
    fn from_f32(values: &[f32], to: &mut [Self]) {
        to.copy_from_slice(values);
    }

    fn to_f32(values: &[Self]) -> Vec<f32> {
        values.to_vec()
    }
}

/// The bits of a bfloat16, a number that MPI does not know.
pub(super) type Bf16 = u16;

impl OnWire for Bf16 {
    fn from_f32(values: &[f32], to: &mut [Self]) {
        to.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(values);
    }

    fn to_f32(values: &[Self]) -> Vec<f32> {
        values.reinterpret_cast::<bf16>().to_f32_vec()
    }
}

/// What a bucket is sent from and received into; each is padded so that every rank has a piece of the same length.
struct Room<T> {
    own: Vec<T>,
    received: Vec<T>,
    summed: Vec<T>,
    all: Vec<T>,
}

impl<T: OnWire> Room<T> {
    fn new(length: usize, ranks: usize) -> Self {
        let piece = length.div_ceil(ranks);
        let whole = || vec![T::default(); piece * ranks];
        Self { own: whole(), received: whole(), summed: vec![T::default(); piece], all: whole() }
    }
}

/// A bucket under way.
enum Journey<'a, 's, T> {
    /// Every rank sends each other one its piece.
    Exchange {
        pieces: Request<'a, [T], &'s LocalScope<'a>>,
        summed: &'a mut [T],
        all: &'a mut [T],
    },
    /// Every rank sends all others its piece's sum.
    Gather {
        sums: Request<'a, [T], &'s LocalScope<'a>>,
    },
    Done,
}

impl<'a, 's, T: OnWire> Journey<'a, 's, T> {
    /// Begins the first.
    fn new(room: &'a mut Room<T>, lanes: &Lanes, scope: &'s LocalScope<'a>) -> Self {
        let Room { own, received, summed, all } = room;
        let pieces = lanes.exchange.immediate_all_to_all_into(scope, &own[..], &mut received[..]);
        Self::Exchange { pieces, summed, all }
    }

    /// Adds the pieces up and begins the second.
    fn gather(pieces: &[T], summed: &'a mut [T], all: &'a mut [T], lanes: &Lanes, scope: &'s LocalScope<'a>) -> Self {
        T::from_f32(&in_order(pieces, summed.len()), summed);
        Self::Gather { sums: lanes.gather.immediate_all_gather_into(scope, &*summed, all) }
    }

    /// Goes on if it can without waiting.
    fn pushed(self, lanes: &Lanes, scope: &'s LocalScope<'a>) -> Self {
        match self {
            Self::Exchange { pieces, summed, all } => match pieces.test_with_data() {
                Ok((_, pieces)) => Self::gather(pieces, summed, all, lanes, scope),
                Err(pieces) => Self::Exchange { pieces, summed, all },
            },
            Self::Gather { sums } => sums.test().map_or_else(|sums| Self::Gather { sums }, |_| Self::Done),
            Self::Done => Self::Done,
        }
    }

    /// Goes on to the next journey, or to the end of the last.
    fn waited(self, lanes: &Lanes, scope: &'s LocalScope<'a>) -> Self {
        match self {
            Self::Exchange { pieces, summed, all } => Self::gather(pieces.wait_for_data(), summed, all, lanes, scope),
            Self::Gather { sums } => {
                sums.wait_without_status();
                Self::Done
            }
            Self::Done => Self::Done,
        }
    }
}

/// Adds up in the order of the ranks the parts that `make` hands out, and gives the sum of each.
pub(super) fn sum<T: OnWire>(
    lanes: &Lanes,
    ranks: usize,
    patience: &Patience,
    lengths: &[usize],
    make: &mut Make<'_>,
) -> Vec<Vec<f32>> {
    let buckets = buckets(lengths);
    let mut rooms: Vec<Room<T>> = buckets.iter().map(|&length| Room::new(length, ranks)).collect();
    scope(|scope| {
        let mut empty = buckets.iter().zip(&mut rooms);
        let (mut waiting, mut journeys) = (Vec::new(), Vec::new());
        let mut bucket = empty.next();
        make(&mut |part| {
            push(&mut journeys, lanes, scope);
            waiting.extend_from_slice(part);
            if let Some((_, room)) = bucket.take_if(|(length, _)| **length == waiting.len()) {
                T::from_f32(&waiting, &mut room.own[..waiting.len()]);
                journeys.push(Journey::new(room, lanes, scope));
                waiting.clear();
                bucket = empty.next();
            }
        });
        // All begin their second journey before the first of those is waited for.
        for _ in 0..2 {
            journeys = journeys.into_iter().map(|journey| patience.during(|| journey.waited(lanes, scope))).collect();
        }
    });
    let mut sums = rooms.iter().zip(buckets).flat_map(|(room, length)| T::to_f32(&room.all[..length]));
    lengths.iter().map(|&length| sums.by_ref().take(length).collect()).collect()
}

/// Goes on with what is under way. A second journey begins when those of all buckets before have begun, as on all ranks.
fn push<'a, 's, T: OnWire>(journeys: &mut [Journey<'a, 's, T>], lanes: &Lanes, scope: &'s LocalScope<'a>) {
    for journey in journeys {
        *journey = std::mem::replace(journey, Journey::Done).pushed(lanes, scope);
        if matches!(journey, Journey::Exchange { .. }) {
            return;
        }
    }
}

/// The lengths of parts that travel together.
fn buckets(lengths: &[usize]) -> Vec<usize> {
    let mut buckets = Vec::new();
    let mut filled = 0;
    for length in lengths {
        filled += length;
        if filled >= BUCKET {
            buckets.push(std::mem::take(&mut filled));
        }
    }
    buckets.extend(Some(filled).filter(|filled| *filled > 0));
    buckets
}

/// The sum of vectors of the same length that lie one after the other.
fn in_order<T: OnWire>(vectors: &[T], length: usize) -> Vec<f32> {
    let mut sum = T::to_f32(&vectors[..length]);
    for vector in vectors[length..].chunks_exact(length.max(1)) {
        sum.iter_mut().zip(T::to_f32(vector)).for_each(|(sum, value)| *sum += value);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_travel_together() {
        assert_eq!(buckets(&[]), [0; 0]);
        assert_eq!(buckets(&[5, 7]), [12]);
        assert_eq!(buckets(&[BUCKET, 1, BUCKET - 1, 3]), [BUCKET, BUCKET, 3]);
        assert_eq!(buckets(&[3 * BUCKET]), [3 * BUCKET]);
    }

    #[test]
    fn pieces_are_added_up_in_the_order_of_the_ranks() {
        // In float32 the order decides: the small one is lost beside the first, not beside the sum of the large ones.
        assert_eq!(in_order(&[1e8_f32, 1.0, 1.0, 2.0, -1e8, 4.0], 2), [0.0, 7.0]);
        let bits: Vec<Bf16> = [1.0, 2.5].map(|value| bf16::from_f32(value).to_bits()).to_vec();
        assert_eq!(in_order(&bits, 1), [3.5]);
    }
}
