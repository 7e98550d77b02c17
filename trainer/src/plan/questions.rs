//! What a run's questions go through: the passes over what is scored, and the answers that are written.

use datasets::ChatTokenizer;
use datasets::probes::Question;

use super::workload::Shape;
use crate::error::TrainError;
use crate::eval::log_likelihood::passes;
use crate::eval::tasks;
use crate::forgetting::{chat, divergence, suite};
use crate::recipe::ForgettingConfig;

/// Answers that are written together, token by token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answers {
    /// How many.
    pub sequences: usize,
    /// The most tokens of one.
    pub tokens: usize,
}

impl Answers {
    /// The batches of `count` answers.
    pub fn batches(count: usize, batch: usize, tokens: usize) -> Vec<Self> {
        let starts = (0..count).step_by(batch.max(1));
        starts.map(|start| Self { sequences: batch.max(1).min(count - start), tokens }).collect()
    }
}

/// The measurements of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// The forward passes over what one model scores.
    pub passes: Vec<Shape>,
    /// The texts on which both models are compared token by token.
    pub texts: Vec<Shape>,
    /// What one model writes.
    pub answers: Vec<Answers>,
    /// Measurements in the run.
    pub measurements: u64,
}

impl Questions {
    /// Those of a recipe's `forgetting` section in a run of so many steps, for a model that reads `longest` tokens.
    ///
    /// # Errors
    /// The first line of a file that is no question; a text that cannot be tokenised.
    pub fn new(
        config: &ForgettingConfig,
        tokenizer: &ChatTokenizer,
        longest: usize,
        steps: u64,
    ) -> Result<Self, TrainError> {
        if !config.is_measured() {
            return Ok(Self::default());
        }
        let questions = suite::Questions::open(config)?;
        let items = || questions.items.iter().map(|item| &item.question);
        let likely = items().filter_map(|question| match question {
            Question::LogLikelihood(question) => Some(question),
            Question::Generation(_) => None,
        });
        let requests = tasks::requests(tokenizer, longest, likely)?.concat();
        let pass = |pass: Vec<usize>| Shape {
            sequences: pass.iter().map(|index| requests[*index].tokens().into()).collect(),
            supervised: pass.iter().map(|index| requests[*index].scored()).sum(),
            ..Shape::default()
        };
        let text = |text: &str| -> Result<Shape, TrainError> {
            let tokens = tokenizer.encode_document(text)?.len().min(longest).min(divergence::LONGEST);
            Ok(Shape { divergence: true, ..Shape::alone(&[tokens], tokens) })
        };
        let written = items().filter(|question| matches!(question, Question::Generation(_))).count();
        let turns = if tokenizer.template().is_ok() { questions.chat.len() } else { 0 };
        let of_tasks = Answers::batches(written, tasks::BATCH, tasks::MAX_NEW_TOKENS);
        let of_chat = Answers::batches(turns, chat::BATCH, chat::MAX_NEW_TOKENS);
        // Those during the training, and one at its end.
        let measurements = config.every.map_or(0, |every| steps.saturating_sub(1) / every.max(1)) + 1;
        Ok(Self {
            passes: passes(&requests).into_iter().map(pass).collect(),
            texts: items().filter_map(Question::text).map(text).collect::<Result<_, _>>()?,
            answers: [of_tasks, of_chat].concat(),
            measurements,
        })
    }
}
