//! Sweeps under a real Slurm on this machine: the trials are the tasks of an array.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Output};

use serde_json::Value;

use super::processes::rank;
use super::slurm::{LOCAL, Slurm, end, lossy, wait};
use crate::resume::adapter_bytes;
use crate::support::{greffon_command, signal, tiny_recipe};

const GRID: [&str; 4] = ["--over", "train.learning_rate=1e-2,1e-5", "--over", "lora.rank=2,4"];

/// A sweep over a recipe into a folder.
struct Sweep<'a> {
    slurm: &'a Slurm,
    recipe: String,
    to: PathBuf,
}

impl Sweep<'_> {
    fn start(&self, more: &[&str]) -> Child {
        let to = self.to.to_str().expect("plain path");
        let arguments = [&["sweep", &self.recipe, "--to", to, "--json"], more].concat();
        greffon_command(&arguments).env("SLURM_CONF", self.slurm.configuration()).spawn().expect("greffon starts")
    }

    /// Under Slurm, to its end.
    fn under_slurm(&self, more: &[&str]) -> Child {
        self.start(&[&["--slurm", "--time", "10", "--grace", "15"], more].concat())
    }

    /// The scripts of the arrays that were submitted.
    fn scripts(&self) -> usize {
        let entries = fs::read_dir(&self.to).expect("the sweep's folder").flatten();
        entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "sh")).count()
    }

    /// How many jobs there were, each task of an array one.
    fn jobs(&self) -> usize {
        self.slurm.tell("squeue", &["--noheader", "--array", "--states=all"]).lines().count()
    }
}

/// What was printed, and said, by a sweep that ended well.
#[track_caller]
fn succeed(sweep: Child) -> (Value, String) {
    let Output { status, stdout, stderr } = end(sweep);
    assert!(status.success(), "{status:?}: {}", lossy(&stderr));
    (serde_json::from_slice(&stdout).expect("JSON"), lossy(&stderr))
}

/// Of each trial, in the order of the table, what does not depend on the machine: number, values, steps, loss.
fn rows(found: &Value) -> Vec<[Value; 4]> {
    let trials = found["trials"].as_array().expect("trials").iter();
    trials.map(|trial| ["number", "point", "max_steps", "best"].map(|key| trial[key].clone())).collect()
}

#[test]
fn an_array_gives_the_table_of_the_local_queue_and_is_not_made_again() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    // Steps so long that Slurm is asked while the trials run.
    let set = ["train.max_steps=8", "train.eval_every=4", "train.global_batch_size=400"];
    let recipe = tiny_recipe(folder.path(), &set);
    let local = Sweep { slurm: &slurm, recipe: recipe.clone(), to: folder.path().join("local") };
    let (expected, _) = succeed(local.start(&GRID));

    let array = Sweep { slurm: &slurm, recipe, to: folder.path().join("two words, it is an array") };
    let arguments = [&GRID[..], &["--jobs", "2"]].concat();
    let (found, said) = succeed(array.under_slurm(&arguments));
    assert_eq!(rows(&found), rows(&expected), "{said}");
    assert!(said.contains("submitted, tasks: 4") && said.contains("2 running"), "{said}");
    for trial in 1..=4 {
        let name = format!("trial-{trial:03}");
        assert_eq!(adapter_bytes(&array.to.join(&name)), adapter_bytes(&local.to.join(&name)), "{name}");
        let log = fs::read_to_string(array.to.join(name + ".log")).expect("a log beside the trial");
        assert!(log.contains("trained 8 steps"), "{log}");
    }
    assert!(array.to.join("sweep.svg").is_file());
    assert_eq!((array.scripts(), array.jobs()), (1, 4));

    let (again, said) = succeed(array.under_slurm(&arguments));
    assert_eq!((rows(&again), array.jobs()), (rows(&found), 4), "{said}");

    // One that is missing is made alone.
    fs::remove_dir_all(array.to.join("trial-003")).expect("a folder");
    let (again, said) = succeed(array.under_slurm(&arguments));
    assert_eq!((rows(&again), array.jobs()), (rows(&found), 5), "{said}");
    assert!(said.contains("submitted, tasks: 1"), "{said}");
}

#[test]
fn halving_goes_from_array_to_array() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=8", "train.eval_every=2"]);
    let arguments = ["--over", "train.learning_rate=1e-5,1e-2,1e-6,3e-3", "--halving", "2"];
    let local = Sweep { slurm: &slurm, recipe: recipe.clone(), to: folder.path().join("local") };
    let (expected, _) = succeed(local.start(&arguments));
    let array = Sweep { slurm: &slurm, recipe, to: folder.path().join("array") };
    let (found, said) = succeed(array.under_slurm(&arguments));
    assert_eq!(rows(&found), rows(&expected), "{said}");
    assert_eq!((array.scripts(), array.jobs()), (3, 4 + 2 + 1), "{said}");
}

#[test]
fn ctrl_c_leaves_the_trials_alone_and_the_same_command_follows_them_again() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=40", "train.eval_every=20"]);
    let array = Sweep { slurm: &slurm, recipe, to: folder.path().join("array") };
    let arguments = [&GRID[..], &["--jobs", "1"]].concat();
    let sweep = array.under_slurm(&arguments);
    wait("the first trial runs", || array.to.join("trial-001/metrics.jsonl").is_file());
    signal("INT", [sweep.id()]);
    let out = end(sweep);
    let said = lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{said}");
    for words in ["the trials go on. to wait for their results: the same command again", "scancel "] {
        assert!(said.contains(words), "no `{words}` in: {said}");
    }
    let (found, said) = succeed(array.under_slurm(&arguments));
    assert_eq!((rows(&found).len(), array.scripts(), array.jobs()), (4, 1, 4), "{said}");
    assert!(!said.contains("submitted"), "{said}");
}

#[test]
fn a_killed_task_goes_on_and_one_that_fails_is_told() {
    let slurm = Slurm::start();
    let folder = tempfile::tempdir().expect("a folder");
    let set = ["train.max_steps=400", "train.eval_every=200", "train.save_every=20"];
    let recipe = tiny_recipe(folder.path(), &set);
    let array = Sweep { slurm: &slurm, recipe, to: folder.path().join("array") };
    // What is somebody's own is in the way of the second of three.
    fs::create_dir_all(array.to.join("trial-002")).expect("a folder");
    fs::write(array.to.join("trial-002/notes.txt"), "mine").expect("a file");
    let ranks = ["--over", "lora.rank=2,4,8", "--ranks-per-node", "2"];
    let sweep = array.under_slurm(&[&ranks[..], &LOCAL[..]].concat());
    // The last task has the number of the whole array; its restart is its own.
    let last = array.to.join("trial-003");
    wait("steps", || fs::read_to_string(last.join("metrics.jsonl")).is_ok_and(|text| text.lines().count() > 30));
    signal("KILL", [rank(&last, "SLURM_PROCID", 1).expect("the rank runs")]);
    let (found, said) = succeed(sweep);
    let of = |number: usize| {
        let trials = found["trials"].as_array().expect("trials");
        trials.iter().find(|trial| trial["number"] == number).expect("the trial").clone()
    };
    assert!(of(1)["best"].is_array() && of(3)["best"].is_array(), "{found}");
    let error = of(2)["error"].as_str().expect("an error").to_owned();
    assert!(error.contains("is not empty and holds no run"), "{error}");
    let log = |number: usize| fs::read_to_string(array.to.join(format!("trial-{number:03}.log"))).expect("a log");
    assert!(log(3).contains("resuming after step"), "{}", log(3));
    assert!(!log(1).contains("resuming after step"), "started again with the last: {}", log(1));
    assert_eq!((array.scripts(), array.jobs()), (1, 3), "{said}");
}
