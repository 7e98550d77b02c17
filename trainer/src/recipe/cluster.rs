//! The recipe's `cluster` section: how the ranks of a run work together.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster::Wire;

/// How the processes of one run work together. How many there are, the launcher says: the recipe is the same on a laptop
/// and on a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// The numbers in which gradients travel between processes: f32, or bf16 for half the bytes and rounded gradients.
    pub gradients: Wire,
}
