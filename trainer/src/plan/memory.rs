//! **The memory model**: the peak resident memory of training, from sizes alone.
//!
//! It adds up what the code keeps, stage by stage of a step: the blocks' activations
//! ([`train::backward`](crate::train)), what a block's backward pass needs while it lasts, the adapter with its gradient
//! and moments, the base, and the program itself. `scripts/bench/plan_memory.py` wrote the
//! measurements that the constants are chosen by, and that the tests hold the model to.

use serde::{Deserialize, Serialize};

use super::model::ModelSizes;
use super::workload::{Shape, Workload};
use crate::train::backward::is_recomputed;

/// Bytes of a number.
const F32: u64 = 4;

/// The program with its tokenizer and its data, before any weight is loaded: measured.
const PROGRAM: u64 = 45_000_000;

/// What the allocator holds beside what is in use, as a share of it: measured.
const FRAGMENTATION: f64 = 0.03;

/// Peak memory and its parts, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPlan {
    /// The program, its tokenizer and its data.
    pub program: u64,
    /// The base's weights.
    pub base: u64,
    /// The adapter with its gradient, the optimizer's two moments, and their copies while they are saved.
    pub adapter: u64,
    /// What the forward pass keeps for the backward pass.
    pub activations: u64,
    /// What the kernels work in, and what the allocator loses.
    pub working: u64,
    /// The base's weights as the products in bfloat16 read them, where there is room to keep them.
    #[serde(default)]
    pub packed: u64,
}

impl MemoryPlan {
    /// The peak.
    pub fn total(&self) -> u64 {
        self.program + self.base + self.adapter + self.activations + self.working + self.packed
    }

    fn larger(self, other: Self) -> Self {
        if other.total() > self.total() { other } else { self }
    }
}

/// Predicts the peak memory of a run that computes the last `recomputed_blocks` blocks again.
pub fn peak(model: &ModelSizes, workload: &Workload, dropout: bool, recomputed_blocks: usize) -> MemoryPlan {
    let accumulates = workload.accumulates();
    let step = |shape| Step { model, shape, dropout, accumulates, recomputed_blocks };
    let most = |stages: &mut dyn Iterator<Item = MemoryPlan>| stages.reduce(MemoryPlan::larger).unwrap_or_default();
    let training = most(&mut workload.micro_batches().map(|shape| step(shape).peak()));
    let validation = most(&mut workload.validation.iter().map(|shape| step(shape).forward_alone()));
    let most = training.larger(validation).larger(saving(model));
    MemoryPlan { program: PROGRAM, base: model.base_bytes, ..most }
}

/// The fewest recomputed blocks with which the run's peak is at most `allowed`; all of them when none does.
pub fn fewest_recomputed_blocks(model: &ModelSizes, workload: &Workload, dropout: bool, allowed: u64) -> usize {
    let candidates = model.blocks() - model.first_adapted();
    let fits = |recomputed: usize| peak(model, workload, dropout, recomputed).total() <= allowed;
    // The peak falls with each block, so the first that fits is found by halving.
    let (mut low, mut high) = (0, candidates);
    while low < high {
        let middle = usize::midpoint(low, high);
        if fits(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// A checkpoint: the moments are copied to the host, and once more into the bytes of their file. The steps before left
/// room for them in memory that the process keeps.
fn saving(model: &ModelSizes) -> MemoryPlan {
    MemoryPlan { adapter: 7 * model.parameters() as u64 * F32, ..MemoryPlan::default() }
}

/// One micro-batch under way.
struct Step<'a> {
    model: &'a ModelSizes,
    shape: &'a Shape,
    dropout: bool,
    accumulates: bool,
    recomputed_blocks: usize,
}

impl Step<'_> {
    /// The most over the stages of forward and backward pass.
    fn peak(&self) -> MemoryPlan {
        let (model, first, blocks) = (self.model, self.model.first_adapted(), self.model.blocks());
        let parameters = model.parameters() as u64 * F32;
        // After the backward pass the gradient is put together, and read once for its norm. Two vectors of the whole
        // adapter find no room between the many smaller pieces that are free by then.
        let held = if self.accumulates { 6 } else { 5 } * parameters;
        let is_recomputed = |block: usize| is_recomputed(block, blocks, self.recomputed_blocks);
        let row = self.numbers(&[model.config.hidden_size]);
        let kept_by = |block: usize| if is_recomputed(block) { row } else { self.block(block) };
        // The output of the last block is kept too.
        let mut kept: u64 = row + (first..blocks).map(kept_by).sum::<u64>();
        let mut most = self.stage(held, kept, self.head());
        let mut gradients = 0;
        for block in (first..blocks).rev() {
            let own = if is_recomputed(block) { self.block(block) - row } else { 0 };
            most = most.larger(self.stage(held, kept + own, gradients + self.backward()));
            kept -= kept_by(block);
            gradients += model.block_parameters(block) as u64 * F32;
        }
        most
    }

    /// A validation's micro-batch: nothing is kept.
    fn forward_alone(&self) -> MemoryPlan {
        let held = 3 * self.model.parameters() as u64 * F32;
        let block = self.block(self.model.blocks().saturating_sub(1));
        self.stage(held, self.numbers(&[self.model.config.hidden_size]), block.max(self.head()))
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a size in memory")]
    fn stage(&self, adapter: u64, activations: u64, working: u64) -> MemoryPlan {
        let working = working + self.packed();
        let lost = ((activations + working) as f64 * FRAGMENTATION) as u64;
        MemoryPlan { adapter, activations, working: working + lost, ..MemoryPlan::default() }
    }

    /// So many numbers for each token.
    fn numbers(&self, widths: &[usize]) -> u64 {
        (self.shape.tokens() * widths.iter().sum::<usize>()) as u64 * F32
    }

    /// What a block keeps: its input, queries, keys and values, the attention's output and log-sums, the input of the
    /// MLP, gate and up, what each adapter reduced its input to, and the adapter's matrices side by side; with magnitudes
    /// each module's output before it is brought to its length.
    fn block(&self, block: usize) -> u64 {
        let (model, c) = (self.model, &self.model.config);
        let (hidden, heads) = (c.hidden_size, model.heads_width());
        let kept = [hidden, model.qkv(), heads, c.num_attention_heads, hidden, 2 * c.intermediate_size];
        let reduced: usize = model.ranks[block].iter().sum();
        let adapter = model.block_parameters(block) as u64 * F32;
        let dropout = if self.dropout { self.dropout_of(block) } else { 0 };
        self.numbers(&kept) + self.numbers(&[reduced, model.magnitudes(block)]) + adapter + dropout
    }

    /// With dropout each module's adapter reads an input of its own, in ordinary operators: the mask, the masked input,
    /// what the adapter reduced it to, and the update are kept.
    fn dropout_of(&self, block: usize) -> u64 {
        let modules = self.model.modules().into_iter().zip(self.model.ranks[block]);
        let adapted = modules.filter(|(_, rank)| *rank > 0);
        let widths = adapted.flat_map(|((input, output), rank)| [input, input, rank, output]);
        self.numbers(&widths.collect::<Vec<_>>())
    }

    /// The backward pass of a block at its widest, between the MLP's two products: the gradient of the block's output,
    /// the MLP's inner values and their gradient, and the gradients of gate and up.
    fn backward(&self) -> u64 {
        let (hidden, intermediate) = (self.model.config.hidden_size, self.model.config.intermediate_size);
        self.numbers(&[hidden, intermediate, intermediate, 2 * intermediate])
    }

    /// The head: the supervised rows before and after the normalisation, and their gradients; the gradient of the last
    /// block's output. With an adapter of its own the logits of all those rows, shifted and exponentiated, with gradients.
    /// A divergence has the base's rows too, a mean of the head's rows for each side, and their difference; with an adapter
    /// of the head both sides' logits.
    fn head(&self) -> u64 {
        let (hidden, vocab) = (self.model.config.hidden_size, self.model.config.vocab_size);
        let [rows, logits] = if self.shape.divergence { [10, 12] } else { [6, 5] };
        let logits = if self.model.ends[1] > 0 { logits * self.shape.supervised * vocab } else { 0 };
        ((rows * self.shape.supervised + self.shape.tokens()) * hidden + logits) as u64 * F32
    }

    /// The widest weights, packed for a product.
    fn packed(&self) -> u64 {
        let c = &self.model.config;
        (2 * c.intermediate_size * c.hidden_size) as u64 * F32
    }
}
