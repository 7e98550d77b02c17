//! `greffon merge` of several adapters: PEFT's combinations as a folder, and folded into a base.
//!
//! The algebra is held to PEFT beside it, in `adapters`; the expected matrices here were written by
//! `scripts/fixtures/merge.py`.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde_json::{Value, json};
use tempfile::TempDir;
use trainer::eval::logits;
use trainer::model::adapter;

use crate::support::{Tensors, assert_close, base, fixture, greffon, parity_examples};

fn text(path: &Path) -> &str {
    path.to_str().expect("plain path")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

/// Runs the verb, which must succeed, and gives what it printed.
#[track_caller]
fn merge(arguments: &[&str]) -> String {
    let mut all = vec!["merge"];
    all.extend(arguments);
    let out = greffon(&all);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

#[track_caller]
fn refused(arguments: &[&str], expected: &[&str]) {
    let mut all = vec!["merge"];
    all.extend(arguments);
    let out = greffon(&all);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{arguments:?}: {said}");
    for part in expected {
        assert!(said.contains(part), "{said} does not say {part}");
    }
}

fn part(name: &str) -> PathBuf {
    fixture(&format!("merge/adapters/{name}"))
}

/// What the command writes for a case, against PEFT's matrices.
fn check(case: &str, arguments: &[&str], scale: f32) {
    let folder = folder();
    let to = folder.path().join("merged");
    let (first, second) = (part("first"), part("second"));
    let mut all = vec!["--adapter", text(&first), "--adapter", text(&second), "--to", text(&to), "--json"];
    all.extend(arguments);
    let report: Value = serde_json::from_str(&merge(&all)).expect("JSON and nothing else");
    let (config, pairs) = adapters::read_peft(&to).expect("a PEFT folder");
    assert_eq!(report["rank"], json!(config.r), "{case}");
    assert_eq!(report["modules"], json!(pairs.len()), "{case}");
    assert_eq!(report["base"], "tiny", "{case}");
    let expected = Tensors::open(&format!("merge/{case}.safetensors"));
    for (module, pair) in &pairs {
        let key = |side: &str| format!("base_model.model.{module}.lora_{side}.weight");
        assert_close(&format!("{case} {module} A"), &pair.a, &expected.get(&key("A")), 1e-5);
        let scaled: Vec<f32> = expected.get(&key("B")).iter().map(|value| value * scale).collect();
        assert_close(&format!("{case} {module} B"), &pair.b, &scaled, 1e-5);
        assert!((config.scaling(module).expect("a scale") - 1.0).abs() < 1e-12, "{case} {module}");
    }
}

#[test]
fn adapters_become_one_as_in_peft() {
    check("linear", &["--method", "linear", "--weights", "0.7,0.3"], 1.0);
    check("cat", &["--weights", "0.7,-0.3", "--as", "peft"], 1.0);
    check("ties-negative", &["--method", "ties", "--weights", "0.7,-0.3", "--density", "1"], 1.0);
    let prune = ["--method", "magnitude-prune", "--weights", "0.7,0.3", "--density", "0.35", "--scale", "-0.5"];
    check("magnitude-prune", &prune, -0.5);
}

#[test]
fn what_dare_drops_follows_the_seed_and_weights_default_to_equal_ones() {
    let folder = folder();
    let (first, second) = (part("first"), part("second"));
    let run = |name: &str, more: &[&str]| {
        let to = folder.path().join(name);
        let mut all = vec!["--adapter", text(&first), "--adapter", text(&second), "--to", text(&to)];
        all.extend(more);
        merge(&all);
        adapters::read_peft(&to).expect("a PEFT folder").1
    };
    let dare = ["--method", "dare_ties", "--density", "0.5", "--majority-sign", "frequency"];
    let seeded = |name: &str, seed: &str| run(name, &[&dare[..], &["--seed", seed]].concat());
    let drawn = seeded("a", "1");
    assert!(seeded("b", "1") == drawn && seeded("c", "2") != drawn);
    let linear = ["--method", "linear"];
    assert!(run("d", &linear) == run("e", &[&linear[..], &["--weights", "0.5,0.5"]].concat()));
}

#[test]
fn a_combination_folded_into_its_base_gives_the_logits_of_the_combination() {
    let (folder, device) = (folder(), Device::flex());
    let model = fixture("tiny-llama");
    let (first, second) = (fixture("parity/adapter_final"), fixture("methods/rslora/adapter_final"));
    let combined = ["--adapter", text(&first), "--adapter", text(&second), "--weights", "0.8,0.4", "--scale", "0.5"];
    let (alone, folded) = (folder.path().join("alone"), folder.path().join("folded"));
    let gguf = folder.path().join("folded.gguf");
    merge(&[&combined[..], &["--to", text(&alone)]].concat());
    merge(&[&combined[..], &["--model", text(&model), "--to", text(&folded)]].concat());
    merge(&[&combined[..], &["--model", text(&model), "--as", "gguf", "--to", text(&gguf)]].concat());

    let ids = &parity_examples()[1].input_ids;
    let plain = base("tiny-llama").decoder(&device).expect("the fixture loads");
    let mut adapted = plain.clone();
    adapter::load(&mut adapted, &alone, &device).expect("it fits");
    let expected = logits(&adapted, ids, &device);
    for merged in [&folded, &gguf] {
        let decoder = base(text(merged)).decoder(&device).expect("a model");
        assert_close(text(merged), &logits(&decoder, ids, &device), &expected, 1e-4);
    }
    let moved = logits(&plain, ids, &device).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(moved > 0.01, "the combination does nothing: {moved}");
}

#[test]
fn one_adapter_is_scaled() {
    let folder = folder();
    let (own, to) = (fixture("methods/patterns/adapter_final"), folder.path().join("half"));
    merge(&["--adapter", text(&own), "--scale", "0.5", "--to", text(&to)]);
    let (before, after) = (adapters::read_peft(&own).expect("fixture"), adapters::read_peft(&to).expect("written"));
    let update = |(config, pairs): &(adapters::AdapterConfig, _), module: &str| -> f64 {
        let pairs: &std::collections::BTreeMap<String, adapters::LoraPair> = pairs;
        let pair = &pairs[module];
        let row = |k: usize| f64::from(pair.b[k]) * f64::from(pair.a[k * pair.in_features]);
        config.scaling(module).expect("a scale") * (0..pair.rank).map(row).sum::<f64>()
    };
    for module in before.1.keys() {
        let (before, after) = (update(&before, module), update(&after, module));
        assert!((after - 0.5 * before).abs() < 1e-6, "{module}: {after} of {before}");
    }
}

#[test]
fn what_cannot_be_combined_is_refused() {
    let folder = folder();
    let to = folder.path().join("merged");
    let (first, second, other) = (part("first"), part("second"), part("other-rank"));
    let two = ["--to", text(&to), "--adapter", text(&first), "--adapter"];
    let pair = |more: &[&str], expected: &[&str]| {
        refused(&[&two[..], &[text(&second)], more].concat(), expected);
        assert!(!to.exists(), "nothing is written");
    };
    pair(&["--weights", "1"], &["weights is [1.0], expected 2 numbers, one for each adapter"]);
    pair(&["--method", "ties"], &["density is missing, expected the share of numbers that ties keeps"]);
    pair(&["--method", "ties", "--density", "-0.5"], &["density is -0.5, expected a number above 0 to 1"]);
    pair(&["--density", "0.5"], &["density is 0.5, expected no density, since cat drops no numbers"]);
    pair(&["--scale", "0"], &["scale is 0, expected a finite number that is not 0"]);
    pair(&["--method", "ties_svd"], &["the methods that prune dense updates are not supported; take svd"]);
    pair(&["--as", "gguf"], &["folds into a base", "--model"]);
    pair(&["--as", "peft", "--model", "base"], &["--as peft writes an adapter and takes no --model"]);
    pair(&["--type", "f16"], &["--type is f16", "an adapter's numbers are f32"]);
    refused(
        &[&two[..], &[text(&other), "--method", "linear"]].concat(),
        &[
            "other-rank: cannot be combined: model.layers.0.self_attn.q_proj has rank 2, and 4 in",
            "cat and svd take different",
        ],
    );
    // One of them for another base.
    let (mut config, pairs) = adapters::read_peft(&second).expect("the fixture");
    config.base_model_name_or_path = Some("else".to_owned());
    let elsewhere = folder.path().join("elsewhere");
    adapters::write_peft(&elsewhere, &config, &pairs, false).expect("a new folder");
    let parts = ["elsewhere: cannot be combined: its base_model_name_or_path is \"else\", and \"tiny\"", "of one base"];
    refused(&[&two[..], &[text(&elsewhere)]].concat(), &parts);
    assert!(!to.exists());
}
