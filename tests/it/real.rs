//! The ring with real parts: SmolLM2-135M-Instruct, and PEFT in a virtual environment.
//!
//! `./scripts/test.sh --real` sets them up and names them: `GREFFON_SMOLLM2` is the GGUF file, `GREFFON_PEER_PYTHON`
//! the Python that has PyTorch, transformers and PEFT.

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::Device;
use serde_json::{Value, json};
use trainer::eval::{log_probs, logits};
use trainer::model::{BaseModel, adapter};
use trainer::recipe::ModelConfig;

use crate::support::{Tensors, assert_close, greffon, ids, json as fixture_json};

fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run ./scripts/test.sh --real"));
    PathBuf::from(value)
}

fn smollm2() -> BaseModel {
    let path = variable("GREFFON_SMOLLM2");
    let model = ModelConfig::new(path.to_str().expect("UTF-8"));
    BaseModel::open(&model, None, &datasets::Hub::from_env()).expect("the real model opens")
}

/// Log-probabilities of sequences by PEFT, with an adapter or without.
fn peft_log_probs(base: &Path, adapter: Option<&Path>, sequences: &[Vec<u32>], folder: &Path) -> Vec<Vec<f32>> {
    let input = folder.join("sequences.json");
    let rows: Vec<Value> = sequences.iter().map(|s| json!({ "input_ids": s })).collect();
    std::fs::write(&input, serde_json::to_vec(&rows).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/real/peft_logprobs.py");
    let mut command = Command::new(variable("GREFFON_PEER_PYTHON"));
    command.arg(script).arg("--base").arg(base).arg("--sequences").arg(&input);
    if let Some(adapter) = adapter {
        command.arg("--adapter").arg(adapter);
    }
    let out = command.output().expect("the peer's Python starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said: Value = serde_json::from_slice(&out.stdout).expect("the script prints JSON");
    assert_eq!(said["adapter"], adapter.is_some());
    #[expect(clippy::cast_possible_truncation, reason = "they were computed in f32")]
    let value = |v: &Value| v.as_f64().unwrap() as f32;
    let sequences = said["sequences"].as_array().unwrap();
    sequences
        .iter()
        .map(|s| {
            let values = s["logprobs"].as_array().unwrap();
            values.iter().map(value).collect()
        })
        .collect()
}

/// The largest difference, relative to the expected value where that is above 1.
fn relative_difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(g, e)| (g - e).abs() / e.abs().max(1.0)).fold(0.0, f32::max)
}

#[test]
fn logits_of_the_real_model_equal_transformers() {
    let device = Device::flex();
    let base = smollm2();
    let decoder = base.decoder(&device).unwrap();
    let fixture = fixture_json("smollm2/smollm2.json");
    let expected = Tensors::open("smollm2/logits.safetensors");
    let stride = usize::try_from(fixture["vocab_stride"].as_u64().unwrap()).unwrap();
    for prompt in fixture["prompts"].as_array().unwrap() {
        let name = prompt["name"].as_str().unwrap();
        let input_ids = ids(&prompt["input_ids"]);
        assert_eq!(base.tokenizer.encode(prompt["text"].as_str().unwrap()).unwrap(), input_ids, "{name}");
        let got = logits(&decoder, &input_ids, &device);
        let rows: Vec<&[f32]> = got.chunks_exact(base.config.vocab_size).collect();
        let last = rows.last().unwrap();
        let strided: Vec<f32> = last.iter().step_by(stride).copied().collect();
        assert_close(name, &strided, &expected.get(&format!("{name}.last_logits")), 1e-3);
        let best = (0..last.len()).max_by(|&i, &j| last[i].total_cmp(&last[j])).unwrap();
        assert_eq!(best as u64, prompt["argmax"].as_u64().unwrap(), "{name}");
        let next: Vec<f32> = input_ids[1..].iter().zip(&rows).map(|(id, row)| row[*id as usize]).collect();
        assert_close(name, &next, &expected.get(&format!("{name}.next_logit")), 1e-3);
    }
    for text in fixture["texts"].as_array().unwrap() {
        let got = base.tokenizer.encode(text["text"].as_str().unwrap()).unwrap();
        assert_eq!(got, ids(&text["input_ids"]), "{}", text["text"]);
    }
}

#[test]
fn peft_loads_the_exported_adapter_and_finds_the_trainers_log_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    let model = variable("GREFFON_SMOLLM2");
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/quickstart/recipe.yaml");
    let run = folder.path().join("run");
    let trained = greffon(&[
        "train",
        recipe.to_str().unwrap(),
        "--set",
        &format!("model.base={}", model.display()),
        "--set",
        &format!("output={}", run.display()),
        "--set",
        "train.max_steps=4",
        "--set",
        "data.validation=[]",
        // So that four steps move the adapter clearly.
        "--set",
        "train.warmup_steps=1",
    ]);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    let exported = folder.path().join("adapter");
    let export = greffon(&["export", run.to_str().unwrap(), "--to", exported.to_str().unwrap()]);
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));

    let device = Device::flex();
    let base = smollm2();
    let mut decoder = base.decoder(&device).unwrap();
    let fixture = fixture_json("smollm2/smollm2.json");
    let sequences: Vec<Vec<u32>> =
        fixture["prompts"].as_array().unwrap().iter().map(|p| ids(&p["input_ids"])).collect();
    let plain: Vec<Vec<f32>> = sequences.iter().map(|s| log_probs(&decoder, s, &device)).collect();
    adapter::load(&mut decoder, &exported, &device).unwrap();
    let adapted: Vec<Vec<f32>> = sequences.iter().map(|s| log_probs(&decoder, s, &device)).collect();

    let (mut worst, mut moved) = (0.0_f32, 0.0_f32);
    let expected = peft_log_probs(&model, Some(&exported), &sequences, folder.path());
    let expected_plain = peft_log_probs(&model, None, &sequences, folder.path());
    for i in 0..sequences.len() {
        worst = worst.max(relative_difference(&adapted[i], &expected[i]));
        worst = worst.max(relative_difference(&plain[i], &expected_plain[i]));
        moved = moved.max(relative_difference(&adapted[i], &plain[i]));
    }
    println!("largest relative difference to PEFT {worst:e}; the adapter moved log-probabilities by up to {moved:e}");
    assert!(moved > 1e-2, "the adapter does nothing: {moved:e}");
    assert!(worst <= 1e-4, "off by {worst:e}");
}
