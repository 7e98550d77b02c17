//! `greffon generate`.

use std::io::Write as _;

use datasets::{Message, Role};

use super::subject::Loading;
use crate::cli::{GenerateArgs, SamplingArgs};
use crate::error::TrainError;
use crate::model::generate::{Sampling, generate as continue_prompts};

pub(super) fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let sampling = sampling(&args.sampling)?;
    let model = Loading::from_args(&args.model)?;
    let mut messages = system(&args.sampling);
    messages.push(Message { role: Role::User, content: args.prompt.clone() });
    answer(&model, &messages, sampling)?;
    Ok(())
}

/// Checks the sampling arguments.
pub(super) fn sampling(args: &SamplingArgs) -> Result<Sampling, TrainError> {
    if !(args.temperature >= 0.0 && args.temperature.is_finite()) {
        return Err(TrainError::Run(format!("--temperature is {}, expected 0 or more", args.temperature)));
    }
    if !(args.top_p > 0.0 && args.top_p <= 1.0) {
        return Err(TrainError::Run(format!("--top-p is {}, expected above 0 and at most 1", args.top_p)));
    }
    Ok(Sampling {
        temperature: args.temperature,
        top_p: args.top_p,
        seed: args.seed,
        max_new_tokens: args.max_new_tokens,
    })
}

/// The conversation's start.
pub(super) fn system(args: &SamplingArgs) -> Vec<Message> {
    args.system.iter().map(|text| Message { role: Role::System, content: text.clone() }).collect()
}

/// Prints the answer as it comes and returns it.
pub(super) fn answer(model: &Loading, messages: &[Message], sampling: Sampling) -> anyhow::Result<String> {
    let tokenizer = &model.base.tokenizer;
    let prompt = tokenizer.render_prompt(messages).map_err(TrainError::from)?;
    let room = model.base.config.max_position_embeddings;
    if prompt.len() >= room {
        return Err(
            TrainError::Run(format!("the prompt has {} tokens, the model's limit is {room}", prompt.len())).into()
        );
    }
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    let mut failure = None;
    continue_prompts(&model.decoder, &[prompt], sampling, tokenizer.eos_token_ids(), &model.device, |_, id| {
        match stream.push(id) {
            Ok(piece) => {
                let piece = piece.unwrap_or_default();
                anstream::print!("{piece}");
                let written = anstream::stdout().flush();
                text.push_str(&piece);
                // A closed pipe ends the answer.
                written.is_ok()
            }
            Err(error) => {
                failure = Some(error);
                false
            }
        }
    });
    anstream::println!();
    match failure {
        Some(error) => Err(TrainError::from(error).into()),
        None => Ok(text),
    }
}
