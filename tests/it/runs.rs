//! `greffon runs`: listed, compared, and cleaned away with care.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trainer::track::Lock;

use crate::report::{Done, change, cut_off, printed, says};
use crate::support::copy;

/// Runs below `runs`, from one that was trained: `newest` finished, `failed`, `old/killed` cut off, in this order.
struct Runs(Done);

impl Runs {
    fn new() -> Self {
        let done = Done::new(&[]);
        let runs = Self(done);
        for (name, started) in [("newest", "2026-03-03"), ("failed", "2026-02-02"), ("old/killed", "2026-01-01")] {
            copy(&runs.0.path("run"), &runs.run(name));
            change(&runs.run(name).join("run.json"), |info| {
                info["started"] = format!("{started}T00:00:00Z").into();
                info["updated"] = format!("{started}T00:10:00Z").into();
            });
            // Its lines are of an hour ago at most, as its files are.
            let lines = fs::read_to_string(runs.run(name).join("metrics.jsonl")).unwrap();
            let dated = lines.lines().map(|line| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                line["time"] = format!("{started}T00:05:00Z").into();
                format!("{line}\n")
            });
            fs::write(runs.run(name).join("metrics.jsonl"), dated.collect::<String>()).unwrap();
        }
        change(&runs.run("failed/run.json"), |info| {
            info["status"] = "failed".into();
            info["reason"] = "loss is NaN".into();
        });
        cut_off(&runs.run("old/killed"));
        runs
    }

    fn run(&self, name: &str) -> PathBuf {
        self.0.path("runs").join(name)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let folder = self.0.text("runs");
        let (verb, more) = arguments.split_at(usize::from(arguments.first() == Some(&"clean")));
        printed(&[&["runs"], verb, &[&folder], more, &["--json"]].concat())
    }

    /// What `clean` names under a key, by the names below `runs`.
    #[track_caller]
    fn cleaned(&self, key: &str, arguments: &[&str]) -> Vec<String> {
        let said = self.json(&[&["clean"], arguments].concat());
        let name = |value: &Value| {
            let path = Path::new(value["path"].as_str().unwrap());
            path.strip_prefix(self.0.path("runs")).unwrap().to_str().unwrap().to_owned()
        };
        said[key].as_array().unwrap().iter().map(name).collect()
    }
}

#[test]
fn runs_are_listed_with_the_newest_first() {
    let runs = Runs::new();
    let folder = runs.0.text("runs");
    says(0, &["eval", runs.run("newest").to_str().unwrap()]);
    fs::create_dir_all(runs.run("broken/checkpoints")).unwrap();
    fs::write(runs.run("broken/recipe.yaml"), "lora: {").unwrap();
    fs::create_dir_all(runs.run("no-run")).unwrap();
    let listed = runs.json(&[]);
    let of = |key: &str| -> Vec<Value> { listed.as_array().unwrap().iter().map(|run| run[key].clone()).collect() };
    assert_eq!(of("name"), ["newest".into(), "failed".into(), "killed".into(), Value::Null]);
    assert_eq!(of("standing"), ["finished".into(), "failed".into(), "cut-off".into(), Value::Null]);
    let newest = &listed[0];
    assert_eq!((&newest["steps"], &newest["planned_steps"]), (&12.into(), &12.into()));
    let info: Value = serde_json::from_slice(&fs::read(runs.run("newest/run.json")).unwrap()).unwrap();
    assert_eq!(newest["validation_loss"], info["best"][0]);
    assert_eq!(newest["kwh"], info["energy"]["kwh"]);
    assert!(newest["exact_match"].is_number() && listed[1]["exact_match"].is_null());
    assert!(newest["bytes"].as_u64().unwrap() > fs::metadata(runs.run("newest/metrics.jsonl")).unwrap().len());
    assert!(listed[3]["error"].as_str().unwrap().contains("recipe.yaml"), "{}", listed[3]);

    let told = says(0, &["runs", &folder]);
    let places: Vec<usize> = ["newest", "failed", "old/killed", "broken"].map(|n| told.find(n).unwrap()).into();
    assert!(places.is_sorted() && told.contains("12/12") && told.contains("unreadable"), "{told}");
    assert!(told.contains("tiny-llama") && !told.contains("fixtures/tiny-llama"), "{told}");
    assert!(says(2, &["runs", &runs.0.text("nowhere")]).contains("no such folder"));
}

#[test]
fn runs_are_compared_by_what_differs() {
    let done = Done::new(&[]);
    let second = done.text("second");
    let output = format!("output={second}");
    says(0, &["train", &done.recipe, "--set", &output, "--set", "lora.rank=2"]);
    let run = done.text("run");
    let said = printed(&["runs", "compare", &run, &second, "--json"]);
    assert_eq!(said["names"], serde_json::json!(["run", "second"]));
    assert_eq!(said["differing"], serde_json::json!([{"key": "lora.rank", "values": ["4", "2"]}]));
    assert_eq!(said["figures"][0]["steps"], 12);
    let numbers = [0, 1].map(|index| said["figures"][index]["trained_numbers"].as_u64().unwrap());
    assert_eq!(numbers[0], 2 * numbers[1]);
    let told = says(0, &["runs", "compare", &run, &second]);
    assert!(told.contains("lora.rank") && told.contains("Lowest validation loss"), "{told}");
    assert!(says(0, &["runs", "compare", &run, &run]).contains("the recipes are the same"));
    says(2, &["runs", "compare", &run]);
}

#[test]
fn nothing_is_deleted_that_was_not_asked_for_twice() {
    let runs = Runs::new();
    let all = ["newest", "failed", "old/killed"];
    let there = || all.map(|name| runs.run(name).join("recipe.yaml").is_file());
    says(2, &["runs", "clean", &runs.0.text("runs")]);
    assert_eq!(runs.cleaned("runs", &["--failed"]), ["failed", "old/killed"]);
    assert_eq!(runs.cleaned("runs", &["--failed", "--keep-last", "2"]), ["old/killed"]);
    assert_eq!(runs.cleaned("runs", &["--keep-last", "1"]), ["failed", "old/killed"]);
    assert_eq!(runs.cleaned("runs", &["--older-than", "1h"]), all);
    assert_eq!(runs.cleaned("runs", &["--older-than", "1000000h"]), [""; 0]);
    assert_eq!(there(), [true; 3]);
    let told = says(0, &["runs", "clean", &runs.0.text("runs"), "--failed"]);
    assert!(told.contains("would delete 2 runs") && told.contains("add --yes"), "{told}");

    let bytes = runs.json(&["clean", "--failed"])["bytes"].as_u64().unwrap();
    let deleted = runs.json(&["clean", "--failed", "--yes"]);
    assert_eq!((deleted["bytes"].as_u64(), &deleted["deleted"]), (Some(bytes), &true.into()));
    assert_eq!(there(), [true, false, false]);
    assert!(!runs.run("failed").exists(), "nothing is left of it");
    assert_eq!(fs::read_dir(runs.run("old")).unwrap().count(), 0);
}

#[test]
fn what_is_in_use_or_somebodys_own_stays() {
    let runs = Runs::new();
    let held = Lock::take(&runs.run("failed")).unwrap();
    fs::write(runs.run("old/killed/thesis.tex"), "years of work").unwrap();
    assert_eq!(runs.cleaned("runs", &["--failed", "--yes"]), [""; 0]);
    assert_eq!(runs.cleaned("spared", &["--failed"]), ["old/killed"], "the other runs now, and has not failed");
    assert_eq!(runs.cleaned("spared", &["--keep-last", "0"]), ["failed", "old/killed"]);
    let told = says(0, &["runs", "clean", &runs.0.text("runs"), "--failed", "--yes"]);
    assert!(told.contains("thesis.tex is no run's") && told.contains("--force"), "{told}");
    assert!(runs.run("failed/run.json").is_file() && runs.run("old/killed/thesis.tex").is_file());

    // Nor is anything beyond a link touched.
    copy(&runs.0.path("run"), &runs.0.path("elsewhere"));
    cut_off(&runs.0.path("elsewhere"));
    std::os::unix::fs::symlink(runs.0.path("elsewhere"), runs.run("link")).unwrap();
    drop(held);
    assert_eq!(runs.cleaned("runs", &["--failed", "--force", "--yes"]), ["failed", "old/killed"]);
    assert!(runs.0.path("elsewhere/run.json").is_file() && runs.run("newest/run.json").is_file());
}

#[test]
fn checkpoints_go_alone_where_a_run_is_finished() {
    let runs = Runs::new();
    assert_eq!(runs.cleaned("runs", &["--checkpoints", "--yes"]), ["newest/checkpoints"]);
    assert_eq!(runs.cleaned("spared", &["--checkpoints"]), ["failed", "old/killed"]);
    assert!(!runs.run("newest/checkpoints").exists() && runs.run("newest/adapter").is_dir());
    assert!(runs.run("old/killed/checkpoints").is_dir());
    // It is a run still.
    assert_eq!(runs.json(&[])[0]["standing"], "finished");
    assert_eq!(runs.cleaned("runs", &["--checkpoints", "--yes"]), [""; 0]);
}
