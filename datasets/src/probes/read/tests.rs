//! Each kind of item and each thing that can be wrong with one.

use std::fs;

use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::probes::Question;

fn parse(text: &str) -> Result<Vec<ProbeItem>, DataError> {
    parse_items(text, Path::new("probes/quick.jsonl"))
}

#[track_caller]
fn question(line: &str) -> Question {
    let mut items = parse(line).unwrap();
    assert_eq!(items.len(), 1);
    items.remove(0).question
}

#[track_caller]
fn error(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

fn texts<const N: usize>(list: [&str; N]) -> Vec<String> {
    list.map(str::to_owned).to_vec()
}

#[test]
fn every_kind_is_read_as_it_stands() {
    assert_eq!(
        question(r#"{"kind": "mc", "subject": "x", "query": "", "choices": ["one", "one ", "é"], "gold": 2}"#),
        LogLikelihood::MultipleChoice { query: String::new(), choices: texts(["one", "one ", "é"]), gold: 2 }.into()
    );
    assert_eq!(
        question(r#"{"kind": "partial", "contexts": ["so A", "so B"], "continuation": "won.", "gold": 0}"#),
        LogLikelihood::Partial { contexts: texts(["so A", "so B"]), continuation: "won.".to_owned(), gold: 0 }.into()
    );
    assert_eq!(
        question(r#"{"kind": "pair", "good": "He is.", "bad": "He are."}"#),
        LogLikelihood::Pair { good: "He is.".to_owned(), bad: "He are.".to_owned() }.into()
    );
    assert_eq!(
        question(r#"{"kind": "cloze", "context": "", "target": "word"}"#),
        LogLikelihood::Cloze { context: String::new(), target: "word".to_owned() }.into()
    );
    assert_eq!(question(r#"{"kind": "ppl", "text": " é\n"}"#), LogLikelihood::Text { text: " é\n".to_owned() }.into());
}

#[test]
fn an_answer_is_one_text_or_several_and_compared_as_asked() {
    for (rest, answers, compare) in [
        (r#""answer": "18""#, texts(["18"]), Compare::Number),
        (r#""answer": ["x", "y"], "compare": "exact-match""#, texts(["x", "y"]), Compare::ExactMatch),
        (r#""answer": ["x"], "compare": "f1", "solution": 1"#, texts(["x"]), Compare::F1),
        (r#""answer": "x", "compare": null"#, texts(["x"]), Compare::Number),
    ] {
        let found = question(&format!(r#"{{"kind": "gen", "prompt": "p", {rest}}}"#));
        let check = Check::Answers { answers, compare };
        assert_eq!(found, Generation { prompt: "p".to_owned(), check }.into());
    }
}

#[test]
fn instructions_take_their_arguments_in_order() {
    let found = question(
        r#"{"kind": "ifeval", "prompt": "p", "instruction_id_list": ["punctuation:no_comma", "keywords:existence"],
            "kwargs": [{}, {"keywords": ["k"]}]}"#
            .replace('\n', " ")
            .as_str(),
    );
    let expected = [
        Instruction::new("punctuation:no_comma", &Map::new()).unwrap(),
        Instruction::new("keywords:existence", json!({"keywords": ["k"]}).as_object().unwrap()).unwrap(),
    ];
    let check = Check::Instructions(expected.to_vec());
    assert_eq!(found, Generation { prompt: "p".to_owned(), check }.into());
    // Instructions that take no arguments need none.
    let bare = r#"{"kind": "ifeval", "prompt": "p", "instruction_id_list": ["punctuation:no_comma"]}"#;
    let Question::Generation(Generation { check: Check::Instructions(instructions), .. }) = question(bare) else {
        panic!("not instructions")
    };
    assert_eq!(instructions, expected[..1]);
}

#[test]
fn what_an_item_does_not_say_comes_from_its_place() {
    let text = "\u{feff}\r\n{\"kind\": \"ppl\", \"text\": \"a\"}\r\n\n\
        {\"kind\": \"ppl\", \"text\": \"b\", \"id\": 12, \"task\": \"t\", \"lang\": \"fr\"}\n\
        {\"kind\": \"ppl\", \"text\": \"c\", \"id\": null, \"task\": null, \"lang\": null}";
    let items = parse(text).unwrap();
    let named: Vec<_> = items
        .iter()
        .map(|item| (item.id.as_str(), item.task.as_str(), item.lang.as_deref(), item.origin.to_string()))
        .collect();
    assert_eq!(
        named,
        [
            ("2", "quick", None, "probes/quick.jsonl:2".to_owned()),
            ("12", "t", Some("fr"), "probes/quick.jsonl:4".to_owned()),
            ("5", "quick", None, "probes/quick.jsonl:5".to_owned()),
        ]
    );
}

#[test]
fn a_file_is_read_under_the_name_it_is_given() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("x.jsonl");
    let name = Path::new("mine.jsonl");
    fs::write(&file, "{\"kind\": \"ppl\", \"text\": \"a\"}\n").unwrap();
    let items = read_items(&file, name).unwrap();
    assert_eq!((items[0].task.as_str(), items[0].origin.to_string().as_str()), ("mine", "mine.jsonl:1"));

    fs::write(&file, b"{\"kind\": \"ppl\", \"text\": \"a\"}\n{\"kind\": \"ppl\", \"text\": \"\xff\"}").unwrap();
    assert_snapshot!(
        read_items(&file, name).unwrap_err(),
        @"mine.jsonl:2: byte 26 of the line is not valid UTF-8, save the file as UTF-8"
    );
    let missing = folder.path().join("none.jsonl");
    assert_snapshot!(read_items(&missing, name).unwrap_err(), @"mine.jsonl: cannot be read");
}

#[test]
fn an_item_without_gold_says_so() {
    assert_snapshot!(
        error(r#"{"kind": "mc", "query": "q", "choices": ["a", "b"]}"#),
        @r#"probes/quick.jsonl:1: a probe item without gold: an item of the kind mc needs the key "gold", the index of the right one, counted from 0; the record has kind, query, choices"#
    );
    assert_snapshot!(
        error(r#"{"kind": "partial", "contexts": ["a", "b"], "continuation": "c", "gold": null}"#),
        @r#"probes/quick.jsonl:1: a probe item without gold: an item of the kind partial needs the key "gold", the index of the right one, counted from 0; the record has kind, contexts, continuation, gold"#
    );
    assert_snapshot!(
        error(r#"{"kind": "gen", "prompt": "p"}"#),
        @r#"probes/quick.jsonl:1: a probe item without gold: an item of the kind gen needs the key "answer", a text or a list of texts, at least one; the record has kind, prompt"#
    );
    assert_snapshot!(
        error(r#"{"kind": "gen", "prompt": "p", "answer": []}"#),
        @r#"probes/quick.jsonl:1: a probe item without gold: an item of the kind gen needs the key "answer", a text or a list of texts, at least one; the record has kind, prompt, answer"#
    );
    assert_snapshot!(
        error(r#"{"kind": "ifeval", "prompt": "p", "instruction_id_list": [], "kwargs": []}"#),
        @r#"probes/quick.jsonl:1: a probe item without gold: an item of the kind ifeval needs the key "instruction_id_list", a list of instructions, at least one; the record has kind, prompt, instruction_id_list, kwargs"#
    );
    assert_snapshot!(
        error(r#"{"kind": "ifeval", "prompt": "p"}"#),
        @r#"probes/quick.jsonl:1: a probe item without gold: an item of the kind ifeval needs the key "instruction_id_list", a list of instructions, at least one; the record has kind, prompt"#
    );
}

#[test]
fn gold_must_be_the_index_of_a_choice() {
    for (gold, shown) in
        [("2", "2"), ("-1", "-1"), ("0.5", "0.5"), ("1e30", "1e+30"), ("\"A\"", "the text \"A\""), ("[0]", "a list")]
    {
        assert_eq!(
            error(&format!(r#"{{"kind": "mc", "query": "q", "choices": ["a", "b"], "gold": {gold}}}"#)),
            format!(
                "probes/quick.jsonl:1: \"gold\" is {shown}, expected the index of the right one of 2, counted from 0: \
                 0 to 1"
            )
        );
    }
}

#[test]
fn a_choice_needs_two_to_choose_from_and_words_in_each() {
    assert_snapshot!(
        error(r#"{"kind": "mc", "query": "q", "choices": ["a"], "gold": 0}"#),
        @r#"probes/quick.jsonl:1: "choices" has 1, expected at least two to choose from"#
    );
    assert_snapshot!(
        error(r#"{"kind": "partial", "contexts": [], "continuation": "c", "gold": 0}"#),
        @r#"probes/quick.jsonl:1: "contexts" has 0, expected at least two to choose from"#
    );
    assert_snapshot!(
        error(r#"{"kind": "mc", "query": "q", "choices": ["a", " "], "gold": 0}"#),
        @r#"probes/quick.jsonl:1: entry 2 of "choices" is empty, expected text, fill it in or remove the item"#
    );
    assert_snapshot!(
        error(r#"{"kind": "mc", "query": "q", "choices": ["a", 2], "gold": 0}"#),
        @r#"probes/quick.jsonl:1: entry 2 of "choices" is the number 2, expected a text"#
    );
    assert_snapshot!(
        error(r#"{"kind": "mc", "query": "q", "choices": "ab", "gold": 0}"#),
        @r#"probes/quick.jsonl:1: "choices" is the text "ab", expected a list"#
    );
    assert_snapshot!(
        error(r#"{"kind": "mc", "query": 3, "choices": ["a", "b"], "gold": 0}"#),
        @r#"probes/quick.jsonl:1: "query" is the number 3, expected a text"#
    );
    assert_snapshot!(
        error(r#"{"kind": "mc", "quary": "q", "choices": ["a", "b"], "gold": 0}"#),
        @r#"probes/quick.jsonl:1: an item of the kind mc needs the key "query", the record has kind, quary, choices, gold; rename "quary" to "query""#
    );
}

#[test]
fn an_empty_text_cannot_be_scored() {
    assert_snapshot!(
        error(r#"{"kind": "cloze", "context": "c", "target": ""}"#),
        @r#"probes/quick.jsonl:1: "target" is empty, expected text, fill it in or remove the item"#
    );
    assert_snapshot!(
        error(r#"{"kind": "ppl", "text": "\n\t "}"#),
        @r#"probes/quick.jsonl:1: "text" is empty, expected text, fill it in or remove the item"#
    );
    assert_snapshot!(
        error(r#"{"kind": "pair", "good": "a", "bad": ""}"#),
        @r#"probes/quick.jsonl:1: "bad" is empty, expected text, fill it in or remove the item"#
    );
    assert_snapshot!(
        error(r#"{"kind": "pair", "good": "a", "bad": "a"}"#),
        @r#"probes/quick.jsonl:1: "good" and "bad" are the same text, expected two sentences, remove the item"#
    );
    assert_snapshot!(
        error(r#"{"kind": "gen", "prompt": "p", "answer": ["a", ""]}"#),
        @r#"probes/quick.jsonl:1: entry 2 of "answer" is empty, expected text, fill it in or remove the item"#
    );
    assert_snapshot!(
        error(r#"{"kind": "ppl", "text": "a", "task": ""}"#),
        @r#"probes/quick.jsonl:1: "task" is empty, expected text, fill it in or remove the item"#
    );
    assert_snapshot!(
        error(r#"{"kind": "ppl", "text": "a", "id": []}"#),
        @r#"probes/quick.jsonl:1: "id" is an empty list, expected a text or a number"#
    );
}

#[test]
fn unknown_names_come_with_a_suggestion() {
    assert_snapshot!(
        error(r#"{"kind": "clozee", "context": "c", "target": "t"}"#),
        @r#"probes/quick.jsonl:1: "kind" is "clozee", expected one of mc, partial, pair, cloze, gen, ifeval, ppl, did you mean "cloze"?"#
    );
    assert_snapshot!(
        error(r#"{"kind": "quiz"}"#),
        @r#"probes/quick.jsonl:1: "kind" is "quiz", expected one of mc, partial, pair, cloze, gen, ifeval, ppl"#
    );
    assert_snapshot!(
        error(r#"{"kid": "mc", "query": "q"}"#),
        @r#"probes/quick.jsonl:1: a probe item needs the key "kind", one of mc, partial, pair, cloze, gen, ifeval, ppl; the record has kid, query; rename "kid" to "kind""#
    );
    assert_snapshot!(error(r#"{"kind": ["mc"]}"#), @r#"probes/quick.jsonl:1: "kind" is a list, expected a text"#);
    assert_snapshot!(
        error(r#"{"kind": "gen", "prompt": "p", "answer": "a", "compare": "exact_match"}"#),
        @r#"probes/quick.jsonl:1: "compare" is "exact_match", expected one of number, exact-match, f1, did you mean "exact-match"?"#
    );
    assert_snapshot!(
        error(r#"{"kind": "ifeval", "prompt": "p", "instruction_id_list": ["punctuation:no_commas"], "kwargs": [{}]}"#),
        @r#"probes/quick.jsonl:1: instruction 1: "punctuation:no_commas" is not known, expected one of the instructions of IFEval, did you mean "punctuation:no_comma"?"#
    );
}

#[test]
fn instructions_and_arguments_must_match() {
    let item = |ids: &str, kwargs: &str| {
        error(&format!(r#"{{"kind": "ifeval", "prompt": "p", "instruction_id_list": {ids}, "kwargs": {kwargs}}}"#))
    };
    assert_snapshot!(
        item(r#"["punctuation:no_comma"]"#, "[]"),
        @r#"probes/quick.jsonl:1: "instruction_id_list" has 1 entries and "kwargs" has 0, expected one object of arguments for each instruction"#
    );
    assert_snapshot!(
        item(r#"["punctuation:no_comma"]"#, "[[]]"),
        @r#"probes/quick.jsonl:1: entry 1 of "kwargs" is an empty list, expected an object"#
    );
    assert_snapshot!(
        item(r#"["punctuation:no_comma"]"#, "{}"),
        @r#"probes/quick.jsonl:1: "kwargs" is an object, expected a list"#
    );
    assert_snapshot!(
        item("[3]", "[{}]"),
        @r#"probes/quick.jsonl:1: entry 1 of "instruction_id_list" is the number 3, expected a text"#
    );
}

#[test]
fn what_is_no_list_of_items_is_refused() {
    assert_snapshot!(error(""), @"probes/quick.jsonl: has no record, expected at least one");
    assert_snapshot!(error("\n \n"), @"probes/quick.jsonl: has no record, expected at least one");
    assert_snapshot!(
        error("[{\"kind\": \"ppl\", \"text\": \"a\"}]"),
        @"probes/quick.jsonl:1: the item is a list, expected an object"
    );
    assert_snapshot!(
        error("{\n\"kind\": \"ppl\"}"),
        @"probes/quick.jsonl:1: not valid JSON at column 1: EOF while parsing an object, an item must stand on one line"
    );
    assert_snapshot!(
        error("{\"kind\": \"ppl\", \"text\": \"a\"}}"),
        @"probes/quick.jsonl:1: not valid JSON at column 29: trailing characters"
    );
    assert_snapshot!(
        error(&"[".repeat(100_000)),
        @"probes/quick.jsonl:1: not valid JSON at column 128: recursion limit exceeded"
    );
    let twice = "{\"kind\": \"ppl\", \"text\": \"a\", \"id\": \"2\"}\n{\"kind\": \"ppl\", \"text\": \"b\"}";
    assert_snapshot!(
        error(twice),
        @r#"probes/quick.jsonl:2: the id "2" stands on line 1 too, expected ids that are unique in their file"#
    );
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*(\n\\PC*){0,3}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_record_panics(
        kind in prop::sample::select(KINDS.to_vec()),
        fields in prop::collection::vec((
            prop::sample::select(vec![
                "id", "task", "lang", "query", "choices", "gold", "contexts", "continuation", "good", "bad", "context",
                "target", "prompt", "answer", "compare", "instruction_id_list", "kwargs", "text",
            ]),
            prop::sample::select(vec![
                json!(null), json!(0), json!(-1), json!(1.5), json!(u64::MAX), json!(""), json!("a"), json!([]),
                json!(["a", "b"]), json!(["punctuation:no_comma", "keywords:existence"]), json!([{}, {}]), json!({}),
                json!([[], null]), json!(true),
            ]),
        ), 0..19),
    ) {
        let mut record: Map<String, Value> = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        record.insert("kind".to_owned(), json!(kind));
        let text = Value::Object(record).to_string();
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().starts_with("probes/quick.jsonl:1: "), "{error}");
        }
    }
}
