//! Instructions that given persons would write, then their answers.
//!
//! Source: Ge et al. 2024, <https://arxiv.org/abs/2406.20094>.

use minijinja::context;

use super::{LINE_TOKENS, Open, Task, Workshop};
use crate::error::{DataError, RecordError};
use crate::source::read_plain;
use crate::synth::config::PersonasConfig;
use crate::synth::sample::Sample;

/// Makes the samples of one step.
pub(super) fn make(workshop: &mut Workshop<'_>, config: &PersonasConfig) -> Result<Vec<Sample>, DataError> {
    let mut personas = config.personas.clone();
    if let Some(file) = &config.file {
        personas.extend(read_plain(file)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned));
    }
    if personas.is_empty() {
        let place = config.file.as_ref().map_or_else(String::new, |file| file.display().to_string());
        let problem = "names nobody, expected a person in a few words on each line".to_owned();
        return Err(RecordError::Document { place, problem }.into());
    }
    let tasks: Vec<Task> = personas
        .iter()
        .flat_map(|persona| std::iter::repeat_n(persona, config.per_persona))
        .enumerate()
        .map(|(number, persona)| Task {
            prompt: "persona",
            values: context! { persona, subject => config.subject.as_deref() },
            lang: config.lang.clone(),
            temperature: config.temperature,
            max_tokens: LINE_TOKENS,
            seed: workshop.config.seed.wrapping_add(number as u64),
        })
        .collect();
    let written = workshop.write("instructions", &tasks)?;
    let mut open = Vec::new();
    for (written, task) in written.into_iter().zip(tasks) {
        let Some(written) = written else { continue };
        let line = written.line();
        if line.split_whitespace().count() < 3 {
            workshop.rejected.add("no instruction", &written.text);
            continue;
        }
        open.push(Open::new(task, line, written.key.clone(), Vec::new()));
    }
    workshop.answer("personas", open, 0.0, config.max_tokens)
}
