//! Training: from examples to an adapter.

pub mod backward;
pub mod batch;
pub mod checkpoint;
pub mod optimizer;
pub mod parameters;
pub mod schedule;
pub mod step;
pub mod validation;
