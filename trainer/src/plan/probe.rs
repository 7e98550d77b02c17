//! A probe: real micro-batches of the recipe through one block's worth of random weights, forward and backward.
//!
//! The blocks of the probe share their weights, so that it needs the memory of one. Two depths tell what a block takes
//! and what head and embedding take; both are compared with the time model, whose figures are then corrected.

use std::time::{Duration, Instant};

use adapters::gguf::names::Norms;
use adapters::{LoraLinear, LowRank, Magnitude};
use burn::tensor::{Device, Distribution, Tensor};

use super::model::ModelSizes;
use super::rates::{correction, median};
use super::time::{self, Corrections, Pass, Rates, Work};
use super::workload::{Sequences, Shape};
use crate::kernels::Kernels;
use crate::kernels::attention::Span;
use crate::model::{Decoder, DecoderConfig, DecoderLayer, FeedforwardNorms, HeadNorms, Mlp, SelfAttention};
use crate::train::batch::{MicroBatch, Objective};
use crate::train::step::{self, StepSettings};

/// How long the probe goes on for; it ends after the measurement under way.
const LENGTH: Duration = Duration::from_secs(10);

/// What is probed.
#[derive(Clone, Copy, Debug)]
pub struct Probe<'a> {
    /// The model.
    pub model: &'a ModelSizes,
    /// Micro-batches of the run, in its order.
    pub shapes: &'a [&'a Shape],
    /// LoRA dropout.
    pub dropout: f64,
    /// What computes it.
    pub kernels: Kernels,
    /// Whether most blocks of the run are computed again.
    pub recomputed: bool,
}

/// Runs micro-batches for about ten seconds and says by how much they differ from the time model at these rates.
pub fn run(probe: Probe<'_>, rates: Rates, device: &Device) -> Corrections {
    let Some(shape) = typical(probe.shapes) else {
        return Corrections::default();
    };
    let pass = if probe.recomputed { Pass::Recomputed } else { Pass::Kept };
    let depths = depths(probe.model.blocks());
    let deep = decoder(probe.model, depths[1], probe.kernels, device);
    let shallow = Decoder { layers: deep.layers[..depths[0]].to_vec(), ..deep.clone() };
    let batch = micro_batch(shape, probe.model.config.vocab_size);
    let seconds = |decoder: &Decoder| {
        let begun = Instant::now();
        let recomputed_blocks = if probe.recomputed { decoder.layers.len() } else { 0 };
        let settings = StepSettings { seed: 0, step: 0, dropout: probe.dropout, recomputed_blocks };
        let result = step::gradient(decoder, std::slice::from_ref(&batch), settings, device, &|| false);
        // The gradient is waited for: a device may work in the background.
        let _ = result.map(|result| result.gradient.narrow(0, 0, 1).into_data());
        begun.elapsed().as_secs_f64()
    };

    let started = Instant::now();
    // Both are warmed up, and each difference is of two neighbours in time.
    seconds(&shallow);
    seconds(&deep);
    let (mut of_block, mut of_rest) = (Vec::new(), Vec::new());
    while of_block.is_empty() || started.elapsed() < LENGTH {
        let (less, more) = (seconds(&shallow), seconds(&deep));
        let block = (more - less) / (depths[1] - depths[0]) as f64;
        of_block.push(block);
        of_rest.push(less - block * depths[0] as f64);
    }
    let block = time::block(probe.model, probe.model.first_adapted().min(probe.model.blocks() - 1), shape, pass);
    let head: Work = time::head(probe.model, shape, Pass::Kept);
    Corrections {
        blocks: correction(median(&mut of_block), block, rates),
        head: correction(median(&mut of_rest), head, rates),
    }
}

/// The micro-batch in the middle by its tokens.
fn typical<'a>(shapes: &[&'a Shape]) -> Option<&'a Shape> {
    let mut shapes = shapes.to_vec();
    shapes.sort_by_key(|shape| shape.tokens());
    shapes.get(shapes.len() / 2).copied()
}

/// Two numbers of blocks whose difference is timed.
fn depths(blocks: usize) -> [usize; 2] {
    [1, if blocks >= 5 { 5 } else { 2 }]
}

/// A decoder of the real sizes with random weights, which its blocks share; each has an adapter of its own.
fn decoder(model: &ModelSizes, blocks: usize, kernels: Kernels, device: &Device) -> Decoder {
    let is_windowed = model.config.is_windowed[..blocks].to_vec();
    let config = DecoderConfig { num_hidden_layers: blocks, is_windowed, ..model.config.clone() };
    let hidden = config.hidden_size;
    let random = |rows: usize, columns: usize| {
        let bound = 1.0 / (columns as f64).sqrt();
        Tensor::<2>::random([rows, columns], Distribution::Uniform(-bound, bound), device)
    };
    let weights = model.modules().map(|(input, output)| random(output, input));
    let ranks = model.ranks[model.first_adapted().min(model.blocks() - 1)];
    let norm = Tensor::<1>::ones([hidden], device);
    let head_norm = Tensor::<1>::ones([config.head_dim], device);
    let head_norms = config.family.qk_norm.then(|| HeadNorms { q_norm: head_norm.clone(), k_norm: head_norm.clone() });
    let feedforward_norms = (config.family.norms == Norms::Around).then(|| FeedforwardNorms {
        pre_feedforward_layernorm: norm.clone(),
        post_feedforward_layernorm: norm.clone(),
    });
    let layer = |_| {
        let mut linears = weights.iter().zip(model.modules()).zip(ranks).map(|((weight, (input, output)), rank)| {
            let magnitude = || model.use_dora.then(|| Magnitude::of(&weight.clone().into(), device));
            let (lora_a, lora_b) = (random(rank, input), random(output, rank));
            let pair = || LowRank { magnitude: magnitude(), ..LowRank::new(lora_a, lora_b, 1.0) };
            let lora = (rank > 0).then(|| pair().require_grad());
            LoraLinear { weight: weight.clone().into(), bias: None, lora }
        });
        let mut next = || linears.next().expect("seven modules");
        DecoderLayer {
            input_layernorm: norm.clone(),
            self_attn: SelfAttention {
                q_proj: next(),
                k_proj: next(),
                v_proj: next(),
                o_proj: next(),
                head_norms: head_norms.clone(),
            },
            post_attention_layernorm: norm.clone(),
            mlp: Mlp { gate_proj: next(), up_proj: next(), down_proj: next() },
            feedforward_norms: feedforward_norms.clone(),
        }
    };
    let layers = (0..blocks).map(layer).collect();
    let embed_tokens = random(config.vocab_size, hidden).into();
    Decoder {
        config,
        kernels,
        embed_tokens,
        layers,
        norm: norm.clone(),
        lm_head: None,
        embed_tokens_lora: None,
        lm_head_lora: None,
        base_norms: None,
    }
}

/// A micro-batch of this shape with tokens from all over the vocabulary; the supervised ones are the last.
fn micro_batch(shape: &Shape, vocab_size: usize) -> MicroBatch {
    let tokens = shape.tokens();
    let id = |index: usize| u32::try_from(index * 7919 % vocab_size).unwrap_or(0);
    let supervised = shape.supervised.clamp(1, tokens);
    let spans = spans(shape);
    MicroBatch {
        input_ids: (0..tokens).map(id).collect(),
        examples: (0..spans.len() as u64).collect(),
        spans,
        predictors: (tokens - supervised..tokens).collect(),
        targets: (0..supervised).map(id).collect(),
        objective: Objective::Task,
    }
}

/// Where the sequences of a shape lie.
fn spans(shape: &Shape) -> Vec<Span> {
    let (mut spans, mut end) = (Vec::new(), 0);
    let mut next = |length: usize| {
        end += length;
        end - length..end
    };
    for Sequences { shared, rests } in &shape.sequences {
        let prefix = if *shared > 0 { next(*shared) } else { 0..0 };
        spans.extend((*shared > 0).then(|| prefix.clone().into()));
        spans.extend(rests.iter().map(|&rest| Span { range: next(rest), prefix: prefix.clone() }));
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::tiny;

    #[test]
    fn a_probe_gives_factors_that_are_numbers() {
        let model = tiny(4);
        let shape = Shape::alone(&[40, 24], 20);
        let decoder = decoder(&model, 3, Kernels::Reference, &Device::flex());
        assert_eq!(decoder.linears().count(), 21);
        let batch = micro_batch(&shape, model.config.vocab_size);
        assert_eq!((batch.input_ids.len(), batch.targets.len(), batch.predictors[19]), (64, 20, 63));
        let settings = StepSettings { seed: 0, step: 0, dropout: 0.0, recomputed_blocks: 1 };
        let result = step::gradient(&decoder, &[batch], settings, &Device::flex(), &|| false).unwrap();
        assert!(result.losses.loss.is_finite());
    }
}
