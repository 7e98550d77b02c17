//! `greffon data dedup`: what is kept and how it is written, over every form of file, and what it says of bad input.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::greffon_command;

const LONG: &str = "Le locataire doit informer l'assureur du sinistre dans les cinq jours qui suivent sa découverte, sauf \
                    pour un vol, où le délai est de deux jours, et pour une catastrophe naturelle";

fn write(folder: &Path, name: &str, lines: &[Value]) -> String {
    let path = folder.join(name);
    let text = lines.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n");
    fs::write(&path, text).expect("a file");
    path.to_str().expect("plain path").to_owned()
}

/// Runs the verb; its exit code, its output and what it says on standard error.
fn dedup(arguments: &[&str]) -> (i32, String, String) {
    let out = greffon_command(&[&["data", "dedup"], arguments].concat()).output().expect("greffon starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().expect("not killed"), text(&out.stdout), text(&out.stderr))
}

fn dedup_json(arguments: &[&str]) -> Value {
    let (code, out, error) = dedup(&[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{error}");
    serde_json::from_str(&out).expect("one JSON value")
}

#[test]
fn documents_are_kept_as_they_stand_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    let document = |id: u32, text: &str| json!({"id": id, "title": "t", "text": text});
    let first = write(folder.path(), "a.jsonl", &[document(1, LONG), document(2, "Autre chose."), document(3, "…")]);
    // A character that a terminal swallows is printed all the same.
    let second =
        write(folder.path(), "b\u{7f}.jsonl", &[document(4, &format!("{LONG}.")), document(5, "Encore une autre.")]);
    let to = folder.path().join("kept.jsonl");
    let to = to.to_str().expect("plain path");
    let pairs = folder.path().join("pairs.jsonl");
    let report = dedup_json(&[&first, &second, "--to", to, "--pairs", pairs.to_str().expect("plain path")]);
    for (key, expected) in [("records", 5), ("kept", 4), ("removed", 1), ("groups", 1), ("empty", 1)] {
        assert_eq!(report[key], expected, "{key}");
    }
    assert_eq!((&report["form"], &report["bands"], &report["rows"]), (&json!("documents"), &json!(16), &json!(6)));
    assert_eq!(report["examples"][0]["members"][1]["at"], format!("{second}:1"));
    let lines = |path: &str| fs::read_to_string(path).expect("a file");
    let expected = lines(&first) + lines(&second).lines().nth(1).expect("two lines") + "\n";
    assert_eq!(lines(to), expected);
    // Equal but for a full stop: one set of shingles, which is a group and no pair.
    assert_eq!(fs::read_to_string(pairs).expect("a file"), "");

    let (code, _, error) = dedup(&[&first, "--to", to]);
    assert_eq!(code, 2, "{error}");
    assert!(error.contains("kept.jsonl") && error.contains("exists already"), "{error}");
    assert_eq!(lines(to), expected);
    let (code, out, error) = dedup(&[&first, "--to", to, "--force"]);
    assert_eq!(code, 0, "{error}");
    assert!(out.contains("3 records (documents), 3 kept, 0 near-duplicates in 0 groups"), "{out}");
    assert_eq!(lines(to), lines(&first));
}

#[test]
fn questions_about_one_text_are_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let record = |question: &str, answer: &str| {
        let answers = json!([{"text": answer, "answer_start": 0}]);
        json!({"context": LONG, "question": question, "answers": answers})
    };
    let questions = [
        record("Quel est le délai pour un vol ?", "deux jours"),
        record("Qui doit informer l'assureur ?", "Le locataire"),
        record("quel est le délai pour un VOL", "deux jours"),
        record("Qui informe ?", "Le locataire"),
    ];
    let squad = write(folder.path(), "squad.jsonl", &questions);
    let report = dedup_json(&[&squad]);
    assert_eq!((&report["form"], &report["kept"]), (&json!("squad"), &json!(3)));
    assert_eq!(dedup_json(&[&squad, "--compare", "answer"])["kept"], 2);

    let message = |record: &Value| {
        let user = format!("{}\n\n{}", record["context"], record["question"]);
        let answer = &record["answers"][0]["text"];
        json!({"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": answer}]})
    };
    let messages = write(folder.path(), "chat.jsonl", &questions.iter().map(message).collect::<Vec<_>>());
    let report = dedup_json(&[&messages]);
    assert_eq!((&report["form"], &report["kept"]), (&json!("messages"), &json!(2)));
    assert_eq!(dedup_json(&[&messages, "--compare", "prompt", "--threshold", "0.5"])["kept"], 1);
}

#[test]
fn bad_input_is_told_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let documents = write(folder.path(), "documents.jsonl", &[json!({"text": LONG}), json!({"text": 7})]);
    let chat = write(
        folder.path(),
        "chat.jsonl",
        &[json!({"messages": [{"role": "user", "content": "Qui ?"}, {"role": "assistant", "content": "Moi."}]})],
    );
    let sound = write(folder.path(), "sound.jsonl", &[json!({"text": LONG})]);
    let empty = write(folder.path(), "empty.jsonl", &[]);
    let unknown = write(folder.path(), "unknown.jsonl", &[json!({"body": LONG})]);
    let to = folder.path().join("kept.jsonl");
    let to = to.to_str().expect("plain path");
    for (arguments, expected) in [
        (vec![documents.as_str()], "documents.jsonl:2: \"text\" is the number 7, expected a text"),
        (vec![&sound, &chat], "chat.jsonl: got records of the form messages, expected documents"),
        (vec![&empty], "empty.jsonl: has no record"),
        (vec![&unknown], "unknown.jsonl:1: the record has body (and no \"text\" of a document)"),
        (vec![&sound, "--threshold", "1.5"], "dedup.threshold: got 1.5, expected a number from 0.2 to 1"),
        (vec![&sound, "--size", "0"], "dedup.size: got 0, expected a number from 1 to 16"),
        (vec!["absent.jsonl"], "absent.jsonl: cannot be read"),
    ] {
        let (code, _, error) = dedup(&[&arguments[..], &["--to", to]].concat());
        assert_eq!(code, 2, "{arguments:?}: {error}");
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(!Path::new(to).exists(), "{arguments:?}");
    }
}
