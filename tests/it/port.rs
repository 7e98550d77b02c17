//! `greffon port`: a run on another base.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{fixture, greffon, tiny_recipe};

struct Run {
    folder: TempDir,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let test = format!("eval.test=[{{path: {}}}]", folder.path().join("train.jsonl").display());
        let set = ["train.max_steps=3", "eval.max_new_tokens=4", "eval.limit=6", &test];
        let out = greffon(&["train", &tiny_recipe(folder.path(), &set)]);
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Moves the run; its exit code, what it found and what it said.
    fn port(&self, base: &Path, arguments: &[&str]) -> (Option<i32>, Value, String) {
        let run = self.path("run");
        let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
        let out = greffon(&[&["port", &text(&run), "--base", &text(base), "--json"], arguments].concat());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code(), serde_json::from_slice(&out.stdout).unwrap_or_default(), said)
    }
}

#[test]
fn a_run_is_made_again_on_another_base_and_both_are_compared() {
    let run = Run::new();
    let base = fixture("families/qwen3");
    // Six questions cannot tell that nothing is lost, unless all may be.
    let (code, found, said) = run.port(&base, &["--tolerance", "100"]);
    assert_eq!(code, Some(0), "{said}");
    let moved = run.path("run-on-qwen3");
    assert!(moved.join("adapter/adapter_model.safetensors").is_file());
    let changed: Vec<&str> =
        found["changes"].as_array().expect("changes").iter().map(|c| c["key"].as_str().expect("a key")).collect();
    assert_eq!((changed.first(), changed.last()), (Some(&"model.base"), Some(&"output")), "{changed:?}");
    assert!(said.contains("model.base: ") && said.contains("qwen3"), "{said}");
    assert_eq!(found["quality"][0]["items"], 6);
    assert_eq!(found["verdict"]["moves"], true);
    for figures in found["figures"].as_array().expect("of both") {
        assert_eq!(figures["standing"], "finished");
        assert!(figures["kwh"].as_f64().is_some_and(|kwh| kwh > 0.0));
    }
    let evaluated = |folder: &Path| std::fs::read_to_string(folder.join("eval.json")).expect("it was evaluated");
    let before = (evaluated(&run.path("run")), evaluated(&moved));

    // Again: nothing is made or asked twice.
    let made = std::fs::metadata(moved.join("adapter/adapter_model.safetensors")).expect("it is there").modified();
    let (code, again, said) = run.port(&base, &["--tolerance", "100"]);
    assert_eq!((code, &again["quality"]), (Some(0), &found["quality"]), "{said}");
    assert_eq!(before, (evaluated(&run.path("run")), evaluated(&moved)));
    let after = std::fs::metadata(moved.join("adapter/adapter_model.safetensors")).expect("it is there").modified();
    assert_eq!(made.expect("a time"), after.expect("a time"));

    // With another recipe the folder is not taken for it.
    let (code, _, said) = run.port(&base, &["--set", "lora.rank=2"]);
    assert!(code != Some(0) && said.contains("holds a run of another recipe"), "{said}");
}

#[test]
fn what_cannot_be_moved_is_refused_before_anything_is_trained() {
    let run = Run::new();
    let (code, _, said) = run.port(&run.path("nowhere"), &[]);
    assert!(code != Some(0) && said.contains("nowhere"), "{said}");

    let bare = run.path("bare");
    std::fs::create_dir(&bare).expect("a folder");
    for entry in std::fs::read_dir(fixture("families/qwen3")).expect("a folder") {
        let path = entry.expect("an entry").path();
        std::fs::copy(&path, bare.join(path.file_name().expect("a name"))).expect("it is copied");
    }
    let config = bare.join("tokenizer_config.json");
    let mut json: Value = serde_json::from_str(&std::fs::read_to_string(&config).expect("text")).expect("JSON");
    json.as_object_mut().expect("an object").remove("chat_template");
    std::fs::write(&config, json.to_string()).expect("it is written");
    let (code, _, said) = run.port(&bare, &[]);
    assert!(code != Some(0) && said.contains("has no chat template") && said.contains("--chat-template"), "{said}");
    assert!(!run.path("run-on-bare").exists());
}
