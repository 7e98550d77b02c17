//! What synthesis writes: a conversation with where it comes from. A line of the set is a record of the form `messages`,
//! which any reader of data takes as it is.

use serde::{Deserialize, Serialize};

use crate::conversation::{Message, Role};
use crate::digest::name_of;
use crate::probes::instructions::language_of;

/// One sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The first 16 digits of the SHA-256 of its messages.
    pub id: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Its language by its ISO 639-1 code, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lang: Option<String>,
    /// What it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grounding: Option<Grounding>,
    /// Who made it, and how.
    pub provenance: Provenance,
}

/// The passage that a sample rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grounding {
    /// The document's name.
    pub document: String,
    /// SHA-256 of the document's text.
    pub document_sha256: String,
    /// The document's address, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The document's licence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// The passage.
    pub context: String,
    /// Where it begins in the document, in bytes.
    pub context_start: usize,
    /// The question.
    pub question: String,
    /// The answer; none where the passage has none.
    pub answer: Option<Span>,
}

/// A part of a passage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The text.
    pub text: String,
    /// Where it begins in the passage, in characters, as in SQuAD.
    pub answer_start: usize,
}

/// Who made a sample, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// The step, such as `grounded`.
    pub method: String,
    /// The name of the prompt, or of the layout, and the first 8 digits of its SHA-256.
    pub prompt: String,
    /// The teacher's model; none where a program alone made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teacher: Option<String>,
    /// Its revision, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The seed of its draws.
    pub seed: u64,
    /// The keys of the answers in the journal that it is made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// The samples or seeds that it was made after, with those that they were made after before them: a sample is traced
    /// to its seed though what lay between was left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// What its teacher's terms say of its outputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs_licence: Option<String>,
    /// The filters that it passed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
}

impl Provenance {
    /// That of what no teacher wrote.
    pub(super) fn by_program(method: &str, prompt: String, seed: u64) -> Self {
        Self {
            method: method.to_owned(),
            prompt,
            teacher: None,
            revision: None,
            seed,
            answers: Vec::new(),
            parents: Vec::new(),
            outputs_licence: None,
            filters: Vec::new(),
        }
    }
}

impl Sample {
    /// A conversation with its provenance; the name follows from its messages.
    pub fn new(messages: Vec<Message>, grounding: Option<Grounding>, provenance: Provenance) -> Self {
        Self { id: name_of(&messages), messages, lang: None, grounding, provenance }
    }

    /// What is asked: of a passage its question, else the last that the user says.
    pub fn question(&self) -> &str {
        let grounded = self.grounding.as_ref().map(|grounding| grounding.question.as_str());
        grounded.unwrap_or_else(|| self.last(Role::User))
    }

    /// The last that the assistant says.
    pub fn answer(&self) -> &str {
        self.last(Role::Assistant)
    }

    fn last(&self, role: Role) -> &str {
        let last = self.messages.iter().rev().find(|message| message.role == role);
        last.map(|message| message.content.as_str()).unwrap_or_default()
    }

    /// The parents of what is made of it.
    pub(super) fn line(&self) -> Vec<String> {
        self.provenance.parents.iter().chain([&self.id]).cloned().collect()
    }

    /// Its language, as it says itself, else as its question is written; empty where that cannot be told.
    pub(super) fn lang_or_told(&self) -> String {
        self.lang.clone().or_else(|| language_of(self.question()).map(str::to_owned)).unwrap_or_default()
    }

    /// The same with another question.
    pub(super) fn asked_as(&self, question: &str, provenance: Provenance) -> Self {
        let mut messages = self.messages.clone();
        let mut grounding = self.grounding.clone();
        if let Some(asked) = messages.iter_mut().rev().find(|message| message.role == Role::User) {
            let old =
                grounding.as_mut().map(|grounding| std::mem::replace(&mut grounding.question, question.to_owned()));
            // The user's turn may have a passage around the question, which stands at one of its ends.
            match old.and_then(|old| asked.content.rfind(&old).map(|start| start..start + old.len())) {
                Some(range) => asked.content.replace_range(range, question),
                None => question.clone_into(&mut asked.content),
            }
        }
        Self { lang: self.lang.clone(), ..Self::new(messages, grounding, provenance) }
    }

    /// The same with another answer.
    pub(super) fn answered_as(self, answer: &str) -> Self {
        let Self { mut messages, lang, grounding, provenance, .. } = self;
        if let Some(answered) = messages.iter_mut().rev().find(|message| message.role == Role::Assistant) {
            answer.clone_into(&mut answered.content);
        }
        Self { lang, ..Self::new(messages, grounding, provenance) }
    }
}
