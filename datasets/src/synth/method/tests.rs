//! The methods with a teacher that writes what it is told to.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use crate::synth::config::{
    DocumentsConfig, FiltersConfig, GroundedConfig, StepConfig, Style, SynthConfig, TeacherConfig,
};
use crate::synth::document::words_and_marks;
use crate::synth::run::{ANSWERS, Making, Report, SAMPLES, make};
use crate::synth::sample::Sample;
use crate::synth::teacher::{Budget, Completion, Failure, Hands, Identity, Price, Prompt, Request, Teacher};

/// Asks the same question of every answer, and knows every answer again: it is the last line but one of what it reads.
struct Scripted {
    identity: Identity,
    asked: Mutex<usize>,
}

impl Scripted {
    fn new() -> Self {
        let identity = Identity { model: "scripted".to_owned(), revision: None, at: "test".to_owned() };
        Self { identity, asked: Mutex::new(0) }
    }
}

impl Teacher for Scripted {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn hands(&self) -> Hands {
        Hands { threads: 1, batch: 3 }
    }

    fn complete(&self, requests: &[&Request]) -> Vec<Result<Completion, Failure>> {
        *self.asked.lock().unwrap() += requests.len();
        let write = |request: &&Request| {
            let Prompt::Text(text) = &request.prompt else { panic!("it goes on with texts") };
            assert!(text.ends_with("Question :") || text.ends_with("Réponse :") || text.ends_with("Answer :"));
            let text = format!(" 1. Quel est ce {} ?", text.len());
            Ok(Completion { text, finished: true, prompt_tokens: 1, completion_tokens: 1 })
        };
        requests.iter().map(write).collect()
    }
}

fn config(folder: &std::path::Path, unanswerable: f64) -> SynthConfig {
    let grounded = GroundedConfig {
        per_passage: 3,
        passage_tokens: 40,
        unanswerable,
        prompt: "{context}\n\nQuestion : {question}".to_owned(),
        ..GroundedConfig::default()
    };
    let documents = DocumentsConfig { path: folder.join("documents.jsonl"), licence: None, lang: None, limit: None };
    SynthConfig {
        documents: vec![documents],
        teacher: TeacherConfig { endpoint: None, local: None, style: Style::Completion, outputs_licence: None },
        budget: Budget::default(),
        steps: vec![StepConfig { grounded: Some(grounded) }],
        filters: FiltersConfig::default(),
        seed: 0,
        output: folder.join("set"),
    }
}

fn run(config: &SynthConfig, teacher: &Scripted) -> (Report, Vec<Sample>) {
    let stop = AtomicBool::new(false);
    let making = Making { teacher, price: Price::default(), count_tokens: &words_and_marks, stop: &stop };
    make(config, making, &mut |_, _| ()).unwrap()
}

fn write_documents(folder: &std::path::Path, texts: &[String]) {
    let lines: Vec<String> = texts.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
    std::fs::write(folder.join("documents.jsonl"), lines.join("\n")).unwrap();
}

/// Texts in which there is something to ask for, with characters of several bytes before it.
fn text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        Just("Né le 12 mars 1847 à Lyon. "),
        Just("« Où donc ? » demanda-t-elle, été comme hiver.\n\n"),
        Just("## Été\n\nLe pont de la rivière mesure 3 500 m. "),
        Just("Jean Moulin vit là 20 ans. "),
        Just("\u{1F33F} œuvre, garçon, forêt; "),
    ];
    proptest::collection::vec(part, 1..20).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_answer_is_a_span_of_its_document(texts in proptest::collection::vec(text(), 1..5), share in 0.0f64..0.5) {
        let folder = tempfile::tempdir().unwrap();
        write_documents(folder.path(), &texts);
        let (_, samples) = run(&config(folder.path(), share), &Scripted::new());
        for sample in &samples {
            let grounding = sample.grounding.as_ref().unwrap();
            let inside = texts.iter().filter_map(|text| text.get(grounding.context_start..)).any(|rest| rest.starts_with(&grounding.context));
            prop_assert!(inside, "{:?}", grounding.context);
            let answer = &sample.messages[1].content;
            match &grounding.answer {
                Some(span) => {
                    let found: String = grounding.context.chars().skip(span.answer_start).take(span.text.chars().count()).collect();
                    prop_assert_eq!(&found, &span.text);
                    prop_assert_eq!(answer, &span.text);
                }
                None => prop_assert!(answer.contains("document")),
            }
            prop_assert!(sample.messages[0].content.starts_with(&grounding.context));
        }
    }
}

#[test]
fn a_set_is_made_again_without_asking_again() {
    let folder = tempfile::tempdir().unwrap();
    write_documents(folder.path(), &["Né le 12 mars 1847 à Lyon, Jean Moulin vit là 20 ans.".to_owned()]);
    let (config, teacher) = (config(folder.path(), 0.0), Scripted::new());
    let (first, samples) = run(&config, &teacher);
    assert!(first.finished && samples.len() == 3, "{first:?}");
    let asked = *teacher.asked.lock().unwrap();
    let lines = std::fs::read_to_string(config.output.join(SAMPLES)).unwrap();
    let (second, _) = run(&config, &teacher);
    assert_eq!(*teacher.asked.lock().unwrap(), asked);
    assert_eq!((first, lines), (second, std::fs::read_to_string(config.output.join(SAMPLES)).unwrap()));
    // A run that was killed in between: the answers that it had are not asked again.
    let journal = config.output.join(ANSWERS);
    let whole = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, whole.split_inclusive('\n').next().unwrap()).unwrap();
    run(&config, &teacher);
    assert_eq!(*teacher.asked.lock().unwrap(), 2 * asked - 1);
}

#[test]
fn a_question_without_the_same_answer_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    write_documents(folder.path(), &["Né le 12 mars 1847 à Lyon, Jean Moulin vit là 20 ans.".to_owned()]);
    let mut config = config(folder.path(), 0.0);
    config.steps[0].grounded.as_mut().unwrap().roundtrip = Some(0.5);
    let (report, samples) = run(&config, &Scripted::new());
    assert!(samples.is_empty());
    assert_eq!(report.rejected.0["answered otherwise when asked again"].count, 3);
}
