//! Templates with ground truth: documents made from a schema, layouts and noise, with questions whose answers are known.
//!
//! Values are drawn (`draw`), printed within marks by a layout (`layout`, `marks`), spoiled (`noise`), and asked for
//! (`questions`): an answer is what stands between the marks, or that the document does not say. Each document follows from
//! the seed and its number alone.

pub mod config;
mod draw;
mod expression;
mod field;
mod layout;
mod marks;
mod noise;
mod questions;
mod reading;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use sha2::{Digest as _, Sha256};

use self::config::TemplateConfig;
use self::draw::{Drawing, Drawn};
use self::layout::Layout;
use self::marks::{Printed, unmarked};
use self::questions::{Question, Reply, is_field};
use self::schema::Schema;
use super::sample::{Grounding, Provenance, Sample, Span};
use crate::conversation::{Message, Role};
use crate::digest::hex;
use crate::error::{DataError, SynthError};
use crate::mixture::permutation;

/// A document without marks, and what it prints.
struct Made {
    text: String,
    printed: Vec<Printed>,
}

/// Makes documents and asks about them: `documents` times `questions_per_document` samples, those of document i the same
/// whatever their number.
///
/// # Errors
/// [`DataError::Config`] for a value out of range, [`SynthError::Schema`] and [`SynthError::Layout`] for what is wrong in
/// the files, with the key or the line.
pub fn make(config: &TemplateConfig, seed: u64) -> Result<Vec<Sample>, DataError> {
    config.validate("template")?;
    let schema = Schema::read(&config.schema)?;
    let asked = config.questions_per_document;
    if asked > schema.questions.len() {
        let expected = format!("at most {}, the questions of the schema", schema.questions.len());
        let key = "template.questions_per_document".to_owned();
        return Err(DataError::Config { key, got: asked.to_string(), expected });
    }
    try_layouts(&schema, seed)?;
    let mut samples = Vec::new();
    for document in 0..config.documents {
        samples.extend(samples_of(&schema, config, seed, document)?);
    }
    Ok(samples)
}

/// Prints the first document in every layout, with all values and with none that is asked for, so that a layout that
/// cannot is known before anything is made.
fn try_layouts(schema: &Schema, seed: u64) -> Result<(), DataError> {
    let drawing = Drawing::new(schema, seed, 0);
    let values = drawing.values()?;
    let without: BTreeSet<String> = schema.questions.iter().map(Question::withheld).collect();
    for layout in &schema.layouts.all {
        for withheld in [&BTreeSet::new(), &without] {
            let text = schema.layouts.render(layout, &values, withheld, drawing.stream("layout", &layout.version))?;
            unmark(layout, &text, &values)?;
        }
    }
    Ok(())
}

/// Takes the marks out of a text, and checks that they are of fields.
fn unmark(layout: &Layout, text: &str, values: &[(String, Drawn)]) -> Result<Made, DataError> {
    let bad = |problem: String| SynthError::Layout { path: layout.path.clone(), line: 1, problem };
    let (text, printed) = unmarked(text).map_err(|problem| bad(problem.to_owned()))?;
    if let Some(unknown) = printed.iter().find(|printed| !is_field(values, &printed.field)) {
        return Err(bad(format!("tells of {:?}, which is no field of the schema", unknown.field)).into());
    }
    if text.trim().is_empty() {
        return Err(bad("prints nothing, expected a text".to_owned()).into());
    }
    Ok(Made { text, printed })
}

/// A document and its questions.
fn samples_of(schema: &Schema, config: &TemplateConfig, seed: u64, document: usize) -> Result<Vec<Sample>, DataError> {
    let drawing = Drawing::new(schema, seed, document);
    let values = drawing.values()?;
    let mut draw = drawing.stream("withheld", "");
    let possible: BTreeSet<String> = schema.questions.iter().map(Question::withheld).collect();
    let withheld: BTreeSet<String> = possible.into_iter().filter(|_| draw.share() < config.omit).collect();
    let layouts = &schema.layouts;
    let layout = &layouts.all[drawing.stream("choice of layout", "").below(layouts.all.len())];
    let text = layouts.render(layout, &values, &withheld, drawing.stream("layout", ""))?;
    let text = noise::spoil(text, &config.noise, |mode| drawing.stream("noise", mode));
    let made = unmark(layout, &text, &values)?;
    let order = permutation(schema.questions.len(), seed, document as u64);
    let mut samples = Vec::with_capacity(config.questions_per_document);
    for index in order.into_iter().take(config.questions_per_document) {
        let question = &schema.questions[index];
        let asked = &question.ask[drawing.stream("phrasing", &index.to_string()).below(question.ask.len())];
        let reply = question.reply(&values, &made.text, &made.printed);
        let absent = question.absent.as_ref().unwrap_or(&schema.head.absent);
        let (answer, span) = match reply {
            Reply::Span(span) => (span.text.clone(), Some(span)),
            Reply::Derived(value) => (value, None),
            Reply::Absent => (absent.clone(), None),
        };
        let grounding = grounding(schema, document, &made.text, asked, span);
        let provenance = Provenance::by_program("template", layout.version.clone(), seed);
        let messages = messages(schema, &made.text, asked, answer);
        let lang = Some(schema.head.lang.clone());
        samples.push(Sample { lang, ..Sample::new(messages, Some(grounding), provenance) });
    }
    Ok(samples)
}

fn grounding(schema: &Schema, document: usize, text: &str, question: &str, answer: Option<Span>) -> Grounding {
    Grounding {
        document: format!("{}-{document:06}", schema.head.name),
        document_sha256: hex(&Sha256::digest(text)),
        url: None,
        licence: schema.head.licence.clone(),
        context: text.to_owned(),
        context_start: 0,
        question: question.to_owned(),
        answer,
    }
}

fn messages(schema: &Schema, text: &str, question: &str, answer: String) -> Vec<Message> {
    // The document is put in last, since it may hold braces.
    let user = schema.head.prompt.replace("{question}", question).replace("{context}", text);
    let turn = |role, content| Message { role, content };
    let system = schema.head.system.clone().map(|system| turn(Role::System, system));
    system.into_iter().chain([turn(Role::User, user), turn(Role::Assistant, answer)]).collect()
}
