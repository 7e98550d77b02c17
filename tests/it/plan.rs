//! `greffon plan`, and the recipe's switches for kernels and memory, through the real program.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::support::{fixture, greffon, greffon_command, tiny_recipe};

/// Runs the program, which must succeed; what it printed.
#[track_caller]
fn done(arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = greffon(arguments);
    assert!(status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).expect("UTF-8")
}

#[track_caller]
fn planned(recipe: &str, set: &[&str]) -> Value {
    let mut arguments = vec!["plan", recipe, "--json"];
    for value in set {
        arguments.extend(["--set", value]);
    }
    serde_json::from_str(&done(&arguments)).expect("one JSON value")
}

/// A device of which nothing has to be measured.
const DEVICE: &str = "plan.device={tflops: 1.0, bandwidth: 10.0, memory: 8 GB}";

#[test]
fn the_choice_of_kept_activations_changes_no_byte() {
    for dropout in ["lora.dropout=0.0", "lora.dropout=0.2"] {
        let mut results = Vec::new();
        for (setting, blocks) in [("none", 0), ("block", 3), ("auto", 3)] {
            let folder = tempfile::tempdir().expect("a folder");
            let setting = format!("train.activation_checkpointing={setting}");
            // So little memory that `auto` computes every block again.
            let recipe = tiny_recipe(folder.path(), &["train.max_steps=4", dropout, &setting, "train.memory=1 MB"]);
            done(&["train", &recipe]);
            let log = std::fs::read_to_string(folder.path().join("run/log.txt")).expect("the log");
            let plan = log.lines().find_map(|line| line.split_once("started: ")).expect("the plan is logged").1;
            let plan: Value = serde_json::from_str(plan).expect("the plan is JSON");
            assert_eq!(plan["checkpointing"]["recomputed_blocks"], blocks, "{setting}");
            let adapter = folder.path().join("run/adapter/adapter_model.safetensors");
            results.push(std::fs::read(adapter).expect("the adapter"));
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{dropout}");
    }
}

#[test]
fn the_reference_kernels_train_and_evaluate_to_nearly_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let test = format!("eval.test=[{{path: {}}}]", folder.path().join("train.jsonl").display());
    let outcome = |kernels: &str| -> (f64, Value) {
        let set = ["train.max_steps=4", "eval.limit=3", "eval.max_new_tokens=2", &test, kernels];
        let recipe = tiny_recipe(folder.path(), &set);
        let trained: Value = serde_json::from_str(&done(&["train", &recipe, "--force", "--json"])).expect("JSON");
        let run = folder.path().join("run");
        let eval = done(&["eval", run.to_str().expect("plain path"), "--json"]);
        (trained["validation_loss"].as_f64().expect("a loss"), serde_json::from_str(&eval).expect("JSON"))
    };
    let ((fused, _), (reference, found)) = (outcome("kernels=fused"), outcome("kernels=reference"));
    assert!((fused - reference).abs() < 1e-4, "{fused} and {reference}");
    assert!(found["metrics"].as_array().is_some_and(|metrics| !metrics.is_empty()));
}

#[test]
fn a_plan_has_the_steps_parameters_and_memory_of_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.epochs=2.0"]);
    let plan = planned(&recipe, &[DEVICE]);
    done(&["train", &recipe]);
    let log = std::fs::read_to_string(folder.path().join("run/log.txt")).expect("the log");
    let started = log.lines().find_map(|line| line.split_once("started: ")).expect("the plan is logged").1;
    let started: Value = serde_json::from_str(started).expect("the plan is JSON");
    assert_eq!(plan["steps"], started["total_steps"]);
    assert_eq!(plan["trainable_parameters"], started["trainable_parameters"]);
    assert_eq!(plan["memory"], started["checkpointing"]["memory"]);
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).expect("metrics");
    let steps: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let tokens: u64 = steps.iter().filter_map(|step| step["tokens"].as_u64()).sum();
    let expected = tokens as f64 / plan["steps"].as_f64().expect("a count");
    assert!((plan["tokens_per_step"].as_f64().expect("a mean") - expected).abs() < 1e-9);
    assert_eq!(plan["fits"], true);
    let parts = plan["memory"].as_object().expect("parts").values().filter_map(Value::as_u64).sum::<u64>();
    assert_eq!(plan["peak_bytes"], parts);
}

#[test]
fn a_plan_counts_what_is_replayed_and_what_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("train.jsonl");
    let replay = format!("forgetting.replay={{sources: [{{path: {}}}], share: 0.5}}", source.display());
    let probes = folder.path().join("probes.jsonl");
    let item = r#"{"kind": "pair", "task": "order", "good": "one two three", "bad": "three two one"}"#;
    std::fs::write(&probes, item).expect("a file of questions");
    let probes = format!("forgetting.probes=[{}]", probes.display());
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=4", "train.eval_every=2"]);
    let seconds = |plan: &Value, part: &str| plan["time"][part].as_f64().expect("seconds");

    let plain = planned(&recipe, &[DEVICE]);
    assert!(seconds(&plain, "question_seconds") <= 0.0);
    let once = planned(&recipe, &[DEVICE, &probes]);
    let twice = planned(&recipe, &[DEVICE, &probes, "forgetting.every=3"]);
    let [once, twice] = [once, twice].map(|plan| seconds(&plan, "question_seconds"));
    // The base once, the adapter once or twice.
    assert!(once > 0.0 && (twice / once - 1.5).abs() < 1e-9, "{once} and {twice}");

    let set = [DEVICE, &replay, "forgetting.kl_weight=1"];
    let replayed = planned(&recipe, &set);
    assert!(seconds(&replayed, "training_seconds") > 1.5 * seconds(&plain, "training_seconds"));
    let of_base = planned(&recipe, &[&set[..], &["forgetting.replay.answers=base"]].concat());
    assert!(seconds(&of_base, "answer_seconds") > 0.0);
    let mut arguments = vec!["train", &recipe];
    set[1..].iter().for_each(|value| arguments.extend(["--set", value]));
    done(&arguments);
    let metrics = std::fs::read_to_string(folder.path().join("run/metrics.jsonl")).expect("metrics");
    let steps: Vec<Value> = metrics.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let tokens: u64 = steps.iter().filter_map(|step| step["tokens"].as_u64()).sum();
    let planned = replayed["tokens_per_step"].as_f64().expect("a mean");
    assert!((planned * 4.0 - tokens as f64).abs() < 1e-6, "{planned} of {tokens}");
}

#[test]
fn a_plan_of_several_processes_is_that_of_their_own_shares() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=4", "data.packing=false"]);
    let planned = |ranks: &[&str]| -> Value {
        let always = ["plan", &recipe, "--json", "--set", DEVICE, "--ranks"];
        serde_json::from_str(&done(&[&always, ranks].concat())).expect("one JSON value")
    };
    let step = |plan: &Value, figure: &str| plan["time"]["step"][figure].as_f64().expect("a figure");
    let (one, two, many) = (planned(&["1"]), planned(&["2", "--link", "0.1"]), planned(&["16"]));
    assert_eq!(one["tokens_per_step"], two["tokens_per_step"]);
    let seconds = [&one, &two, &many].map(|plan| step(plan, "compute_seconds"));
    // Five examples: three and two, and one for each of five of sixteen.
    let [half, fifth] = [seconds[1] / seconds[0], seconds[2] / seconds[0]];
    assert!((0.5..0.75).contains(&half) && (0.2..half).contains(&fifth), "{seconds:?}");
    assert!(step(&two, "efficiency") < 1.0 && step(&many, "efficiency") < 5.0 / 16.0 + 0.1, "{two} {many}");
    let sent = one["trainable_parameters"].as_f64().expect("a count") * 4.0;
    assert!((step(&two, "bytes_per_rank") - sent).abs() < 1e-6 && step(&two, "communication_seconds") > 0.0, "{two}");
    let said = done(&["plan", &recipe, "--set", DEVICE, "--ranks", "4", "--devices", "2"]);
    assert!(said.contains("4 on 2 devices"), "{said}");
}

#[test]
fn a_plan_goes_on_from_a_peft_folder_and_tells_what_does_not_fit() {
    let folder = tempfile::tempdir().expect("a folder");
    let adapter = format!("model.adapter={}", fixture("parity/adapter_final").display());
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=1", &adapter, "lora.rank=2"]);
    let of_peft = planned(&recipe, &[DEVICE]);
    let of_recipe = planned(&recipe, &[DEVICE, "model.adapter=null"]);
    let count = |plan: &Value| plan["trainable_parameters"].as_u64().expect("a count");
    assert!(count(&of_peft) > count(&of_recipe), "the rank is that of the folder");

    let small = planned(&recipe, &[DEVICE, "train.memory=1 MB"]);
    assert_eq!((&small["fits"], &small["recomputed_blocks"]), (&Value::from(false), &small["blocks"]));
    let said = done(&["plan", &recipe, "--set", DEVICE, "--set", "train.memory=1 MB"]);
    assert!(said.contains("NO, of 1 MB allowed") && said.contains("lower train.micro_batch_size"), "{said}");
}

#[test]
fn a_measured_plan_tells_a_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=3"]);
    let plan = planned(&recipe, &[]);
    for figure in [&plan["time"]["step"]["tokens_per_second"], &plan["total_seconds"], &plan["rates"]["flops"]] {
        assert!(figure.as_f64().is_some_and(|figure| figure > 0.0), "{plan}");
    }
    let refused = greffon(&["plan", &recipe, "--probe", "--set", DEVICE]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("plan.device"));
}

/// Plans a recipe of the repository, in a cache of the hub that is empty.
#[track_caller]
pub(crate) fn plans(recipe: &Path, data: &[&str]) {
    let empty = tempfile::tempdir().expect("a folder");
    let loaded = trainer::recipe::Recipe::load(recipe, &[]).expect("a sound recipe").recipe;
    let path = recipe.to_str().expect("plain path");
    let plan = |set: &[&str]| {
        let mut arguments = vec!["plan", path, "--json", "--set", DEVICE];
        arguments.extend(data);
        arguments.extend(set);
        greffon_command(&arguments).env("HF_HOME", empty.path()).output().expect("greffon starts")
    };
    if loaded.model.is_on_hub() {
        let out = plan(&[]);
        let said = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(2), "{said}");
        assert!(said.contains("a plan downloads nothing") && said.contains("greffon fetch"), "{said}");
    }
    // With a base that is there, all else of the recipe is planned.
    let base = format!("model.base={}", fixture("tiny-llama").display());
    let out = plan(&["--set", &base, "--set", "model.revision=null", "--set", "data.max_length=2048"]);
    assert!(out.status.success(), "{path}: {}", String::from_utf8_lossy(&out.stderr));
    let plan: Value = serde_json::from_slice(&out.stdout).expect("one JSON value");
    assert!(plan["steps"].as_u64().is_some_and(|steps| steps > 0), "{plan}");
}
