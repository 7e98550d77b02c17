//! A teacher that writes what it is told to, for tests.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use super::config::{DocumentsConfig, StepConfig, Style, SynthConfig, TeacherConfig};
use super::document::words_and_marks;
use super::run::{Making, Report, make};
use super::sample::Sample;
use super::select::Scorer;
use super::teacher::{Completion, Failure, Hands, Identity, Price, Prompt, Request, Teacher};
use crate::error::DataError;
use crate::filter::HeldOutQuestions;
use crate::hub::Hub;
use crate::peers::Alone;

/// What is written after a text: a completion's own, or the last message of a conversation.
type Script = Box<dyn Fn(&str) -> String + Sync>;

pub(super) struct Scripted {
    identity: Identity,
    script: Script,
    /// What it was asked.
    pub(super) asked: Mutex<Vec<String>>,
}

impl Scripted {
    pub(super) fn new(script: impl Fn(&str) -> String + Sync + 'static) -> Self {
        let identity = Identity { model: "scripted".to_owned(), revision: None, at: "test".to_owned() };
        Self { identity, script: Box::new(script), asked: Mutex::default() }
    }

    /// How often it was asked.
    pub(super) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Teacher for Scripted {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn hands(&self) -> Hands {
        Hands { threads: 1, batch: 3, first_alone: false }
    }

    fn user_prefix(&self) -> Option<String> {
        Some("<user>".to_owned())
    }

    fn complete(&self, requests: &[&Request]) -> Vec<Result<Completion, Failure>> {
        let write = |request: &&Request| {
            let text = match &request.prompt {
                Prompt::Text(text) => text,
                Prompt::Chat(messages) => &messages.last().unwrap().content,
            };
            self.asked.lock().unwrap().push(text.clone());
            Ok(Completion { text: (self.script)(text), finished: true, prompt_tokens: 1, completion_tokens: 1 })
        };
        requests.iter().map(write).collect()
    }
}

/// A recipe over `documents.jsonl` of a folder, and `seeds.jsonl` where there is one.
pub(super) fn config(folder: &Path, style: Style, steps: Vec<StepConfig>) -> SynthConfig {
    let documents = DocumentsConfig { path: folder.join("documents.jsonl"), licence: None, lang: None, limit: None };
    let has = |name: &str| folder.join(name).exists();
    SynthConfig {
        documents: if has("documents.jsonl") { vec![documents] } else { Vec::new() },
        seeds: if has("seeds.jsonl") {
            vec![crate::SourceConfig::from_path(folder.join("seeds.jsonl"))]
        } else {
            Vec::new()
        },
        teacher: Some(TeacherConfig { endpoint: None, local: None, style, outputs_licence: None }),
        steps,
        output: folder.join("set"),
        ..SynthConfig::default()
    }
}

pub(super) fn run(config: &SynthConfig, teacher: &Scripted) -> (Report, Vec<Sample>) {
    run_scored(config, teacher, None).unwrap()
}

pub(super) fn run_scored(
    config: &SynthConfig,
    teacher: &Scripted,
    scorer: Option<&dyn Scorer>,
) -> Result<(Report, Vec<Sample>), DataError> {
    let (stop, hub) = (AtomicBool::new(false), Hub::from_env());
    let (teacher, count_tokens): (Option<&dyn Teacher>, _) = (Some(teacher), &words_and_marks);
    let making =
        Making { teacher, price: Price::default(), count_tokens, scorer, hub: &hub, stop: &stop, peers: &Alone };
    make(config, making, HeldOutQuestions::default(), &mut |_, _| ())
}

/// Writes records as lines of JSON.
pub(super) fn write_lines(path: &Path, records: &[serde_json::Value]) {
    let lines: Vec<String> = records.iter().map(ToString::to_string).collect();
    std::fs::write(path, lines.join("\n")).unwrap();
}
