//! Samples in another language.
//!
//! Sources: Li et al. 2023, <https://arxiv.org/abs/2305.15011> (instructions and answers); Lewis et al. 2020,
//! <https://arxiv.org/abs/1910.07475> (questions in one language about texts in another).

use minijinja::context;

use super::written::{Written, numbers};
use super::{Task, Workshop, prompts};
use crate::error::DataError;
use crate::probes::instructions::language_of;
use crate::synth::config::TranslateConfig;
use crate::synth::sample::{Provenance, Sample};

/// The most tokens of a translation, for each character of the text: no language needs more than one for two.
const TOKENS_PER_CHARACTER: f64 = 0.75;

/// Makes the samples of one step.
pub(super) fn make(
    workshop: &mut Workshop<'_>,
    config: &TranslateConfig,
    start: &[Sample],
) -> Result<Vec<Sample>, DataError> {
    let each: Vec<&Sample> = start.iter().filter(|sample| sample.lang_or_told() != config.to).collect();
    let task = |text: &str| {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length")]
        let longest = (text.chars().count() as f64 * TOKENS_PER_CHARACTER) as usize;
        Task {
            prompt: "translate",
            values: context! { text },
            lang: config.to.clone(),
            temperature: 0.0,
            max_tokens: longest.max(super::LINE_TOKENS),
            seed: workshop.config.seed,
        }
    };
    let questions: Vec<Task> = each.iter().map(|sample| task(sample.question())).collect();
    // The answer to a question about a passage is a span of it, and stays.
    let free: Vec<&Sample> = each.iter().copied().filter(|sample| sample.grounding.is_none()).collect();
    let answers: Vec<Task> = free.iter().map(|sample| task(sample.answer())).collect();
    let questions = workshop.write("translations of questions", &questions)?;
    let mut answers = workshop.write("translations of answers", &answers)?.into_iter();
    let mut made = Vec::new();
    for (sample, question) in each.into_iter().zip(questions) {
        let answer = if sample.grounding.is_none() { answers.next() } else { None };
        let Some(question) = question else { continue };
        let mut keys = vec![question.key.clone()];
        let mut pairs = vec![(sample.question(), question.line().to_owned())];
        match &answer {
            Some(None) => continue,
            Some(Some(Written { text, key })) => {
                keys.push(key.clone());
                pairs.push((sample.answer(), text.trim().to_owned()));
            }
            None => {}
        }
        let foreign = |text: &str| language_of(text).is_some_and(|found| found != config.to);
        let same = |from: &str, to: &str| from == to && from.split_whitespace().nth(2).is_some();
        let reason = if pairs.iter().any(|(from, to)| to.is_empty() || foreign(to) || same(from, to)) {
            "not translated"
        } else if pairs.iter().any(|(from, to)| numbers(from) != numbers(to)) {
            "other numbers"
        } else {
            let (version, parents) = (prompts::version("translate"), sample.line());
            let provenance = workshop.provenance("translate", version, workshop.config.seed, keys);
            let mut other = sample.asked_as(&pairs[0].1, Provenance { parents, ..provenance });
            if let Some((_, answer)) = pairs.get(1) {
                other = other.answered_as(answer);
            }
            other.lang = Some(config.to.clone());
            made.push(other);
            continue;
        };
        let shown: Vec<String> = pairs.iter().map(|(from, to)| format!("{from} / {to}")).collect();
        workshop.rejected.add(reason, &shown.join(" | "));
    }
    Ok(made)
}
