//! `greffon eval`: groups of questions, a prompt with examples, and answers of something else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{greffon, tiny_recipe};

/// A run, with questions in two files.
struct Asked {
    folder: TempDir,
}

const COLOURS: [&str; 6] = ["red", "green", "blue", "black", "white", "grey"];

impl Asked {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (file, questions) in [("first.jsonl", 0..4), ("second.jsonl", 4..6)] {
            let mut lines = String::new();
            for i in questions {
                let record = serde_json::json!({
                    "id": format!("q{i}"), "layout": i % 2, "prompt": format!("colour {i}"), "completion": COLOURS[i],
                });
                writeln!(lines, "{record}").expect("a text grows");
            }
            std::fs::write(folder.path().join(file), lines).expect("it is written");
        }
        let sources =
            ["first.jsonl", "second.jsonl"].map(|file| format!("{{path: {}}}", folder.path().join(file).display()));
        let test = format!("eval.test=[{}]", sources.join(", "));
        let recipe = tiny_recipe(folder.path(), &["train.max_steps=2", "eval.max_new_tokens=4", &test]);
        let out = greffon(&["train", &recipe]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `greffon eval` finds on top of its recipe.
    fn found(&self, arguments: &[&str]) -> Value {
        let run = self.path("run");
        let out = greffon(&[&["eval", run.to_str().expect("UTF-8"), "--json"], arguments].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("one JSON value")
    }

    /// Why it refuses, with exit code 2 or 1.
    fn refused(&self, arguments: &[&str]) -> String {
        let run = self.path("run");
        let out = greffon(&[&["eval", run.to_str().expect("UTF-8")], arguments].concat());
        assert!(!out.status.success());
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.path(name), text).expect("it is written");
        self.path(name).to_str().expect("UTF-8").to_owned()
    }
}

fn exact_match(metrics: &Value) -> &Value {
    let metrics = metrics.as_array().expect("metrics");
    metrics.iter().find(|metric| metric["metric"] == "exact match").expect("it is measured")
}

#[test]
fn questions_are_compared_by_file_and_by_the_keys_of_their_records() {
    let asked = Asked::new();
    let found = asked.found(&["--set", "eval.group_by=[layout]"]);
    let groups: Vec<(String, String, u64)> = found["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .map(|group| {
            let text = |key: &str| group[key].as_str().expect("a text").to_owned();
            let value = Path::new(&text("value")).file_name().expect("a name").to_string_lossy().into_owned();
            (text("by"), value, exact_match(&group["metrics"])["items"].as_u64().expect("a number"))
        })
        .collect();
    let expected = [("file", "first.jsonl", 4), ("file", "second.jsonl", 2), ("layout", "0", 3), ("layout", "1", 3)];
    assert_eq!(groups, expected.map(|(by, value, items)| (by.to_owned(), value.to_owned(), items)));
    let said = asked.refused(&["--set", "eval.group_by=[layuot]"]);
    assert!(said.contains("no question has the key \"layuot\""), "{said}");
    assert!(said.contains("they have: completion, layout, prompt"), "{said}");
}

#[test]
fn an_adapter_is_compared_with_the_answers_of_something_else() {
    let asked = Asked::new();
    let in_order: Vec<String> = COLOURS.iter().map(|colour| format!("{{\"answer\": \"{colour}\"}}")).collect();
    let right = asked.write("right.jsonl", &in_order.join("\n"));
    let found = asked.found(&["--rival", &right]);
    assert_eq!(found["against"], "right.jsonl");
    assert_eq!(exact_match(&found["metrics"])["base"], 1.0);
    assert_eq!(found["metrics"].as_array().map(Vec::len), Some(2), "answers have no loss");
    assert!(!asked.path("run/eval.json").exists(), "it is not the run's own evaluation");

    // By id, in another order, four of six right.
    let by_id =
        (0..6).rev().map(|i| format!("{{\"id\": \"q{i}\", \"answer\": \"{}\"}}", if i < 4 { COLOURS[i] } else { "?" }));
    let by_id = asked.write("by-id.jsonl", &by_id.collect::<Vec<_>>().join("\n"));
    let found = asked.found(&["--rival", &by_id]);
    assert!((exact_match(&found["metrics"])["base"].as_f64().expect("a number") - 4.0 / 6.0).abs() < 1e-12);

    // Two files, and no model.
    let found = asked.found(&["--answers", &by_id, "--rival", &right]);
    assert_eq!((&found["of"], &found["against"]), (&Value::from("by-id.jsonl"), &Value::from("right.jsonl")));
    assert!((exact_match(&found["metrics"])["difference"].as_f64().expect("a number") + 2.0 / 6.0).abs() < 1e-12);

    for (text, expected) in [
        ("{\"answer\": \"red\"}", "1 answers, 0 of them with an id, to 6 questions"),
        ("{\"anwser\": \"red\"}", "line 1: missing field `answer`"),
        (
            "{\"id\": \"q1\", \"answer\": \"\"}\n{\"id\": \"q1\", \"answer\": \"\"}",
            "line 2: a second answer to the question \"q1\"",
        ),
        (
            &(1..7).map(|i| format!("{{\"id\": \"q{i}\", \"answer\": \"\"}}")).collect::<Vec<_>>().join("\n"),
            "with the id \"q0\"",
        ),
    ] {
        let said = asked.refused(&["--rival", &asked.write("wrong.jsonl", text)]);
        assert!(said.contains("wrong.jsonl") && said.contains(expected), "{said}");
    }
}

#[test]
fn a_base_that_is_shown_examples_answers_otherwise_and_the_adapter_does_not() {
    let asked = Asked::new();
    let plain = asked.found(&[]);
    let shown = asked.found(&["--set", "eval.num_fewshot=2"]);
    assert_eq!((&plain["against"], &shown["against"]), (&Value::from("base"), &Value::from("base, 2 shown")));
    let answers = |found: &Value, of: &str| -> Vec<Value> {
        found["answers"].as_array().expect("answers").iter().map(|answer| answer[of].clone()).collect()
    };
    assert_ne!(answers(&plain, "base"), answers(&shown, "base"));
    assert_eq!(answers(&plain, "adapter"), answers(&shown, "adapter"));
    assert_eq!(answers(&shown, "question"), (0..6).map(|i| format!("colour {i}").into()).collect::<Vec<Value>>());
}
