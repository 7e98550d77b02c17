//! The ring with real parts: SmolLM2-135M-Instruct, and the servers that take what we export.
//!
//! `./scripts/test.sh --real` sets them up and names them: `GREFFON_SMOLLM2` is the GGUF file, `GREFFON_PEER_PYTHON`
//! the Python that has PyTorch, transformers, PEFT and llama.cpp's server.

mod llama_cpp;
mod peft;

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use trainer::eval::logits;
use trainer::model::BaseModel;
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

/// Trains the quick start's recipe for four steps and gives the run folder, in `folder`.
fn trained(folder: &Path) -> PathBuf {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes/quickstart/recipe.yaml");
    let run = folder.join("run");
    let trained = greffon(&[
        "train",
        recipe.to_str().unwrap(),
        "--set",
        &format!("model.base={}", variable("GREFFON_SMOLLM2").display()),
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
    run
}

/// Exports a run, with further arguments.
fn export(run: &Path, to: &Path, arguments: &[&str]) {
    let mut all = vec!["export", run.to_str().unwrap(), "--to", to.to_str().unwrap()];
    all.extend(arguments);
    let export = greffon(&all);
    assert!(export.status.success(), "{}", String::from_utf8_lossy(&export.stderr));
}

/// The token ids of the committed prompts.
fn prompts() -> Vec<Vec<u32>> {
    fixture_json("smollm2/smollm2.json")["prompts"].as_array().unwrap().iter().map(|p| ids(&p["input_ids"])).collect()
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
