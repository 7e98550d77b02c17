//! The memory model against committed measurements, and what must hold of it whatever its constants are.

use serde::Deserialize;

use super::memory::{fewest_recomputed_blocks, peak};
use super::model::ModelSizes;
use super::workload::{Shape, Workload};
use crate::model::rotary::Rotary;
use crate::model::{DecoderConfig, family};

/// SmolLM2-135M from its GGUF file, with an adapter on all linear modules.
pub(super) fn smollm2(rank: usize) -> ModelSizes {
    let config = DecoderConfig {
        family: &family::FAMILIES[0],
        hidden_size: 576,
        intermediate_size: 1536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        vocab_size: 49152,
        rms_norm_eps: 1e-5,
        rotary: Rotary::plain(1e5),
        local_rotary: None,
        sliding_window: None,
        is_windowed: vec![false; 30],
        query_pre_attn_scalar: None,
        max_position_embeddings: 8192,
        tie_word_embeddings: true,
    };
    ModelSizes { config, ranks: vec![[rank; 7]; 30], use_dora: false, ends: [0; 2], train_norms: false, base_bytes: 0 }
}

/// A model that is computed in an instant.
pub(super) fn tiny(rank: usize) -> ModelSizes {
    let large = smollm2(rank);
    let config = DecoderConfig {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 3,
        is_windowed: vec![false; 3],
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 8,
        vocab_size: 100,
        ..large.config
    };
    ModelSizes { config, ranks: vec![[rank; 7]; 3], use_dora: false, ends: [0; 2], train_norms: false, base_bytes: 0 }
}

fn workload(lengths: &[usize], supervised: usize, micro_batches: usize) -> Workload {
    let shape = Shape::alone(lengths, supervised);
    Workload { steps: 1, steps_seen: vec![vec![vec![shape; micro_batches]]], ..Workload::default() }
}

/// What `scripts/bench/plan_memory.py` measured.
#[derive(Deserialize)]
struct Measurements {
    base_bytes: u64,
    runs: Vec<Measured>,
}

#[derive(Deserialize)]
struct Measured {
    rank: usize,
    modules: Vec<String>,
    dropout: bool,
    recomputed_blocks: usize,
    /// The micro-batches of each step.
    steps: Vec<Vec<(Vec<usize>, usize)>>,
    peak_bytes: u64,
}

#[test]
fn the_memory_model_is_within_a_tenth_of_every_measurement() {
    let measurements: Measurements = serde_json::from_str(include_str!("measured.json")).unwrap();
    assert!(measurements.runs.len() >= 10);
    let mut worst = Vec::new();
    for run in &measurements.runs {
        let mut model = smollm2(run.rank);
        model.base_bytes = measurements.base_bytes;
        let targets: adapters::Targets = serde_json::from_value(run.modules.clone().into()).unwrap();
        let lora = adapters::LoraConfig { rank: run.rank, targets, ..Default::default() };
        let model = ModelSizes::new(model.config, &lora, measurements.base_bytes).unwrap();
        let shapes = |step: &Vec<(Vec<usize>, usize)>| -> Vec<Shape> {
            step.iter().map(|(lengths, supervised)| Shape::alone(lengths, *supervised)).collect()
        };
        let steps_seen: Vec<Vec<Vec<Shape>>> = run.steps.iter().map(|step| vec![shapes(step)]).collect();
        let workload = Workload { steps: steps_seen.len() as u64, steps_seen, ..Workload::default() };
        let predicted = peak(&model, &workload, run.dropout, run.recomputed_blocks).total();
        worst.push(predicted as f64 / run.peak_bytes as f64 - 1.0);
    }
    assert!(worst.iter().all(|error| error.abs() < 0.1), "{worst:.3?}");
}

#[test]
fn memory_grows_with_tokens_ranks_and_what_is_kept() {
    let total = |rank, lengths: &[usize], recomputed| {
        peak(&smollm2(rank), &workload(lengths, 100, 2), false, recomputed).total()
    };
    assert!(total(16, &[512], 0) < total(16, &[1024], 0));
    assert!(total(16, &[512], 0) < total(64, &[512], 0));
    let by_blocks: Vec<u64> = (0..=30).map(|recomputed| total(16, &[512; 4], recomputed)).collect();
    assert!(by_blocks.is_sorted_by(|more, less| more >= less), "{by_blocks:?}");
    assert!(by_blocks[30] < by_blocks[0]);
    // The peak does not depend on how a micro-batch's tokens are cut into sequences.
    assert_eq!(total(16, &[2048], 0), total(16, &[512; 4], 0));
    let with_dropout = peak(&smollm2(16), &workload(&[512], 100, 2), true, 0).total();
    assert!(with_dropout > total(16, &[512], 0));
}

#[test]
fn auto_recomputes_no_more_than_it_must() {
    let (model, workload) = (smollm2(16), workload(&[512; 4], 400, 2));
    let peaks: Vec<u64> = (0..=30).map(|recomputed| peak(&model, &workload, false, recomputed).total()).collect();
    let fewest = |allowed| fewest_recomputed_blocks(&model, &workload, false, allowed);
    assert_eq!(fewest(u64::MAX), 0);
    assert_eq!(fewest(peaks[0]), 0);
    assert_eq!(fewest(peaks[30] - 1), 30, "nothing fits: the least is taken");
    let between = fewest(u64::midpoint(peaks[0], peaks[30]));
    assert!(0 < between && between < 30);
    assert!(
        peaks[between] <= u64::midpoint(peaks[0], peaks[30]) && peaks[between - 1] > u64::midpoint(peaks[0], peaks[30])
    );
}

#[test]
fn modules_without_adapter_cost_no_gradient() {
    let mut model = smollm2(16);
    for ranks in &mut model.ranks[..20] {
        *ranks = [0; 7];
    }
    assert_eq!(model.first_adapted(), 20);
    let upper = peak(&model, &workload(&[512], 100, 1), false, 0);
    let all = peak(&smollm2(16), &workload(&[512], 100, 1), false, 0);
    assert!(2 * upper.activations < all.activations);
    assert_eq!(3 * model.parameters(), smollm2(16).parameters());
}
