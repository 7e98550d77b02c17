//! The methods with a teacher that writes what it is told to.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use crate::synth::config::{
    EvolveConfig, GroundedConfig, MagpieConfig, ParaphraseConfig, PersonasConfig, SelfInstructConfig, SelfReplayConfig,
    StepConfig, Style, SynthConfig, TranslateConfig,
};
use crate::synth::run::{ANSWERS, SAMPLES};
use crate::synth::sample::Sample;
use crate::synth::scripted::{self, Scripted, run, write_lines};

/// Asks another question of every answer.
fn asker() -> Scripted {
    Scripted::new(|text| {
        assert!(text.ends_with("Question :") || text.ends_with("Réponse :") || text.ends_with("Answer :"));
        format!(" 1. Quel est ce {} ?", text.len())
    })
}

fn config(folder: &Path, unanswerable: f64) -> SynthConfig {
    let grounded = GroundedConfig {
        per_passage: 3,
        passage_tokens: 40,
        unanswerable,
        prompt: "{context}\n\nQuestion : {question}".to_owned(),
        ..GroundedConfig::default()
    };
    scripted::config(folder, Style::Completion, vec![StepConfig::Grounded(grounded)])
}

fn write_documents(folder: &Path, texts: &[String]) {
    let records: Vec<_> = texts.iter().map(|text| json!({ "text": text, "lang": "fr" })).collect();
    write_lines(&folder.join("documents.jsonl"), &records);
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
        let (_, samples) = run(&config(folder.path(), share), &asker());
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
    let (config, teacher) = (config(folder.path(), 0.0), asker());
    let (first, samples) = run(&config, &teacher);
    assert!(first.finished && samples.len() == 3, "{first:?}");
    let asked = teacher.count();
    let lines = std::fs::read_to_string(config.output.join(SAMPLES)).unwrap();
    let (second, _) = run(&config, &teacher);
    assert_eq!(teacher.count(), asked);
    assert_eq!((first, lines), (second, std::fs::read_to_string(config.output.join(SAMPLES)).unwrap()));
    // A run that was killed in between: the answers that it had are not asked again.
    let journal = config.output.join(ANSWERS);
    let whole = std::fs::read_to_string(&journal).unwrap();
    std::fs::write(&journal, whole.split_inclusive('\n').next().unwrap()).unwrap();
    run(&config, &teacher);
    assert_eq!(teacher.count(), 2 * asked - 1);
}

#[test]
fn a_question_without_the_same_answer_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    write_documents(folder.path(), &["Né le 12 mars 1847 à Lyon, Jean Moulin vit là 20 ans.".to_owned()]);
    let mut config = config(folder.path(), 0.0);
    let StepConfig::Grounded(grounded) = &mut config.steps[0] else { panic!("it is grounded") };
    grounded.roundtrip = Some(0.5);
    let (report, samples) = run(&config, &asker());
    assert!(samples.is_empty());
    assert_eq!(report.left_out.0["answered otherwise when asked again"].count, 3);
}

/// A set from three seeds, asked in turns.
fn from_seeds(steps: Vec<StepConfig>, script: impl Fn(&str) -> String + Sync + 'static) -> (Vec<Sample>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let seeds =
        [("Name a river of France.", "The Loire."), ("Add 12 and 30.", "42"), ("Who wrote Candide?", "Voltaire.")];
    let record = |(instruction, output): &(&str, &str)| json!({"instruction": instruction, "output": output});
    write_lines(&folder.path().join("seeds.jsonl"), &seeds.iter().map(record).collect::<Vec<_>>());
    let mut config = scripted::config(folder.path(), Style::Chat, steps);
    config.filters.near_duplicates = None;
    let teacher = Scripted::new(script);
    let (report, samples) = run(&config, &teacher);
    let reasons = report.left_out.0.into_keys().collect();
    (samples, reasons)
}

fn questions(samples: &[Sample]) -> Vec<&str> {
    samples.iter().map(Sample::question).collect()
}

#[test]
fn self_instruct_takes_what_is_new_and_answers_it() {
    let step = SelfInstructConfig { count: 3, examples: 4, ..SelfInstructConfig::default() };
    let written = [
        "4. Describe the taste of salt in two words.",
        "4. Name a river of France.",
        "4. Plan a walk in the hills near Lyon.",
    ];
    let next = std::sync::atomic::AtomicUsize::new(0);
    let (samples, reasons) = from_seeds(vec![StepConfig::SelfInstruct(step)], move |text| {
        if text.contains("request number") {
            assert!(text.contains("Who wrote Candide?") && text.contains("2. "), "{text}");
            written[next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3].to_owned()
        } else {
            format!("An answer to: {text}")
        }
    });
    assert_eq!(
        questions(&samples),
        ["Describe the taste of salt in two words.", "Plan a walk in the hills near Lyon."]
    );
    assert_eq!(reasons, ["too like an earlier instruction"]);
    assert_eq!(samples[0].answer(), "An answer to: Describe the taste of salt in two words.");
    let provenance = &samples[0].provenance;
    assert_eq!(
        (provenance.method.as_str(), provenance.parents.len(), provenance.answers.len()),
        ("self_instruct", 3, 2)
    );
    assert!(provenance.prompt.starts_with("instruct@"));
}

#[test]
fn steps_begin_with_what_the_steps_before_them_made() {
    let evolve = EvolveConfig { rounds: 2, ..EvolveConfig::default() };
    let paraphrase = ParaphraseConfig { styles: vec!["like a pirate".to_owned()], ..ParaphraseConfig::default() };
    let steps = vec![StepConfig::Evolve(evolve), StepConfig::Paraphrase(paraphrase)];
    let (samples, reasons) = from_seeds(steps, |text| {
        let of = |text: &str| text.lines().find(|line| line.contains(['.', '?'])).unwrap_or_default().to_owned();
        if text.starts_with("Here is a request") {
            let own = text.lines().nth(2).unwrap();
            if own.starts_with("Add") { own.to_owned() } else { format!("Harder: {own}") }
        } else if text.contains("in other words") {
            assert!(text.contains("in this style: like a pirate"), "{text}");
            format!("Ahoy, {}", of(text))
        } else {
            "Done.".to_owned()
        }
    });
    let expected = [
        "Harder: Name a river of France.",
        "Harder: Who wrote Candide?",
        "Harder: Harder: Name a river of France.",
        "Harder: Harder: Who wrote Candide?",
    ];
    assert_eq!(questions(&samples)[..4], expected);
    assert!(samples[4..].iter().zip(expected).all(|(sample, own)| sample.question() == format!("Ahoy, {own}")));
    assert!(samples[4..].iter().zip(&samples).all(|(made, own)| made.provenance.parents.last() == Some(&own.id)));
    // The seed, both rounds.
    assert_eq!(samples[6].provenance.parents.len(), 3);
    assert_eq!(samples[6].provenance.parents[1], samples[0].id);
    assert_eq!(samples[4].answer(), "Done.");
    assert_eq!(reasons, ["did not evolve"]);
}

#[test]
fn a_translation_keeps_its_numbers_and_its_language() {
    let (samples, reasons) = from_seeds(vec![StepConfig::Translate(TranslateConfig { to: "fr".to_owned() })], |text| {
        match text.lines().next().unwrap() {
            "Name a river of France." => "Nommez un fleuve de France.",
            "The Loire." => "La Loire.",
            "Add 12 and 30." => "Additionnez 12 et 31.",
            "Who wrote Candide?" => "Who has written the famous novel that is called Candide, and in which year and in which town was that book first printed and sold?",
            other => other,
        }
        .to_owned()
    });
    assert_eq!(questions(&samples), ["Nommez un fleuve de France."]);
    assert_eq!((samples[0].answer(), samples[0].lang.as_deref()), ("La Loire.", Some("fr")));
    assert_eq!(reasons, ["not translated", "other numbers"]);
}

#[test]
fn a_question_about_a_passage_keeps_its_passage_and_its_answer_in_other_words() {
    let folder = tempfile::tempdir().unwrap();
    write_documents(folder.path(), &["Né le 12 mars 1847 à Lyon, Jean Moulin vit là 20 ans.".to_owned()]);
    let mut config = config(folder.path(), 0.0);
    config.steps.push(StepConfig::Paraphrase(ParaphraseConfig::default()));
    config.filters.near_duplicates = None;
    let (_, samples) = run(
        &config,
        &Scripted::new(|text| {
            let question = text.rsplit("Question :").next().unwrap_or_default().lines().next().unwrap_or_default();
            if text.ends_with("Autrement dit :") {
                format!("Dites : {}", question.trim())
            } else {
                format!("Quel est ce {} ?", text.len())
            }
        }),
    );
    assert_eq!(samples.len(), 6);
    for (own, other) in samples.iter().zip(&samples[3..]) {
        assert_eq!(other.question(), format!("Dites : {}", own.question()));
        assert_eq!(other.messages[0].content, own.messages[0].content.replace(own.question(), other.question()));
        assert_eq!(other.answer(), own.answer());
        let spans = [own, other].map(|sample| sample.grounding.as_ref().unwrap().answer.clone().unwrap());
        assert_eq!(spans[0], spans[1]);
    }
}

#[test]
fn instructions_come_from_templates_personas_and_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let prompts = folder.path().join("prompts.jsonl");
    write_lines(&prompts, &[json!({"instruction": "Say hello to me.", "output": "No."})]);
    let steps = vec![
        StepConfig::Magpie(MagpieConfig { count: 2, ..MagpieConfig::default() }),
        StepConfig::Personas(PersonasConfig {
            personas: vec!["a baker".to_owned()],
            subject: Some("bread".to_owned()),
            ..PersonasConfig::default()
        }),
        StepConfig::SelfReplay(SelfReplayConfig {
            prompts: vec![crate::SourceConfig::from_path(&prompts)],
            temperature: 0.0,
            max_tokens: 8,
        }),
    ];
    let (samples, _) = from_seeds(steps, |text| match text {
        "<user>" => "How do I boil an egg?".to_owned(),
        text if text.contains("a baker") && text.contains("about: bread") => "Why does my bread not rise?".to_owned(),
        text => format!("Answer to {text}"),
    });
    let methods: Vec<&str> = samples.iter().map(|sample| sample.provenance.method.as_str()).collect();
    assert_eq!(methods, ["magpie", "magpie", "personas", "self_replay"]);
    let expected =
        ["How do I boil an egg?", "How do I boil an egg?", "Why does my bread not rise?", "Say hello to me."];
    assert_eq!(questions(&samples), expected);
    assert!(samples.iter().all(|sample| sample.answer() == format!("Answer to {}", sample.question())));
}
