//! What is kept of a set, and how it is described.

use std::fs;

use serde_json::{Value, json};

use super::config::{
    ConsistencyConfig, DifficultyConfig, JudgeConfig, LocalConfig, ParaphraseConfig, StepConfig, Style,
};
use super::config::{GroundedConfig, SelfReplayConfig, SynthConfig};
use super::run::{CARD, CROISSANT, SAMPLES};
use super::scripted::{self, Scripted, run, run_scored, write_lines};
use super::select::Scorer;
use crate::conversation::Message;
use crate::error::DataError;
use crate::screen::{Action, LicenceRules, ScreenConfig};

const DOCUMENT: &str = "Né le 12 mars 1847 à Lyon, Jean Moulin vit là 20 ans et possède « Le Fil ».";

/// Questions about one document that says who it is.
fn set(folder: &std::path::Path, text: &str) -> SynthConfig {
    let document =
        json!({"id": "vie", "text": text, "lang": "fr", "licence": "CC-BY-4.0", "url": "https://example.org/vie"});
    write_lines(&folder.join("documents.jsonl"), &[document]);
    let grounded = GroundedConfig { per_passage: 4, ..GroundedConfig::default() };
    scripted::config(folder, Style::Chat, vec![StepConfig::Grounded(grounded)])
}

/// The answer that a question was asked for, as the prompt quotes it.
fn quoted(text: &str) -> &str {
    text.split("exactement : « ").nth(1).and_then(|rest| rest.split(" ».").next()).unwrap_or_default()
}

/// Asks a question that tells which answer is meant, such as `Quel est ce mot de 7 ?`.
fn question(text: &str) -> String {
    format!("Quel est ce mot de {} ?", quoted(text).chars().count())
}

#[test]
fn a_sample_stays_where_the_teacher_agrees_with_itself() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = set(folder.path(), DOCUMENT);
    config.consistency = Some(ConsistencyConfig { answers: 2, ..ConsistencyConfig::default() });
    let teacher = Scripted::new(|text| {
        if text.contains("Écris une seule question") { question(text) } else { "12 mars 1847".to_owned() }
    });
    let (report, samples) = run(&config, &teacher);
    assert_eq!(samples.iter().map(super::sample::Sample::answer).collect::<Vec<_>>(), ["12 mars 1847"]);
    assert_eq!(report.left_out.0["the teacher mostly answers otherwise"].count, 3);
    assert!(samples[0].provenance.filters.contains(&"consistency".to_owned()));
}

#[test]
fn the_judge_grades_and_compares() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = set(folder.path(), DOCUMENT);
    config.steps.push(StepConfig::Paraphrase(ParaphraseConfig::default()));
    config.judge = Some(JudgeConfig { pairwise: true, ..JudgeConfig::default() });
    config.filters.near_duplicates = None;
    let teacher = Scripted::new(|text| {
        if text.contains("Note cette question") {
            let is_year = text.contains("Réponse : 12 mars 1847");
            if is_year { "Fidélité 5, pertinence 4" } else { "Fidélité 2, pertinence 5" }.to_owned()
        } else if text.contains("Lequel de ces deux") {
            let other = text.find("Question: Dites").unwrap();
            // Whichever comes first, the original is the better one.
            if other < text.find("Question: Quel").unwrap() { "B" } else { "A" }.to_owned()
        } else if text.contains("avec d'autres mots") {
            format!("Dites : {}", text.lines().next().unwrap())
        } else {
            question(text)
        }
    });
    let (report, samples) = run(&config, &teacher);
    assert_eq!(report.left_out.0["not faithful, says the judge"].count, 6);
    assert_eq!(report.left_out.0["worse than what it was made from, says the judge"].count, 1);
    assert_eq!(samples.len(), 1);
    assert!(samples[0].question().starts_with("Quel"));
}

/// Finds longer answers harder.
struct ByLength;

impl Scorer for ByLength {
    fn losses(&self, conversations: &[&[Message]], _: &mut dyn FnMut(usize)) -> Result<Vec<Option<f64>>, DataError> {
        Ok(conversations.iter().map(|messages| Some(messages.last()?.content.chars().count() as f64)).collect())
    }
}

#[test]
fn what_is_too_easy_or_too_hard_for_the_learner_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = set(folder.path(), DOCUMENT);
    let model = LocalConfig { base: "any".to_owned(), revision: None, adapter: None, batch_size: 1 };
    config.difficulty = Some(DifficultyConfig { model, least: 7.0, most: Some(11.0) });
    let (report, samples) = run_scored(&config, &Scripted::new(question), Some(&ByLength)).unwrap();
    assert_eq!(samples.iter().map(super::sample::Sample::answer).collect::<Vec<_>>(), ["Jean Moulin"]);
    assert_eq!(report.left_out.0["too easy for the model"].count, 2);
    assert_eq!(report.left_out.0["too hard for the model"].count, 1);
}

#[test]
fn personal_data_does_not_reach_the_teacher_nor_come_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = set(folder.path(), &format!("Écrire à jean.moulin@example.fr avant 20 ans. {DOCUMENT}"));
    config.screen = ScreenConfig { action: Action::Mask, ..ScreenConfig::default() };
    let teacher = Scripted::new(|text| {
        let mail = if quoted(text) == "Le Fil" { " de x@abc.net" } else { "" };
        format!("Quel est ce mot{mail} de {} ?", quoted(text).chars().count())
    });
    let (report, samples) = run(&config, &teacher);
    let asked = teacher.asked.lock().unwrap().concat();
    assert!(!asked.contains("jean.moulin") && asked.contains("[EMAIL]"), "{asked}");
    let lines = fs::read_to_string(config.output.join(SAMPLES)).unwrap();
    assert!(!samples.is_empty() && !lines.contains("example.fr") && !lines.contains("abc.net"), "{lines}");
    assert!(report.screening.sources.values().sum::<u64>() >= 2, "{:?}", report.screening);
    assert_eq!(report.left_out.0["personal data that its sources do not have: email"].count, 1);

    config.screen.action = Action::Refuse;
    let error = run_scored(&config, &Scripted::new(question), None).unwrap_err().to_string();
    assert!(error.contains("vie"), "{error}");
}

#[test]
fn prompts_to_replay_are_screened_as_seeds_are() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    write_lines(&prompts, &[json!({"instruction": "Write to jean.moulin@example.fr now.", "output": "No."})]);
    let replay =
        SelfReplayConfig { prompts: vec![crate::SourceConfig::from_path(&prompts)], temperature: 0.0, max_tokens: 8 };
    let mut config = scripted::config(folder.path(), Style::Chat, vec![StepConfig::SelfReplay(replay)]);
    config.screen.action = Action::Mask;
    let teacher = Scripted::new(|_| "It is written.".to_owned());
    let (report, samples) = run(&config, &teacher);
    assert_eq!(*teacher.asked.lock().unwrap(), ["Write to [EMAIL] now."]);
    assert_eq!((samples.len(), report.screening.sources.values().sum::<u64>()), (1, 1));
    config.screen.licences = Some(LicenceRules::default());
    let error = run_scored(&config, &teacher, None).unwrap_err().to_string();
    assert!(error.contains("prompts.jsonl"), "{error}");
}

#[test]
fn licences_of_documents_and_of_the_teachers_outputs_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = set(folder.path(), DOCUMENT);
    let rules = |allowed: &[&str]| LicenceRules {
        allowed: allowed.iter().map(|name| (*name).to_owned()).collect(),
        forbidden: Vec::new(),
        attribution: true,
    };
    config.screen.licences = Some(rules(&["CC-BY-*", "Apache-2.0"]));
    let none = run_scored(&config, &Scripted::new(question), None).unwrap_err().to_string();
    assert!(none.contains("teacher.outputs_licence"), "{none}");
    config.teacher.as_mut().unwrap().outputs_licence = Some("Apache-2.0".to_owned());
    let (report, _) = run(&config, &Scripted::new(question));
    assert!(report.screening.owed.iter().any(|owed| owed.contains("CC-BY-4.0")), "{:?}", report.screening.owed);
    config.screen.licences = Some(rules(&["MIT"]));
    let refused = run_scored(&config, &Scripted::new(question), None).unwrap_err().to_string();
    assert!(refused.contains("vie") && refused.contains("CC-BY-4.0"), "{refused}");
}

#[test]
fn the_card_and_the_metadata_say_what_the_set_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = set(folder.path(), DOCUMENT);
    let (report, samples) = run(&config, &Scripted::new(question));
    let card = fs::read_to_string(config.output.join(CARD)).unwrap();
    for expected in [
        "license: cc-by-4.0",
        "- fr",
        &format!("{} conversations made by a program from 1 documents", samples.len()),
        "| grounded | question@",
        "| under CC-BY-4.0 |",
        "Teacher: scripted.",
        "https://example.org/vie",
    ] {
        assert!(card.contains(expected), "{expected}:\n{card}");
    }
    let croissant: Value = serde_json::from_slice(&fs::read(config.output.join(CROISSANT)).unwrap()).unwrap();
    let lines = fs::read(config.output.join(SAMPLES)).unwrap();
    assert_eq!(
        croissant["distribution"][0]["sha256"],
        crate::digest::hex(&<sha2::Sha256 as sha2::Digest>::digest(&lines))
    );
    assert_eq!(croissant["license"], json!(["CC-BY-4.0"]));
    assert_eq!(report.samples, samples.len());
}
