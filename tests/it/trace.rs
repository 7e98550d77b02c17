//! `greffon data trace`: from an adapter to its samples and back, over runs, exports and merges.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{greffon, tiny_recipe};

/// A sample as synthesis writes it.
fn sample(id: &str, document: &str, parents: &[&str]) -> Value {
    json!({
        "id": id,
        "messages": [
            {"role": "user", "content": format!("What does {document} say under {id}?")},
            {"role": "assistant", "content": format!("It says {id}.")},
        ],
        "grounding": {
            "document": format!("{document}.md"), "document_sha256": format!("{document}-digest"),
            "url": format!("https://example.org/{document}"), "licence": "etalab-2.0", "context": "", "context_start": 0,
            "question": "", "answer": null,
        },
        "provenance": {
            "method": "grounded", "prompt": "question 01234567", "teacher": "a-teacher", "revision": "r1", "seed": 3,
            "parents": parents,
        },
    })
}

fn write(path: &Path, samples: &[Value]) {
    let lines: Vec<String> = samples.iter().map(Value::to_string).collect();
    fs::write(path, lines.join("\n")).unwrap();
}

/// A folder with two sets of samples and a recipe.
struct Case {
    folder: tempfile::TempDir,
    recipe: String,
}

impl Case {
    /// Documents a, b and c in the first set, c and d in the second.
    fn new(set: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let of = |documents: &[&str]| -> Vec<Value> {
            let each =
                |document: &&str| (0..5).map(|i| sample(&format!("{document}{i}"), document, &[])).collect::<Vec<_>>();
            documents.iter().flat_map(each).collect()
        };
        write(&folder.path().join("first.jsonl"), &of(&["a", "b", "c"]));
        // One was made after a sample of the first set, one after that one; nothing of theirs names the document.
        let derived = [sample("e0", "e", &["a1"]), sample("e1", "e", &["e0"])];
        write(&folder.path().join("second.jsonl"), &[of(&["c", "d"]), derived.to_vec()].concat());
        let always =
            ["train.max_steps=7", "train.save_every=3", "train.keep_checkpoints=9", "data.validation_fraction=0"];
        let recipe = tiny_recipe(folder.path(), &[&always, set].concat());
        Self { folder, recipe }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Trains on a set into a run.
    #[track_caller]
    fn train(&self, set: &str, run: &str, more: &[&str]) -> String {
        let data = format!("data.train=[{{path: {}, licence: CC-BY-4.0}}]", self.path(set));
        let output = format!("output={}", self.path(run));
        let mut arguments = vec!["train", &self.recipe, "--set", &data, "--set", &output];
        for value in more {
            arguments.extend(["--set", value]);
        }
        succeeds(&arguments);
        self.path(run)
    }
}

#[track_caller]
fn succeeds(arguments: &[&str]) -> String {
    let out = greffon(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Runs the verb; its exit code and its report.
#[track_caller]
fn trace(arguments: &[&str]) -> (i32, Value) {
    let out = greffon(&[&["data", "trace"], arguments, &["--json"]].concat());
    let report = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|error| panic!("{arguments:?}: {error}: {}", String::from_utf8_lossy(&out.stderr)));
    (out.status.code().unwrap(), report)
}

/// What the verb says on standard error, with the exit code.
fn refused(arguments: &[&str]) -> (i32, String) {
    let out = greffon(&[&["data", "trace"], arguments].concat());
    (out.status.code().unwrap(), String::from_utf8_lossy(&out.stderr).into_owned())
}

fn samples(place: &Path) -> Vec<Value> {
    let text = fs::read_to_string(place).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last parts of the paths in a list.
fn names(list: &Value) -> Vec<String> {
    let name = |path: &Value| Path::new(path.as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned();
    list.as_array().unwrap().iter().map(name).collect()
}

#[test]
fn a_sample_is_traced_from_its_adapter_and_back() {
    let case = Case::new(&[]);
    let run = case.train("first.jsonl", "runs/first", &[]);
    let lines = samples(&case.file("runs/first/samples.jsonl"));
    assert_eq!(lines.len(), 15);
    // Seven steps of five: two epochs of fifteen, and five of the third.
    let seen: Vec<u64> = lines.iter().map(|line| line["seen"].as_u64().unwrap()).collect();
    assert_eq!(seen.iter().sum::<u64>(), 35);
    assert!(seen.iter().all(|seen| (2..=3).contains(seen)), "{seen:?}");
    assert_eq!(lines[6]["id"], "b1");
    assert_eq!((&lines[6]["line"], &lines[6]["source"]), (&json!(7), &json!(case.path("first.jsonl"))));
    // The adapter knows as much, alone and where it went.
    let bytes = fs::read(case.file("runs/first/samples.jsonl")).unwrap();
    assert_eq!(fs::read(case.file("runs/first/adapter/samples.jsonl")).unwrap(), bytes);
    let manifest: Value =
        serde_json::from_slice(&fs::read(case.file("runs/first/adapter/greffon.json")).unwrap()).unwrap();
    let [of_run] = manifest["data"]["runs"].as_array().unwrap().as_slice() else { panic!("{manifest}") };
    assert_eq!((&of_run["samples"], &of_run["learned"], &of_run["step"]), (&json!(15), &json!(15), &json!(7)));
    let digest = datasets::sha256_files([case.file("first.jsonl")]).unwrap();
    assert_eq!(
        of_run["sources"],
        json!([{"split": "train", "path": case.path("first.jsonl"), "sha256": digest, "licence": "CC-BY-4.0", "samples": 15}])
    );
    // An earlier checkpoint has learned less.
    let earlier = samples(&case.file("runs/first/checkpoints/step-00000003/adapter/samples.jsonl"));
    assert_eq!(earlier.iter().map(|line| line["seen"].as_u64().unwrap()).sum::<u64>(), 15);

    let (gguf, copy) = (case.path("adapter.gguf"), case.path("copy"));
    succeeds(&["export", &run, "--as", "gguf-lora", "--to", &gguf]);
    succeeds(&["export", &run, "--to", &copy]);
    let (imported, from_gguf) = (case.path("imported"), case.path("from-gguf"));
    succeeds(&["import", &copy, "--to", &imported]);
    let tiny = crate::support::fixture("tiny-llama");
    succeeds(&["import", &gguf, "--model", tiny.to_str().unwrap(), "--to", &from_gguf]);
    fs::create_dir(case.file("alone")).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors", "greffon.json", "samples.jsonl"] {
        fs::copy(case.file("copy").join(name), case.file("alone").join(name)).unwrap();
    }
    let adapter = case.path("runs/first/adapter");
    for place in [&run, &adapter, &gguf, &copy, &imported, &from_gguf, &case.path("alone")] {
        let (code, report) = trace(&[place, "--sample", "b1"]);
        assert_eq!(code, 3, "{place}");
        let [found] = report["adapters"][0]["samples"].as_array().unwrap().as_slice() else { panic!("{report}") };
        assert_eq!(found["sample"], lines[6], "{place}");
        let origin = &found["origin"];
        assert_eq!((&origin["teacher"], &origin["prompt"]), (&json!("a-teacher"), &json!("question 01234567")));
        assert_eq!((&origin["licence"], &origin["source_sha256"]), (&json!("etalab-2.0"), &json!(digest)));
        assert_eq!(trace(&[place, "--sample", "d0"]).0, 0, "{place}");
        let by_digest = trace(&[place, "--sample", lines[6]["sha256"].as_str().unwrap()]);
        assert_eq!(by_digest.1["adapters"][0]["learned"], 1);
        let (code, summary) = trace(&[place]);
        assert_eq!((code, &summary["runs"][0]["by_document"]["a.md"]["samples"]), (0, &json!(5)), "{place}");
        assert_eq!(summary["runs"][0]["by_source"][0]["seen"], 35);
    }
    let told = greffon(&["data", "trace", &copy, "--sample", "b1"]);
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    for part in
        ["first.jsonl:7", "b.md, SHA-256 b-digest", "https://example.org/b", "etalab-2.0", "a-teacher, revision r1"]
    {
        assert!(told.contains(part), "{told} does not say {part}");
    }
    // The source is gone: what was recorded is still told.
    fs::remove_file(case.file("first.jsonl")).unwrap();
    let (_, report) = trace(&[&copy, "--sample", "b1"]);
    let origin = &report["adapters"][0]["samples"][0]["origin"];
    assert_eq!((&origin["source_state"], &origin["teacher"]), (&json!("the file is not there any more"), &Value::Null));
}

#[test]
fn what_is_to_be_erased_names_the_adapters_that_learned_it() {
    let case = Case::new(&["train.max_steps=4"]);
    let first = case.train("first.jsonl", "runs/first", &[]);
    let second = case.train("second.jsonl", "runs/second", &[]);
    succeeds(&[
        "merge",
        "--adapter",
        &format!("{first}/adapter"),
        "--adapter",
        &format!("{second}/adapter"),
        "--to",
        &case.path("both"),
    ]);
    let tiny = crate::support::fixture("tiny-llama");
    let merged = ["merge", "--model", tiny.to_str().unwrap(), "--adapter", &format!("{second}/adapter")];
    succeeds(&[&merged[..], &["--to", &case.path("runs/model")]].concat());
    succeeds(&[&merged[..], &["--as", "gguf", "--to", &case.path("runs/model.gguf")]].concat());
    let (runs, both) = (case.path("runs"), case.path("both"));
    let everywhere = |asked: &[&str]| {
        let (code, report) = trace(&[&[runs.as_str(), &both], asked].concat());
        (code, names(&report["learned"]), report)
    };
    let all = ["first", "model", "model.gguf", "second", "both"].map(str::to_owned);
    let not_second = ["first".to_owned(), "both".to_owned()];
    let not_first = ["model", "model.gguf", "second", "both"].map(str::to_owned);
    for (asked, expected) in [
        (["--document", "b.md"], &not_second[..]),
        (["--document", "b-digest"], &not_second[..]),
        (["--document", "https://example.org/d"], &not_first[..]),
        (["--document", "c.md"], &all[..]),
        (["--sample", "d3"], &not_first[..]),
        (["--sample", "b0"], &not_second[..]),
        // In the second set there are samples made after this one, and after that.
        (["--sample", "a1"], &all[..]),
        (["--document", "a.md"], &all[..]),
        (["--source", "first.jsonl"], &all[..]),
        (["--source", &case.path("second.jsonl")], &not_first[..]),
        (["--source", &case.path("runs/../second.jsonl")], &not_first[..]),
        (["--source", &case.path("")], &all[..]),
        (["--source", &datasets::sha256_files([case.file("second.jsonl")]).unwrap()], &not_first[..]),
    ] {
        let (code, learned, report) = everywhere(&asked);
        assert_eq!((code, learned.as_slice()), (3, expected), "{asked:?}: {report:#}");
        assert_eq!(report["unknown"], json!([]));
    }
    let (_, _, report) = everywhere(&["--sample", "a1"]);
    let of = report["adapters"].as_array().unwrap().iter().find(|found| found["path"] == json!(second)).unwrap();
    assert_eq!(of["learned"], 2, "{of:#}");
    for asked in [["--document", "z.md"], ["--sample", "z"], ["--source", "z.jsonl"]] {
        let (code, learned, _) = everywhere(&asked);
        assert_eq!((code, learned.len()), (0, 0), "{asked:?}");
    }
    // A model and an adapter that go on from one that learned it have learned it too.
    let onwards = [format!("model.adapter={first}/adapter"), "lora.rank=4".to_owned()];
    case.train("second.jsonl", "later/adapter", &onwards.each_ref().map(String::as_str));
    case.train("second.jsonl", "later/model", &[&format!("model.base={}", case.path("runs/model"))]);
    let (code, report) = trace(&[&case.path("later"), "--document", "b.md"]);
    assert_eq!((code, names(&report["learned"])), (3, vec!["adapter".to_owned()]), "{report:#}");
    // The base's own samples are those of the second set.
    let (_, summary) = trace(&[&case.path("later/model/adapter")]);
    assert_eq!(summary["runs"].as_array().unwrap().len(), 2);

    // An adapter made elsewhere may have learned anything, and so may what is made of it.
    fs::create_dir(case.file("runs/foreign")).unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(Path::new(&first).join("adapter").join(name), case.file("runs/foreign").join(name)).unwrap();
    }
    let (code, _, report) = everywhere(&["--document", "z.md"]);
    assert_eq!((code, names(&report["unknown"])), (3, vec!["foreign".to_owned()]));
    let mixed = case.path("mixed");
    succeeds(&[
        "merge",
        "--adapter",
        &case.path("runs/foreign"),
        "--adapter",
        &format!("{second}/adapter"),
        "--to",
        &mixed,
    ]);
    let (code, report) = trace(&[&mixed, "--document", "z.md"]);
    assert_eq!((code, names(&report["unknown"])), (3, vec!["mixed".to_owned()]));
    succeeds(&[&merged[..3], &["--adapter", &case.path("runs/foreign"), "--to", &case.path("folded")]].concat());
    assert_eq!(trace(&[&case.path("folded"), "--document", "z.md"]).0, 3);
    let told = greffon(&["data", "trace", &runs, "--document", "z.md"]);
    assert!(String::from_utf8_lossy(&told.stdout).contains("foreign: unknown"), "{told:?}");
}

#[test]
fn a_record_that_was_altered_is_refused_and_nothing_is_not_clean() {
    let case = Case::new(&["train.max_steps=2"]);
    let run = case.train("first.jsonl", "runs/first", &[]);
    case.train("second.jsonl", "runs/second", &[]);
    let record = case.file("runs/first/samples.jsonl");
    let sound = fs::read_to_string(&record).unwrap();
    fs::write(&record, sound.replacen("\"b1\"", "\"b9\"", 1)).unwrap();
    for arguments in [vec![run.as_str(), "--sample", "b1"], vec![&run], vec![&run, "--sample", "b1", "--json"]] {
        let (code, error) = refused(&arguments);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("samples.jsonl: the record of samples was altered: its SHA-256 is "), "{error}");
        assert!(error.contains("runs/first/greffon.json has it"), "{error}");
    }
    // Nothing is made of what has no sound record.
    let adapter = format!("{run}/adapter");
    let kept = fs::read_to_string(case.file("runs/first/adapter/samples.jsonl")).unwrap();
    fs::remove_file(case.file("runs/first/adapter/samples.jsonl")).unwrap();
    fs::write(case.file("runs/first/adapter/samples.jsonl"), kept.replacen("\"b1\"", "\"b9\"", 1)).unwrap();
    let tiny = crate::support::fixture("tiny-llama");
    for arguments in [
        vec!["export", &run, "--to", &case.path("made")],
        vec!["merge", "--adapter", &adapter, "--to", &case.path("made")],
        vec!["merge", "--adapter", &adapter, "--model", tiny.to_str().unwrap(), "--to", &case.path("made")],
    ] {
        let out = greffon(&arguments);
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("the record of samples was altered"), "{out:?}");
        assert!(!case.file("made").exists(), "{arguments:?}");
    }
    // What the others learned is told all the same.
    let runs = case.path("runs");
    let out = greffon(&["data", "trace", &runs, "--sample", "d1", "--json"]);
    assert_eq!(out.status.code(), Some(2));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((names(&report["learned"]), names(&report["damaged"])), (vec!["second".into()], vec!["first".into()]));
    // Without the file it is unknown; with one outside the folder it is refused.
    fs::remove_file(&record).unwrap();
    let (code, report) = trace(&[&runs, "--sample", "z"]);
    assert_eq!((code, names(&report["unknown"])), (3, vec!["first".to_owned()]));
    let manifest = case.file("runs/first/greffon.json");
    let text = fs::read_to_string(&manifest).unwrap();
    for outside in ["../second/samples.jsonl", "/etc/hostname", "..", ""] {
        fs::write(&manifest, text.replace("\"samples.jsonl\"", &json!(outside).to_string())).unwrap();
        let (code, error) = refused(&[&run]);
        assert_eq!(code, 2, "{error}");
        assert!(error.contains("expected the name of a file in the same folder"), "{error}");
    }
    for (arguments, expected) in [
        (vec![case.path("absent")], "could not read"),
        (vec![case.path("runs/second/checkpoints")], ""),
        (vec![tiny_without_anything(&case)], "no run and no adapter is there"),
    ] {
        let asked: Vec<&str> = arguments.iter().map(String::as_str).chain(["--sample", "z"]).collect();
        let (code, error) = refused(&asked);
        if expected.is_empty() {
            assert_eq!(code, 0, "checkpoints are adapters too: {error}");
        } else {
            assert_eq!(code, 2, "{asked:?}: {error}");
            assert!(error.contains(expected), "{error}");
        }
    }
}

/// A folder without adapters.
fn tiny_without_anything(case: &Case) -> String {
    fs::create_dir(case.file("empty")).unwrap();
    case.path("empty")
}

#[test]
fn the_record_is_the_same_from_the_cache_and_after_a_stop() {
    let case = Case::new(&["train.max_steps=9", "data.validation_fraction=0.2", "train.eval_every=3"]);
    let bytes = |run: &str| fs::read(case.file(run).join("samples.jsonl")).unwrap();
    case.train("first.jsonl", "whole", &["data.cache=false"]);
    case.train("first.jsonl", "warm", &[]);
    case.train("first.jsonl", "cached", &[]);
    assert_eq!(bytes("whole"), bytes("cached"));
    let run = case.train("first.jsonl", "short", &["train.max_steps=4"]);
    assert_ne!(bytes("short"), bytes("whole"));
    let of_short: Vec<Value> = samples(&case.file("short/samples.jsonl"));
    assert_eq!(of_short.iter().map(|line| line["seen"].as_u64().unwrap()).sum::<u64>(), 20);
    assert!(of_short.iter().any(|line| line["split"] == "validation" && line["seen"] == 0));
    // The run goes on where it stopped.
    let recipe = Path::new(&run).join("recipe.yaml");
    let text = fs::read_to_string(&recipe).unwrap();
    assert!(text.contains("max_steps: 4"), "{text}");
    fs::write(&recipe, text.replace("max_steps: 4", "max_steps: 9")).unwrap();
    succeeds(&["train", "--resume", &run]);
    assert_eq!(bytes("short"), bytes("whole"));
    // What was held out was not learned.
    let held_out = of_short.iter().find(|line| line["split"] == "validation").unwrap();
    let (code, report) = trace(&[&case.path("whole"), "--sample", held_out["id"].as_str().unwrap()]);
    assert_eq!((code, &report["adapters"][0]["not_learned"]), (0, &json!(1)));
}

#[test]
fn what_is_replayed_is_learned_too() {
    let case = Case::new(&["train.max_steps=3"]);
    let replay = |answers: &str| {
        let path = case.path("second.jsonl");
        format!(
            "forgetting.replay={{sources: [{{path: {path}}}], share: 0.4, max_new_tokens: 100, answers: {answers}}}"
        )
    };
    case.train("first.jsonl", "own", &[&replay("own")]);
    let (code, report) = trace(&[&case.path("own"), "--document", "d.md"]);
    assert_eq!(code, 3, "{report:#}");
    let lines = samples(&case.file("own/samples.jsonl"));
    let replayed: Vec<&Value> = lines.iter().filter(|line| line["split"] == "replay").collect();
    assert_eq!(replayed.len(), 12);
    assert_eq!(replayed.iter().map(|line| line["seen"].as_u64().unwrap()).sum::<u64>(), 6);
    // The base's answers to its questions come from it.
    case.train("first.jsonl", "base", &[&replay("base")]);
    let lines = samples(&case.file("base/samples.jsonl"));
    let replayed: Vec<&Value> = lines.iter().filter(|line| line["split"] == "replay").collect();
    assert!(!replayed.is_empty() && replayed.iter().all(|line| line["source"] == "replay.jsonl"), "{replayed:?}");
    let asked = replayed.iter().find(|line| line["seen"] != 0).unwrap();
    let parent = asked["parents"][0].as_str().unwrap();
    assert_eq!(trace(&[&case.path("base"), "--sample", parent]).0, 3);
    assert_eq!(trace(&[&case.path("base"), "--document", asked["document"].as_str().unwrap()]).0, 3);
}
