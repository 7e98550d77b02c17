//! Questions about passages, whose answers are spans of them.
//!
//! An answer is chosen by rule, the teacher writes a question for it, then answers that question from the passage; where it
//! finds something else, the question is left out. Sources: Alberti et al. 2019, <https://arxiv.org/abs/1906.05416>
//! (roundtrip consistency); Lewis et al. 2021, <https://arxiv.org/abs/2102.07033>; unanswerable questions after Rajpurkar
//! et al. 2018, <https://arxiv.org/abs/1806.03822>.

use std::collections::HashSet;
use std::ops::Range;

use minijinja::context;

use super::spans::candidates;
use super::{LINE_TOKENS, Task, Workshop, Written, prompts};
use crate::conversation::{Message, Role};
use crate::error::DataError;
use crate::mixture::permutation;
use crate::probes::instructions::language_of;
use crate::synth::config::GroundedConfig;
use crate::synth::document::{Document, passages};
use crate::synth::sample::{Grounding, Sample, Span};

/// The least share of a question's longer words that its passage must have.
const LEAST_SHARED: f64 = 0.34;
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

    /// The sentence that has the answer: a small teacher asks about what it is shown, so it is shown no more.
    fn sentence(&self) -> &str {
        let inside = self.answer.start - self.passage.start..self.answer.end - self.passage.start;
        &self.context()[sentence(self.context(), inside)]
    }

    fn answer(&self) -> &str {
        &self.document.text[self.answer.clone()]
    }
}

/// A question to an answer, with the keys of what it is made of.
type Question<'a> = (&'a Asked<'a>, String, Vec<String>);

/// Makes the samples of one step.
pub(super) fn make(workshop: &mut Workshop<'_>, config: &GroundedConfig) -> Result<Vec<Sample>, DataError> {
    let asked = choose(workshop, config);
    let tasks: Vec<Task> = asked
        .iter()
        .map(|asked| Task {
            prompt: "question",
            values: context! { context => asked.sentence(), answer => asked.answer() },
            lang: asked.lang.clone(),
            temperature: config.temperature,
            max_tokens: LINE_TOKENS,
            seed: asked.seed,
        })
        .collect();
    let written = workshop.write("questions", &tasks)?;
    let mut questions: Vec<Question<'_>> = Vec::new();
    for (asked, written) in asked.iter().zip(written) {
        let Some(written) = written else { continue };
        match question(&written, asked) {
            Ok(question) => questions.push((asked, question, vec![written.key])),
            Err(reason) => workshop.rejected.add(reason, &written.text),
        }
    }
    if let Some(least) = config.roundtrip {
        questions = found_again(workshop, questions, least)?;
    }
    let others = elsewhere(workshop, config, &questions);
    let mut samples: Vec<Sample> = questions
        .iter()
        .map(|(asked, question, keys)| sample(workshop, config, (asked, true), question, asked, keys.clone()))
        .collect();
    samples.extend(others);
    Ok(samples)
}

/// The questions whose answer the teacher finds when it is asked them.
fn found_again<'a>(
    workshop: &mut Workshop<'_>,
    questions: Vec<Question<'a>>,
    least: f64,
) -> Result<Vec<Question<'a>>, DataError> {
    let tasks: Vec<Task> = questions
        .iter()
        .map(|(asked, question, _)| Task {
            prompt: "answer",
            values: context! { context => asked.context(), question },
            lang: asked.lang.clone(),
            temperature: 0.0,
            max_tokens: LINE_TOKENS,
            seed: 0,
        })
        .collect();
    let written = workshop.write("answers to the questions", &tasks)?;
    let mut kept = Vec::new();
    for ((asked, question, mut keys), written) in questions.into_iter().zip(written) {
        let Some(written) = written else { continue };
        if written.agreement(asked.answer()) < least {
            let note = format!("{question} {} / {}", asked.answer(), written.text.trim());
            workshop.rejected.add("answered otherwise when asked again", &note);
            continue;
        }
        keys.push(written.key);
        kept.push((asked, question, keys));
    }
    Ok(kept)
}

/// Some of the questions, put to a passage of another document that does not have their answer.
fn elsewhere(workshop: &Workshop<'_>, config: &GroundedConfig, questions: &[Question<'_>]) -> Vec<Sample> {
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
fn question(written: &Written, asked: &Asked<'_>) -> Result<String, &'static str> {
    let line = written.line();
    if !line.ends_with('?') {
        return Err("no question");
    }
    if line.to_lowercase().contains(&asked.answer().to_lowercase()) {
        return Err("the question has the answer in it");
    }
    if shared_words(line, asked.context()) < LEAST_SHARED {
        return Err("asks about something else");
    }
    Ok(line.to_owned())
}

/// The share of a question's longer words that its passage has, by their beginnings, since their endings may differ.
fn shared_words(question: &str, passage: &str) -> f64 {
    const BEGINNING: usize = 5;
    let beginnings = |text: &str| -> HashSet<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.chars().count() >= BEGINNING);
        words.map(|word| word.to_lowercase().chars().take(BEGINNING).collect()).collect()
    };
    let asked = beginnings(question);
    // Of short words alone it cannot be told.
    if asked.is_empty() {
        return 1.0;
    }
    let said = beginnings(passage);
    asked.intersection(&said).count() as f64 / asked.len() as f64
}

/// The sentence that holds a part of a text; a line ends one too.
fn sentence(text: &str, part: Range<usize>) -> Range<usize> {
    let is_end = |(at, c): &(usize, char)| match c {
        '\n' => true,
        '.' | '!' | '?' => text[at + 1..].starts_with([' ', '\n', '\u{a0}', '»']) || at + 1 == text.len(),
        _ => false,
    };
    let start = text[..part.start].char_indices().rfind(is_end).map_or(0, |(at, c)| at + c.len_utf8());
    let end = text[part.end..].char_indices().map(|(at, c)| (part.end + at, c)).find(is_end);
    let end = end.map_or(text.len(), |(at, c)| at + c.len_utf8());
    let lead = text[start..end].len() - text[start..end].trim_start().len();
    (start + lead).min(part.start)..end.max(part.end)
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
    let provenance = workshop.provenance("grounded", prompts::version("question"), own.seed, keys);
    let lang = Some(own.lang.clone()).filter(|lang| !lang.is_empty());
    Sample { lang, ..Sample::new(messages, Some(grounding), provenance) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sentence_of_an_answer_is_shown() {
        let text = "Elle compte 3.5 millions. Le pont date de 1934 !\nLes rives ont des castors";
        let around = |part: &str| {
            let start = text.find(part).unwrap();
            &text[sentence(text, start..start + part.len())]
        };
        assert_eq!(around("3.5"), "Elle compte 3.5 millions.");
        assert_eq!(around("1934"), "Le pont date de 1934 !");
        assert_eq!(around("castors"), "Les rives ont des castors");
        assert_eq!(around("Elle compte 3.5 millions. Le"), "Elle compte 3.5 millions. Le pont date de 1934 !");
    }

    #[test]
    fn a_question_about_something_else_is_known_by_its_words() {
        let passage = "Le massif est traversé par la Luye, une rivière longue de 22 km.";
        assert!(shared_words("Quelle rivière traverse le massif ?", passage) > 0.6);
        assert!(shared_words("Quel document faut-il présenter ?", passage) < LEAST_SHARED);
        assert!(shared_words("Où est-il ?", passage) >= LEAST_SHARED);
    }
}
