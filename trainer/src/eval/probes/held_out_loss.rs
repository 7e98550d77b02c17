//! The loss on the supervised tokens of each conversation.

use datasets::{Conversation, DataConfig, Overlong, tokenize_all};

use crate::cluster::spread;
use crate::error::TrainError;
use crate::eval::{Findings, Probe, Score, Subject};
use crate::train::batch::{Layout, micro_batches};
use crate::train::step::negative_log_likelihood;

/// Mean negative log-likelihood in nats per supervised token.
#[derive(Clone, Debug)]
pub struct HeldOutLoss {
    max_length: usize,
}

impl HeldOutLoss {
    /// As the recipe's `data` section says; conversations beyond `max_length` are truncated, never left out.
    pub fn new(data: &DataConfig) -> Self {
        Self { max_length: data.max_length }
    }
}

impl Probe for HeldOutLoss {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn run(
        &self,
        subject: &Subject<'_>,
        conversations: &[Conversation],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Findings, TrainError> {
        let examples = tokenize_all(subject.tokenizer, conversations, self.max_length, Overlong::Truncate)?.examples;
        let layout = Layout { packing: false, share_prefix: false, max_length: self.max_length, micro_batch_size: 1 };
        let losses: Vec<(f64, f64)> = spread(subject.collective, &examples, |examples| {
            let mut losses = Vec::with_capacity(examples.len());
            for example in examples {
                for batch in micro_batches([example], layout) {
                    let sum = negative_log_likelihood(subject.decoder, &batch, subject.device);
                    let count = batch.targets.len() as f64;
                    losses.push((f64::from(sum.into_scalar::<f32>()) / count, count));
                }
                progress(losses.len());
            }
            Ok(losses)
        })?;
        let (items, weights) = losses.into_iter().unzip();
        let score = Score { metric: "loss", items, weights, higher_is_better: false, is_share: false };
        Ok(Findings { scores: vec![score], answers: Vec::new() })
    }
}
