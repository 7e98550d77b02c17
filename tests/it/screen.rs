//! `greffon data screen`, and the gate `data.screen` of a recipe.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{greffon, tiny_recipe};

const LINE: &str = "Je m'appelle Jean Rodriguez, IBAN FR14 2004 1010 0505 0001 3M02 606.";

fn case() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("texts.jsonl");
    let lines = [json!({"id": "a", "text": LINE}), json!({"id": "b", "text": "rien à signaler"})];
    fs::write(&path, lines.map(|line| format!("{line}\n")).concat()).unwrap();
    let path = path.to_string_lossy().into_owned();
    (folder, path)
}

#[track_caller]
fn run(code: i32, arguments: &[&str]) -> String {
    let out = greffon(arguments);
    let said = String::from_utf8(out.stdout).unwrap() + &String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

fn text(path: &Path) -> String {
    let first = fs::read_to_string(path).unwrap();
    let value: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    value["text"].as_str().unwrap().to_owned()
}

#[test]
fn findings_are_counted_and_hidden_unless_shown() {
    let (_folder, path) = case();
    let said = run(0, &["data", "screen", &path]);
    assert!(said.contains("iban") && said.contains("•••• •••••••••") && !said.contains("Rodriguez"), "{said}");
    let report: Value =
        serde_json::from_str(&run(3, &["data", "screen", &path, "--json", "--show", "--fail-on", "iban"])).unwrap();
    assert_eq!(report["texts"], 2);
    assert_eq!(report["kinds"]["person"]["examples"], json!(["Jean Rodriguez"]));
    assert_eq!(report["findings"][1]["start"], 34);
    run(0, &["data", "screen", &path, "--fail-on", "vin"]);
}

#[test]
fn texts_are_masked_and_pseudonymised_into_new_files() {
    let (folder, path) = case();
    let to = folder.path().join("clean.jsonl");
    let to_text = to.to_string_lossy();
    run(0, &["data", "screen", &path, "--action", "mask", "--to", &to_text]);
    assert_eq!(text(&to), "Je m'appelle [PERSON], IBAN [IBAN].");
    let again = run(2, &["data", "screen", &path, "--action", "mask", "--to", &to_text]);
    assert!(again.contains("exists already"), "{again}");
    let key = folder.path().join("key").to_string_lossy().into_owned();
    let arguments = ["data", "screen", &path, "--action", "pseudonymise", "--to", &to_text, "--force", "--key", &key];
    assert!(run(2, &arguments).contains("cannot be read"));
    run(0, &[&arguments[..], &["--make-key"]].concat());
    let first = text(&to);
    assert!(!first.contains("Rodriguez") && !first.contains("2004 1010"), "{first}");
    run(0, &arguments);
    assert_eq!(text(&to), first, "the same key gives the same aliases");
    let report: Value = serde_json::from_str(&run(0, &["data", "screen", &to_text, "--json"])).unwrap();
    assert_eq!(report["kinds"]["iban"]["count"], 1);
    assert_eq!(report["kinds"]["person"]["count"], 1);
}

#[test]
fn what_cannot_be_screened_is_told_with_its_place() {
    let (folder, path) = case();
    fs::write(&path, "{\"text\": \"a\"}\n{\n").unwrap();
    assert!(run(2, &["data", "screen", &path]).contains("texts.jsonl:2: is no JSON"));
    let binary = folder.path().join("x.txt").to_string_lossy().into_owned();
    fs::write(&binary, b"ab\xff\xfe").unwrap();
    assert!(run(2, &["data", "screen", &binary]).contains("x.txt: byte 3 is not UTF-8"));
    assert!(run(2, &["data", "screen", &path, "--kinds", "emial"]).contains("did you mean \"email\"?"));
    run(2, &["data", "screen", &path, "--action", "mask"]);
}

#[test]
fn the_gate_of_a_recipe_screens_what_every_verb_sees() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny_recipe(folder.path(), &[]);
    let train = folder.path().join("train.jsonl");
    let line = json!({"messages": [
        {"role": "user", "content": format!("{LINE} Quel est le nom ?")},
        {"role": "assistant", "content": "Rodriguez"},
    ]});
    let old = fs::read_to_string(&train).unwrap();
    fs::write(&train, format!("{line}\n{old}")).unwrap();
    let with = |screen: &str| {
        vec![
            "--set".to_owned(),
            format!("data.screen={screen}"),
            "--set".to_owned(),
            "data.validation_fraction=0".to_owned(),
        ]
    };
    let run = |code: i32, verb: &[&str], screen: &str| {
        let set = with(screen);
        let arguments: Vec<&str> =
            verb.iter().copied().chain([recipe.as_str()]).chain(set.iter().map(String::as_str)).collect();
        run(code, &arguments)
    };
    let said = run(0, &["data", "preview", "-n", "1"], "{action: mask}");
    assert!(said.contains("[PERSON]") && said.contains("[IBAN]") && !said.contains("Rodriguez"), "{said}");
    assert!(said.contains("screening (mask): 1 iban, 2 person"), "{said}");
    let said = run(0, &["data", "preview", "-n", "1"], "{kinds: [iban]}");
    assert!(said.contains("Rodriguez") && said.contains("screening (report): 1 iban"), "{said}");
    let said = run(3, &["data", "prepare"], "{action: refuse}");
    assert!(said.contains("train.jsonl:1: holds 1 of kind iban, expected none"), "{said}");
    let said = run(2, &["data", "prepare"], "{licences: {allowed: [MIT]}}");
    assert!(said.contains("the recipe names no licence, expected one of MIT"), "{said}");
}
