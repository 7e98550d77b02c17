//! Evaluation: what a model can do, with and without its adapter.
//!
//! **The one place to add a probe** is [`probes`]: a file there, and its line in [`probes::all`].

pub mod bootstrap;
pub mod probes;
pub mod squad;

use burn::tensor::{Device, Int, Tensor, TensorData};
use datasets::{ChatTokenizer, Conversation};
use serde::Serialize;

use crate::error::TrainError;
use crate::kernels::linear_cross_entropy::token_log_probs;
use crate::model::{Context, Decoder, Segments};

/// A model under evaluation.
pub struct Subject<'a> {
    /// The decoder, outside autodiff.
    pub decoder: &'a Decoder,
    /// Its tokenizer.
    pub tokenizer: &'a ChatTokenizer,
    /// Where it lies.
    pub device: &'a Device,
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
    let count = input_ids.len() - 1;
    let ids: Vec<i64> = input_ids.iter().map(|&id| i64::from(id)).collect();
    let tensor = |ids: &[i64]| Tensor::<1, Int>::from_data(TensorData::new(ids.to_vec(), [ids.len()]), device);
    let segments = Segments::new(&[count], &[0], &decoder.config.inverse_frequencies(), device);
    let hidden = decoder.forward(tensor(&ids[..count]), &segments, Context::default());
    token_log_probs(decoder.logits(hidden), tensor(&ids[1..]))
        .into_data()
        .try_into_vec()
        .expect("log-probabilities are f32")
}

/// The logits of every position of one sequence, `tokens · vocab` values in row order.
pub fn logits(decoder: &Decoder, input_ids: &[u32], device: &Device) -> Vec<f32> {
    let ids: Vec<i64> = input_ids.iter().map(|&id| i64::from(id)).collect();
    let count = ids.len();
    let segments = Segments::new(&[count], &[0], &decoder.config.inverse_frequencies(), device);
    let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), device);
    let hidden = decoder.forward(ids, &segments, Context::default());
    decoder.logits(hidden).into_data().try_into_vec().expect("logits are f32")
}
