//! Forgetting from the command line: measured, gated, held back at every way out, and repaired.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{greffon, tiny_recipe};

/// A file of questions that a random model can be asked.
pub(crate) fn questions(folder: &Path) -> String {
    let texts = (0..6).map(|i| {
        json!({ "id": format!("t{i}"), "task": "text", "lang": "en", "kind": "ppl", "text": format!("A plain sentence, number {i}.") })
    });
    let choices = (0..6).map(|i| {
        let choices = [(i + 1).to_string(), "nine".to_owned()];
        json!({ "id": format!("c{i}"), "task": "choices", "kind": "mc", "query": format!("{i} and one is"), "choices": choices, "gold": 0 })
    });
    let lines: Vec<String> = texts.chain(choices).map(|item| item.to_string()).collect();
    let path = folder.join("questions.jsonl");
    fs::write(&path, lines.join("\n")).unwrap();
    path.to_str().unwrap().to_owned()
}

fn train(folder: &Path, set: &[&str]) -> Output {
    let probes = format!("forgetting.probes=[{}]", questions(folder));
    let mut all = vec![probes.as_str(), "train.max_steps=6"];
    all.extend(set);
    greffon(&["train", &tiny_recipe(folder, &all)])
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn printed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)))
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn an_adapter_that_changes_nothing_has_lost_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // The only step is the first of the warm-up, whose rate is 0: B stays zero.
    let output = train(folder.path(), &["train.max_steps=1", "train.warmup_steps=1", "data.validation_fraction=0"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let found: Value = serde_json::from_slice(&fs::read(folder.path().join("run/forgetting.json")).unwrap()).unwrap();
    for task in found["tasks"].as_array().unwrap() {
        assert_eq!(task["difference"], 0.0, "{task}");
        assert_eq!(task["interval"], json!([0.0, 0.0]));
    }
    for divergence in found["divergences"].as_array().unwrap() {
        assert_eq!(divergence["kl"], 0.0, "{divergence}");
    }
    assert_eq!(found["verdict"]["passed"], true);
}

#[test]
fn an_adapter_beyond_a_limit_ends_with_3_and_gets_out_only_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(folder.path(), &["forgetting.limits.kl=1e-6"]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("forgetting gate: beyond the limits"), "{}", text(&output.stdout));

    let (run, export) = (path(folder.path(), "run"), path(folder.path(), "export"));
    for arguments in [
        vec!["export", &run, "--to", &export],
        vec!["export", &run, "--checkpoint", "last", "--to", &export],
        vec!["merge", "--adapter", &path(folder.path(), "run/adapter"), "--to", &export],
        vec!["push", &path(folder.path(), "run/adapter"), "owner/name"],
    ] {
        let refused = greffon(&arguments);
        assert_eq!(refused.status.code(), Some(3), "{arguments:?}: {}", text(&refused.stderr));
        assert!(text(&refused.stderr).contains("KL to the base, en: lost "), "{}", text(&refused.stderr));
        assert!(!Path::new(&export).exists(), "{arguments:?}");
    }
    let accepted = greffon(&["export", &run, "--to", &export, "--accept-forgetting", "Serves one task."]);
    assert_eq!(accepted.status.code(), Some(0), "{}", text(&accepted.stderr));
    let manifest: Value =
        serde_json::from_slice(&fs::read(folder.path().join("export/greffon.json")).unwrap()).unwrap();
    assert_eq!(manifest["forgetting"]["accepted"], "Serves one task.");
    assert_eq!(manifest["forgetting"]["passed"], false);
    let merged = greffon(&["merge", "--adapter", &export, "--to", &path(folder.path(), "merged")]);
    assert_eq!(merged.status.code(), Some(0), "an accepted adapter goes on: {}", text(&merged.stderr));
    let file = path(folder.path(), "adapter.gguf");
    let accepted =
        greffon(&["export", &run, "--as", "gguf-lora", "--to", &file, "--accept-forgetting", "Serves one task."]);
    assert_eq!(accepted.status.code(), Some(0), "{}", text(&accepted.stderr));
    let manifest = fs::read_to_string(folder.path().join("adapter.gguf.greffon.json")).unwrap();
    assert!(manifest.contains("Serves one task."), "{manifest}");
}

#[test]
fn the_gate_ends_a_run_between_its_steps_and_keeps_the_last_adapter_within_the_limits() {
    let folder = tempfile::tempdir().unwrap();
    let output = train(
        folder.path(),
        &[
            "train.max_steps=20",
            "train.learning_rate=1e-3",
            "forgetting.every=2",
            "forgetting.early_stop=true",
            "forgetting.limits.kl=1e-4",
        ],
    );
    let records = fs::read_to_string(folder.path().join("run/metrics.jsonl")).unwrap();
    let measured: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|record| record.get("passed").is_some())
        .collect();
    assert!(text(&output.stdout).contains("stopped by the forgetting gate"), "{}", text(&output.stderr));
    assert!(measured.len() >= 2 && measured.len() < 10, "{measured:?}");
    // What is kept passed, so the run as a whole does.
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(measured[measured.len() - 2]["passed"], false, "{measured:?}");
    assert_eq!(measured[measured.len() - 1]["passed"], true, "{measured:?}");
    // Its record counts what it learned, and not what the run went on to learn.
    let manifest = fs::read(folder.path().join("run/adapter/greffon.json")).unwrap();
    let step = serde_json::from_slice::<Value>(&manifest).unwrap()["data"]["runs"][0]["step"].clone();
    assert_eq!(measured.iter().rev().nth(2).map(|kept| &kept["step"]), Some(&step), "{measured:?}");
}

#[test]
fn the_base_is_asked_once() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(train(folder.path(), &[]).status.code(), Some(0));
    let run = path(folder.path(), "run");
    let report = path(folder.path(), "report.md");
    let again = greffon(&["forgetting", "measure", &run, "--json", "--report", &report]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(printed(&again)["base_from_cache"], true);
    assert!(fs::read_to_string(&report).unwrap().contains("| text, bits per byte | 6 |"));
    let kept = greffon(&["forgetting", "measure", &run, "--report", &report]);
    assert_eq!(kept.status.code(), Some(2), "nothing is overwritten without --force");
}

#[test]
fn a_repair_finds_a_scale_within_the_limits_and_writes_it() {
    let folder = tempfile::tempdir().unwrap();
    let set = ["train.max_steps=30", "forgetting.limits.kl=0.02", "forgetting.limits.bits_per_byte=null"];
    assert_eq!(train(folder.path(), &set).status.code(), Some(3));
    let (run, repaired) = (path(folder.path(), "run"), path(folder.path(), "repaired"));
    let output = greffon(&["forgetting", "repair", &run, "--to", &repaired, "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let found = printed(&output);
    assert_eq!(found["tried"][0]["scales"], json!([1.0, 1.0, 1.0]));
    assert_eq!(found["tried"][0]["forgetting"]["verdict"]["passed"], false);
    assert_eq!(found["best"]["forgetting"]["verdict"]["passed"], true);
    // What was written is what was measured.
    let recipe = path(folder.path(), "recipe.yaml");
    let measured = printed(&greffon(&["forgetting", "measure", &recipe, "--adapter", &repaired, "--json"]));
    let kl = |found: &Value| found["divergences"][0]["kl"].as_f64().unwrap();
    let (written, proposed) = (kl(&measured), kl(&found["best"]["forgetting"]));
    assert!((written - proposed).abs() <= 1e-5 + 1e-3 * proposed, "{written} and {proposed}");
    // It learned what the run's adapter did.
    let data = |adapter: &str| -> Value {
        let manifest = fs::read(Path::new(adapter).join("greffon.json")).unwrap();
        serde_json::from_slice::<Value>(&manifest).unwrap()["data"].clone()
    };
    assert_eq!(data(&repaired), data(&path(folder.path(), "run/adapter")));
    assert_eq!(greffon(&["merge", "--adapter", &repaired, "--to", &path(folder.path(), "out")]).status.code(), Some(0));
}

#[test]
fn bad_questions_are_told_by_file_and_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "bad.jsonl");
    fs::write(&file, "{\"kind\": \"mc\", \"query\": \"1 and 1 is\", \"choices\": [\"2\", \"3\"]}\n").unwrap();
    let recipe = tiny_recipe(folder.path(), &[&format!("forgetting.probes=[{file}]")]);
    let refused = greffon(&["train", &recipe]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("bad.jsonl:1"), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("gold"), "{}", text(&refused.stderr));
}

#[test]
fn a_task_that_measures_two_things_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "mixed.jsonl");
    let lines = [
        r#"{"id": 1, "task": "mixed", "kind": "ppl", "text": "A plain sentence."}"#,
        r#"{"id": 2, "task": "mixed", "kind": "pair", "good": "It is.", "bad": "It are."}"#,
    ];
    fs::write(&file, lines.join("\n")).unwrap();
    let refused = greffon(&["train", &tiny_recipe(folder.path(), &[&format!("forgetting.probes=[{file}]")])]);
    assert_eq!(refused.status.code(), Some(2));
    let message = text(&refused.stderr);
    assert!(message.contains("mixed.jsonl:2: task \"mixed\" measures something else here than at "), "{message}");
}

#[test]
fn questions_that_were_trained_on_are_told_and_refused_by_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "leaked.jsonl");
    let question = "Which colour is number 7?";
    fs::write(
        &file,
        format!("{{\"id\": \"leak\", \"kind\": \"ppl\", \"text\": \"{question} a long shade of grey\"}}\n"),
    )
    .unwrap();
    let recipe = tiny_recipe(folder.path(), &[&format!("forgetting.probes=[{file}]"), "train.max_steps=1"]);
    let refused = greffon(&["train", &recipe]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stderr));
    assert!(text(&refused.stderr).contains("question leak stands in the training data"), "{}", text(&refused.stderr));
    assert!(text(&refused.stdout).contains("1 of the questions were trained on"), "{}", text(&refused.stdout));
}
