//! The ring with real parts: SmolLM2-135M-Instruct, Gemma 3 270M, and the servers that take what we export.
//!
//! `./scripts/test.sh --real` sets them up and names them: `GREFFON_SMOLLM2` and `GREFFON_GEMMA3` are the GGUF files,
//! `GREFFON_PEER_PYTHON` the Python that has PyTorch, transformers, PEFT and llama.cpp's server. The expected numbers
//! were written by `scripts/fixtures/smollm2.py` and `gemma3.py`.

mod cluster;
mod energy;
mod faults;
mod kubernetes;
mod merged;
mod mlflow;
mod probes;
mod processes;
mod prove;
mod report;
mod servers;
mod slurm;
mod sweep;
mod synth;
mod table;
mod together;
mod trust;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use trainer::eval::logits;
use trainer::model::BaseModel;
use trainer::model::generate::{Sampling, generate};
use trainer::recipe::ModelConfig;

use crate::support::{Tensors, assert_close, greffon, ids, json as fixture_json};

fn variable(name: &str) -> PathBuf {
    let value = std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run ./scripts/test.sh --real"));
    PathBuf::from(value)
}

fn open(path: &Path) -> BaseModel {
    let model = ModelConfig::new(path.to_str().expect("UTF-8"));
    BaseModel::open(&model, None, &datasets::Hub::from_env()).expect("the real model opens")
}

fn smollm2() -> BaseModel {
    open(&variable("GREFFON_SMOLLM2"))
}

fn gemma3() -> BaseModel {
    open(&variable("GREFFON_GEMMA3"))
}

/// Trains the quick start's recipe on a model for four steps and gives the run folder, in `folder`.
fn trained(folder: &Path, model: &Path, template: Option<&Path>) -> PathBuf {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/quickstart/recipe.yaml");
    let run = folder.join("run");
    let mut values = vec![
        format!("model.base={}", model.display()),
        format!("output={}", run.display()),
        "train.max_steps=4".to_owned(),
        "data.validation=[]".to_owned(),
        // So that four steps move the adapter clearly.
        "train.warmup_steps=1".to_owned(),
        "forgetting.suite=none".to_owned(),
    ];
    values.extend(template.map(|path| format!("data.chat_template={}", path.display())));
    let mut arguments = vec!["train", recipe.to_str().unwrap()];
    arguments.extend(values.iter().flat_map(|value| ["--set", value]));
    let trained = greffon(&arguments);
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    run
}

/// Exports a run, with further arguments.
fn export(run: &Path, to: &Path, arguments: &[&str]) {
    let mut all = vec!["export", run.to_str().unwrap(), "--to", to.to_str().unwrap()];
    all.extend(arguments);
    let export = greffon(&all);
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
}

/// Token ids, logits, and generation with a cache, against a fixture of a real model.
#[expect(clippy::print_stdout, reason = "the figures, for whoever runs it with --nocapture")]
fn equals_transformers(base: &BaseModel, name: &str) {
    let device = Device::flex();
    let decoder = base.decoder(&device).unwrap();
    let fixture = fixture_json(&format!("{name}/{name}.json"));
    let expected = Tensors::open(&format!("{name}/logits.safetensors"));
    let stride = usize::try_from(fixture["vocab_stride"].as_u64().unwrap()).unwrap();
    for text in fixture["texts"].as_array().unwrap() {
        let got = base.tokenizer.encode(text["text"].as_str().unwrap()).unwrap();
        assert_eq!(got, ids(&text["input_ids"]), "{}", text["text"]);
    }
    for prompt in fixture["prompts"].as_array().unwrap() {
        let name = prompt["name"].as_str().unwrap();
        let input_ids = ids(&prompt["input_ids"]);
        assert_eq!(base.tokenizer.encode_document(prompt["text"].as_str().unwrap()).unwrap(), input_ids, "{name}");
        let got = logits(&decoder, &input_ids, &device);
        let rows: Vec<&[f32]> = got.chunks_exact(base.config.vocab_size).collect();
        let last = rows.last().unwrap();
        let strided: Vec<f32> = last.iter().step_by(stride).copied().collect();
        let expected_last = expected.get(&format!("{name}.last_logits"));
        assert_close(name, &strided, &expected_last, 1e-3);
        let best = (0..last.len()).max_by(|&i, &j| last[i].total_cmp(&last[j])).unwrap();
        assert_eq!(best as u64, prompt["argmax"].as_u64().unwrap(), "{name}");
        let next: Vec<f32> = input_ids[1..].iter().zip(&rows).map(|(id, row)| row[*id as usize]).collect();
        let expected_next = expected.get(&format!("{name}.next_logit"));
        assert_close(name, &next, &expected_next, 1e-3);
        println!(
            "{name}: largest difference of logits {:e}",
            largest(&strided, &expected_last).max(largest(&next, &expected_next))
        );
        if let Some(expected) = prompt.get("generated_ids") {
            let expected = ids(expected);
            let sampling = Sampling::greedy(expected.len());
            let out = generate(&decoder, &[input_ids], sampling, &[], &device, |_, _| true);
            assert_eq!(out[0].ids, expected, "{name}");
        }
    }
}

fn largest(got: &[f32], expected: &[f32]) -> f32 {
    got.iter().zip(expected).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max)
}

#[test]
fn smollm2_equals_transformers() {
    equals_transformers(&smollm2(), "smollm2");
}

#[test]
fn gemma3_equals_transformers() {
    equals_transformers(&gemma3(), "gemma3");
}
