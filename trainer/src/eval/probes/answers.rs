//! Asks the last question of each conversation and compares the answer with the accepted ones.

use datasets::Conversation;
use datasets::probes::{exact_match, f1};

use crate::cluster::spread;
use crate::error::TrainError;
use crate::eval::evaluation::EXACT_MATCH;
use crate::eval::{Findings, Probe, Score, Subject};
use crate::model::generate::Sampling;
use crate::recipe::EvalConfig;

/// Generation with exact match and token F1.
#[derive(Clone, Debug)]
pub struct Answers {
    sampling: Sampling,
    batch_size: usize,
}

impl Answers {
    /// As the recipe's `eval` section says.
    pub fn new(eval: &EvalConfig) -> Self {
        let sampling = Sampling { temperature: eval.temperature, ..Sampling::greedy(eval.max_new_tokens) };
        Self { sampling, batch_size: eval.batch_size }
    }
}

impl Probe for Answers {
    fn name(&self) -> &'static str {
        "answers"
    }

    fn run(
        &self,
        subject: &Subject<'_>,
        conversations: &[Conversation],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Findings, TrainError> {
        let answers: Vec<String> = spread(subject.collective, conversations, |conversations| {
            let prompts = conversations
                .iter()
                .map(|c| subject.tokenizer.render_prompt(&c.messages[..c.messages.len() - 1]))
                .collect::<Result<Vec<Vec<u32>>, _>>()?;
            // Those that begin alike come into one batch, which computes their beginning once.
            let mut order: Vec<usize> = (0..prompts.len()).collect();
            order.sort_by(|&a, &b| prompts[a].cmp(&prompts[b]));
            let mut answers = vec![String::new(); prompts.len()];
            for (number, chunk) in order.chunks(self.batch_size).enumerate() {
                let asked: Vec<Vec<u32>> = chunk.iter().map(|&index| prompts[index].clone()).collect();
                for (&index, answer) in chunk.iter().zip(subject.answers(&asked, self.sampling)?) {
                    answers[index] = answer.text;
                }
                progress(number * self.batch_size + chunk.len());
            }
            Ok(answers)
        })?;
        Ok(scored(conversations, answers))
    }
}

/// How good these answers are, one for each conversation.
pub fn scored(conversations: &[Conversation], answers: Vec<String>) -> Findings {
    let score = |metric, measure: fn(&str, &[String]) -> f64| Score {
        metric,
        items: conversations.iter().zip(&answers).map(|(c, a)| measure(a, &accepted(c))).collect(),
        weights: vec![1.0; conversations.len()],
        higher_is_better: true,
        is_share: true,
    };
    let scores = vec![score(EXACT_MATCH, exact_match), score("token F1", f1)];
    Findings { scores, answers }
}

/// The last turn and the further references.
fn accepted(conversation: &Conversation) -> Vec<String> {
    conversation
        .messages
        .last()
        .map(|m| m.content.clone())
        .into_iter()
        .chain(conversation.references.iter().cloned())
        .collect()
}
