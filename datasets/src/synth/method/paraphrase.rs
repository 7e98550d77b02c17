//! The same question in other words, or in another style; the answer stays.
//!
//! Source: Yu et al. 2023, <https://arxiv.org/abs/2309.12284> (rephrasing).

use minijinja::context;

use super::written::numbers;
use super::{LINE_TOKENS, Task, Workshop, prompts};
use crate::error::DataError;
use crate::mixture::permutation;
use crate::synth::config::ParaphraseConfig;
use crate::synth::sample::{Provenance, Sample};

/// Makes the samples of one step.
pub(super) fn make(
    workshop: &mut Workshop<'_>,
    config: &ParaphraseConfig,
    start: &[Sample],
) -> Result<Vec<Sample>, DataError> {
    let each: Vec<&Sample> = start.iter().flat_map(|sample| std::iter::repeat_n(sample, config.per_sample)).collect();
    let drawn = permutation(each.len(), workshop.config.seed, 4);
    let tasks: Vec<Task> = each
        .iter()
        .zip(drawn)
        .enumerate()
        .map(|(number, (sample, drawn))| {
            let manner = (!config.styles.is_empty()).then(|| config.styles[drawn % config.styles.len()].as_str());
            Task {
                prompt: "paraphrase",
                values: context! { question => sample.question(), manner },
                lang: sample.lang_or_told(),
                temperature: config.temperature,
                max_tokens: LINE_TOKENS,
                seed: workshop.config.seed.wrapping_add(number as u64),
            }
        })
        .collect();
    let written = workshop.write("other words", &tasks)?;
    let mut made = Vec::new();
    for ((sample, written), task) in each.into_iter().zip(written).zip(tasks) {
        let Some(written) = written else { continue };
        let (line, question) = (written.line(), sample.question());
        let answer = sample.grounding.as_ref().and_then(|grounding| grounding.answer.as_ref());
        let told = answer.is_some_and(|answer| {
            let lower = answer.text.to_lowercase();
            line.to_lowercase().contains(&lower) && !question.to_lowercase().contains(&lower)
        });
        let reason = if line.is_empty() || line.to_lowercase() == question.to_lowercase() {
            "the same words again"
        } else if line.ends_with('?') != question.trim_end().ends_with('?') {
            "no question"
        } else if numbers(line) != numbers(question) {
            "other numbers"
        } else if told {
            "the question has the answer in it"
        } else {
            let (version, parents) = (prompts::version("paraphrase"), sample.line());
            let provenance = workshop.provenance("paraphrase", version, task.seed, vec![written.key.clone()]);
            made.push(sample.asked_as(line, Provenance { parents, ..provenance }));
            continue;
        };
        workshop.rejected.add(reason, &format!("{question} / {line}"));
    }
    Ok(made)
}
