//! The backward pass, block by block from the last to the first.
//!
//! Each block has a graph of its own, which ends where the next one begins. So a block can keep its activations or
//! compute them again when its turn comes (the two give the same bits), and what a block kept is free as soon as its
//! gradient is known.
//!
//! Source: Chen et al. 2016, <https://arxiv.org/abs/1604.06174> (activation checkpointing).

use burn::tensor::{Device, Tensor};

use super::batch::MicroBatch;
use super::{parameters, step};
use crate::kernels::seed::seed;
use crate::model::{Context, Decoder, DropoutSeed, Segments};

/// A block after its forward pass: its input, and its output unless that is computed again.
struct Block {
    index: usize,
    input: Tensor<2>,
    output: Option<Tensor<2>>,
}

/// One micro-batch under way.
struct Pass<'a> {
    decoder: &'a Decoder,
    batch: &'a MicroBatch,
    /// The same outside autodiff.
    plain: Decoder,
    segments: Segments,
    dropout: DropoutSeed,
    /// The first block that takes part in the backward pass; those before it need no gradient.
    first: usize,
    /// Whether the embedding is trained, so that the first block's input needs a gradient.
    embedding: bool,
}

/// Whether a block's activations are computed again, when those of the last `recomputed_blocks` of `blocks` are.
pub fn is_recomputed(block: usize, blocks: usize, recomputed_blocks: usize) -> bool {
    block + recomputed_blocks >= blocks
}

/// What a micro-batch adds to the means of a step, outside its objective's weights; `None` for what is not asked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Losses {
    /// The negative log-likelihoods of the targets, added up and divided.
    pub likelihood: Option<f64>,
    /// The divergences from the base, added up and divided.
    pub divergence: Option<f64>,
}

/// The losses of a micro-batch divided by `supervised`. The gradient of its objective is handed out in the parts of
/// [`parameters::parts`], each as soon as it is known.
///
/// The base of a divergence is the same decoder with its adapter off, from the first block on that has one. It runs first
/// and leaves nothing behind but its last hidden states where a token is supervised.
///
/// The last `recomputed_blocks` blocks before the head keep only their input: theirs would be the activations that are
/// kept the shortest, and a block computed again needs its memory only while it is its turn.
///
/// # Panics
/// When nothing is supervised, which is refused when the data is loaded.
pub fn gradient(
    decoder: &Decoder,
    batch: &MicroBatch,
    supervised: usize,
    dropout: DropoutSeed,
    recomputed_blocks: usize,
    device: &Device,
    hand_out: &mut dyn FnMut(Tensor<1>),
) -> Losses {
    let has_adapter = |index: &usize| decoder.layers[*index].linears().iter().any(|linear| linear.lora.is_some());
    let count = decoder.layers.len();
    let embedding = decoder.embed_tokens_lora.is_some();
    let from_start = embedding || decoder.base_norms.is_some();
    let first = if from_start { 0 } else { (0..count).find(has_adapter).unwrap_or(count) };
    let segments = step::segments(decoder, batch, device);
    let pass = Pass { decoder, batch, plain: decoder.inner(), segments, dropout, first, embedding };

    let embedded = pass.plain.embed(batch.input_ids(device));
    let mut x = (0..first).fold(embedded, |x, index| pass.forward(index, x, false).1);
    let base_hidden = (batch.objective.kl_weight() > 0.0).then(|| pass.base_hidden(x.clone(), device));
    let mut blocks = Vec::with_capacity(count - first);
    for index in first..count {
        let block = pass.forward(index, x, !is_recomputed(index, count, recomputed_blocks));
        x = block.1;
        blocks.push(block.0);
    }

    let last = adapters::require_grad(x);
    let hidden = decoder.normalise(last.clone().select(0, batch.predictors(device)));
    // The head drops inputs of its own, as if it were one more block.
    let mask = || dropout.block(count, batch.supervised_sequences());
    let mean = |losses: Tensor<1>| losses.sum().div_scalar(supervised as f64);
    let likelihood = (batch.objective.weight() > 0.0)
        .then(|| mean(decoder.losses(hidden.clone(), batch.targets(device), mask().as_mut())));
    let divergence = base_hidden.map(|base| mean(decoder.divergences(hidden, base, mask().as_mut())));
    let weighted = [(&likelihood, batch.objective.weight()), (&divergence, batch.objective.kl_weight())];
    let weighted = weighted.into_iter().filter_map(|(mean, weight)| Some(mean.clone()? * weight));
    let objective = weighted.reduce(|sum, part| sum + part).expect("a micro-batch has an objective");
    let mut gradients = objective.backward();
    let mut grad = last.grad_remove(&mut gradients).expect("the loss follows from the last block");
    parameters::head_gradient(decoder, &mut gradients).into_iter().for_each(&mut *hand_out);
    drop((gradients, last));

    while let Some(block) = blocks.pop() {
        let (input_grad, own) = pass.backward(block, grad);
        own.into_iter().for_each(&mut *hand_out);
        grad = input_grad;
    }
    if embedding {
        let x = decoder.embed(batch.input_ids(device));
        let mut gradients = seed(decoder.kernels, x, grad).backward();
        parameters::embedding_gradient(decoder, &mut gradients).into_iter().for_each(hand_out);
    }
    let value = |mean: Option<Tensor<1>>| mean.map(|mean| f64::from(mean.into_scalar::<f32>()));
    Losses { likelihood: value(likelihood), divergence: value(divergence) }
}

impl Pass<'_> {
    /// The base's last hidden states at the supervised tokens, `[supervised, hidden]`. `x` is what the first block with an
    /// adapter reads: without one on the embedding it is what the base's reads too.
    fn base_hidden(&self, x: Tensor<2>, device: &Device) -> Tensor<2> {
        let base = self.plain.clone().without_adapter();
        let x = if self.embedding { base.embed(self.batch.input_ids(device)) } else { x };
        let last = (self.first..base.layers.len())
            .fold(x, |x, index| base.block(index, x, &self.segments, &mut Context::default()));
        base.normalise(last.select(0, self.batch.predictors(device)))
    }

    /// Runs a block; the second is its output outside autodiff.
    fn forward(&self, index: usize, x: Tensor<2>, keep: bool) -> (Block, Tensor<2>) {
        if keep {
            let input = self.leaf(index, x);
            let output = self.run(self.decoder, index, input.clone());
            let plain = output.clone().inner();
            return (Block { index, input, output: Some(output) }, plain);
        }
        let output = self.run(&self.plain, index, x.clone());
        (Block { index, input: x, output: None }, output)
    }

    /// The gradients of a block's input and of its adapter, from that of its output.
    fn backward(&self, block: Block, grad: Tensor<2>) -> (Tensor<2>, Option<Tensor<1>>) {
        let (input, output) = if let Some(output) = block.output {
            (block.input, output)
        } else {
            let input = self.leaf(block.index, block.input);
            (input.clone(), self.run(self.decoder, block.index, input))
        };
        let mut gradients = seed(self.decoder.kernels, output, grad.clone()).backward();
        let own = parameters::block_gradient(self.decoder, block.index, &mut gradients);
        // The first block's input may have no gradient, and then nobody asks for it.
        (input.grad_remove(&mut gradients).unwrap_or(grad), own)
    }

    fn leaf(&self, index: usize, x: Tensor<2>) -> Tensor<2> {
        if self.embedding || index > self.first { adapters::require_grad(x) } else { x }
    }

    fn run(&self, decoder: &Decoder, index: usize, x: Tensor<2>) -> Tensor<2> {
        let mut dropout = self.dropout.block(index, self.batch.sequences());
        decoder.block(index, x, &self.segments, &mut Context { dropout: dropout.as_mut(), ..Context::default() })
    }
}
