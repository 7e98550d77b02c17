//! Each filter finds what it looks for and leaves the rest; over a set, the counts add up and nothing planted is missed.

use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::decontaminate::Decontamination;
use crate::near_duplicates::DedupConfig;
use crate::probes::{ProbeItem, parse_items};

fn message(role: Role, content: &str) -> Message {
    Message { role, content: content.to_owned() }
}

fn asked(question: &str, answer: &str) -> Vec<Message> {
    vec![message(Role::User, question), message(Role::Assistant, answer)]
}

fn filters(config: FilterConfig) -> Filters<'static> {
    Filters::new(config, None, HeldOutQuestions::default()).unwrap()
}

/// Why a conversation is rejected by the filters as they are by default.
fn reason(messages: &[Message]) -> Option<String> {
    let verdict = filters(FilterConfig::default()).check(Candidate::conversation(messages)).unwrap();
    verdict.rejection.map(|rejection| rejection.to_string())
}

#[track_caller]
fn rejected(question: &str, answer: &str, expected: &str) {
    assert_eq!(reason(&asked(question, answer)).as_deref(), Some(expected));
}

#[track_caller]
fn accepted(question: &str, answer: &str) {
    assert_eq!(reason(&asked(question, answer)), None);
}

#[test]
fn the_turns_are_in_order_and_none_is_empty() {
    use Role::{Assistant, System, Tool, User};
    let check = |turns: &[(Role, &str)]| {
        let messages: Vec<_> = turns.iter().map(|(role, content)| message(*role, content)).collect();
        reason(&messages)
    };
    assert_eq!(check(&[(System, "s"), (User, "u"), (Assistant, "a"), (User, "u"), (Assistant, "a")]), None);
    assert_eq!(check(&[(User, "u"), (Assistant, "call"), (Tool, "1"), (Tool, "2"), (Assistant, "a")]), None);
    for (turns, expected) in [
        (&[][..], "it has no message"),
        (&[(Assistant, "a")], "message 1 is of the assistant, expected the user"),
        (&[(System, "s"), (Assistant, "a")], "message 2 is of the assistant, expected the user"),
        (&[(User, "u"), (User, "u"), (Assistant, "a")], "message 2 is of the user, expected the assistant"),
        (&[(User, "u"), (Assistant, "a"), (Assistant, "a")], "message 3 is of the assistant, expected the user"),
        (&[(User, "u"), (Assistant, "a"), (System, "s")], "message 3 is of the system, expected the user"),
        (&[(User, "u"), (Assistant, "a"), (User, "u")], "the last message is of the user, expected the assistant"),
        (&[(User, "u"), (Assistant, " \n")], "message 2 is empty"),
        (&[(User, ""), (Assistant, "a")], "message 1 is empty"),
    ] {
        assert_eq!(check(turns).as_deref(), Some(expected));
    }
}

#[test]
fn lengths_and_languages() {
    let config = FilterConfig {
        prompt_characters: Some(Bounds { min: 3, max: None }),
        answer_characters: Some(Bounds { min: 2, max: Some(80) }),
        languages: vec!["fr".to_owned()],
        ..FilterConfig::default()
    };
    let filters = filters(config);
    let check = |question: &str, answer: &str| {
        let verdict = filters.check(Candidate::conversation(&asked(question, answer))).unwrap();
        verdict.rejection.map(|rejection| rejection.to_string())
    };
    assert_eq!(check("Qui ?", "été"), None);
    assert_eq!(check("Q", "été").as_deref(), Some("the prompt has 1 characters, expected at least 3"));
    assert_eq!(check("Qui ?", "é").as_deref(), Some("the answer has 1 characters, expected 2 to 80"));
    let long = "é".repeat(81);
    assert_eq!(check("Qui ?", &long).as_deref(), Some("the answer has 81 characters, expected 2 to 80"));
    assert_eq!(check("Où se dresse le phare que personne n'habite plus depuis des années ?", "Paris"), None);
    assert_eq!(
        check("Où se dresse le phare ?", "The lighthouse stands at the end of the breakwater, and nobody lives there.")
            .as_deref(),
        Some("message 2 is in the language en, expected fr")
    );
}

#[test]
fn refusals_are_told_from_answers() {
    let says = |phrase: &str| format!("the answer refuses: \"{phrase}\"");
    rejected("Qui ?", "Je suis désolé, mais je ne peux pas vous aider.", &says("Je suis désolé, mais je ne peux pas"));
    rejected("Qui ?", "En tant qu’IA, je n'ai pas d'avis.", &says("En tant qu’IA"));
    rejected("Who?", "I'm  sorry, but I\ncan’t tell.", &says("I'm sorry, but I can’t"));
    rejected("Who?", "As an AI language model, I have no opinion.", &says("As an AI language model"));
    accepted("I'm sorry, but I can't find it, who is it?", "The keeper.");
    accepted("Qui ?", "Le texte ne le dit pas.");
    accepted("Qui ?", "Vous ne pouvez pas résilier ce contrat ; l'assureur ne peut pas fournir ce document.");
    accepted("Who?", "A language model is a probability distribution over texts.");
}

#[test]
fn insults_are_found_as_whole_words() {
    rejected("Who?", "The keeper, you asshole.", "message 2 says \"asshole\"");
    rejected("Ta gueule. Qui ?", "Le gardien.", "message 1 says \"Ta gueule\"");
    accepted("Où ?", "À Scunthorpe, près de Connarde-sur-Mer, la gueule du loup.");
}

#[test]
#[expect(clippy::float_cmp, reason = "quotients of small numbers")]
fn answers_that_go_in_circles() {
    rejected(
        "Qui ?",
        "Le gardien. Le gardien. Le gardien. Le gardien. Le gardien. Le gardien",
        "the answer says \"le gardien\" 5 times in a row",
    );
    rejected("Qui ?", "non non non non non non", "the answer says \"non\" 5 times in a row");
    accepted("Qui ?", "non, non, non !");
    accepted("Lesquels ?", "0 0 0 0 0 0 0 0 0 0");
    // 105 runs: 5 that hold no number, and 4 for each of 5 numbers.
    let mut slow = String::new();
    for i in 0..12 {
        write!(slow, "the keeper left the lighthouse on the shore {} ", i % 5).unwrap();
    }
    let reason = reason(&asked("Who?", &slow)).unwrap();
    assert!(reason.starts_with("76 % of the answer's runs of 4 words are repeated, expected at most 50 %"), "{reason}");
    assert_eq!(repeated_share("a b a b a b", 2), 0.6);
    assert_eq!((repeated_share("a", 2), repeated_share("", 1), repeated_share("a a", 0)), (0.0, 0.0, 0.0));
}

#[test]
fn extractive_answers_must_stand_in_their_passage() {
    let messages = asked("Quel délai ?", "deux jours");
    let filters = filters(FilterConfig::default());
    let check = |answer, passage| {
        filters.check(Candidate { messages: &messages, extract: Some(Extract { answer, passage }) }).unwrap()
    };
    let verdict = check("deux jours", "Le délai est de deux\u{a0}jours.");
    assert!(verdict.is_accepted());
    assert_eq!(verdict.span.unwrap().answer_start, 16);
    let verdict = check("trois jours", "Le délai est de deux jours.");
    assert_eq!(verdict.rejection.unwrap().to_string(), "the answer \"trois jours\" does not stand in its passage");
}

/// Questions of 20 to 40 words that follow from their number.
fn probes(count: usize) -> Vec<ProbeItem> {
    let mut lines = String::new();
    for i in 0..count {
        let words: Vec<String> = (0..20 + i).map(|j| format!("p{}q{}", i * 31, j * j % 97)).collect();
        let item = match i % 3 {
            0 => json!({"kind": "mc", "query": words.join(" "), "choices": ["ja", "nein"], "gold": i % 2}),
            1 => json!({"kind": "gen", "prompt": words.join(" "), "answer": "42"}),
            _ => json!({"kind": "ppl", "text": words.join(" ")}),
        };
        writeln!(lines, "{item}").unwrap();
    }
    parse_items(&lines, Path::new("probes.jsonl")).unwrap()
}

#[test]
fn twenty_planted_questions_of_twenty_are_found() {
    let probes = probes(20);
    let folder = tempfile::tempdir().unwrap();
    let test = folder.path().join("test.jsonl");
    let record = json!({"context": "Un long passage. ".repeat(9), "question": "Quel est donc le délai pour déclarer un vol à \
                        son assureur ?", "answers": [{"text": "deux jours ouvrés", "answer_start": 0}]});
    std::fs::write(&test, format!("{record}\n")).unwrap();
    let held_out = HeldOutQuestions::new(&probes, &[&test]).unwrap();
    assert_eq!((held_out.len(), held_out.skipped()), (21, 0));

    let mut samples = Vec::new();
    let mut planted = Vec::new();
    for (i, item) in probes.iter().enumerate() {
        for j in 0..20 {
            samples.push(asked(&format!("Question {i} {j} sur le phare de la jetée {} ?", i * 20 + j), "Le gardien."));
        }
        // In other letters and layout, in the question or in the answer, in the midst of other words.
        let words: Vec<String> = Decontamination::text_of(item).split(' ').take(20).map(str::to_uppercase).collect();
        let copy = words.join(if i % 2 == 0 { ",\n" } else { " -- " });
        planted.push(samples.len());
        let wrapped = format!("Réponds à ceci {i} : {copy} ! Sois bref.");
        samples.push(if i % 4 == 0 { asked("Dis la suite.", &wrapped) } else { asked(&wrapped, "Voici.") });
    }
    samples.push(asked("Au fait, quel est donc le délai pour déclarer un vol à son assureur ?", "Deux jours ouvrés."));
    planted.push(samples.len() - 1);
    samples.push(asked("Un long passage. ".repeat(9).as_str(), "Le passage d'un test n'est pas sa question."));

    let config = FilterConfig { near_duplicates: None, repetition: None, ..FilterConfig::default() };
    let filters = Filters::new(config, None, held_out).unwrap();
    let candidates: Vec<_> = samples.iter().map(|messages| Candidate::conversation(messages)).collect();
    let filtered = filters.run(&candidates, 1).unwrap();
    let found: Vec<usize> = (0..samples.len()).filter(|i| !filtered.verdicts[*i].is_accepted()).collect();
    assert_eq!(found, planted);
    let count = filtered.report.filters.iter().find(|count| count.filter == Filter::Contamination).unwrap();
    assert_eq!((count.asked, count.rejected, count.examples.len()), (samples.len(), 21, 3));
    assert!(
        count.examples[0].reason.starts_with("it holds the question 1 (probes.jsonl:1): \"P0Q0,"),
        "{:?}",
        count.examples[0]
    );
}

#[test]
fn a_report_counts_each_sample_once() {
    let question = "Quel est le délai pour déclarer un vol de véhicule à son assureur ?";
    let samples = [
        asked(question, "Deux jours ouvrés à partir du moment où l'assuré en a connaissance."),
        asked("Qui ?", ""),
        asked(
            "quel est le délai pour déclarer un vol de véhicule à son assureur",
            "Deux jours ouvrés à partir du moment où l’assuré en a connaissance !",
        ),
        asked("Qui ?", "Désolé, je ne peux pas."),
        asked(question, "Cinq jours pour un dégât des eaux, dix pour une catastrophe naturelle."),
        vec![],
    ];
    let candidates: Vec<_> = samples.iter().map(|messages| Candidate::conversation(messages)).collect();
    let filtered = filters(FilterConfig::default()).run(&candidates, 1).unwrap();
    let report = &filtered.report;
    let counts: Vec<_> =
        report.filters.iter().map(|count| (count.filter.name(), count.asked, count.rejected)).collect();
    let expected = [
        ("format", 6, 2),
        ("length", 4, 0),
        ("refusal", 4, 1),
        ("toxicity", 3, 0),
        ("repetition", 3, 0),
        ("near-duplicate", 3, 1),
    ];
    assert_eq!(counts, expected);
    assert_eq!((report.samples, report.accepted), (6, 2));
    assert_eq!(filtered.verdicts[2].rejection.as_ref().unwrap().to_string(), "it says almost the same as sample 1");
    assert_eq!(report.filters[5].examples[0].sample, 2);
    let passed: Vec<_> = filtered.verdicts[0].passed.iter().map(|filter| filter.name()).collect();
    assert_eq!(passed, ["format", "length", "refusal", "toxicity", "repetition", "near-duplicate"]);
    let json = serde_json::to_value(report).unwrap();
    assert_eq!(json["filters"][5]["filter"], "near-duplicate");
    let empty = filters(FilterConfig::default()).run(&[], 1).unwrap();
    assert_eq!((empty.report.samples, empty.report.coverage), (0, ClusterCoverage::default()));
}

#[test]
fn distinct_counts_runs_within_texts() {
    // Worked by hand: 7 words of which 4 differ; 5 pairs of which 4 differ; 3 triples, all different.
    let found = distinct(["a b a b", "a c D"]);
    assert_eq!((found.words, found.distinct_1, found.distinct_2, found.distinct_3), (7, 4.0 / 7.0, 0.8, 1.0));
    assert_eq!(distinct([]), Distinct::default());
}

#[test]
fn coverage_falls_when_a_topic_is_lost() {
    let topics = [
        "phare jetée mer tempête gardien lampe marin vague",
        "assureur sinistre franchise contrat prime garantie vol dommage",
        "pommier greffe verger récolte pépin branche sève écorce",
        "fusée lune orbite moteur capsule radio planète pilote",
    ];
    let mut texts: Vec<(String, usize)> = Vec::new();
    for i in 0..200 {
        let words: Vec<&str> = topics[i % 4].split(' ').collect();
        let text: Vec<&str> = (0..6).map(|j| words[(i / 4 + j * 3) % words.len()]).collect();
        texts.push((text.join(" "), i % 4));
    }
    let coverage = |kept: &dyn Fn(usize, usize) -> bool| {
        let texts: Vec<(&str, bool)> =
            texts.iter().enumerate().map(|(i, (text, topic))| (text.as_str(), kept(i, *topic))).collect();
        cluster_coverage(&texts, 1)
    };
    let all = coverage(&|_, _| true);
    assert_eq!((all.covered, all.effective_covered), (all.clusters, all.effective));
    assert!(all.clusters >= 4 && all.effective > 3.5, "{all:?}");
    let half = coverage(&|i, _| i % 8 < 4);
    assert_eq!(half.clusters, all.clusters);
    let one_lost = coverage(&|_, topic| topic != 2);
    assert!(one_lost.covered < all.clusters, "{one_lost:?}");
    assert_eq!(coverage(&|_, _| false).covered, 0);
    assert_eq!(cluster_coverage(&[("…", true)], 1), ClusterCoverage::default());
    assert_eq!(cluster_coverage(&[("mot", true)], 1).covered, 1);
}

#[test]
fn values_out_of_range_are_refused() {
    let refused = |config: FilterConfig| match Filters::new(config, None, HeldOutQuestions::default()) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it is accepted"),
    };
    let with = |value: serde_json::Value| serde_json::from_value::<FilterConfig>(value).unwrap();
    assert_eq!(with(json!({})), FilterConfig::default());
    for (value, expected) in [
        (json!({"tokens": {"max": 9}}), "filters.tokens: got a bound on tokens without a model, expected"),
        (json!({"tokens": {"min": 9, "max": 2}}), "filters.tokens: got from 9 to 2, expected a min that is at most"),
        (json!({"languages": ["fr", "French"]}), "filters.languages[1]: got \"French\", expected the ISO 639-1 code"),
        (json!({"repetition": {"most": 1.5}}), "filters.repetition.most: got 1.5, expected a number from 0 to 1"),
        (json!({"repetition": {"size": 0}}), "filters.repetition.size: got 0"),
        (json!({"repetition": {"in_a_row": 1}}), "filters.repetition.in_a_row: got 1"),
        (json!({"near_duplicates": {"threshold": 7.0}}), "filters.near_duplicates.threshold: got 7, expected"),
    ] {
        let message = refused(with(value));
        assert!(message.starts_with(expected), "{message}");
    }
    assert!(serde_json::from_value::<FilterConfig>(json!({"formatt": true})).is_err());
    let none =
        FilterConfig { near_duplicates: Some(DedupConfig { size: 99, ..DedupConfig::default() }), ..with(json!({})) };
    assert!(refused(none).starts_with("filters.near_duplicates.size: got 99"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Any text is judged without a panic, each sample once, and every accepted extractive answer is a part of its
    /// passage.
    #[test]
    fn any_set_is_judged(texts in prop::collection::vec(("\\PC{0,30}|[ab' ’]{0,9}", "\\PC{0,12}|[ab' ]{0,6}", any::<bool>()), 0..12)) {
        let samples: Vec<Vec<Message>> = texts.iter().map(|(question, answer, _)| asked(question, answer)).collect();
        let candidates: Vec<Candidate<'_>> = samples.iter().zip(&texts).map(|(messages, (passage, answer, extractive))| {
            Candidate { messages, extract: extractive.then_some(Extract { answer, passage }) }
        }).collect();
        let filtered = filters(FilterConfig::default()).run(&candidates, 1).unwrap();
        prop_assert_eq!(filtered.verdicts.len(), texts.len());
        let rejected: usize = filtered.report.filters.iter().map(|count| count.rejected).sum();
        prop_assert_eq!(rejected + filtered.report.accepted, texts.len());
        for (verdict, (passage, _, extractive)) in filtered.verdicts.iter().zip(&texts) {
            if verdict.is_accepted() && *extractive {
                let span = verdict.span.as_ref().unwrap();
                prop_assert_eq!(&passage[span.start..span.start + span.text.len()], &span.text);
            }
        }
    }
}
