//! A run that is killed and resumed ends with the bytes of the run that was not.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::support::{fixture, greffon, signal, tiny_recipe, write_replayed};

/// The files of the result, by name.
pub(crate) fn adapter_bytes(run: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(run.join("adapter"))
        .expect("the run has an adapter")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            let bytes = fs::read(&path).expect("a file");
            let bytes = if name == "greffon.json" { undated(&bytes) } else { bytes };
            (name, bytes)
        })
        .collect();
    files.sort();
    files
}

/// A manifest without the name of its run and the date, which no two runs share.
fn undated(manifest: &[u8]) -> Vec<u8> {
    let mut manifest: serde_json::Value = serde_json::from_slice(manifest).expect("a manifest");
    for run in manifest["data"]["runs"].as_array_mut().expect("its runs") {
        let run = run.as_object_mut().expect("an object");
        assert!(run.remove("run").is_some() && run.remove("date").is_some());
    }
    manifest.to_string().into_bytes()
}

pub(crate) fn metrics(run: &Path) -> String {
    fs::read_to_string(run.join("metrics.jsonl")).unwrap_or_default()
}

/// The metrics without time, memory and energy, which no two runs share.
pub(crate) fn numbers(run: &Path) -> Vec<serde_json::Value> {
    let lines = metrics(run);
    lines
        .lines()
        .map(|line| {
            let mut value: serde_json::Value = serde_json::from_str(line).expect("whole lines");
            let object = value.as_object_mut().expect("an object");
            for measured in ["time", "seconds", "kwh", "memory", "cpu"] {
                assert!(object.remove(measured).is_some() || object.contains_key("validation_loss"), "{measured}");
            }
            value
        })
        .collect()
}

#[test]
fn killed_and_resumed_equals_uninterrupted_byte_for_byte() {
    killed_and_resumed(&["lora.dropout=0.1"], &[1, 6, 13, 27]);
}

#[test]
fn a_run_of_another_method_resumes_as_exactly() {
    killed_and_resumed(&["lora.use_dora=true", "lora.dropout=0.1"], &[6]);
    killed_and_resumed(&["lora.init=pissa", "lora.use_rslora=true"], &[6]);
    killed_and_resumed(&["lora.init=pissa", "lora.use_dora=true", "lora.rank=3"], &[6]);
    let ends = "lora.targets=[q_proj, embed_tokens, lm_head]";
    killed_and_resumed(&[ends, "lora.train_norms=true", "lora.dropout=0.1", "train.weight_decay=0.1"], &[6]);
}

#[test]
fn a_run_that_holds_forgetting_back_resumes_as_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    let general = folder.path().join("general.jsonl");
    write_replayed(&general);
    let earlier = fixture("forgetting/earlier");
    let replay = |more: &str| {
        let path = general.display();
        format!("forgetting.replay={{sources: [{{path: {path}}}], share: 0.5, max_new_tokens: 100{more}}}")
    };
    let orthogonal = format!("forgetting.orthogonal={{adapters: [{}]}}", earlier.display());
    let penalties = ["forgetting.kl_weight=0.5", "forgetting.l2_weight=0.1", &orthogonal];
    let own = replay("");
    killed_and_resumed(&[&[own.as_str(), "lora.dropout=0.1"], penalties.as_slice()].concat(), &[1, 6, 13]);
    killed_and_resumed(&[&[own.as_str(), "lora.init=pissa"], penalties.as_slice()].concat(), &[6]);
    let answered = replay(", answers: base");
    killed_and_resumed(&[&[answered.as_str()], penalties.as_slice()].concat(), &[1, 6]);
}

fn killed_and_resumed(set: &[&str], killed_after: &[usize]) {
    let folder = tempfile::tempdir().expect("a folder");
    let always = ["train.max_steps=30", "train.save_every=4", "train.eval_every=5"];
    let recipe = tiny_recipe(folder.path(), &[&always, set].concat());

    let whole = folder.path().join("whole");
    let done = greffon(&["train", &recipe, "--set", &format!("output={}", whole.display())]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    for &killed_after in killed_after {
        let run = folder.path().join(format!("killed-{killed_after}"));
        let mut child =
            crate::support::greffon_command(&["train", &recipe, "--set", &format!("output={}", run.display())])
                .spawn()
                .expect("greffon starts");
        let start = Instant::now();
        while metrics(&run).matches("\"loss\"").count() < killed_after {
            assert!(start.elapsed() < Duration::from_mins(2), "the run makes no steps");
            assert!(child.try_wait().expect("a child").is_none(), "the run ended before it was killed");
            std::thread::sleep(Duration::from_millis(1));
        }
        child.kill().expect("SIGKILL");
        child.wait().expect("it ends");

        let resumed = greffon(&["train", "--resume", run.to_str().expect("plain path")]);
        assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
        assert_eq!(adapter_bytes(&run), adapter_bytes(&whole), "killed after step {killed_after}");
        assert_eq!(numbers(&run), numbers(&whole), "killed after step {killed_after}");
    }
}

#[test]
fn a_damaged_checkpoint_is_passed_over_for_the_one_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=12", "train.save_every=4"]);
    let whole = folder.path().join("whole");
    let done = greffon(&["train", &recipe, "--set", &format!("output={}", whole.display())]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let expected = adapter_bytes(&whole);

    let optimizer = whole.join("checkpoints/step-00000012/optimizer.safetensors");
    let bytes = fs::read(&optimizer).expect("the newest checkpoint");
    fs::write(&optimizer, &bytes[..bytes.len() / 2]).expect("cut in the middle");
    fs::remove_dir_all(whole.join("adapter")).expect("the result is made anew");
    let resumed = greffon(&["train", "--resume", whole.to_str().expect("plain path")]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let said = String::from_utf8_lossy(&resumed.stderr);
    assert!(said.contains("step-00000012 is damaged, trying the one before"), "{said}");
    assert_eq!(adapter_bytes(&whole), expected);
}

#[test]
fn ctrl_c_saves_and_says_how_to_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=400", "train.save_every=400", "train.eval_every=400"]);
    let run = folder.path().join("run");
    let child = crate::support::greffon_command(&["train", &recipe, "--set", &format!("output={}", run.display())])
        .spawn()
        .expect("greffon starts");
    let start = Instant::now();
    while metrics(&run).matches("\"loss\"").count() < 3 {
        assert!(start.elapsed() < Duration::from_mins(2), "the run makes no steps");
        std::thread::sleep(Duration::from_millis(1));
    }
    let pid = child.id().to_string();
    signal("INT", [pid]);
    let out = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(130), "{said}");
    assert!(said.contains("everything is saved. to go on: greffon train --resume"), "{said}");
    assert_eq!(fs::read_dir(run.join("checkpoints")).expect("checkpoints").count(), 1);
    // The record says what was seen until then.
    let json = |text: &str| -> serde_json::Value { serde_json::from_str(text).expect("JSON") };
    let steps = json(&fs::read_to_string(run.join("run.json")).expect("a file"))["step"].as_u64().expect("a step");
    let record = fs::read_to_string(run.join("samples.jsonl")).expect("a record");
    let seen: u64 = record.lines().map(|line| json(line)["seen"].as_u64().expect("a count")).sum();
    assert_eq!(seen, 5 * steps);
}

#[test]
fn a_folder_has_one_run_at_a_time_and_no_dead_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe =
        tiny_recipe(folder.path(), &["train.max_steps=100000", "train.save_every=4", "train.eval_every=100000"]);
    let run = folder.path().join("run");
    let output = format!("output={}", run.display());
    let mut owner =
        crate::support::greffon_command(&["train", &recipe, "--set", &output]).spawn().expect("greffon starts");
    let start = Instant::now();
    while fs::read_dir(run.join("checkpoints")).map_or(0, Iterator::count) == 0 {
        assert!(start.elapsed() < Duration::from_mins(2), "the run saves nothing");
        std::thread::sleep(Duration::from_millis(1));
    }
    let resume = ["train", "--resume", run.to_str().expect("plain path")];
    for arguments in [&resume[..], &["train", &recipe, "--set", &output, "--force"]] {
        let refused = greffon(arguments);
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("by another run (process {} on ", owner.id())), "{said}");
    }
    owner.kill().expect("SIGKILL");
    owner.wait().expect("it ends");
    let done = greffon(&["train", &recipe, "--set", &output, "--set", "train.max_steps=1", "--force"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn or_resume_starts_a_run_goes_on_with_it_and_refuses_another() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=60", "train.save_every=4", "train.eval_every=30"]);
    let whole = folder.path().join("whole");
    let done = greffon(&["train", &recipe, "--set", &format!("output={}", whole.display())]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let run = folder.path().join("run");
    let or_resume = ["train", &recipe, "--or-resume"];
    let child =
        crate::support::greffon_command(&or_resume).env("GREFFON_REQUEUE_CODE", "85").spawn().expect("greffon starts");
    let start = Instant::now();
    while metrics(&run).matches("\"loss\"").count() < 6 {
        assert!(start.elapsed() < Duration::from_mins(2), "the run makes no steps");
        std::thread::sleep(Duration::from_millis(1));
    }
    signal("TERM", [child.id()]);
    let stopped = child.wait_with_output().expect("it ends");
    assert_eq!(stopped.status.code(), Some(85), "{}", String::from_utf8_lossy(&stopped.stderr));

    for other in [["--set", "train.learning_rate=2e-3"], ["--set", "lora.rank=2"]] {
        let refused = greffon(&[&or_resume[..], &other].concat());
        let said = String::from_utf8_lossy(&refused.stderr);
        let (key, value) = other[1].split_once('=').expect("a key");
        assert_eq!(refused.status.code(), Some(2), "{said}");
        let there = if key == "lora.rank" { "4 there and 2 in" } else { "0.01 there and 0.002 in" };
        assert!(said.contains(&format!("holds a run of another recipe: `{key}` is {there}")), "{said}");
        assert!(value.parse::<f64>().is_ok());
    }

    // Once more when it is done changes nothing, as when a job is started again whose end was not seen.
    for _ in 0..2 {
        let resumed = greffon(&or_resume);
        assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
        assert_eq!(adapter_bytes(&run), adapter_bytes(&whole));
        assert_eq!(numbers(&run), numbers(&whole));
    }
}

#[test]
fn or_resume_takes_a_folder_that_a_killed_start_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=2"]);
    let run = folder.path().join("run");
    let or_resume = ["train", &recipe, "--or-resume"];
    // Between the folder and its recipe, then between the recipe and the first word on the run.
    for has_recipe in [false, true] {
        fs::remove_dir_all(&run).ok();
        fs::create_dir_all(run.join("checkpoints")).expect("a folder");
        fs::write(run.join(".recipe.yaml.a1b2c3.partial"), "model:").expect("a file");
        if has_recipe {
            fs::copy(&recipe, run.join("recipe.yaml")).expect("a file");
        }
        let done = greffon(&or_resume);
        assert!(done.status.success(), "{has_recipe}: {}", String::from_utf8_lossy(&done.stderr));
    }
    let refused =
        crate::support::greffon_command(&or_resume).env("GREFFON_REQUEUE_CODE", "x").output().expect("it runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("GREFFON_REQUEUE_CODE is x, expected an exit code from 1 to 255"), "{said}");
}
