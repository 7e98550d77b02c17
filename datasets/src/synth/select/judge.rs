//! The teacher's grades of samples by a written grid, and its choice between a sample and the one it was made from.
//!
//! Sources: Zheng et al. 2023, <https://arxiv.org/abs/2306.05685> (grading, and pairs in both orders against the preference
//! for a place); Liu et al. 2023, <https://arxiv.org/abs/2303.16634> (criteria written out).

use std::collections::HashMap;

use minijinja::context;

use super::is_asked_about;
use crate::error::DataError;
use crate::synth::config::JudgeConfig;
use crate::synth::method::{LINE_TOKENS, Task, Workshop, numbers};
use crate::synth::sample::Sample;

pub(super) fn select(
    workshop: &mut Workshop<'_>,
    config: &JudgeConfig,
    samples: Vec<Sample>,
) -> Result<Vec<Sample>, DataError> {
    let graded = grade(workshop, config, samples)?;
    if config.pairwise { compare(workshop, graded) } else { Ok(graded) }
}

fn task(workshop: &Workshop<'_>, prompt: &'static str, sample: &Sample, values: minijinja::Value) -> Task {
    let (lang, seed) = (sample.lang_or_told(), workshop.config.seed);
    Task { prompt, values, lang, temperature: 0.0, max_tokens: LINE_TOKENS, seed }
}

fn grade(workshop: &mut Workshop<'_>, config: &JudgeConfig, samples: Vec<Sample>) -> Result<Vec<Sample>, DataError> {
    let asked = samples.iter().filter(|sample| is_asked_about(sample));
    let tasks: Vec<Task> = asked
        .map(|sample| {
            let passage = sample.grounding.as_ref().map(|grounding| grounding.context.as_str());
            let values = context! { context => passage, question => sample.question(), answer => sample.answer() };
            task(workshop, "judge", sample, values)
        })
        .collect();
    let mut grades = workshop.write("grades", &tasks)?.into_iter();
    let mut kept = Vec::new();
    for mut sample in samples {
        if !is_asked_about(&sample) {
            kept.push(sample);
            continue;
        }
        let Some(written) = grades.next().flatten() else { continue };
        let note = format!("{} {} ({})", sample.question(), sample.answer(), written.text.trim());
        match grades_in(&written.text) {
            None => workshop.rejected.add("the judge gave no grades", &note),
            Some((faithfulness, relevance)) => {
                if faithfulness < config.faithfulness {
                    workshop.rejected.add("not faithful, says the judge", &note);
                } else if relevance < config.relevance {
                    workshop.rejected.add("not relevant, says the judge", &note);
                } else {
                    sample.provenance.filters.push("judge".to_owned());
                    sample.provenance.answers.push(written.key);
                    kept.push(sample);
                }
            }
        }
    }
    Ok(kept)
}

/// Faithfulness and relevance: the first two numbers, both from 1 to 5.
fn grades_in(text: &str) -> Option<(u8, u8)> {
    let numbers = numbers(text);
    let grade = |index: usize| {
        let grade: u8 = numbers.get(index)?.parse().ok()?;
        (1..=5).contains(&grade).then_some(grade)
    };
    Some((grade(0)?, grade(1)?))
}

/// Leaves out what is worse than the sample that it was made from, whichever of the two is shown first.
fn compare(workshop: &mut Workshop<'_>, samples: Vec<Sample>) -> Result<Vec<Sample>, DataError> {
    let seeds = workshop.seeds;
    let by_id: HashMap<&str, &Sample> =
        samples.iter().chain(seeds).map(|sample| (sample.id.as_str(), sample)).collect();
    let parent = |sample: &Sample| {
        let is_another = ["evolve", "paraphrase", "translate"].contains(&sample.provenance.method.as_str());
        let last = sample.provenance.parents.last().filter(|_| is_another)?;
        by_id.get(last.as_str()).copied()
    };
    let shown = |sample: &Sample| format!("Question: {}\nAnswer: {}", sample.question(), sample.answer());
    let mut tasks = Vec::new();
    for (sample, parent) in samples.iter().filter_map(|sample| Some((sample, parent(sample)?))) {
        let (own, other) = (shown(sample), shown(parent));
        tasks.push(task(workshop, "compare", sample, context! { first => own.as_str(), second => other.as_str() }));
        tasks.push(task(workshop, "compare", sample, context! { first => other.as_str(), second => own.as_str() }));
    }
    let is_compared: Vec<bool> = samples.iter().map(|sample| parent(sample).is_some()).collect();
    let choices = workshop.write("choices between two", &tasks)?;
    let mut pairs = choices.chunks(2);
    let mut kept = Vec::new();
    for (mut sample, is_compared) in samples.into_iter().zip(is_compared) {
        if is_compared {
            let choices: Vec<Option<char>> = pairs
                .next()
                .unwrap_or_default()
                .iter()
                .map(|choice| choice.as_ref().and_then(|choice| choice.text.chars().find(|c| matches!(c, 'A' | 'B'))))
                .collect();
            if choices == [Some('B'), Some('A')] {
                workshop.rejected.add("worse than what it was made from, says the judge", &shown(&sample));
                continue;
            }
            sample.provenance.filters.push("pairwise".to_owned());
        }
        kept.push(sample);
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grades_are_the_first_two_numbers_from_1_to_5() {
        assert_eq!(grades_in("fidélité 5, pertinence 4"), Some((5, 4)));
        assert_eq!(grades_in(" 3, pertinence 1"), Some((3, 1)));
        assert_eq!(grades_in("Faithfulness: 5/5, relevance: 2/5"), Some((5, 5)));
        for text in ["", "good", "5", "9, 4", "0 et 5"] {
            assert_eq!(grades_in(text), None, "{text}");
        }
    }
}
