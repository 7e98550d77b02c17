//! The teacher's own answers to given prompts, for rehearsal.
//!
//! Sources: Huang et al. 2024, <https://arxiv.org/abs/2403.01244>; Yang et al. 2024, <https://arxiv.org/abs/2402.13669>.

use super::{Open, Workshop};
use crate::conversation::Role;
use crate::error::DataError;
use crate::probes::instructions::language_of;
use crate::synth::config::SelfReplayConfig;
use crate::synth::sample::Sample;

/// Makes the samples of one step.
pub(super) fn make(workshop: &mut Workshop<'_>, config: &SelfReplayConfig) -> Result<Vec<Sample>, DataError> {
    let mut open = Vec::new();
    for source in &config.prompts {
        for conversation in workshop.gate.read(source, workshop.hub)? {
            let question = conversation.messages.iter().position(|message| message.role == Role::User);
            let Some(question) = question else { continue };
            let mut messages = conversation.messages;
            messages.truncate(question + 1);
            open.push(Open {
                lang: language_of(&messages[question].content).unwrap_or_default().to_owned(),
                messages,
                prompt: conversation.origin.to_string(),
                keys: Vec::new(),
                parents: Vec::new(),
                seed: workshop.config.seed.wrapping_add(open.len() as u64),
            });
        }
    }
    workshop.answer("self_replay", open, config.temperature, config.max_tokens)
}
