//! `greffon generate`.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use datasets::{Message, Role};
use owo_colors::OwoColorize as _;
use serde_json::json;

use super::output;
use super::subject::Loading;
use crate::cli::{GenerateArgs, SamplingArgs};
use crate::error::TrainError;
use crate::model::generate::{Sampling, generate as continue_prompts};

pub(super) fn generate(args: &GenerateArgs) -> anyhow::Result<()> {
    let sampling = sampling(&args.sampling)?;
    let questions = match (&args.prompts, &args.prompt) {
        (Some(path), _) => read_questions(path)?,
        (None, prompt) => prompt.iter().cloned().collect(),
    };
    let model = Loading::from_args(&args.model)?;
    let prompt = |question: &String| {
        if args.raw { raw(&model, question) } else { render(&model, &conversation(&args.sampling, question)) }
    };
    let prompts: Vec<Vec<u32>> = questions.iter().map(prompt).collect::<Result<_, TrainError>>()?;
    if args.prompts.is_none() && !args.json {
        print_answer(&model, &prompts, sampling)?;
        return Ok(());
    }
    let (mut answers, mut new_tokens) = (Vec::new(), 0);
    let eos = model.base.tokenizer.eos_token_ids();
    let started = Instant::now();
    for batch in prompts.chunks(usize::from(args.batch_size)) {
        for generated in continue_prompts(&model.decoder, batch, sampling, eos, &model.device, |_, _| true) {
            new_tokens += generated.ids.len();
            answers.push(model.base.tokenizer.decode(&generated.ids, true).map_err(TrainError::from)?);
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    if args.json {
        let report = json!({ "new_tokens": new_tokens, "seconds": seconds, "answers": answers });
        output::json(&report)?;
    } else {
        for (question, answer) in questions.iter().zip(&answers) {
            anstream::println!("{}\n{answer}\n", question.dimmed());
        }
    }
    Ok(())
}

/// The questions of a file.
fn read_questions(path: &Path) -> Result<Vec<String>, TrainError> {
    let text = fs::read_to_string(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
    let questions: Vec<String> = serde_json::from_str(&text)
        .map_err(|e| TrainError::Run(format!("{}: {e}; expected a JSON list of texts", path.display())))?;
    if questions.is_empty() {
        return Err(TrainError::Run(format!("{}: the list is empty, there is nothing to ask", path.display())));
    }
    Ok(questions)
}

/// A question with the conversation's start.
fn conversation(args: &SamplingArgs, question: &str) -> Vec<Message> {
    let mut messages = system(args);
    messages.push(Message { role: Role::User, content: question.to_owned() });
    messages
}

/// The tokens of a conversation that waits for an answer.
fn render(model: &Loading, messages: &[Message]) -> Result<Vec<u32>, TrainError> {
    let tokenizer = &model.base.tokenizer;
    if tokenizer.template().is_err() {
        return Err(TrainError::Run(format!(
            "{}: the model has no chat template, as is usual for base models; let it continue plain text with \
             `greffon generate --raw`, or name a run whose recipe sets data.chat_template",
            model.base.path().display()
        )));
    }
    checked(model, tokenizer.render_prompt(messages)?)
}

/// The tokens of a text that is to be continued as it stands.
fn raw(model: &Loading, text: &str) -> Result<Vec<u32>, TrainError> {
    let prompt = model.base.tokenizer.encode_document(text)?;
    if prompt.is_empty() {
        return Err(TrainError::Run("the prompt is empty, there is nothing to continue".to_owned()));
    }
    checked(model, prompt)
}

/// A prompt that the model has room for.
fn checked(model: &Loading, prompt: Vec<u32>) -> Result<Vec<u32>, TrainError> {
    let room = model.base.config.max_position_embeddings;
    if prompt.len() >= room {
        return Err(TrainError::Run(format!("the prompt has {} tokens, the model's limit is {room}", prompt.len())));
    }
    Ok(prompt)
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
    print_answer(model, &[render(model, messages)?], sampling)
}

/// Prints how the one prompt goes on, and returns it.
fn print_answer(model: &Loading, prompt: &[Vec<u32>], sampling: Sampling) -> anyhow::Result<String> {
    let tokenizer = &model.base.tokenizer;
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    let mut failure = None;
    continue_prompts(&model.decoder, prompt, sampling, tokenizer.eos_token_ids(), &model.device, |_, id| {
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
