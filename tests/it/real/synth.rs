//! Samples from public documents with a model behind llama.cpp's server; the program is killed half-way and started again.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::servers::Server;
use super::variable;
use crate::support::greffon_command;

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("whole lines")).collect()
}

#[test]
fn a_set_that_was_killed_half_way_goes_on_without_asking_twice() {
    let server = Server::llama_cpp(&variable("GREFFON_GEMMA3"), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let (recipe, set) =
        (Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/synth/recipe.yaml"), folder.path().join("set"));
    let steps = "steps=[{grounded: {passage_tokens: 100, per_passage: 2, passages: 6, unanswerable: 0.2}}]";
    let command = || {
        let mut command = greffon_command(&["synth"]);
        command.arg(&recipe).args(["--force", "--json", "--set", steps]);
        command.args(["--set", &format!("teacher.endpoint.url={}", server.address)]);
        command.args(["--set", &format!("output={}", set.display())]);
        command
    };
    let journal = set.join("answers.jsonl");
    let mut killed = command().spawn().expect("the program starts");
    let started = Instant::now();
    while fs::read_to_string(&journal).unwrap_or_default().lines().count() < 4 {
        assert!(started.elapsed() < Duration::from_mins(5), "the teacher does not answer");
        sleep(Duration::from_millis(20));
    }
    killed.kill().expect("it is still at work");
    killed.wait().expect("it ends");
    let kept = fs::read_to_string(&journal).expect("the answers").lines().count();

    let done = command().output().expect("the program starts");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let report: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let answers = lines(&journal);
    let keys: HashSet<&str> = answers.iter().filter_map(|answer| answer["key"].as_str()).collect();
    assert_eq!((keys.len(), answers.len()), (12, 12), "six passages, two questions each, none asked twice");
    assert!(kept < 12 && report["finished"] == true, "{report}");

    let samples = lines(&set.join("samples.jsonl"));
    assert!(!samples.is_empty() && report["samples"] == samples.len(), "{report}");
    let kwh = |key: &str| report["energy"][key].as_f64().unwrap_or_default();
    assert!(
        kwh("kwh") > 0.0 && (kwh("kwh_per_sample") * samples.len() as f64 / kwh("kwh") - 1.0).abs() < 1e-9,
        "{report}"
    );
    let card = fs::read_to_string(set.join("README.md")).expect("a data card");
    assert!(card.contains("license: etalab-2.0") && card.contains("| grounded | question@"), "{card}");
    assert!(report["screening"]["action"] == "mask" && set.join("croissant.json").exists(), "{report}");
    let documents = lines(&recipe.with_file_name("documents.jsonl"));
    for sample in &samples {
        let text =
            |pointer: &str| sample.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{sample}"));
        let document =
            documents.iter().find(|document| document["id"] == text("/grounding/document")).expect("its source");
        let whole = document["text"].as_str().expect("a text");
        assert!(whole.contains(text("/grounding/context")) && sample["provenance"]["teacher"] == "teacher");
        assert_eq!(sample["grounding"]["licence"], "etalab-2.0");
        if sample["grounding"]["answer"].is_object() {
            assert!(whole.contains(text("/grounding/answer/text")));
        }
    }
}
