//! Every instruction against IFEval's own checkers, and arguments that cannot be used.

use std::collections::BTreeSet;

use insta::assert_snapshot;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;

/// What lm-evaluation-harness says; written by `scripts/make_probe_fixtures.py`.
#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
    sentences: Vec<Sentences>,
}

/// Responses, each checked with every kwargs.
#[derive(Deserialize)]
struct Case {
    instruction: String,
    kwargs: Vec<Map<String, Value>>,
    responses: Vec<Response>,
}

#[derive(Deserialize)]
struct Response {
    text: String,
    strict: Vec<bool>,
    loose: Vec<bool>,
}

#[derive(Deserialize)]
struct Sentences {
    text: String,
    count: usize,
}

fn golden() -> Golden {
    serde_json::from_str(include_str!("../../../tests-data/instructions.json")).unwrap()
}

#[test]
fn instructions_are_followed_where_ifeval_says_so() {
    let (mut seen, mut differences) = (BTreeSet::new(), Vec::new());
    for case in golden().cases {
        for (i, kwargs) in case.kwargs.iter().enumerate() {
            let instruction = Instruction::new(&case.instruction, kwargs).unwrap();
            seen.insert(instruction.id());
            for response in &case.responses {
                let strict = instruction.is_followed(&response.text);
                let loose = loose_variants(&response.text).iter().any(|variant| instruction.is_followed(variant));
                if (strict, loose) != (response.strict[i], response.loose[i]) {
                    let id = &case.instruction;
                    differences.push(format!("{id} {kwargs:?}: {strict}, {loose} for {:?}", response.text));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert_eq!(seen.len(), INSTRUCTIONS.len());
}

#[test]
fn sentences_are_counted_as_punkt_does() {
    for Sentences { text, count } in golden().sentences {
        assert_eq!(sentences::count(&text), count, "{text}");
    }
}

fn make(id: &str, kwargs: &Value) -> Result<Instruction, InstructionError> {
    Instruction::new(id, kwargs.as_object().unwrap())
}

#[test]
fn keywords_are_plain_text() {
    let words = make("keywords:existence", &json!({"keywords": ["C++ (2a)"]})).unwrap();
    assert!(words.is_followed("learn c++ (2A) now"));
    let forbidden = make("keywords:forbidden_words", &json!({"forbidden_words": ["C++", "aa"]})).unwrap();
    assert!(!forbidden.is_followed("I like C++."));
    assert!(!forbidden.is_followed("aaa aa"));
    assert!(forbidden.is_followed("I like MC++ and aaa."));
}

#[test]
fn nothing_is_no_response() {
    for id in ["punctuation:no_comma", "language:response_language"] {
        let instruction = make(id, &json!({"language": "fr"})).unwrap();
        assert!(!instruction.is_followed(" \n"), "{id}");
    }
}

#[test]
fn wrong_arguments_are_named() {
    let error = |id: &str, kwargs: Value| make(id, &kwargs).unwrap_err();
    assert_snapshot!(
        error("keywords:exist", json!({})),
        @r#""keywords:exist" is not known, expected one of the instructions of IFEval"#
    );
    assert_snapshot!(
        error("punctuation:no_comma ", json!({})),
        @r#""punctuation:no_comma " is not known, expected one of the instructions of IFEval, did you mean "punctuation:no_comma"?"#
    );
    assert_snapshot!(
        error("length_constraints:number_words", json!({"relation": "at least"})),
        @r#"the argument "num_words" of length_constraints:number_words is missing, expected a whole number, 0 or more"#
    );
    assert_snapshot!(
        error("length_constraints:number_words", json!({"relation": "at most", "num_words": 3})),
        @r#"the argument "relation" of length_constraints:number_words is the text "at most", expected "less than" or "at least""#
    );
    assert_snapshot!(
        error("detectable_format:number_bullet_lists", json!({"num_bullets": -1})),
        @r#"the argument "num_bullets" of detectable_format:number_bullet_lists is the number -1, expected a whole number, 0 or more"#
    );
    assert_snapshot!(
        error("detectable_format:number_bullet_lists", json!({"num_bullets": 2.5})),
        @r#"the argument "num_bullets" of detectable_format:number_bullet_lists is the number 2.5, expected a whole number, 0 or more"#
    );
    assert_snapshot!(
        error("keywords:existence", json!({"keywords": []})),
        @r#"the argument "keywords" of keywords:existence is an empty list, expected a list of texts that are not empty, at least one"#
    );
    assert_snapshot!(
        error("keywords:existence", json!({"keywords": ["a", ""]})),
        @r#"the argument "keywords" of keywords:existence is a list, expected a list of texts that are not empty, at least one"#
    );
    assert_snapshot!(
        error("keywords:letter_frequency", json!({"letter": "ab", "let_relation": "at least", "let_frequency": 1})),
        @r#"the argument "letter" of keywords:letter_frequency is the text "ab", expected one letter"#
    );
    assert_snapshot!(
        error("language:response_language", json!({"language": "French"})),
        @r#"the argument "language" of language:response_language is the text "French", expected the ISO 639-1 code of a language that can be told from others, such as "fr""#
    );
    assert_snapshot!(
        error("length_constraints:nth_paragraph_first_word", json!({"num_paragraphs": 2, "nth_paragraph": 3, "first_word": "a"})),
        @r#"the argument "nth_paragraph" of length_constraints:nth_paragraph_first_word is the number 3, expected a paragraph from 1 to num_paragraphs"#
    );
    assert_snapshot!(
        error("startend:end_checker", json!({"end_phrase": null})),
        @r#"the argument "end_phrase" of startend:end_checker is missing, expected a text that is not empty"#
    );
}

proptest! {
    #[test]
    fn no_response_panics(text in "(\\PC|[\n*\"'<>.?!\\[\\] -]){0,60}") {
        for case in golden().cases.iter().filter(|case| case.instruction != "language:response_language") {
            let instruction = Instruction::new(&case.instruction, &case.kwargs[0]).unwrap();
            for variant in loose_variants(&text) {
                instruction.is_followed(&variant);
            }
        }
        language::language_of(&text);
    }
}
