//! Run folders: in the way, not there, damaged, and on a disk that fills up.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Case, assert_error, files, greffon_with_limit};
use crate::support::{greffon, greffon_command, signal};

#[test]
fn a_folder_that_holds_a_run_is_not_written_over() {
    let case = Case::new(&["train.max_steps=2"]);
    let run = case.train(&[]);
    case.refused(&[], &[run.to_str().unwrap(), "holds a run already", "greffon train --resume", "--force"]);
    let forced = greffon(&["train", &case.recipe, "--force"]);
    assert!(forced.status.success(), "{}", String::from_utf8_lossy(&forced.stderr));
}

#[test]
fn a_folder_with_something_else_in_it_is_not_taken_for_a_run_not_even_with_force() {
    let case = Case::new(&["train.max_steps=2"]);
    // The folder of the recipe itself: it holds a recipe.yaml, and the data.
    let output = format!("output={}", case.folder.path().display());
    let words = ["is not empty and holds no run", "name another in the recipe's `output`"];
    case.refused(&[&output], &words);
    case.command_refused(&["train", &case.recipe, "--force", "--set", &output], &words);
}

#[test]
fn what_is_no_run_folder_cannot_be_resumed_evaluated_or_exported() {
    let case = Case::new(&[]);
    let missing = case.path("missing");
    // A folder with a recipe that was never run, and none at all.
    for folder in [case.folder.path(), &missing] {
        let name = folder.to_str().unwrap();
        let words = [name, "is not a run folder", "expected the `output` folder of `greffon train`"];
        case.command_refused(&["train", "--resume", name], &words);
        case.command_refused(&["export", name, "--to", "nowhere"], &words);
        case.command_refused(&["generate", "--run", name, "hello"], &words);
    }
    case.command_refused(&["eval", case.folder.path().to_str().unwrap()], &["is not a run folder"]);
}

#[test]
fn resuming_with_other_data_is_refused() {
    let case = Case::new(&["train.max_steps=2"]);
    let run = case.train(&[]);
    case.edit("train.jsonl", "Which colour is number 3?", "Which colour is number 333?");
    let words = ["training data is not what the run started with", "restore the data, or start a new run"];
    case.command_refused(&["train", "--resume", run.to_str().unwrap()], &words);
}

#[test]
fn a_hostile_checkpoint_is_refused_when_there_is_no_other() {
    let case = Case::new(&["train.max_steps=2", "train.keep_checkpoints=1"]);
    let run = case.train(&[]);
    let header =
        r#"{"exp_avg":{"dtype":"F32","shape":[2],"data_offsets":[18446744073709551608,18446744073709551615]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    case.write("run/checkpoints/step-00000002/optimizer.safetensors", bytes);
    let words = ["step-00000002/optimizer.safetensors: tensor `exp_avg`", "do not lie in the 0 bytes of data"];
    case.command_refused(&["train", "--resume", run.to_str().unwrap()], &words);
}

/// The names of the checkpoints.
fn checkpoints(run: &Path) -> Vec<String> {
    let entries = run.join("checkpoints").read_dir().expect("checkpoints");
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_leaves_the_checkpoint_before_and_the_run_goes_on_from_it_bit_for_bit() {
    let case = Case::new(&["train.max_steps=120", "train.save_every=40", "train.eval_every=1000", "lora.dropout=0.1"]);
    let whole = format!("output={}", case.path("whole").display());
    let done = greffon(&["train", &case.recipe, "--set", &whole]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    // A run with one checkpoint, where it was stopped.
    let run = case.path("run");
    let child = greffon_command(&["train", &case.recipe]).spawn().expect("greffon starts");
    let start = Instant::now();
    while !fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default().contains("\"step\":3,") {
        assert!(start.elapsed() < Duration::from_mins(1), "the run makes no steps");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    signal("INT", [pid]);
    assert_eq!(child.wait_with_output().expect("it ends").status.code(), Some(130));
    let before = checkpoints(&run);
    let saved = files(&run.join("checkpoints"));

    // No file may grow beyond 80 KiB: the adapter fits, the optimizer's state does not.
    let resume = ["train", "--resume", run.to_str().unwrap()];
    let out = greffon_with_limit("-f 80", &resume).output().expect("bash starts");
    let stopped: u64 = before.last().and_then(|name| name.strip_prefix("step-")).expect("one").parse().unwrap();
    let failed = format!("could not save after step {}: cannot write ", (stopped / 40 + 1) * 40);
    let words = [
        failed.as_str(),
        "optimizer.safetensors: File too large",
        "what was saved before is whole",
        "make room, then go on: greffon train --resume",
        run.to_str().unwrap(),
    ];
    let error = assert_error(&out, 1, &words);
    assert_eq!(files(&run.join("checkpoints")), saved, "the checkpoint before is whole, and nothing lies beside it");
    let info: serde_json::Value = serde_json::from_str(&case.read("run/run.json")).expect("JSON");
    assert_eq!((&info["status"], &info["reason"]), (&"failed".into(), &error.into()));

    // With room again, it ends with the bytes of the run that was never stopped.
    let resumed = greffon(&resume);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    for name in ["adapter/adapter_model.safetensors", "checkpoints/step-00000120/optimizer.safetensors"] {
        let bytes = |run: &str| fs::read(case.path(run).join(name)).expect("a file");
        assert!(bytes("run") == bytes("whole"), "{name} differs");
    }
}

#[test]
fn a_run_whose_folder_vanishes_ends_and_goes_on_when_it_is_back() {
    let case = Case::new(&["train.max_steps=400", "train.save_every=20", "train.eval_every=1000"]);
    let whole = format!("output={}", case.path("whole").display());
    let done = greffon(&["train", &case.recipe, "--set", &whole]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let (run, away) = (case.path("run"), case.path("away"));
    let child = greffon_command(&["train", &case.recipe]).spawn().expect("greffon starts");
    let start = Instant::now();
    while !run.join("checkpoints/step-00000020").is_dir() {
        assert!(start.elapsed() < Duration::from_mins(1), "the run saves nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::rename(&run, &away).expect("it can be moved");
    let out = child.wait_with_output().expect("it ends");
    let words = ["could not save after step ", "its folder is gone: bring it back", "--resume"];
    assert_error(&out, 1, &words);

    fs::rename(&away, &run).expect("it can be moved");
    let resumed = greffon(&["train", "--resume", run.to_str().unwrap()]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let bytes = |run: &str| fs::read(case.path(run).join("adapter/adapter_model.safetensors")).expect("a file");
    assert!(bytes("run") == bytes("whole"));
}
