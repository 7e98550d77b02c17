//! Questions that a model will be tested on, none of which may stand in what it learns from.
//!
//! The measure is that of [`Decontamination`]: 13 words in a row, or all of the words of a shorter question.

use std::path::Path;

use super::Rejection;
use super::grounding::shown;
use crate::conversation::{Message, Role};
use crate::decontaminate::Decontamination;
use crate::error::DataError;
use crate::probes::ProbeItem;
use crate::source::{Understood, Whole};

/// Questions held out for tests.
#[derive(Clone, Debug, Default)]
pub struct HeldOutQuestions {
    names: Vec<String>,
    search: Decontamination,
}

impl HeldOutQuestions {
    /// The items of probes, and the records of test files: of a conversation the last question with its answer, of a
    /// `SQuAD` record the question with its answer (its context may well be in other samples), of a document all of it.
    ///
    /// # Errors
    /// The first file or record that cannot be read.
    pub fn new(probes: &[ProbeItem], test_files: &[impl AsRef<Path>]) -> Result<Self, DataError> {
        let mut names: Vec<String> = probes.iter().map(|item| format!("{} ({})", item.id, item.origin)).collect();
        let mut texts: Vec<String> = probes.iter().map(Decontamination::text_of).collect();
        for file in test_files {
            let mut whole = Whole::open(file.as_ref())?;
            loop {
                let batch = whole.next_batch(|entry| {
                    let name = entry.origin.to_string();
                    Ok((name, asked(&entry.understand()?)))
                })?;
                if batch.is_empty() {
                    break;
                }
                for (name, text) in batch {
                    names.push(name);
                    texts.push(text);
                }
            }
        }
        Ok(Self { names, search: Decontamination::of_texts(&texts) })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// How many have too few words to be told from chance, and are not looked for.
    pub fn skipped(&self) -> usize {
        self.search.skipped()
    }

    pub(super) fn check(&self, messages: &[Message]) -> Result<(), Rejection> {
        let text = messages.iter().map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n");
        match self.search.hits(&text).into_iter().next() {
            Some((item, words)) => {
                Err(Rejection::Contamination { name: self.names[item].clone(), words: shown(&words, 120) })
            }
            None => Ok(()),
        }
    }
}

/// What of a record of a test file gives it away.
fn asked(record: &Understood) -> String {
    match record {
        Understood::Document(text) => text.clone(),
        Understood::Conversation { conversation, squad } => {
            let last = |role: Role| {
                let found = conversation.messages.iter().rev().find(|message| message.role == role);
                found.map(|message| message.content.as_str()).unwrap_or_default()
            };
            let question = squad.as_ref().map_or_else(|| last(Role::User), |(question, _)| question);
            format!("{question} {}", last(Role::Assistant))
        }
    }
}
