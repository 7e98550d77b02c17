//! Whether the teacher mostly gives a sample's answer when it is asked its question again.
//!
//! Source: Wang et al. 2022, <https://arxiv.org/abs/2203.11171>.

use minijinja::context;

use super::is_asked_about;
use crate::error::DataError;
use crate::synth::config::ConsistencyConfig;
use crate::synth::method::{LINE_TOKENS, Task, Workshop, Written};
use crate::synth::sample::Sample;

pub(super) fn select(
    workshop: &mut Workshop<'_>,
    config: &ConsistencyConfig,
    samples: Vec<Sample>,
) -> Result<Vec<Sample>, DataError> {
    let asked: Vec<&Sample> = samples.iter().filter(|sample| is_asked_about(sample)).collect();
    let tasks: Vec<Task> = asked
        .iter()
        .flat_map(|sample| (0..config.answers).map(move |number| (*sample, number)))
        .map(|(sample, number)| {
            let (prompt, values) = match &sample.grounding {
                Some(grounding) => (
                    "answer",
                    context! { context => grounding.context.as_str(), question => grounding.question.as_str() },
                ),
                None => ("respond", context! { instruction => sample.question() }),
            };
            Task {
                prompt,
                values,
                lang: sample.lang_or_told(),
                temperature: config.temperature,
                max_tokens: LINE_TOKENS.max(2 * sample.answer().chars().count()),
                seed: workshop.config.seed.wrapping_add(number as u64),
            }
        })
        .collect();
    let written = workshop.write("answers once more", &tasks)?;
    let mut answers = written.chunks(config.answers);
    let mut kept = Vec::new();
    for mut sample in samples {
        if !is_asked_about(&sample) {
            kept.push(sample);
            continue;
        }
        let answers = answers.next().unwrap_or_default();
        if answers.iter().all(Option::is_none) {
            workshop.rejected.add("not answered when asked again", sample.question());
            continue;
        }
        let agrees = |answer: &&Written| answer.agreement(sample.answer()) >= config.f1;
        let agreeing = answers.iter().flatten().filter(agrees).count();
        if agreeing as f64 >= config.share * config.answers as f64 {
            sample.provenance.filters.push("consistency".to_owned());
            sample.provenance.answers.extend(answers.iter().flatten().map(|answer| answer.key.clone()));
            kept.push(sample);
        } else {
            let note = format!("{} {} ({agreeing} of {} agree)", sample.question(), sample.answer(), config.answers);
            workshop.rejected.add("the teacher mostly answers otherwise", &note);
        }
    }
    Ok(kept)
}
