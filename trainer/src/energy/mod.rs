//! The energy that a process takes, and what it emits.
//!
//! ```text
//! counters of the processor   rapl.rs      measured, of the whole machine
//! else its time and memory    estimate.rs  estimated, of this process
//! the counter of its card     gpu.rs       measured, of the card
//!                          -> Meter        meter.rs
//!                          -> Account      account.rs   by stage, of all ranks; stops a run over its budget
//! a country, or a figure   -> Grid         grid.rs, grid.csv
//! ```
//!
//! The estimate is CodeCarbon's for a process (its methodology page, version 3): the share of the processor's time
//! that the process had, times the processor's power; and a power of the memory by its size.

mod account;
mod estimate;
mod gpu;
mod grid;
mod meter;
mod rapl;

use std::iter::Sum;
use std::ops::{Add, Sub};

use serde::{Deserialize, Serialize};

pub use account::{Account, EnergyRecord, Stage};
pub(crate) use estimate::{Load, memory_bytes, planned};
pub use grid::Grid;
pub use meter::{Meter, Method};

/// Joules in a kilowatt-hour.
pub const JOULES_PER_KWH: f64 = 3.6e6;

/// Energy in joules, by where it was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Energy {
    /// The processor.
    pub cpu: f64,
    /// The memory.
    pub memory: f64,
    /// The card.
    pub gpu: f64,
}

impl Energy {
    /// All of it, in joules.
    pub fn joules(self) -> f64 {
        self.cpu + self.memory + self.gpu
    }

    /// All of it, in kilowatt-hours.
    pub fn kwh(self) -> f64 {
        self.joules() / JOULES_PER_KWH
    }
}

impl Add for Energy {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, memory: self.memory + other.memory, gpu: self.gpu + other.gpu }
    }
}

impl Sub for Energy {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, memory: self.memory - other.memory, gpu: self.gpu - other.gpu }
    }
}

impl Sum for Energy {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}
