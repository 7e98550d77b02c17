//! Training: from examples to an adapter.

pub mod answers;
pub mod backward;
pub mod batch;
pub mod checkpoint;
pub mod optimizer;
pub mod pace;
pub mod parameters;
pub mod penalty;
pub mod reduce;
pub mod replay;
pub mod run;
pub mod schedule;
pub mod selection;
pub mod share;
pub mod step;
pub mod validation;
