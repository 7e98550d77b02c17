//! Data that is tokenised once and kept: `greffon data prepare`, and what a killed process leaves.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{greffon_command, tiny_recipe};

/// Prepares the data of a recipe with a cache of its own.
fn prepare(recipe: &str, cache: &Path, more: &[&str]) -> Value {
    let mut arguments = vec!["data", "prepare", recipe, "--json"];
    arguments.extend(more);
    let out = greffon_command(&arguments).env("GREFFON_CACHE", cache).output().expect("greffon starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON value")
}

#[test]
fn prepare_keeps_the_tokens_for_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=2"]);
    let cache = folder.path().join("cache");
    let first = prepare(&recipe, &cache, &[]);
    assert_eq!((&first["from_cache"], &first["train"]["conversations"]), (&false.into(), &first["train"]["examples"]));
    let file = first["cache_file"].as_str().expect("a path");
    assert_eq!(Path::new(file).parent(), Some(cache.join("data").as_path()));
    let kept = fs::read(file).expect("the file is there");

    let run = |set: &[&str]| {
        let mut arguments = vec!["train", &recipe, "--force", "--json"];
        arguments.extend(set.iter().flat_map(|value| ["--set", value]));
        let out = greffon_command(&arguments).env("GREFFON_CACHE", &cache).output().expect("greffon starts");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        let adapter = fs::read(folder.path().join("run/adapter/adapter_model.safetensors")).expect("the result");
        (String::from_utf8_lossy(&out.stderr).into_owned(), adapter)
    };
    let (said, from_cache) = run(&[]);
    assert!(!said.contains("WARN"), "{said}");
    assert_eq!(fs::read(file).expect("the file is there"), kept);
    let (_, without) = run(&["data.cache=false"]);
    assert!(from_cache == without, "the run is the same with and without the cache");

    let second = prepare(&recipe, &cache, &[]);
    assert_eq!(second["from_cache"], true);
    for key in ["train", "validation", "fingerprint", "notes", "tokens"] {
        assert_eq!(second[key], first[key], "{key}");
    }
    assert_eq!(prepare(&recipe, &cache, &["--set", "data.cache=false"])["cache_file"], Value::Null);
}

#[test]
fn a_process_killed_while_it_writes_leaves_nothing_that_is_used() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["data.max_length=512"]);
    let mut lines = String::new();
    for i in 0..30_000 {
        let words = "the scion is cut on the slant and bound to the stock ".repeat(3);
        writeln!(
            lines,
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"{i}: {words}\"}}, \
             {{\"role\": \"assistant\", \"content\": \"{}\"}}]}}",
            i * 7919 % 10_007
        )
        .expect("a text grows");
    }
    fs::write(folder.path().join("train.jsonl"), lines).expect("a file");
    let cache = folder.path().join("cache");
    let files = || -> Vec<(std::path::PathBuf, u64)> {
        let Ok(entries) = fs::read_dir(cache.join("data")) else { return Vec::new() };
        let sized = |entry: fs::DirEntry| Some((entry.path(), entry.metadata().ok()?.len()));
        entries.flatten().filter_map(sized).collect()
    };

    let mut child =
        greffon_command(&["data", "prepare", &recipe]).env("GREFFON_CACHE", &cache).spawn().expect("greffon starts");
    let begun = Instant::now();
    while !files().iter().any(|(_, bytes)| *bytes > 1 << 18) {
        assert!(begun.elapsed() < Duration::from_mins(1) && child.try_wait().expect("a child").is_none());
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("it runs");
    assert!(!child.wait().expect("a child").success(), "it was killed before its end");
    let left = files();
    assert!(left.iter().all(|(path, _)| path.extension().is_some_and(|ending| ending == "part")), "{left:?}");

    let first = prepare(&recipe, &cache, &[]);
    assert_eq!(first["from_cache"], false);
    assert_eq!(prepare(&recipe, &cache, &[])["from_cache"], true);
    let fresh = prepare(&recipe, &cache, &["--set", "data.cache=false"]);
    assert_eq!(fresh["fingerprint"], first["fingerprint"]);
}
