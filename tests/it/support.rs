//! What several tests need: the fixtures, and comparisons that name the worst place.

use std::path::{Path, PathBuf};
use std::process::Command;

use burn::tensor::{Device, Tensor};
use datasets::{Cache, ChatTokenizer, DataConfig, Example, Hub, Origin, Prepared};
use safetensors::SafeTensors;
use serde_json::Value;
use trainer::model::{BaseModel, Decoder};
use trainer::recipe::ModelConfig;

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub(crate) fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(fixture(name)).expect("the fixture is committed");
    serde_json::from_str(&text).expect("the fixture is JSON")
}

/// The device that the environment variable `GREFFON_TEST_DEVICE` names in a recipe's form; the CPU without it.
pub(crate) fn device() -> Device {
    let name = std::env::var("GREFFON_TEST_DEVICE").unwrap_or_else(|_| "flex".to_owned());
    trainer::device::open(&name).expect("this build carries the device under test")
}

/// A base model among the fixtures.
pub(crate) fn base(name: &str) -> BaseModel {
    let path = fixture(name);
    let model = ModelConfig::new(path.to_str().expect("plain path"));
    BaseModel::open(&model, None, &Hub::from_env()).expect("the fixture opens")
}

/// The f32 tensors of a safetensors file.
pub(crate) struct Tensors(Vec<u8>);

impl Tensors {
    pub(crate) fn open(name: &str) -> Self {
        Self(std::fs::read(fixture(name)).expect("the fixture is committed"))
    }

    pub(crate) fn get(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).expect("the fixture is safetensors");
        let view = tensors.tensor(name).unwrap_or_else(|_| panic!("the fixture has no tensor {name}"));
        view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}

/// Fails with the worst element when two vectors differ by more than `tolerance`.
#[track_caller]
pub(crate) fn assert_close(what: &str, got: &[f32], expected: &[f32], tolerance: f32) {
    assert_eq!(got.len(), expected.len(), "{what}: length");
    let worst = (0..got.len()).max_by(|&i, &j| distance(got[i], expected[i]).total_cmp(&distance(got[j], expected[j])));
    if let Some(i) = worst {
        let difference = distance(got[i], expected[i]);
        assert!(difference <= tolerance, "{what}[{i}]: got {}, expected {}, off by {difference}", got[i], expected[i]);
    }
}

/// Fails when the flat gradient of an adapter is not what PEFT computed, matrix by matrix under PEFT's file names.
#[track_caller]
pub(crate) fn assert_gradients(what: &str, decoder: &Decoder, gradient: Tensor<1>, expected: &Tensors, tolerance: f32) {
    let got: Vec<f32> = gradient.into_data().try_into_vec().expect("a float32 tensor");
    let mut offset = 0;
    let norms = |of: &str| -> Vec<(String, usize)> {
        let mut decoder = decoder.clone();
        let own = decoder.base_norms.is_some();
        let norms = decoder.norms_mut().into_iter().filter(|(path, _)| own && path.starts_with(of));
        norms.map(|(path, norm)| (format!("base_model.model.{path}.weight"), norm.dims()[0])).collect()
    };
    let mut parts: Vec<(String, usize)> = Vec::new();
    let mut block = String::new();
    for (path, lora) in decoder.adapters() {
        // A block's norms follow its modules.
        let own = path.split('.').take(3).collect::<Vec<_>>().join(".");
        if own != block && block.starts_with("model.layers") {
            parts.extend(norms(&format!("{block}.")));
        }
        block = own;
        let embedding = path.ends_with("embed_tokens");
        let names =
            if embedding { ["lora_embedding_A", "lora_embedding_B"] } else { ["lora_A.weight", "lora_B.weight"] };
        let matrices = names.into_iter().zip([&lora.lora_a, &lora.lora_b]);
        let matrices = matrices.map(|(name, matrix)| (name, matrix.dims().iter().product()));
        let magnitude = lora.magnitude.as_ref().map(|m| ("lora_magnitude_vector", m.vector.dims()[0]));
        parts.extend(matrices.chain(magnitude).map(|(part, count)| (format!("base_model.model.{path}.{part}"), count)));
    }
    if block.starts_with("model.layers") {
        parts.extend(norms(&format!("{block}.")));
        parts.extend(norms("model.norm"));
    }
    for (name, count) in parts {
        assert_close(&format!("{what} {name}"), &got[offset..offset + count], &expected.get(&name), tolerance);
        offset += count;
    }
    assert_eq!(offset, got.len(), "{what}: nothing but the adapter has gradients");
}

fn distance(a: f32, b: f32) -> f32 {
    let difference = (a - b).abs();
    if difference.is_nan() { f32::INFINITY } else { difference }
}

#[track_caller]
pub(crate) fn assert_near(what: &str, got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance, "{what}: got {got}, expected {expected}");
}

pub(crate) fn ids(value: &Value) -> Vec<u32> {
    let list = value.as_array().expect("a list of ids");
    list.iter().map(|id| u32::try_from(id.as_u64().expect("an id")).expect("a small id")).collect()
}

pub(crate) fn mask(value: &Value) -> Vec<bool> {
    ids(value).into_iter().map(|bit| bit != 0).collect()
}

/// The sequences of the parity fixture.
pub(crate) fn parity_examples() -> Vec<Example> {
    let parity = json("parity/parity.json");
    let sequences = parity["sequences"].as_array().expect("sequences");
    sequences
        .iter()
        .enumerate()
        .map(|(index, sequence)| Example {
            input_ids: ids(&sequence["input_ids"]),
            loss_mask: mask(&sequence["loss_mask"]),
            origin: Origin { path: Path::new("parity.json").into(), line: index + 1 },
        })
        .collect()
}

/// Writes general conversations for the tiny model.
pub(crate) fn write_replayed(path: &Path) {
    let line = |i: usize| {
        let user = format!("Tell me of day {i} and of {} more.", (i * 7) % 11);
        let messages = serde_json::json!([
            { "role": "user", "content": user },
            { "role": "assistant", "content": "It rained." },
        ]);
        format!("{}\n", serde_json::json!({ "messages": messages }))
    };
    std::fs::write(path, (0..40).map(line).collect::<String>()).expect("a file");
}

/// Where the tests keep tokens, away from the user's own.
const TOKENS: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");

/// The data of a recipe.
pub(crate) fn prepared(config: &DataConfig, tokenizer: &ChatTokenizer) -> Prepared {
    let cache = Cache::at(Path::new(TOKENS).join("data"));
    datasets::prepare(config, tokenizer, 0, &Hub::from_env(), &cache, &mut |_| {}).expect("sound data")
}

/// The program that is tested: built beside the tests.
pub(crate) fn greffon_command(arguments: &[&str]) -> std::process::Command {
    let tests = std::env::current_exe().expect("the test's own path");
    let program = tests.parent().and_then(Path::parent).expect("target/release/deps").join("greffon");
    assert!(program.is_file(), "{} is missing: run `cargo build --release` first", program.display());
    let mut command = std::process::Command::new(program);
    command.env("GREFFON_CACHE", TOKENS);
    command.args(arguments).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    command
}

/// Runs the program to its end.
pub(crate) fn greffon(arguments: &[&str]) -> std::process::Output {
    greffon_command(arguments).output().expect("greffon starts")
}

/// Copies a folder with all that is in it.
pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder").map(|entry| entry.expect("an entry")) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(from, to).expect("a copy");
        }
    }
}

/// Writes a recipe over the tiny model and a few conversations into a folder, with values set on top.
pub(crate) fn tiny_recipe(folder: &Path, set: &[&str]) -> String {
    let mut lines = String::new();
    for i in 0..24 {
        let answer = ["red", "green", "blue", "a long shade of grey"][i % 4];
        let line = format!(
            "{{\"messages\": [{{\"role\": \"user\", \"content\": \"Which colour is number {i}?\"}}, \
             {{\"role\": \"assistant\", \"content\": \"{answer}\"}}]}}\n"
        );
        lines.push_str(&line);
    }
    std::fs::write(folder.join("train.jsonl"), lines).expect("a file");
    let text = format!(
        "model:\n  base: {}\ndata:\n  train:\n    - path: train.jsonl\n  validation_fraction: 0.2\n  max_length: 128\n\
         lora:\n  rank: 4\n  alpha: 8\ntrain:\n  global_batch_size: 5\n  micro_batch_size: 2\n  learning_rate: 1e-2\n\
         forgetting:\n  suite: none\noutput: run\n",
        fixture("tiny-llama").display()
    );
    let plain = folder.join("plain.yaml");
    std::fs::write(&plain, text).expect("a file");
    let set: Vec<String> = set.iter().map(|s| (*s).to_owned()).collect();
    let recipe = trainer::recipe::Recipe::load(&plain, &set).expect("the tiny recipe is valid").recipe;
    let path = folder.join("recipe.yaml");
    std::fs::write(&path, recipe.resolved_yaml()).expect("a file");
    path.to_str().expect("plain path").to_owned()
}

/// Sends processes a signal, such as `KILL`.
#[track_caller]
pub(crate) fn signal(name: &str, pids: impl IntoIterator<Item = impl ToString>) {
    let pids = pids.into_iter().map(|pid| pid.to_string());
    assert!(Command::new("kill").arg(format!("-{name}")).args(pids).status().expect("kill").success());
}
