//! `greffon report`: what a run left, as one page that is complete in itself.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trainer::language::Language;
use trainer::report::{RunReport, Standing, page};
use trainer::track::{JsonLines, StepRecord, Tracker as _, ValidationRecord};

use crate::forgetting::questions;
use crate::support::{copy, greffon, tiny_recipe};

/// A folder with `run` in it, of a few steps, which was asked what it forgot and was evaluated.
pub(crate) struct Done {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) recipe: String,
}

impl Done {
    pub(crate) fn new(set: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let test = format!("eval.test=[{{path: {}}}]", folder.path().join("train.jsonl").display());
        let probes = format!("forgetting.probes=[{}]", questions(folder.path()));
        // What a random model loses on a few questions is no matter here.
        let limits = "forgetting.limits={task: null, average: null, bits_per_byte: 100.0, kl: 100.0}";
        let few = ["train.max_steps=12", "train.eval_every=3", "eval.max_new_tokens=4", "eval.limit=5"];
        let recipe = tiny_recipe(folder.path(), &[&few, [limits, &test, &probes].as_slice(), set].concat());
        let done = Self { folder, recipe };
        says(0, &["train", &done.recipe]);
        done
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().expect("plain path").to_owned()
    }

    fn page(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a page")
    }
}

/// Runs the program, which must end with this code; what it said on both streams.
#[track_caller]
pub(crate) fn says(code: i32, arguments: &[&str]) -> String {
    let out = greffon(arguments);
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8(bytes).expect("UTF-8")).concat();
    assert_eq!(out.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

/// Runs the program, which must succeed and print JSON.
#[track_caller]
pub(crate) fn printed(arguments: &[&str]) -> Value {
    let out = greffon(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("one JSON value")
}

/// Changes a JSON file.
pub(crate) fn change(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&fs::read(path).expect("a file")).expect("JSON");
    change(&mut value);
    fs::write(path, value.to_string()).expect("a file");
}

/// Takes back that a run ended, and what it noted then.
pub(crate) fn cut_off(run: &Path) {
    change(&run.join("run.json"), |info| {
        info["status"] = "running".into();
        info["step"] = 0.into();
        info["energy"] = Value::Null;
    });
}

/// Fails when a page loads something, or runs something.
#[track_caller]
fn assert_complete_in_itself(page: &str) {
    assert!(page.contains("default-src 'none'"));
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for what in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "onload=", "onerror=", "://"] {
        assert!(!page.contains(what), "the page has {what}");
    }
}

/// How many plots a page has.
fn plots(page: &str) -> usize {
    page.matches("<svg role=\"img\"").count()
}

#[test]
fn a_run_is_one_page_that_needs_nothing_else() {
    let done = Done::new(&["data.train[0].licence=etalab-2.0", "energy.country=FRA"]);
    let run = done.text("run");
    says(0, &["eval", &run]);
    let said = says(0, &["report", &run]);
    assert_eq!(said.trim(), done.text("run/report.html"));
    let page = done.page("run/report.html");
    assert_complete_in_itself(&page);
    assert_eq!(plots(&page), 6, "loss, learning rate, speed, gradient, memory, energy");

    let json = |name: &str| -> Value { serde_json::from_slice(&fs::read(done.path(name)).unwrap()).unwrap() };
    let (info, found, manifest) = (json("run/run.json"), json("run/eval.json"), json("run/greffon.json"));
    let source = &manifest["data"]["runs"][0]["sources"][0];
    let expected = [
        info["base_digest"].as_str().unwrap(),
        info["host"].as_str().unwrap(),
        source["sha256"].as_str().unwrap(),
        "etalab-2.0",
        "Lowest validation loss",
        "token F1",
        "mean of FRA",
        "near-duplicates",
        "choices",
        "max_steps: 12",
        "Which colour is number 0?",
    ];
    for text in expected {
        assert!(page.contains(text), "no {text}");
    }
    let best = format!("{:.4}", info["best"][0].as_f64().unwrap());
    assert!(page.contains(&best), "no {best}");
    let loss = found["metrics"].as_array().unwrap().iter().find(|metric| metric["metric"] == "loss").unwrap();
    assert!(page.contains(&format!("{:.4}", loss["adapter"].as_f64().unwrap())));

    // It is not written over, unless that is asked for; and then as well in French, with a plan.
    assert!(says(2, &["report", &run]).contains("report.html"));
    let plan = greffon(&["plan", &done.recipe, "--json"]).stdout;
    fs::write(done.path("plan.json"), plan).unwrap();
    let speed = |page: &str, what: &str| page.contains(&format!("<td>{what}</td>"));
    assert!(!speed(&page, "Tokens per second"));
    says(0, &["report", &run, "--force", "--lang", "fr", "--plan", &done.text("plan.json")]);
    let page = done.page("run/report.html");
    assert!(speed(&page, "Jetons par seconde"), "the plan's speed beside the run's");
    assert!(page.contains("<html lang=\"fr\">") && page.contains("Meilleure perte de validation"));
    assert!(page.contains(&best.replace('.', ",")));
    assert_complete_in_itself(&page);

    // What is no plan, and what is no run, is refused by name.
    let said = says(2, &["report", &run, "--force", "--plan", &done.text("run/run.json")]);
    assert!(said.contains("run.json") && said.contains("greffon plan recipe.yaml --json"), "{said}");
    let said = says(2, &["report", &done.text("")]);
    assert!(said.contains("is not a run folder"), "{said}");

    // An adapter that was trained on since is not the one that was asked.
    assert!(!page.contains("état antérieur"));
    fs::write(done.path("run/adapter/adapter_config.json"), "{}").unwrap();
    says(0, &["report", &run, "--force", "--lang", "fr"]);
    assert_eq!(done.page("run/report.html").matches("état antérieur").count(), 2, "evaluation and forgetting");
}

#[test]
fn an_evaluation_of_something_else_than_the_run_leaves_nothing_in_it() {
    let done = Done::new(&[]);
    let run = done.text("run");
    says(0, &["eval", &run, "--set", "eval.max_new_tokens=2"]);
    copy(&done.path("run/adapter"), &done.path("other"));
    says(0, &["eval", &run, "--adapter", &done.text("other")]);
    assert!(!done.path("run/eval.json").exists());
    let told = printed(&["eval", &run, "--json"]);
    let kept: Value = serde_json::from_slice(&fs::read(done.path("run/eval.json")).unwrap()).unwrap();
    assert_eq!(kept, told);
}

#[test]
fn a_run_that_was_cut_off_shows_what_is_there_and_says_so() {
    let done = Done::new(&[]);
    let run = done.text("run");
    cut_off(&done.path("run"));
    let metrics = fs::read_to_string(done.path("run/metrics.jsonl")).unwrap();
    let steps = metrics.lines().position(|line| line.contains("\"step\":7,")).unwrap();
    let kept: String = metrics.split_inclusive('\n').take(steps).collect();
    let torn = &metrics.lines().nth(steps).unwrap()[..20];
    fs::write(done.path("run/metrics.jsonl"), format!("{kept}{torn}")).unwrap();
    says(0, &["report", &run]);
    let page = done.page("run/report.html");
    assert!(page.contains("cut off") && page.contains("did not end") && page.contains("last line of its metrics"));
    assert!(page.contains("6 of 12") && page.contains("Energy"));
    assert_eq!(plots(&page), 6);

    // Killed before the first step, and before run.json.
    fs::remove_file(done.path("run/run.json")).unwrap();
    fs::write(done.path("run/metrics.jsonl"), "").unwrap();
    says(0, &["report", &run, "--force"]);
    let page = done.page("run/report.html");
    assert!(page.contains("No step was recorded") && plots(&page) == 0);

    // A file that is not what it should be is named.
    fs::write(done.path("run/forgetting.json"), "{").unwrap();
    let said = says(2, &["report", &run, "--force"]);
    assert!(said.contains("forgetting.json") && said.contains("remove the file"), "{said}");
}

#[test]
fn what_users_wrote_is_text_and_never_markup() {
    let folder = tempfile::tempdir().expect("a folder");
    let evil = "<script>alert(\"x\")</script>";
    let recipe = tiny_recipe(folder.path(), &[]);
    let line = |i: usize| {
        let user = serde_json::json!({"role": "user", "content": format!("{evil} {i}")});
        let assistant = serde_json::json!({"role": "assistant", "content": evil});
        format!("{}\n", serde_json::json!({ "messages": [user, assistant] }))
    };
    let data = folder.path().join("<i>\"a'&.jsonl");
    fs::write(&data, (0..12).map(line).collect::<String>()).unwrap();
    let (data, run) = (data.to_str().unwrap().to_owned(), folder.path().join("<b>run&\"'"));
    let run = run.to_str().unwrap().to_owned();
    let quoted = |text: &str| format!("{text:?}");
    let set = [
        format!("data.train[0].path={}", quoted(&data)),
        format!("eval.test=[{{path: {}}}]", quoted(&data)),
        format!("data.system_prompt={}", quoted(evil)),
        format!("output={}", quoted(&run)),
        "train.max_steps=3".to_owned(),
        "data.max_length=256".to_owned(),
        "eval.limit=3".to_owned(),
        "eval.max_new_tokens=2".to_owned(),
    ];
    let set: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    let ran = |arguments: &[&str]| {
        let out = greffon(arguments);
        assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    };
    ran(&[&["train", &recipe], set.as_slice()].concat());
    ran(&["eval", &run]);
    ran(&["report", &run]);
    let page = fs::read_to_string(Path::new(&run).join("report.html")).unwrap();
    for markup in ["<script", "<i>", "<b>run", "alert(\"x\")"] {
        assert!(!page.contains(markup), "{markup} is in the page as it was written");
    }
    let escaped = "&lt;script&gt;alert(&quot;x&quot;)&lt;";
    // In the recipe, and in the questions and expected answers of the evaluation.
    assert!(page.matches(escaped).count() >= 4, "{}", page.matches(escaped).count());
    assert!(page.contains("&lt;b&gt;run&amp;&quot;"));
}

/// A run of so many steps, written by the tracker of every run.
pub(crate) fn long_run(run: &Path, steps: u64) {
    fs::remove_file(run.join("metrics.jsonl")).unwrap();
    let mut lines = JsonLines::open(run, 0).unwrap();
    for step in 1..=steps {
        let (at, noise) = (step as f64 / steps as f64, ((step * 7919) % 1009) as f64 / 1009.0 - 0.5);
        let record = StepRecord {
            step,
            loss: 4.0 * (-3.0 * at).exp() + 0.8 + 0.4 * noise,
            replay_loss: Some(2.0 + 0.1 * noise),
            kl: Some(0.1 * at + 0.01 * noise.abs()),
            penalty: None,
            gradient_norm: if step == steps / 2 { 40.0 } else { 1.0 + noise },
            learning_rate: 5e-4 * (1.0 - at),
            tokens: 4096,
            supervised_tokens: 1024,
            seconds: 2.0 + noise,
            kwh: 1e-5 * step as f64,
            memory: Some(1_000_000_000 + 400_000_000 * step / steps),
            cpu: 0.9,
            ranks: None,
        };
        lines.step(&record).unwrap();
        if step % 100 == 0 {
            let validation_loss = 4.0 * (-3.0 * at).exp() + 1.0;
            lines.validation(&ValidationRecord { step, validation_loss, best: true, seconds: 1.0 }).unwrap();
        }
    }
}

#[test]
fn ten_thousand_steps_are_a_small_page() {
    let done = Done::new(&[]);
    let run = done.path("run");
    long_run(&run, 10_000);
    let read = RunReport::read(&run).unwrap();
    assert_eq!((read.standing, read.steps.len()), (Standing::Finished, 10_000));
    let page = page(&[read], None, Language::En).unwrap();
    assert!(page.len() < 2_000_000, "{} bytes", page.len());
    assert_eq!(plots(&page), 7, "those of every run, and the divergence");
}

#[test]
fn several_runs_are_compared_in_one_page() {
    let done = Done::new(&[]);
    let second = done.text("second");
    let output = format!("output={second}");
    says(0, &["train", &done.recipe, "--set", &output, "--set", "train.learning_rate=1e-4"]);
    let run = done.text("run");
    assert!(says(2, &["report", &run, &second]).contains("--to"));
    says(0, &["report", &run, &second, "--to", &done.text("both.html")]);
    let page = done.page("both.html");
    assert_complete_in_itself(&page);
    assert_eq!(plots(&page), 2 + 2 * 6);
    let differing = page.split("Recipe values that differ").nth(1).unwrap().split("</table>").next().unwrap();
    assert!(differing.contains("train.learning_rate") && differing.contains("0.0001"), "{differing}");
    assert!(!differing.contains("output") && !differing.contains("lora.rank"), "{differing}");
    for (id, name) in [("run-1", "run"), ("run-2", "second")] {
        assert!(page.contains(&format!("<a href=\"#{id}\">{name}</a>")) && page.contains(&format!("id=\"{id}\"")));
    }
}
