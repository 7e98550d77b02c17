//! The questions: suites that come with the program, and files of the user's own.
//!
//! The extracts lie in `trainer/suites`, with their licences in `SOURCES.md`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use datasets::hex;
use datasets::probes::{ProbeItem, parse_items, read_items};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::error::TrainError;
use crate::eval::tasks::{Measure, measure};
use crate::recipe::{ForgettingConfig, SuiteName};

/// One file of the program's own questions, and how many of them each suite asks.
struct Extract {
    path: &'static str,
    text: &'static str,
    quick: usize,
    standard: usize,
    french: usize,
}

macro_rules! extract {
    ($path:literal, $quick:literal, $standard:literal, $french:literal) => {
        Extract {
            path: $path,
            text: include_str!(concat!("../../suites/", $path)),
            quick: $quick,
            standard: $standard,
            french: $french,
        }
    };
}

/// All files. What a small model cannot do shows no forgetting: the quick suite has the tasks in which models of this
/// size are farthest above chance, and short ones, so that there can be many items.
const EXTRACTS: [Extract; 26] = [
    extract!("en/blimp.jsonl", 670, 670, 0),
    extract!("en/lambada_openai.jsonl", 150, 300, 0),
    extract!("en/arc_easy.jsonl", 200, 300, 0),
    extract!("en/piqa.jsonl", 200, 300, 0),
    extract!("en/copa.jsonl", 0, 100, 0),
    extract!("en/hellaswag.jsonl", 0, 300, 0),
    extract!("en/winogrande.jsonl", 0, 300, 0),
    extract!("en/wsc273.jsonl", 0, 273, 0),
    extract!("en/openbookqa.jsonl", 0, 300, 0),
    extract!("en/commonsenseqa.jsonl", 0, 300, 0),
    extract!("en/boolq.jsonl", 0, 150, 0),
    extract!("en/arc_challenge.jsonl", 0, 300, 0),
    extract!("en/mmlu.jsonl", 0, 285, 0),
    extract!("en/gsm8k.jsonl", 0, 50, 0),
    extract!("en/ifeval.jsonl", 0, 100, 0),
    extract!("en/ppl_wikitext2.jsonl", 40, 109, 0),
    extract!("fr/fr_agreement.jsonl", 210, 400, 400),
    extract!("fr/xwinograd_fr.jsonl", 0, 65, 65),
    extract!("fr/rte3_fr.jsonl", 0, 200, 200),
    extract!("fr/exams_fr.jsonl", 0, 200, 200),
    extract!("fr/frenchmedmcqa.jsonl", 0, 200, 200),
    extract!("fr/mgsm_fr.jsonl", 0, 50, 50),
    extract!("fr/ppl_fr_wiki.jsonl", 20, 50, 100),
    extract!("fr/ppl_fr_gsd.jsonl", 0, 100, 200),
    extract!("fr/ppl_fr_admin.jsonl", 0, 15, 30),
    extract!("fr/ppl_fr_verne.jsonl", 0, 10, 20),
];

const CHAT: &str = include_str!("../../suites/chat.jsonl");

/// A turn to which the model should still answer as the base does.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ChatPrompt {
    /// Its name.
    pub id: String,
    /// The language asked in, by its ISO 639-1 code.
    pub lang: String,
    /// The user's turn.
    pub prompt: String,
}

/// What a model is questioned on.
#[derive(Clone, Debug)]
pub struct Questions {
    /// The items of all tasks.
    pub items: Vec<ProbeItem>,
    /// The turns of the chat format's drift.
    pub chat: Vec<ChatPrompt>,
}

impl Questions {
    /// The suite and the files that a recipe names.
    ///
    /// # Errors
    /// The first line of a file that is no question, or that asks something else under the name of another task.
    pub fn open(config: &ForgettingConfig) -> Result<Self, TrainError> {
        Self::of(config.suite, &config.probes)
    }

    /// A suite and further files.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn of(suite: SuiteName, files: &[PathBuf]) -> Result<Self, TrainError> {
        let mut items = Vec::new();
        for extract in &EXTRACTS {
            let count = match suite {
                SuiteName::Quick => extract.quick,
                SuiteName::Standard => extract.standard,
                SuiteName::French => extract.french,
                SuiteName::None => 0,
            };
            if count > 0 {
                items.extend(spread(parse_items(extract.text, Path::new(extract.path))?, count));
            }
        }
        let chat = CHAT.lines().filter_map(|line| serde_json::from_str::<ChatPrompt>(line).ok());
        let asked = |prompt: &ChatPrompt| match suite {
            SuiteName::Quick | SuiteName::Standard => true,
            SuiteName::French => prompt.lang == "fr",
            SuiteName::None => false,
        };
        for file in files {
            items.extend(read_items(file, file)?);
        }
        check_tasks(&items)?;
        Ok(Self { items, chat: chat.filter(asked).collect() })
    }

    /// Every question of every suite, for what must not be learned from.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn every_item() -> Result<Vec<ProbeItem>, TrainError> {
        let parsed = EXTRACTS.iter().map(|extract| parse_items(extract.text, Path::new(extract.path)));
        Ok(parsed.collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// How many texts are among the items.
    pub fn texts(&self) -> usize {
        self.items.iter().filter(|item| item.question.text().is_some()).count()
    }

    /// SHA-256 over all that is asked.
    pub fn digest(&self) -> String {
        let text = format!(
            "{:?}",
            self.items.iter().map(|item| (&item.id, &item.task, &item.lang, &item.question)).collect::<Vec<_>>()
        );
        hex(&Sha256::digest(format!("{text}{:?}", self.chat)))
    }
}

/// Refuses a task whose items measure different things, since they would have no mean.
fn check_tasks(items: &[ProbeItem]) -> Result<(), TrainError> {
    let mut tasks: HashMap<&str, (&ProbeItem, Measure)> = HashMap::new();
    for item in items {
        let measured = measure(&item.question);
        let (first, expected) = *tasks.entry(&item.task).or_insert((item, measured));
        if measured != expected {
            let task = &item.task;
            let (place, other) = (&item.origin, &first.origin);
            return Err(TrainError::Run(format!(
                "{place}: task \"{task}\" measures something else here than at {other}; give one of them another `task`"
            )));
        }
    }
    Ok(())
}

/// `count` of the items at even distances; all, where there are no more.
fn spread(items: Vec<ProbeItem>, count: usize) -> Vec<ProbeItem> {
    let total = items.len();
    let chosen = |index: &usize| *index == 0 || index * count / total != (index - 1) * count / total;
    let mut index = 0;
    let mut items = items;
    items.retain(|_| {
        index += 1;
        count >= total || chosen(&(index - 1))
    });
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_reads_and_has_as_many_items_as_it_says() {
        let sum = |of: fn(&Extract) -> usize| EXTRACTS.iter().map(of).sum::<usize>();
        for (suite, count) in [
            (SuiteName::Quick, sum(|extract| extract.quick)),
            (SuiteName::Standard, sum(|extract| extract.standard)),
            (SuiteName::French, sum(|extract| extract.french)),
            (SuiteName::None, 0),
        ] {
            let questions = Questions::of(suite, &[]).expect("the program's own suites are sound");
            assert_eq!(questions.items.len(), count, "{suite:?}");
            let turns = CHAT.lines().filter(|line| suite != SuiteName::French || line.contains("\"fr\"")).count();
            assert_eq!(questions.chat.len(), if suite == SuiteName::None { 0 } else { turns });
        }
    }

    #[test]
    fn another_question_is_another_digest() {
        let digest = |suite| Questions::of(suite, &[]).expect("sound").digest();
        assert_ne!(digest(SuiteName::Quick), digest(SuiteName::French));
        assert_eq!(digest(SuiteName::Quick), digest(SuiteName::Quick));
    }
}
