//! Evaluation: what a model can do, with and without its adapter.
//!
//! **The one place to add a probe** is [`probes`]: a file there, and its line in [`probes::all`].

pub mod evaluation;
pub mod few_shot;
pub mod log_likelihood;
pub mod probes;
pub mod rival;
pub mod statistics;
pub mod tasks;

use burn::tensor::{Device, Tensor};
use datasets::{ChatTokenizer, Conversation};
use serde::{Deserialize, Serialize};

use crate::cluster::Collective;
use crate::device::{indices, read};
use crate::error::TrainError;
use crate::model::generate::{Generated, Sampling, generate};
use crate::model::{Context, Decoder, Segments};

/// A model that is questioned.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// The decoder, outside autodiff.
    pub decoder: &'a Decoder,
    /// Its tokenizer.
    pub tokenizer: &'a ChatTokenizer,
    /// Where it lies.
    pub device: &'a Device,
    /// The ranks that question it together.
    pub collective: &'a dyn Collective,
}

/// What a model wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The text, without the white space around it.
    pub text: String,
    /// The model ended its turn; otherwise the limit did.
    pub stopped: bool,
}

impl Subject<'_> {
    /// Answers all the given prompts at once, each as tokens, at least one.
    ///
    /// # Errors
    /// When an answer cannot be decoded.
    pub fn answers(&self, prompts: &[Vec<u32>], sampling: Sampling) -> Result<Vec<Answer>, TrainError> {
        let Self { decoder, tokenizer, device, .. } = self;
        let generated = generate(decoder, prompts, sampling, tokenizer.eos_token_ids(), device, |_, _| true);
        let answer = |Generated { ids, stopped }: Generated| {
            let text = tokenizer.decode(&ids, true)?.trim().to_owned();
            Ok(Answer { text, stopped })
        };
        generated.into_iter().map(answer).collect()
    }
}

/// One metric of a probe, item by item so that two models can be compared in pairs.
#[derive(Clone, Debug, Serialize)]
pub struct Score {
    /// The metric's name, such as `exact match`.
    pub metric: &'static str,
    /// The values of the items, in order.
    pub items: Vec<f64>,
    /// The weight of each item in the mean, such as its supervised tokens.
    pub weights: Vec<f64>,
    /// A larger value is better.
    pub higher_is_better: bool,
    /// A share in 0 to 1, shown in per cent.
    pub is_share: bool,
}

impl Score {
    /// The weighted mean over the items.
    pub fn mean(&self) -> f64 {
        let total: f64 = self.weights.iter().sum();
        self.items.iter().zip(&self.weights).map(|(v, w)| v * w).sum::<f64>() / total
    }

    /// That of some items alone.
    fn of_some(&self, some: &[usize]) -> Self {
        let of = |values: &[f64]| some.iter().map(|&index| values[index]).collect();
        Self { items: of(&self.items), weights: of(&self.weights), ..self.clone() }
    }
}

/// What a probe found: its scores, and the answers it was given where there are any.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Findings {
    /// The metrics.
    pub scores: Vec<Score>,
    /// Generated answers, one for each item.
    pub answers: Vec<String>,
}

/// A way to question a model.
pub trait Probe {
    /// The name in tables.
    fn name(&self) -> &'static str;

    /// Questions the model on the given conversations. `progress` is told how many are done.
    ///
    /// # Errors
    /// When a conversation cannot be rendered or tokenised.
    fn run(
        &self,
        subject: &Subject<'_>,
        conversations: &[Conversation],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Findings, TrainError>;
}

/// The log-probability of each token after the first, given those before it; one sequence, outside autodiff.
pub fn log_probs(decoder: &Decoder, input_ids: &[u32], device: &Device) -> Vec<f32> {
    if input_ids.len() < 2 {
        return Vec::new();
    }
    let (context, targets) = (&input_ids[..input_ids.len() - 1], &input_ids[1..]);
    let hidden = hidden(decoder, context, device);
    let targets = indices(targets.iter().copied(), device);
    read(decoder.losses(hidden, targets, None).neg())
}

/// The logits of every position of one sequence, `tokens · vocab` values in row order.
pub fn logits(decoder: &Decoder, input_ids: &[u32], device: &Device) -> Vec<f32> {
    read(decoder.logits(hidden(decoder, input_ids, device)))
}

/// The log-probability of every token of the vocabulary after one sequence, outside autodiff.
pub fn next_log_probs(decoder: &Decoder, input_ids: &[u32], device: &Device) -> Vec<f64> {
    let last = hidden(decoder, input_ids, device).narrow(0, input_ids.len() - 1, 1);
    let logits: Vec<f64> = read(decoder.logits(last)).into_iter().map(f64::from).collect();
    let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = largest + logits.iter().map(|logit| (logit - largest).exp()).sum::<f64>().ln();
    logits.into_iter().map(|logit| logit - total).collect()
}

/// The last hidden states of one sequence, `[tokens, hidden]`.
fn hidden(decoder: &Decoder, input_ids: &[u32], device: &Device) -> Tensor<2> {
    let segments = Segments::new(&[input_ids.len()], &[0], &decoder.config.inverse_frequencies(), device);
    decoder.forward(indices(input_ids.iter().copied(), device), &segments, Context::default())
}
