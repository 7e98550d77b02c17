//! Questions that are answered by what the model finds probable.

use datasets::ChatTokenizer;
use datasets::probes::{LogLikelihood, ProbeItem};

use super::encode::Opening;
use super::{Asked, ItemScore};
use crate::error::TrainError;
use crate::eval::Subject;
use crate::eval::log_likelihood::{Request, Scored, Sequence, log_likelihoods};

/// Scores items, in order; `progress` is told how many are done.
pub(super) fn score(
    subject: &Subject<'_>,
    items: &[Asked<'_, LogLikelihood>],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<ItemScore>, TrainError> {
    let longest = subject.decoder.config.max_position_embeddings;
    let asked = requests(subject.tokenizer, longest, items.iter().map(|(_, question)| *question))?;
    let counts: Vec<usize> = asked.iter().map(Vec::len).collect();
    let requests = asked.concat();
    let total = requests.len();
    let scored = log_likelihoods(subject, &requests, &mut |done| {
        progress(if done == total { items.len() } else { done * items.len() / total })
    })?;
    let mut scored = scored.into_iter();
    Ok(items
        .iter()
        .zip(counts)
        .map(|((item, question), count)| judge(item, question, &scored.by_ref().take(count).collect::<Vec<_>>()))
        .collect())
}

/// The requests of each question to a model that reads `longest` tokens; a long text has several, one a window.
///
/// # Errors
/// When a text cannot be tokenised.
pub fn requests<'q>(
    tokenizer: &ChatTokenizer,
    longest: usize,
    questions: impl Iterator<Item = &'q LogLikelihood>,
) -> Result<Vec<Vec<Request>>, TrainError> {
    let opening = Opening::of(tokenizer)?;
    let requests = |question| {
        let mut requests = ask(tokenizer, longest, &opening, question)?;
        requests.iter_mut().flat_map(|request| &mut request.sequences).for_each(|sequence| sequence.cut(longest));
        Ok(requests)
    };
    questions.map(requests).collect()
}

fn ask(
    tokenizer: &ChatTokenizer,
    longest: usize,
    opening: &Opening,
    question: &LogLikelihood,
) -> Result<Vec<Request>, TrainError> {
    let pair = |context: &str, continuation: &str| opening.pair(tokenizer, context, continuation);
    let spaced = |text: &str| format!(" {text}");
    let sequences: Vec<Sequence> = match question {
        LogLikelihood::MultipleChoice { query, choices, .. } => {
            choices.iter().map(|choice| pair(query, &spaced(choice))).collect::<Result<_, _>>()?
        }
        LogLikelihood::Partial { contexts, continuation, .. } => {
            contexts.iter().map(|context| pair(context, &spaced(continuation))).collect::<Result<_, _>>()?
        }
        LogLikelihood::Pair { good, bad } => vec![pair("", &spaced(good))?, pair("", &spaced(bad))?],
        LogLikelihood::Cloze { context, target } => {
            return Ok(vec![Request { sequences: vec![pair(context, &spaced(target))?], greedy: true }]);
        }
        LogLikelihood::Text { text } => {
            let windows = opening.windows(tokenizer, text, longest)?;
            return Ok(windows.into_iter().map(|window| Request { sequences: vec![window], greedy: false }).collect());
        }
    };
    Ok(vec![Request { sequences, greedy: false }])
}

/// What the log-likelihoods say.
fn judge(item: &ProbeItem, question: &LogLikelihood, scored: &[Scored]) -> ItemScore {
    let score = |value, weight, other, answer: &str, log_likelihoods| ItemScore {
        id: item.id.clone(),
        value,
        weight,
        other,
        answer: answer.to_owned(),
        log_likelihoods,
    };
    let right = |is_right: bool| f64::from(u8::from(is_right));
    match question {
        LogLikelihood::Text { text } => {
            let sum: f64 = scored.iter().flat_map(|scored| &scored.sums).sum();
            let bytes = text.len() as f64;
            score(-sum / std::f64::consts::LN_2 / bytes, bytes, None, "", vec![sum])
        }
        LogLikelihood::Cloze { .. } => score(right(scored[0].greedy), 1.0, None, "", scored[0].sums.clone()),
        LogLikelihood::MultipleChoice { choices, gold, .. } => {
            let sums = &scored[0].sums;
            let per_character = sums.iter().zip(choices).map(|(sum, choice)| sum / choice.chars().count() as f64);
            let chosen = largest(per_character);
            let other = Some(right(largest(sums.iter().copied()) == *gold));
            score(right(chosen == *gold), 1.0, other, &choices[chosen], sums.clone())
        }
        LogLikelihood::Partial { contexts, gold, .. } => {
            let chosen = largest(scored[0].sums.iter().copied());
            score(right(chosen == *gold), 1.0, None, &contexts[chosen], scored[0].sums.clone())
        }
        LogLikelihood::Pair { good, bad } => {
            let chosen = largest(scored[0].sums.iter().copied());
            score(right(chosen == 0), 1.0, None, [good, bad][chosen], scored[0].sums.clone())
        }
    }
}

/// The first of the largest.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index, value);
        }
    }
    best.0
}
