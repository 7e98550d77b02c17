//! Questions whose answers are generated, then compared or checked.

use datasets::probes::instructions::loose_variants;
use datasets::probes::{Check, Compare, Generation, ProbeItem, exact_match, f1};
use datasets::{Message, Role};

use super::{Asked, ItemScore};
use crate::error::TrainError;
use crate::eval::{Answer, Subject};
use crate::model::generate::Sampling;

/// The most tokens of an answer.
pub const MAX_NEW_TOKENS: usize = 256;
/// Answers written at a time.
pub const BATCH: usize = 16;

/// Scores items, in order; `progress` is told how many are done.
pub(super) fn score(
    subject: &Subject<'_>,
    items: &[Asked<'_, Generation>],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<ItemScore>, TrainError> {
    let mut scores = Vec::with_capacity(items.len());
    for chunk in items.chunks(BATCH) {
        let prompts: Vec<&str> = chunk.iter().map(|(_, question)| question.prompt.as_str()).collect();
        let answers = answers(subject, &prompts, MAX_NEW_TOKENS)?;
        let judged =
            chunk.iter().zip(answers).map(|((item, question), answer)| judge(item, &question.check, answer.text));
        scores.extend(judged);
        progress(scores.len())?;
    }
    Ok(scores)
}

/// The model's greedy answers to a user's turns; to plain texts where it has no chat template.
///
/// # Errors
/// When a prompt cannot be rendered or tokenised.
pub fn answers(subject: &Subject<'_>, prompts: &[&str], max_new_tokens: usize) -> Result<Vec<Answer>, TrainError> {
    let tokenizer = subject.tokenizer;
    let encode = |prompt: &&str| match tokenizer.template() {
        Ok(_) => tokenizer.render_prompt(&[Message { role: Role::User, content: (*prompt).to_owned() }]),
        Err(_) => tokenizer.encode_document(&format!("{prompt}\n")),
    };
    let prompts = prompts.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    subject.answers(&prompts, Sampling::greedy(max_new_tokens))
}

fn judge(item: &ProbeItem, check: &Check, answer: String) -> ItemScore {
    let right = |is_right: bool| f64::from(u8::from(is_right));
    let (value, other) = match check {
        Check::Answers { answers, compare: Compare::Number } => {
            let got = last_number(&answer);
            let is_right = got.is_some_and(|got| answers.iter().any(|gold| last_number(gold) == Some(got)));
            (right(is_right), None)
        }
        Check::Answers { answers, compare: Compare::ExactMatch } => (exact_match(&answer, answers), None),
        Check::Answers { answers, compare: Compare::F1 } => (f1(&answer, answers), None),
        Check::Instructions(instructions) => {
            let strict = instructions.iter().all(|instruction| instruction.is_followed(&answer));
            let variants = loose_variants(&answer);
            // Each instruction may be kept by another variant.
            let loose = instructions.iter().all(|i| variants.iter().any(|variant| i.is_followed(variant)));
            (right(strict), Some(right(loose)))
        }
    };
    ItemScore { id: item.id.clone(), value, weight: 1.0, other, answer, log_likelihoods: Vec::new() }
}

/// The last number of a text, with its commas between thousands read over.
///
/// Source: lm-evaluation-harness, `tasks/gsm8k`, the filter `flexible-extract`.
fn last_number(text: &str) -> Option<f64> {
    let is_part = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    let mut rest = text;
    loop {
        let end = rest.rfind(|c: char| c.is_ascii_digit())? + 1;
        let start = rest[..end]
            .rfind(|c: char| !is_part(c))
            .map_or(0, |at| at + rest[at..].chars().next().map_or(1, char::len_utf8));
        let digits = rest[start..end].replace(',', "");
        let sign = if rest[..start].ends_with('-') { -1.0 } else { 1.0 };
        if let Ok(number) = digits.trim_start_matches('.').parse::<f64>() {
            return Some(sign * number);
        }
        rest = &rest[..start];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_counts() {
        for (text, number) in [
            ("so 3 + 4 = 7.", Some(7.0)),
            ("#### 1,250", Some(1250.0)),
            ("it is $18.50 a day", Some(18.5)),
            ("minus -4 degrees", Some(-4.0)),
            ("1.2.3", None),
            ("nothing", None),
            ("", None),
        ] {
            assert_eq!(last_number(text), number, "{text}");
        }
    }
}
