//! Several processes that make one run, over MPI.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use adapters::PeftAdapter;
use serde_json::Value;

use super::processes::rank as rank_of;
use crate::resume::{adapter_bytes, metrics, numbers};
use crate::support::{assert_near, greffon, greffon_command, signal, tiny_recipe, write_replayed};

/// The variable by which a rank knows its number.
pub(super) const RANK: &str = "OMPI_COMM_WORLD_RANK";

/// The recipe of the runs: dropout, replay, validation, several epochs, and fewer examples in a step than ranks may be.
pub(super) fn recipe(folder: &Path, more: &[&str]) -> String {
    let general = folder.join("general.jsonl");
    write_replayed(&general);
    let replay = format!(
        "forgetting.replay={{sources: [{{path: {}}}], share: 0.5, answers: base, max_new_tokens: 100}}",
        general.display()
    );
    let always = ["train.max_steps=50", "train.save_every=4", "lora.dropout=0.1", "forgetting.kl_weight=0.5", &replay];
    tiny_recipe(folder, &[&always, more].concat())
}

/// Trains as so many processes; the run folder is `name` in `folder`.
fn launch(folder: &Path, ranks: usize, recipe: &str, name: &str) -> Output {
    let output = format!("output={}", folder.join(name).display());
    greffon(&["launch", "-n", &ranks.to_string(), recipe, "--set", &output])
}

fn succeed(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Holds the losses and the adapter of a run against those of another, and gives the largest difference of each.
#[track_caller]
pub(super) fn assert_same_run(what: &str, run: &Path, other: &Path) -> (f64, f32) {
    let (lines, others) = (numbers(run), numbers(other));
    assert_eq!(lines.len(), others.len());
    let mut of_losses = 0.0_f64;
    for (line, expected) in lines.iter().zip(&others) {
        for key in ["loss", "replay_loss", "kl", "validation_loss"] {
            let value = |line: &Value| line.get(key).map(|value| value.as_f64().expect("a number"));
            let (Some(got), Some(expected)) = (value(line), value(expected)) else {
                assert_eq!(value(line).is_some(), value(expected).is_some(), "{key}");
                continue;
            };
            of_losses = of_losses.max((got - expected).abs());
            assert_near(&format!("{key}, {what}: {line}"), got, expected, 1e-5);
        }
    }
    let of_adapter = adapter_difference(run, other);
    assert!(of_adapter <= 1e-4, "{of_adapter}");
    (of_losses, of_adapter)
}

/// The largest difference between the numbers of two runs' adapters.
fn adapter_difference(run: &Path, other: &Path) -> f32 {
    let read = |run: &Path| PeftAdapter::read(&run.join("adapter")).expect("the run has an adapter");
    let (adapter, other) = (read(run), read(other));
    assert_eq!(adapter.pairs.len(), other.pairs.len());
    let of_pair = |module| {
        let (pair, other) = (&adapter.pairs[module], &other.pairs[module]);
        let matrices = [(&pair.a, &other.a), (&pair.b, &other.b)];
        matrices.into_iter().flat_map(|(got, expected)| got.iter().zip(expected)).map(|(a, b)| (a - b).abs())
    };
    adapter.pairs.keys().flat_map(of_pair).fold(0.0, f32::max)
}

#[test]
fn any_number_of_ranks_gives_the_numbers_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), &[]);
    let run = |name: &str| folder.path().join(name);
    succeed(&greffon(&["train", &recipe, "--set", &format!("output={}", run("1").display())]));
    for ranks in [2, 4] {
        let name = ranks.to_string();
        succeed(&launch(folder.path(), ranks, &recipe, &name));
        let (of_losses, of_adapter) = assert_same_run(&format!("{ranks} ranks"), &run(&name), &run("1"));
        println!("{ranks} ranks, 50 steps: losses within {of_losses:.1e}, adapter within {of_adapter:.1e}");
        for line in numbers(&run(&name)).iter().filter(|line| line.get("loss").is_some()) {
            let waited = &line["ranks"];
            assert_eq!(waited["seconds"].as_array().map(Vec::len), Some(ranks), "{line}");
            assert!(waited["idle"].as_f64().is_some_and(|idle| (0.0..1.0).contains(&idle)), "{line}");
        }
    }
}

#[test]
fn a_killed_rank_ends_all_and_the_resumed_run_is_that_which_was_not_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), &["train.eval_every=5"]);
    succeed(&launch(folder.path(), 2, &recipe, "whole"));
    let whole = folder.path().join("whole");
    for (rank, after) in [(0, 6), (1, 13)] {
        let run = folder.path().join(format!("killed-{rank}"));
        let output = format!("output={}", run.display());
        let child = greffon_command(&["launch", "-n", "2", &recipe, "--set", &output]).spawn().expect("greffon starts");
        let started = Instant::now();
        while metrics(&run).matches("\"loss\"").count() < after {
            assert!(started.elapsed() < Duration::from_mins(2), "the run makes no steps");
            std::thread::sleep(Duration::from_millis(1));
        }
        let pid = rank_of(&run, RANK, rank).expect("the rank runs");
        signal("KILL", [pid]);
        let killed = Instant::now();
        let out = child.wait_with_output().expect("it ends");
        let (said, seconds) = (String::from_utf8_lossy(&out.stderr), killed.elapsed().as_secs_f64());
        println!("rank {rank} killed: all ended after {seconds:.1} s");
        assert!(seconds < 30.0 && !out.status.success(), "{said}");
        assert!(said.contains(&format!("rank {rank} with PID")) && said.contains("signal 9 (Killed)"), "{said}");

        succeed(&greffon(&["launch", "-n", "2", "train", "--resume", run.to_str().expect("plain path")]));
        assert_eq!(adapter_bytes(&run), adapter_bytes(&whole), "rank {rank} killed after step {after}");
    }
}

#[test]
fn a_stop_saves_on_all_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe =
        recipe(folder.path(), &["train.max_steps=100000", "train.save_every=100000", "data.validation_fraction=0"]);
    let run = folder.path().join("run");
    let output = format!("output={}", run.display());
    let child = greffon_command(&["launch", "-n", "2", &recipe, "--set", &output]).spawn().expect("greffon starts");
    let started = Instant::now();
    while metrics(&run).matches("\"loss\"").count() < 3 {
        assert!(started.elapsed() < Duration::from_mins(2), "the run makes no steps");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal("TERM", [child.id()]);
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{said}");
    assert_eq!(said.matches("everything is saved. to go on: greffon train --resume").count(), 1, "{said}");
    assert_eq!(fs::read_dir(run.join("checkpoints")).expect("checkpoints").count(), 1);
}

#[test]
fn ranks_that_would_not_make_the_same_run_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), &[]);
    let program = greffon_command(&[]).get_program().to_owned();
    let mpirun = |parts: [&[&str]; 2]| {
        let mut command = Command::new("mpirun");
        command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        for (index, part) in parts.into_iter().enumerate() {
            command.args((index > 0).then_some(":")).args(["-n", "1", "--oversubscribe"]).arg(&program).args(part);
        }
        let out = command.output().expect("mpirun starts");
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let output = format!("output={}", folder.path().join("run").display());
    let usual = ["train", &recipe, "--set", &output];
    let other = ["train", &recipe, "--set", &output, "--set", "train.seed=1"];
    let (code, said) = mpirun([&usual, &other]);
    assert!(code == Some(2) && said.contains("rank 1 of 2: the data of this rank and of rank 0 differ"), "{said}");

    let schema = ["schema"];
    let (code, said) = mpirun([&schema, &schema]);
    assert!(code == Some(1) && said.contains("2 processes were started for work that one does"), "{said}");
}

#[test]
fn without_nccl_its_engine_says_what_is_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &[]);
    let torchrun =
        [("RANK", "1"), ("WORLD_SIZE", "2"), ("LOCAL_RANK", "1"), ("MASTER_ADDR", "localhost"), ("MASTER_PORT", "1")];
    let out = greffon_command(&["train", &recipe]).envs(torchrun).output().expect("greffon starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("rank 1 of 2: NCCL is not on this machine"), "{said}");
}

#[test]
fn a_rank_that_waits_for_one_that_stands_still_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), &["train.max_steps=100000", "data.validation_fraction=0"]);
    let run = folder.path().join("run");
    let output = format!("output={}", run.display());
    let mut command = greffon_command(&["launch", "-n", "2", &recipe, "--set", &output]);
    let child = command.env("GREFFON_PATIENCE", "5").spawn().expect("greffon starts");
    let started = Instant::now();
    while metrics(&run).matches("\"loss\"").count() < 3 {
        assert!(started.elapsed() < Duration::from_mins(2), "the run makes no steps");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = rank_of(&run, RANK, 1).expect("the rank runs");
    signal("STOP", [pid]);
    let stopped = Instant::now();
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("rank 0 of 2 has waited 5 s for the others"), "{said}");
    assert!(!out.status.success() && stopped.elapsed() < Duration::from_secs(30), "{:?}", stopped.elapsed());
}

#[test]
fn a_shared_folder_that_vanishes_ends_all_ranks() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = recipe(folder.path(), &["train.max_steps=100000", "data.validation_fraction=0"]);
    let (run, away) = (folder.path().join("run"), folder.path().join("away"));
    let output = format!("output={}", run.display());
    let child = greffon_command(&["launch", "-n", "2", &recipe, "--set", &output]).spawn().expect("greffon starts");
    let started = Instant::now();
    while !run.join("checkpoints/step-00000008").is_dir() {
        assert!(started.elapsed() < Duration::from_mins(2), "the run saves nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::rename(&run, &away).expect("it can be moved");
    let gone = Instant::now();
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(gone.elapsed() < Duration::from_secs(30) && !out.status.success(), "{:?}: {said}", gone.elapsed());
    assert!(said.contains("its folder is gone: bring it back"), "{said}");
}
