//! Instructions from nothing but the beginning of a user's turn, then their answers.
//!
//! A model that was tuned on conversations goes on with what users write. Source: Xu et al. 2024,
//! <https://arxiv.org/abs/2406.08464>.

use super::{LINE_TOKENS, Open, Workshop};
use crate::conversation::{Message, Role};
use crate::error::{DataError, SynthError};
use crate::probes::instructions::language_of;
use crate::synth::config::MagpieConfig;
use crate::synth::sample::Sample;
use crate::synth::teacher::{Prompt, Request, Sampling};

/// Makes the samples of one step.
pub(super) fn make(workshop: &mut Workshop<'_>, config: &MagpieConfig) -> Result<Vec<Sample>, DataError> {
    let own = workshop.asking.and_then(|asking| asking.teacher.user_prefix());
    let Some(prefix) = config.prefix.clone().or(own) else {
        let teacher =
            workshop.asking.map_or_else(|| "none".to_owned(), |asking| asking.teacher.identity().model.clone());
        let reason = "its chat template is not known here; write what stands before a user's turn into magpie.prefix";
        return Err(SynthError::Teacher { teacher, reason: reason.to_owned() }.into());
    };
    let request = |number: usize| Request {
        prompt: Prompt::Text(prefix.clone()),
        sampling: Sampling {
            temperature: config.temperature,
            top_p: 1.0,
            max_tokens: 2 * LINE_TOKENS,
            seed: workshop.config.seed.wrapping_add(number as u64),
            stop: config.stop.clone(),
        },
    };
    let requests: Vec<Request> = (0..config.count).map(request).collect();
    let written = workshop.ask("instructions", &requests)?;
    let open = written.into_iter().zip(&requests).filter_map(|(written, request)| {
        let written = written?;
        let content = written.text.trim().to_owned();
        Some(Open {
            lang: language_of(&content).unwrap_or_default().to_owned(),
            messages: vec![Message { role: Role::User, content }],
            prompt: "template prefix".to_owned(),
            keys: vec![written.key],
            parents: Vec::new(),
            seed: request.sampling.seed,
        })
    });
    let open = open.collect();
    workshop.answer("magpie", open, 0.0, config.max_tokens)
}
