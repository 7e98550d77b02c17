//! The one form that every source is brought into: a list of messages with the place it came from.
//!
//! Sources produce [`Conversation`]s, templates render them, and errors quote their [`Origin`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::samples::Lineage;

/// Who speaks a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the dialogue.
    System,
    /// The person, or the program, that asks.
    User,
    /// The model. Only these messages are supervised.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, as plain text.
    pub content: String,
}

/// Where a conversation was read: `chat.jsonl:1042`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The file, as the recipe names it.
    pub path: Arc<Path>,
    /// The line on which the record begins, or the row of a Parquet file, counted from 1.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// A dialogue, ready for the chat template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The messages in order; at least one, and at least one of the assistant when used for training.
    pub messages: Vec<Message>,
    /// All accepted answers to the last question, the supervised one first (SQuAD lists several); empty
    /// for other sources.
    pub references: Vec<String>,
    /// The place the conversation was read from.
    pub origin: Origin,
    /// What its record says of where it comes from.
    pub lineage: Lineage,
    /// What else its record says in a word or a number, by key, such as `layout: 3`: what questions can be grouped by.
    pub labels: BTreeMap<String, String>,
}

impl Conversation {
    /// Puts a system message in front, unless the conversation has one.
    pub fn set_default_system(&mut self, prompt: &str) {
        if self.messages.iter().all(|message| message.role != Role::System) {
            self.messages.insert(0, Message { role: Role::System, content: prompt.to_owned() });
        }
    }
}
