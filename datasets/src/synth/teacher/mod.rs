//! Who writes the samples: a model behind an OpenAI-compatible interface ([`Endpoint`]), or any other engine that takes
//! requests, such as the trainer's own.
//!
//! A request and the teacher's identity say all that an answer follows from; their digest is the key under which the
//! [`Journal`] keeps it, so that nothing is asked twice. [`ask`](ask::ask) hands requests out.

pub mod ask;
mod budget;
mod endpoint;
mod journal;
mod pace;
mod round;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::conversation::Message;
use crate::digest::hex;

pub use budget::{Budget, Price, Spent};
pub use endpoint::Endpoint;
pub use journal::Journal;

/// What a teacher is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The text before the answer.
    pub prompt: Prompt,
    /// How the answer is drawn.
    pub sampling: Sampling,
}

/// The text before an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Prompt {
    /// A conversation whose next turn is the teacher's.
    Chat(Vec<Message>),
    /// Plain text that the teacher goes on with; for base models.
    Text(String),
}

impl Prompt {
    /// How many characters it has.
    pub fn characters(&self) -> usize {
        match self {
            Self::Chat(messages) => messages.iter().map(|message| message.content.chars().count()).sum(),
            Self::Text(text) => text.chars().count(),
        }
    }
}

/// How an answer is drawn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 takes the most probable token; above, logits are divided by it.
    pub temperature: f64,
    /// Keep the smallest set of tokens whose probabilities reach this sum, in `(0, 1]`.
    pub top_p: f64,
    /// The most tokens of the answer.
    pub max_tokens: usize,
    /// The seed of the draws.
    pub seed: u64,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
}

/// What a teacher wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// The teacher ended by itself; otherwise the limit did.
    pub finished: bool,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens written.
    pub completion_tokens: u64,
}

/// Which model it is that answers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its name.
    pub model: String,
    /// Its revision, where it is known.
    pub revision: Option<String>,
    /// Where it runs: an address, or `local`.
    pub at: String,
}

/// How a teacher wants to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hands {
    /// Threads of this process that ask at the same time; 0 where others do all the asking.
    pub threads: usize,
    /// Requests that one of them asks at once, at least 1.
    pub batch: usize,
    /// Whether the first batch goes alone: a key that is wrong is then refused once.
    pub first_alone: bool,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// This request cannot be answered; others may be.
    Request(String),
    /// No request can be answered: the key is refused, the server is gone.
    Teacher(String),
}

/// A model that answers.
pub trait Teacher: Sync {
    /// Which it is.
    fn identity(&self) -> &Identity;

    /// How it wants to be asked.
    fn hands(&self) -> Hands;

    /// What its chat template puts before a user's first turn, where that is known here.
    fn user_prefix(&self) -> Option<String> {
        None
    }

    /// Answers at most [`Hands::batch`] requests, in order.
    fn complete(&self, requests: &[&Request]) -> Vec<Result<Completion, Failure>>;
}

/// The key of an answer: SHA-256 over who is asked and what.
pub fn key(identity: &Identity, request: &Request) -> String {
    hex(&Sha256::digest(serde_json::json!([identity, request]).to_string()))
}
