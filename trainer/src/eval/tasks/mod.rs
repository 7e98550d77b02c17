//! What a model scores on tasks, item by item, so that two models can be compared in pairs.
//!
//! Source of the definitions: lm-evaluation-harness, `api/task.py` and `models/huggingface.py`. **The one place to add a
//! kind of question** is here and in [`datasets::probes`].

mod encode;
mod generated;
mod likelihood;

pub use generated::{BATCH, MAX_NEW_TOKENS, answers};
pub use likelihood::requests;

use datasets::probes::{Check, Compare, Generation, LogLikelihood, ProbeItem, Question};
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::cluster::spread;
use crate::error::TrainError;

/// What a task measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// The share of right answers, 0 to 1. Choices are judged by their log-likelihood per character.
    Accuracy,
    /// The mean F1 of the words, 0 to 1.
    F1,
    /// The bits that a byte of text takes; less is better.
    BitsPerByte,
}

/// A model's answer to one item.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ItemScore {
    /// The item's name.
    pub id: String,
    /// By the task's measure.
    pub value: f64,
    /// Its weight in the mean: the bytes of a text, else 1.
    pub weight: f64,
    /// The value by the kind's other definition: choices by their plain sums, instructions read loosely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<f64>,
    /// What was chosen or written; empty for a text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub answer: String,
    /// The summed log-probability of each alternative, in nats; one for a cloze or a text, none for what is generated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub log_likelihoods: Vec<f64>,
}

/// An item, and its question as one of the way it is answered.
type Asked<'a, Q> = (&'a ProbeItem, &'a Q);

/// What a model scored on one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskScores {
    /// The task's name.
    pub task: String,
    /// What is measured.
    pub measure: Measure,
    /// The value of guessing.
    pub chance: f64,
    /// Item by item, in the order asked.
    pub items: Vec<ItemScore>,
}

impl TaskScores {
    /// The weighted mean over the items.
    pub fn mean(&self) -> f64 {
        let weight: f64 = self.items.iter().map(|item| item.weight).sum();
        self.items.iter().map(|item| item.value * item.weight).sum::<f64>() / weight
    }

    /// The mean by the kind's other definition, where it has one.
    pub fn other_mean(&self) -> Option<f64> {
        let values: Option<Vec<f64>> = self.items.iter().map(|item| item.other).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    }
}

/// Questions a model. Tasks come in the order of their first items; `progress` is told how many items are done and may
/// end the work.
///
/// # Errors
/// When a text cannot be tokenised; whatever `progress` ends the work with.
pub fn score(
    subject: &Subject<'_>,
    items: &[ProbeItem],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<TaskScores>, TrainError> {
    let scores = spread(subject.collective, items, |items| scores(subject, items, progress))?;
    Ok(by_task(items, scores))
}

/// Scores items, in order.
fn scores(
    subject: &Subject<'_>,
    items: &[ProbeItem],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<ItemScore>, TrainError> {
    let (mut likely, mut written) = (Vec::new(), Vec::new());
    for item in items {
        match &item.question {
            Question::LogLikelihood(question) => likely.push((item, question)),
            Question::Generation(question) => written.push((item, question)),
        }
    }
    let mut likely_scores = likelihood::score(subject, &likely, progress)?.into_iter();
    let mut after = |done| progress(likely.len() + done);
    let mut written_scores = generated::score(subject, &written, &mut after)?.into_iter();
    let scores = items.iter().filter_map(|item| match item.question {
        Question::LogLikelihood(_) => likely_scores.next(),
        Question::Generation(_) => written_scores.next(),
    });
    Ok(scores.collect())
}

fn by_task(items: &[ProbeItem], scores: Vec<ItemScore>) -> Vec<TaskScores> {
    let mut tasks: Vec<TaskScores> = Vec::new();
    let mut chances: Vec<f64> = Vec::new();
    for (item, score) in items.iter().zip(scores) {
        let place = tasks.iter().position(|task| task.task == item.task).unwrap_or_else(|| {
            let measure = measure(&item.question);
            tasks.push(TaskScores { task: item.task.clone(), measure, chance: 0.0, items: Vec::new() });
            chances.push(0.0);
            tasks.len() - 1
        });
        chances[place] += chance(&item.question);
        tasks[place].items.push(score);
    }
    for (task, chance) in tasks.iter_mut().zip(chances) {
        task.chance = chance / task.items.len() as f64;
    }
    tasks
}

/// What questions of a kind measure.
pub fn measure(question: &Question) -> Measure {
    match question {
        Question::LogLikelihood(LogLikelihood::Text { .. }) => Measure::BitsPerByte,
        Question::Generation(Generation { check: Check::Answers { compare: Compare::F1, .. }, .. }) => Measure::F1,
        _ => Measure::Accuracy,
    }
}

fn chance(question: &Question) -> f64 {
    match question {
        Question::LogLikelihood(
            LogLikelihood::MultipleChoice { choices: alternatives, .. }
            | LogLikelihood::Partial { contexts: alternatives, .. },
        ) => 1.0 / alternatives.len() as f64,
        Question::LogLikelihood(LogLikelihood::Pair { .. }) => 0.5,
        _ => 0.0,
    }
}
