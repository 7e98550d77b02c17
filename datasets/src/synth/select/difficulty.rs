//! How hard the answers are for the model that will learn them.
//!
//! Sources: Marion et al. 2023, <https://arxiv.org/abs/2309.04564>; Li et al. 2023, <https://arxiv.org/abs/2308.12032>.

use crate::conversation::Message;
use crate::error::DataError;
use crate::synth::config::DifficultyConfig;
use crate::synth::method::Workshop;
use crate::synth::sample::Sample;

/// A model that reads conversations.
pub trait Scorer {
    /// The mean loss on the last answer of each conversation, in nats per token; none where there is no token of it, or more
    /// than the model reads. `done` is told how many are done.
    ///
    /// # Errors
    /// When a conversation cannot be encoded.
    fn losses(&self, conversations: &[&[Message]], done: &mut dyn FnMut(usize)) -> Result<Vec<Option<f64>>, DataError>;
}

pub(super) fn select(
    workshop: &mut Workshop<'_>,
    config: &DifficultyConfig,
    scorer: &dyn Scorer,
    samples: Vec<Sample>,
) -> Result<Vec<Sample>, DataError> {
    let conversations: Vec<&[Message]> = samples.iter().map(|sample| sample.messages.as_slice()).collect();
    let losses = scorer.losses(&conversations, &mut |_| ())?;
    let mut kept = Vec::new();
    for (mut sample, loss) in samples.into_iter().zip(losses) {
        let note = |loss: f64| format!("{} {} ({loss:.2} nats per token)", sample.question(), sample.answer());
        match loss {
            Some(loss) if loss < config.least => workshop.rejected.add("too easy for the model", &note(loss)),
            Some(loss) if config.most.is_some_and(|most| loss > most) => {
                workshop.rejected.add("too hard for the model", &note(loss));
            }
            _ => {
                sample.provenance.filters.push("difficulty".to_owned());
                kept.push(sample);
            }
        }
    }
    Ok(kept)
}
