//! Questions about passages, whose answers are spans of them.
//!
//! An answer is chosen by rule, the teacher writes a question for it, then answers that question from the passage; where it
//! finds something else, the question is left out. Sources: Alberti et al. 2019, <https://arxiv.org/abs/1906.05416>
//! (roundtrip consistency); Lewis et al. 2021, <https://arxiv.org/abs/2102.07033>; unanswerable questions after Rajpurkar
//! et al. 2018, <https://arxiv.org/abs/1806.03822>.

use std::ops::Range;

use minijinja::context;

use super::prompts::{examples, render};
use super::spans::candidates;
use super::{Workshop, Written};
use crate::conversation::{Message, Role};
use crate::error::DataError;
use crate::mixture::permutation;
use crate::probes::instructions::language_of;
use crate::probes::{exact_match, f1};
use crate::synth::config::{GroundedConfig, Style};
use crate::synth::document::{Document, passages};
use crate::synth::sample::{Grounding, Sample, Span};
use crate::synth::teacher::ask::Early;

/// The most tokens of a question.
const QUESTION_TOKENS: usize = 64;
/// The most tokens of an answer when the teacher is asked again.
const ANSWER_TOKENS: usize = 48;
/// Answers in the languages of the program's prompts where a passage has none.
const NO_ANSWER: [(&str, &str); 2] = [("fr", "Information absente du document"), ("en", "Not in the document")];

/// An answer in a passage, for which a question is asked.
struct Asked<'a> {
    document: &'a Document,
    passage: Range<usize>,
    answer: Range<usize>,
    lang: String,
    seed: u64,
}

impl Asked<'_> {
    fn context(&self) -> &str {
        &self.document.text[self.passage.clone()]
    }

    fn answer(&self) -> &str {
        &self.document.text[self.answer.clone()]
    }
}

/// Makes the samples of one step.
pub(super) fn make(
    workshop: &mut Workshop<'_>,
    config: &GroundedConfig,
) -> Result<(Vec<Sample>, Option<Early>), DataError> {
    let asked = choose(workshop, config);
    let style = if workshop.config.teacher.style == Style::Chat { "chat" } else { "completion" };
    let requests: Vec<_> = asked
        .iter()
        .map(|asked| {
            let Asked { lang, seed, .. } = asked;
            let values = context! {
                style, lang, examples => examples(lang), context => asked.context(), answer => asked.answer(),
            };
            workshop.request(render("question", values), config.temperature, QUESTION_TOKENS, *seed)
        })
        .collect();
    let (written, mut early) = workshop.ask("questions", &requests)?;
    let mut questions: Vec<(&Asked<'_>, String, Vec<String>)> = Vec::new();
    for (asked, written) in asked.iter().zip(written) {
        let Some(Written { text, key }) = written else { continue };
        match question(&text, asked.answer()) {
            Ok(question) => questions.push((asked, question, vec![key])),
            Err(reason) => workshop.rejected.add(reason, &text),
        }
    }
    if let Some(least) = config.roundtrip {
        let requests: Vec<_> = questions
            .iter()
            .map(|(asked, question, _)| {
                let lang = &asked.lang;
                let values = context! { style, lang, examples => examples(lang), context => asked.context(), question };
                workshop.request(render("answer", values), 0.0, ANSWER_TOKENS, 0)
            })
            .collect();
        let (written, ended) = workshop.ask("answers to the questions", &requests)?;
        early = early.or(ended);
        let mut kept = Vec::new();
        for ((asked, question, mut keys), written) in questions.into_iter().zip(written) {
            let Some(Written { text, key }) = written else { continue };
            let expected = [asked.answer().to_owned()];
            if f1(text.trim(), &expected).max(exact_match(text.trim(), &expected)) < least {
                let note = format!("{question} {} / {}", asked.answer(), text.trim());
                workshop.rejected.add("answered otherwise when asked again", &note);
                continue;
            }
            keys.push(key);
            kept.push((asked, question, keys));
        }
        questions = kept;
    }
    let others = elsewhere(workshop, config, &questions);
    let mut samples: Vec<Sample> = questions
        .iter()
        .map(|(asked, question, keys)| sample(workshop, config, (asked, true), question, asked, keys.clone()))
        .collect();
    samples.extend(others);
    Ok((samples, early))
}

/// Some of the questions, put to a passage of another document that does not have their answer.
fn elsewhere(
    workshop: &Workshop<'_>,
    config: &GroundedConfig,
    questions: &[(&Asked<'_>, String, Vec<String>)],
) -> Vec<Sample> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count")]
    let count = (questions.len() as f64 * config.unanswerable).round() as usize;
    let drawn = permutation(questions.len(), workshop.config.seed, 1).into_iter().take(count);
    let put = |index: usize| {
        let (own, question, keys) = &questions[index];
        let mut others = questions.iter().cycle().skip(index + 1).take(questions.len());
        let (other, ..) = others
            .find(|(other, ..)| other.document.id != own.document.id && !other.context().contains(own.answer()))?;
        Some(sample(workshop, config, (other, false), question, own, keys.clone()))
    };
    drawn.filter_map(put).collect()
}

/// Passages and answers, drawn by the recipe's seed.
fn choose<'a>(workshop: &Workshop<'a>, config: &GroundedConfig) -> Vec<Asked<'a>> {
    let documents = workshop.documents;
    let mut all: Vec<(&Document, Range<usize>)> = Vec::new();
    for document in documents {
        let found = passages(&document.text, config.passage_tokens, workshop.count_tokens);
        all.extend(found.into_iter().map(|passage| (document, passage)));
    }
    let seed = workshop.config.seed;
    let drawn = permutation(all.len(), seed, 0).into_iter().take(config.passages.unwrap_or(usize::MAX));
    let mut asked = Vec::new();
    for index in drawn {
        let (document, passage) = &all[index];
        let text = &document.text[passage.clone()];
        let lang = document.lang.clone().or_else(|| language_of(text).map(str::to_owned)).unwrap_or_default();
        // One of each kind in turn, so that not all answers are years.
        let mut kinds = candidates(text);
        for (number, kind) in kinds.iter_mut().enumerate() {
            let order = permutation(kind.len(), seed.wrapping_add(number as u64), index as u64);
            *kind = order.into_iter().map(|place| kind[place].clone()).collect();
        }
        let turns = permutation(kinds.len(), seed, index as u64 + 2);
        let longest = kinds.iter().map(Vec::len).max().unwrap_or(0);
        let in_turn = (0..longest).flat_map(|round| turns.iter().map(move |kind| (*kind, round)));
        let spans = in_turn.filter_map(|(kind, round)| kinds[kind].get(round)).take(config.per_passage);
        asked.extend(spans.enumerate().map(|(number, span)| Asked {
            document,
            passage: passage.clone(),
            answer: passage.start + span.start..passage.start + span.end,
            lang: lang.clone(),
            seed: seed.wrapping_add((index * config.per_passage + number) as u64),
        }));
    }
    asked
}

/// The question in what the teacher wrote; why there is none.
fn question(text: &str, answer: &str) -> Result<String, &'static str> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | ')' | '-' | '*' | ' '));
    let line = line.strip_prefix("Question").map_or(line, |rest| rest.trim_start_matches([' ', ':', '\u{a0}']));
    let line = line.trim_matches(['"', '«', '»', '*', ' ', '\u{a0}']);
    if !line.ends_with('?') {
        return Err("no question");
    }
    if line.to_lowercase().contains(&answer.to_lowercase()) {
        return Err("the question has the answer in it");
    }
    Ok(line.to_owned())
}

/// A sample whose question is put to the passage of `place`, which answers it or not; it was written for that of `own`.
fn sample(
    workshop: &Workshop<'_>,
    config: &GroundedConfig,
    (place, is_answered): (&Asked<'_>, bool),
    question: &str,
    own: &Asked<'_>,
    keys: Vec<String>,
) -> Sample {
    let no_answer = || {
        let found = NO_ANSWER.iter().find(|(lang, _)| *lang == own.lang).unwrap_or(&NO_ANSWER[1]);
        config.no_answer.clone().unwrap_or_else(|| found.1.to_owned())
    };
    let span = is_answered.then(|| {
        let before = &place.document.text[place.passage.start..place.answer.start];
        Span { text: place.answer().to_owned(), answer_start: before.chars().count() }
    });
    let user = config.prompt.replace("{question}", question).replace("{context}", place.context());
    let content = span.as_ref().map_or_else(no_answer, |span| span.text.clone());
    let messages = vec![Message { role: Role::User, content: user }, Message { role: Role::Assistant, content }];
    let Document { id, sha256, url, licence, .. } = place.document;
    let grounding = Grounding {
        document: id.clone(),
        document_sha256: sha256.clone(),
        url: url.clone(),
        licence: licence.clone(),
        context: place.context().to_owned(),
        context_start: place.passage.start,
        question: question.to_owned(),
        answer: span,
    };
    let provenance = workshop.provenance("grounded", "question", own.seed, keys);
    let lang = Some(own.lang.clone()).filter(|lang| !lang.is_empty());
    Sample { lang, ..Sample::new(messages, Some(grounding), provenance) }
}
