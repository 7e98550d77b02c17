//! Samples and prepared data by several processes, over MPI: the bytes are those of one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::RANK;
use super::processes::rank as rank_of;
use crate::support::{fixture, greffon_command, signal, tiny_recipe};

/// A set of answers by the tiny model, which learns them too.
struct Set {
    recipe: PathBuf,
    folder: PathBuf,
}

impl Set {
    /// So many prompts in a folder.
    fn new(folder: &Path, prompts: usize) -> Self {
        let mut lines = String::new();
        for i in 0..prompts {
            let words = "a scion of wood ".repeat(i % 5);
            writeln!(lines, r#"{{"instruction": "What is graft {i}? {words}", "output": "None."}}"#).expect("text");
        }
        fs::write(folder.join("prompts.jsonl"), lines).expect("a file");
        let model = fixture("tiny-llama");
        let text = format!(
            "teacher: {{local: {{base: {model}, batch_size: 4}}}}\n\
             steps: [{{self_replay: {{prompts: [{{path: prompts.jsonl}}], temperature: 1.0, max_tokens: 150}}}}]\n\
             filters: {{toxicity: false, refusals: false, repetition: null, near_duplicates: null}}\n\
             difficulty: {{model: {{base: {model}}}, least: 0.0, most: 6.8}}\noutput: set\n",
            model = model.display()
        );
        let recipe = folder.join("synth.yaml");
        fs::write(&recipe, text).expect("a file");
        Self { recipe, folder: folder.to_owned() }
    }

    /// The making of it by so many processes, by this one alone where there is one; the set is `name` in the folder.
    fn command(&self, ranks: usize, name: &str) -> Command {
        let mut command = greffon_command(&[]);
        if ranks > 1 {
            command.args(["launch", "-n", &ranks.to_string()]);
        }
        command.arg("synth").arg(&self.recipe).arg("--force");
        command.args(["--set", &format!("output={}", self.path(name).display())]);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Makes it to its end; gives the samples and what is told of them.
    fn make(&self, ranks: usize, name: &str) -> (String, Value) {
        let out = self.command(ranks, name).output().expect("greffon starts");
        succeed(&out);
        let read = |file: &str| fs::read_to_string(self.path(name).join(file)).expect("it was written");
        (read("samples.jsonl"), serde_json::from_str(&read("report.json")).expect("one JSON value"))
    }

    /// The keys of its answers; none is there twice.
    fn keys(&self, name: &str) -> BTreeSet<String> {
        let lines = self.answers(name);
        let key = |line: &str| serde_json::from_str::<Value>(line).expect("a line")["key"].to_string();
        let keys: BTreeSet<String> = lines.lines().map(key).collect();
        assert_eq!(keys.len(), lines.lines().count(), "an answer is kept twice");
        keys
    }

    fn answers(&self, name: &str) -> String {
        fs::read_to_string(self.path(name).join("answers.jsonl")).unwrap_or_default()
    }

    /// Starts the making, and gives it back when the first answers are kept.
    fn under_way(&self, ranks: usize, name: &str) -> Child {
        let child = self.command(ranks, name).spawn().expect("greffon starts");
        let started = Instant::now();
        while self.answers(name).lines().count() < 8 {
            assert!(started.elapsed() < Duration::from_mins(3), "the teacher does not answer");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }
}

fn succeed(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn any_number_of_ranks_makes_the_samples_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = Set::new(folder.path(), 90);
    let (alone, report) = set.make(1, "1");
    assert!(alone.lines().count() >= 10 && report["spent"]["requests"] == 90, "{report}");
    assert!(report["left_out"]["too hard for the model"]["count"].as_u64() > Some(0), "{report}");
    for ranks in [2, 3] {
        let name = ranks.to_string();
        let (samples, told) = set.make(ranks, &name);
        assert_eq!(samples, alone, "{ranks} ranks");
        assert_eq!(set.keys(&name), set.keys("1"));
        for key in ["samples", "made", "spent", "left_out", "filters", "finished"] {
            assert_eq!(told[key], report[key], "{key}");
        }
    }
}

#[test]
fn what_a_killed_rank_leaves_is_not_asked_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = Set::new(folder.path(), 400);
    let (whole, _) = set.make(2, "whole");
    for (rank, ranks) in [(1, 3), (0, 2)] {
        let name = format!("killed-{rank}");
        let child = set.under_way(2, &name);
        signal("KILL", [rank_of(&set.path(&name), RANK, rank).expect("the rank runs")]);
        let said = child.wait_with_output().expect("it ends").stderr;
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(&format!("rank {rank} with PID")) && said.contains("signal 9 (Killed)"), "{said}");
        let kept = set.answers(&name);
        println!("rank {rank} killed with {} of 400 answers kept", kept.lines().count());
        assert!(kept.lines().count() < 400);

        let (samples, report) = set.make(ranks, &name);
        assert_eq!(samples, whole);
        assert!(set.answers(&name).starts_with(&kept), "what was kept stays");
        assert_eq!((set.keys(&name), &report["finished"]), (set.keys("whole"), &Value::Bool(true)));
    }
}

#[test]
fn a_stop_ends_all_ranks_with_the_answers_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = Set::new(folder.path(), 400);
    let child = set.under_way(2, "set");
    signal("TERM", [child.id()]);
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{said}");
    assert_eq!(said.matches("stopping after the requests under way").count(), 1, "{said}");
    let report = fs::read(set.path("set").join("report.json")).expect("it was written");
    let report: Value = serde_json::from_slice(&report).expect("one JSON value");
    assert_eq!((&report["ended"], &report["finished"]), (&"stopped".into(), &false.into()));
    assert!(set.keys("set").len() < 400);
    let (samples, _) = set.make(1, "set");
    assert_eq!(samples, set.make(1, "whole").0);
}

#[test]
fn a_teacher_that_is_gone_is_told_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let set = Set::new(folder.path(), 40);
    let teacher = "teacher={endpoint: {url: http://127.0.0.1:1, model: m, retries: 0, concurrency: 3}}";
    let out = set.command(2, "set").args(["--set", teacher]).output().expect("greffon starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert_eq!(said.matches("start it, or correct teacher.endpoint.url").count(), 1, "{said}");
}

/// A recipe over many conversations, one of which may be replaced.
fn many(folder: &Path, replaced: Option<&str>, set: &[&str]) -> String {
    let recipe = tiny_recipe(folder, &[&["data.overlong=truncate"], set].concat());
    let mut lines = String::new();
    for i in 0..2500 {
        let words = "a scion of wood ".repeat(i % 6);
        let line = format!(
            r#"{{"messages": [{{"role": "user", "content": "Graft {i}? {words}"}}, {{"role": "assistant", "content": "{}"}}]}}"#,
            i * i % 1009
        );
        // In the part of the second rank.
        writeln!(lines, "{}", replaced.filter(|_| i == 700).unwrap_or(&line)).expect("text");
    }
    fs::write(folder.join("train.jsonl"), lines).expect("a file");
    recipe
}

/// Prepares the data of a recipe by so many processes, with a cache of its own.
fn prepare(recipe: &str, ranks: usize, cache: &Path) -> Output {
    let mut command = greffon_command(&["launch", "-n", &ranks.to_string(), "data", "prepare", recipe, "--json"]);
    command.env("GREFFON_CACHE", cache).output().expect("greffon starts")
}

#[test]
fn any_number_of_ranks_prepares_the_bytes_of_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = many(folder.path(), None, &[]);
    let made = |ranks: usize| {
        let out = prepare(&recipe, ranks, &folder.path().join(ranks.to_string()));
        succeed(&out);
        let told: Value = serde_json::from_slice(&out.stdout).expect("one JSON value");
        let file = fs::read(told["cache_file"].as_str().expect("a path")).expect("the file is there");
        (file, told["fingerprint"].clone(), told["train"].clone())
    };
    let alone = made(1);
    for ranks in [2, 3] {
        assert!(made(ranks) == alone, "{ranks} ranks");
    }
}

#[test]
fn an_error_in_the_part_of_another_rank_is_told_as_by_one() {
    let wrong = r#"{"messages": 7}"#;
    let private = concat!(
        r#"{"messages": [{"role": "user", "content": "Write to jean@example.fr"}, "#,
        r#"{"role": "assistant", "content": "No."}]}"#
    );
    let refuse = "data.screen={action: refuse, kinds: [email]}";
    for (line, set, code) in [(wrong, &[][..], 2), (private, &[refuse][..], 3)] {
        let folder = tempfile::tempdir().expect("a folder");
        let recipe = many(folder.path(), Some(line), set);
        let errors = [1, 2].map(|ranks| {
            let out = prepare(&recipe, ranks, &folder.path().join("cache"));
            assert_eq!(out.status.code(), Some(code), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8_lossy(&out.stderr).lines().filter(|line| line.contains("error:")).collect::<String>()
        });
        assert!(errors[0].contains("train.jsonl:701") && errors[0] == errors[1], "{errors:?}");
    }
}
