//! `greffon merge`: what it writes gives the logits of base and adapter, in every form and for every family.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use trainer::eval::logits;
use trainer::model::{BaseModel, adapter};
use trainer::recipe::ModelConfig;

use crate::families::FAMILIES;
use crate::support::{assert_close, device, fixture, greffon, parity_examples};

/// Merges and gives what was written.
#[track_caller]
pub(crate) fn merge(base: &Path, adapter: &Path, to: PathBuf, arguments: &[&str]) -> PathBuf {
    let [base, adapter, target] = [base, adapter, &to].map(|path| path.to_str().expect("plain path"));
    let mut all = vec!["merge", "--model", base, "--adapter", adapter, "--to", target];
    all.extend(arguments);
    let out = greffon(&all);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    to
}

fn open(path: &Path) -> BaseModel {
    let model = ModelConfig::new(path.to_str().expect("plain path"));
    BaseModel::open(&model, None, &datasets::Hub::from_env()).expect("it opens as a base")
}

/// The logits of a model on the parity fixture's sequences, with an adapter or without.
fn all_logits(model: &Path, with: Option<&Path>, device: &Device) -> Vec<f32> {
    let mut decoder = open(model).decoder(device).expect("it loads");
    if let Some(folder) = with {
        adapter::load(&mut decoder, folder, device).expect("the adapter loads");
    }
    parity_examples().iter().flat_map(|example| logits(&decoder, &example.input_ids, device)).collect()
}

/// The files of a folder, by name.
fn names(folder: &Path) -> BTreeSet<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    folder.read_dir().expect("a folder").map(|entry| name(entry).to_string_lossy().into_owned()).collect()
}

#[test]
fn a_merged_folder_of_every_family_gives_the_logits_of_base_and_adapter() {
    let (folder, device) = (tempfile::tempdir().expect("a folder"), device());
    for family in FAMILIES {
        let (base, with) = (fixture(&format!("families/{family}")), fixture(&format!("families/{family}-adapter")));
        let expected = all_logits(&base, Some(&with), &device);
        let merged = merge(&base, &with, folder.path().join(family), &[]);
        assert_close(family, &all_logits(&merged, None, &device), &expected, 1e-4);
        // What the base says beside its weights stays, but for the type of the numbers, which is the same here.
        for name in ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            let json = |folder: &Path| -> serde_json::Value {
                serde_json::from_slice(&fs::read(folder.join(name)).expect("it is there")).expect("JSON")
            };
            assert_eq!(json(&merged), json(&base), "{family} {name}");
        }
    }
}

#[test]
fn a_folder_of_every_family_is_merged_into_a_gguf_file_that_reads_back_the_same() {
    let (folder, device) = (tempfile::tempdir().expect("a folder"), device());
    for family in FAMILIES {
        let (base, with) = (fixture(&format!("families/{family}")), fixture(&format!("families/{family}-adapter")));
        let merged = merge(&base, &with, folder.path().join(format!("{family}.gguf")), &["--as", "gguf"]);
        let (own, read) = (open(&base), open(&merged));
        for text in ["Où est l'église de Besançon ?\n\n\n  42", "🌹👩‍🚀 e\u{301}", "<|im_start|>user\nHi<|im_end|>"]
        {
            assert_eq!(read.tokenizer.encode(text).unwrap(), own.tokenizer.encode(text).unwrap(), "{family}: {text}");
        }
        let source = |base: &BaseModel| base.tokenizer.template().expect("a template").source().to_owned();
        assert_eq!(source(&read), source(&own));
        assert_eq!(read.tokenizer.special_tokens(), own.tokenizer.special_tokens());
        let (got, expected) = (all_logits(&merged, None, &device), all_logits(&base, Some(&with), &device));
        // A GGUF file has no window for Mistral, so only what lies within it can be the same.
        let same = if family == "mistral" { 8 * own.config.vocab_size } else { got.len() };
        assert_close(family, &got[..same], &expected[..same], 1e-4);
    }
}

#[test]
fn shards_hold_what_one_file_holds_and_the_index_says_where() {
    let (folder, device) = (tempfile::tempdir().expect("a folder"), device());
    let (base, with) = (fixture("families/qwen3"), fixture("families/qwen3-adapter"));
    let whole = merge(&base, &with, folder.path().join("whole"), &[]);
    let cut = merge(&base, &with, folder.path().join("cut"), &["--max-shard-size", "30KB"]);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(cut.join("model.safetensors.index.json")).expect("an index")).expect("JSON");
    let weights = |path: PathBuf| adapters::SafetensorsFile::open(path).expect("it is sound");
    let one = weights(whole.join("model.safetensors"));
    let map = index["weight_map"].as_object().expect("a map");
    assert_eq!(map.keys().map(String::as_str).collect::<Vec<_>>(), one.names().collect::<Vec<_>>());
    let mut total = 0;
    for (name, file) in map {
        let file = weights(cut.join(file.as_str().expect("a name")));
        assert_eq!(file.mapped(name).expect("it is where the index says"), one.mapped(name).expect("it is there"));
        total += file.mapped(name).expect("as before").len();
    }
    assert_eq!(index["metadata"]["total_size"], total);
    assert_eq!(index["metadata"]["total_parameters"], total / 4);
    let files: BTreeSet<&str> = map.values().filter_map(|file| file.as_str()).collect();
    let count = files.len();
    assert!(count > 3, "{files:?}");
    let expected: Vec<String> = (1..=count).map(|i| format!("model-{i:05}-of-{count:05}.safetensors")).collect();
    assert_eq!(files.into_iter().collect::<Vec<_>>(), expected);
    assert!(!names(&cut).contains("model.safetensors"), "{:?}", names(&cut));
    assert_eq!(all_logits(&cut, None, &device), all_logits(&whole, None, &device));
    // A merge over a sharded model is asked for with --force, like any other.
    merge(&base, &with, cut.clone(), &["--force"]);
    assert_eq!(names(&cut), names(&whole));
}

#[test]
fn sixteen_bits_are_near_and_a_tied_head_is_written_once() {
    let (folder, device) = (tempfile::tempdir().expect("a folder"), device());
    let (base, with) = (fixture("families/qwen2"), fixture("families/qwen2-adapter"));
    let expected = all_logits(&base, Some(&with), &device);
    for (number_type, torch, tolerance) in [("bf16", "bfloat16", 0.1), ("f16", "float16", 0.02)] {
        let merged = merge(&base, &with, folder.path().join(number_type), &["--type", number_type]);
        assert_close(number_type, &all_logits(&merged, None, &device), &expected, tolerance);
        let config = fs::read_to_string(merged.join("config.json")).expect("it is there");
        assert!(config.contains(&format!("\"dtype\": \"{torch}\"")), "{config}");
        let weights = adapters::SafetensorsFile::open(merged.join("model.safetensors")).expect("it is sound");
        assert!(weights.names().all(|name| name != "lm_head.weight"), "the head is the embedding");
    }
}

#[test]
fn a_gguf_base_is_merged_into_a_folder_and_into_another_gguf_file() {
    let (folder, device) = (tempfile::tempdir().expect("a folder"), device());
    let (base, with) = (fixture("tiny-llama.gguf"), fixture("parity/adapter_final"));
    let expected = all_logits(&base, Some(&with), &device);
    let merged = merge(&base, &with, folder.path().join("folder"), &[]);
    assert_close("folder", &all_logits(&merged, None, &device), &expected, 1e-4);
    let text = "Où est l'église de Besançon ? 🌹 <|im_end|>";
    let tokens = open(&base).tokenizer.encode(text).expect("it encodes");
    assert_eq!(open(&merged).tokenizer.encode(text).expect("it encodes"), tokens);
    for (number_type, tolerance) in [("f32", 1e-4), ("f16", 0.02), ("q8_0", 0.2), ("q4_0", 4.0), ("q4_k", 4.0)] {
        let to = folder.path().join(format!("{number_type}.gguf"));
        let merged = merge(&base, &with, to, &["--as", "gguf", "--type", number_type]);
        assert_close(number_type, &all_logits(&merged, None, &device), &expected, tolerance);
        let file = adapters::GgufFile::open(&merged).expect("it is sound");
        let original = adapters::GgufFile::open(&base).expect("it is sound");
        for key in ["tokenizer.chat_template", "tokenizer.ggml.tokens", "llama.rope.freq_base"] {
            assert_eq!(file.metadata().get(key), original.metadata().get(key), "{key}");
        }
        let norm = file.tensor("blk.0.attn_norm.weight").expect("a norm");
        assert_eq!(norm.ggml_type, adapters::GgmlType::F32);
    }
}
