//! What a run will cost, before it is run.
//!
//! ```text
//! headers and prepared data -> ModelSizes, Workload   model.rs, workload.rs
//!                           -> MemoryPlan             memory.rs     the one memory model; a run chooses by it too
//!                           -> TimePlan               time.rs       at rates of rates.rs, corrected by probe.rs
//!                           -> ScalePlan              scale.rs      the same by several processes
//! ```

pub mod machine;
pub mod memory;
pub mod model;
pub mod probe;
pub mod questions;
pub mod rates;
pub mod scale;
#[cfg(test)]
mod tests;
pub mod time;
pub mod workload;

use serde::{Deserialize, Serialize};

use crate::error::TrainError;
use crate::kernels::{self, Kernels};
use crate::model::BaseModel;
use crate::recipe::{ActivationCheckpointing, MemorySize, Recipe};

use memory::MemoryPlan;
use model::ModelSizes;
use workload::Workload;

/// Which blocks a run computes again, and what it needs then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpointing {
    /// Blocks that keep only their input and are computed again in the backward pass.
    pub recomputed_blocks: usize,
    /// Blocks that could be: those from the first with an adapter on.
    pub blocks: usize,
    /// The predicted peak memory, in bytes.
    pub memory: MemoryPlan,
    /// The bytes that the run may take; `None` where neither the recipe nor the machine says.
    pub allowed: Option<u64>,
}

impl Checkpointing {
    /// The blocks that a recipe asks for, or with `auto` the fewest with which the run fits.
    pub fn choose(recipe: &Recipe, model: &ModelSizes, workload: &Workload, allowed: Option<u64>) -> Self {
        let blocks = model.blocks() - model.first_adapted();
        let dropout = recipe.lora.dropout > 0.0;
        let recomputed_blocks = match (recipe.train.activation_checkpointing, allowed) {
            (ActivationCheckpointing::None, _) | (ActivationCheckpointing::Auto, None) => 0,
            (ActivationCheckpointing::Block, _) => blocks,
            (ActivationCheckpointing::Auto, Some(allowed)) => {
                memory::fewest_recomputed_blocks(model, workload, dropout, allowed)
            }
        };
        let mut memory = memory::peak(model, workload, dropout, recomputed_blocks);
        if recipe.kernels == Kernels::Bf16 && kernels::multiplies_bf16() {
            let room = allowed.map_or(0, |allowed| allowed.saturating_sub(memory.total()));
            memory.packed = Some(model.packed_bytes()).filter(|bytes| *bytes <= room).unwrap_or(0);
        }
        Self { recomputed_blocks, blocks, memory, allowed }
    }

    /// Whether what the products read of the frozen weights is kept from one to the next.
    pub fn keeps_packed(&self) -> bool {
        self.memory.packed > 0
    }

    /// Whether the run fits into the memory that it may take.
    pub fn fits(&self) -> bool {
        self.allowed.is_none_or(|allowed| self.memory.total() <= allowed)
    }

    /// What to do about a run that does not fit, in a sentence; `None` when it fits.
    pub fn warning(&self) -> Option<String> {
        let allowed = self.allowed.filter(|_| !self.fits())?;
        let remedy = if self.recomputed_blocks < self.blocks {
            "set train.activation_checkpointing to auto, or lower train.micro_batch_size"
        } else {
            "lower train.micro_batch_size, data.max_length or lora.rank, or raise train.memory"
        };
        let (peak, allowed) = (bytes(self.memory.total()), bytes(allowed));
        Some(format!("the run needs about {peak} of memory and may take {allowed}; {remedy}"))
    }
}

/// The sizes of a recipe's model with its adapter, from headers alone.
///
/// # Errors
/// When a file of the base or of the adapter to go on from cannot be read.
pub fn model_sizes(recipe: &Recipe, base: &BaseModel) -> Result<ModelSizes, TrainError> {
    let (config, base_bytes) = (base.config.clone(), base.bytes(recipe.device == "flex")?);
    match &recipe.model.adapter {
        Some(folder) => ModelSizes::with_peft(config, folder, base_bytes),
        None => ModelSizes::new(config, &recipe.lora, base_bytes),
    }
}

/// The bytes that each of the `processes` of a run that starts now on this machine may take: as the recipe says, else
/// their part of nine tenths of what the machine has left.
/// `None` on another device, whose memory is not known.
pub fn allowed_memory(recipe: &Recipe, processes: usize) -> Option<u64> {
    let own = || {
        machine::available_memory().filter(|_| recipe.device == "flex").map(|left| nine_tenths(left) / processes as u64)
    };
    recipe.train.memory.map(MemorySize::bytes).or_else(own)
}

/// What a run takes of the memory that is there, so that the prediction may be off by a tenth.
pub fn nine_tenths(bytes: u64) -> u64 {
    bytes / 10 * 9
}

/// A number of bytes for people: `1.93 GB`, `86 MB`.
pub fn bytes(count: u64) -> String {
    let count = count as f64;
    if count >= 1e9 { format!("{:.2} GB", count / 1e9) } else { format!("{:.0} MB", count / 1e6) }
}
