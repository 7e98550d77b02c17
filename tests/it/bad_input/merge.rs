//! Merges that cannot be made, and adapters that are not what they say.

use std::collections::BTreeMap;
use std::fs;

use adapters::export::safetensors::{NamedTensor, write};
use adapters::gguf::GgufWriter;
use adapters::{GgmlType, GgufFile, SafetensorsFile};

use super::base::Weights;
use super::{Case, assert_same_files, files};
use crate::support::{fixture, greffon};

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

const A: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

/// A case with a copy of the adapter of its base in `adapter`, whose tensors are changed.
fn case_with_adapter(change: impl FnOnce(&mut Tensors)) -> Case {
    let case = Case::with_own_base("tiny-llama");
    let source = fixture("parity/adapter_final");
    fs::create_dir(case.path("adapter")).expect("a folder");
    fs::copy(source.join("adapter_config.json"), case.path("adapter/adapter_config.json")).expect("a copy");
    let file = SafetensorsFile::open(source.join("adapter_model.safetensors")).expect("the fixture is sound");
    let tensor = |name: &str| (file.shape(name).expect("its own").to_vec(), file.f32(name).expect("its own"));
    let mut tensors: Tensors = file.names().map(|name| (name.to_owned(), tensor(name))).collect();
    change(&mut tensors);
    let tensors = tensors.into_iter().map(|(name, (shape, values))| NamedTensor { name, shape, values: values.into() });
    write(&case.path("adapter/adapter_model.safetensors"), tensors.collect(), Some("pt")).expect("it is written");
    case
}

/// The arguments that merge a case's adapter into its base, and further ones.
fn arguments(case: &Case, to: &str, more: &[&str]) -> Vec<String> {
    let path = |name: &str| case.path(name).to_str().expect("UTF-8").to_owned();
    let base = if case.path("base").is_dir() { path("base") } else { path("base.gguf") };
    let all = ["merge".to_owned(), "--model".to_owned(), base, "--adapter".to_owned(), path("adapter")];
    all.into_iter().chain(["--to".to_owned(), path(to)]).chain(more.iter().map(|more| (*more).to_owned())).collect()
}

#[track_caller]
fn refused(case: &Case, more: &[&str], words: &[&str]) {
    let arguments = arguments(case, "merged", more);
    case.command_refused(&arguments.iter().map(String::as_str).collect::<Vec<_>>(), words);
}

/// Merges and gives what the program says on standard error.
#[track_caller]
fn merges(case: &Case, to: &str, more: &[&str]) -> String {
    let arguments = arguments(case, to, more);
    let out = greffon(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    said
}

#[test]
fn an_adapter_that_is_not_a_number_is_refused_with_its_place() {
    let case = case_with_adapter(|tensors| tensors.get_mut(A).expect("it is there").1[7] = f32::NAN);
    refused(&case, &[], &["adapter_model.safetensors: tensor", A, "is NaN at row 0, column 7", "finite"]);
}

#[test]
fn ranks_that_differ_are_refused_with_both() {
    // The matrix A loses its last row.
    let case = case_with_adapter(|tensors| {
        let (shape, values) = tensors.get_mut(A).expect("it is there");
        shape[0] -= 1;
        values.truncate(shape[0] * shape[1]);
    });
    refused(&case, &[], &[A, "has 3 rows, but B has 4 columns", "both must be the rank"]);
    let case = case_with_adapter(|_| ());
    case.edit("adapter/adapter_config.json", "\"r\": 4", "\"r\": 8");
    refused(&case, &[], &["adapter_model.safetensors: tensor", "has rank 4, but adapter_config.json says 8"]);
}

#[test]
fn keys_with_an_adapters_name_are_repaired_with_a_warning() {
    let sound = case_with_adapter(|_| ());
    merges(&sound, "merged", &[]);
    let case = case_with_adapter(|tensors| {
        let renamed = std::mem::take(tensors).into_iter();
        let name = |name: String| name.replace(".lora_A.", ".lora_A.default.").replace(".lora_B.", ".lora_B.default.");
        tensors.extend(renamed.map(|(key, tensor)| (name(key), tensor)));
    });
    let said = merges(&case, "merged", &[]);
    assert!(said.contains("keys have an adapter's name in them, which is taken out"), "{said}");
    let weights = |case: &Case| fs::read(case.path("merged/model.safetensors")).expect("it was written");
    assert!(weights(&case) == weights(&sound));
}

#[test]
fn an_adapter_for_another_class_or_revision_is_refused_and_another_name_warned_of() {
    let case = case_with_adapter(|_| ());
    case.edit("adapter/adapter_config.json", "\"tiny-llama\"", "\"someone/else\"");
    let said = merges(&case, "merged", &[]);
    assert!(said.contains("names someone/else as its base and is folded into"), "{said}");

    let base = case.path("base").to_str().expect("UTF-8").to_owned();
    case.edit("adapter/adapter_config.json", "\"someone/else\"", &format!("{base:?}"));
    case.edit("adapter/adapter_config.json", "\"revision\": null", "\"revision\": \"abc123\"");
    let said = merges(&case, "again", &[]);
    assert!(!said.contains("names"), "{said}");
    let words = ["adapter ", "was trained on revision abc123 of", "got --revision main", "leave --revision out"];
    case.command_refused(
        &arguments(&case, "third", &["--revision", "main"]).iter().map(String::as_str).collect::<Vec<_>>(),
        &words,
    );

    case.edit(
        "adapter/adapter_config.json",
        "\"auto_mapping\": null",
        "\"auto_mapping\": {\"base_model_class\": \"Qwen2ForCausalLM\"}",
    );
    let words = ["is for a base of class Qwen2ForCausalLM, got ", "LlamaForCausalLM", "another base"];
    case.command_refused(&arguments(&case, "third", &[]).iter().map(String::as_str).collect::<Vec<_>>(), &words);
}

#[test]
fn a_type_that_the_form_does_not_have_is_refused() {
    let case = case_with_adapter(|_| ());
    refused(&case, &["--type", "q8_0"], &["--type is q8_0, which only GGUF files have", "expected f32, f16 or bf16"]);
}

#[test]
fn a_number_too_large_for_half_precision_is_refused_with_its_tensor() {
    let case = case_with_adapter(|_| ());
    let mut weights = Weights::read(&case);
    weights.get("model.layers.1.mlp.up_proj.weight").bytes[..4].copy_from_slice(&70_000.0_f32.to_le_bytes());
    weights.write(&case);
    let words = ["up_proj.weight`: holds 70000", "too large for F16", "BF16 or F32"];
    refused(&case, &["--type", "f16"], &words);
    refused(&case, &["--type", "f16", "--as", "gguf"], &["ffn_up.weight`: holds 70000", words[1]]);
    merges(&case, "merged", &["--type", "bf16"]);
}

#[test]
fn the_base_is_never_replaced_and_files_only_with_force() {
    let case = case_with_adapter(|_| ());
    let before = files(case.folder.path());
    let base = arguments(&case, "base", &["--force"]);
    case.command_refused(&base.iter().map(String::as_str).collect::<Vec<_>>(), &["is or holds the base itself"]);
    case.write("there.gguf", "a person's own");
    let there = arguments(&case, "there.gguf", &["--as", "gguf"]);
    let words = ["there.gguf exists already and is not overwritten", "--force"];
    case.command_refused(&there.iter().map(String::as_str).collect::<Vec<_>>(), &words);
    merges(&case, "there.gguf", &["--as", "gguf", "--force"]);
    let folder = arguments(&case, "adapter", &["--as", "gguf", "--force"]);
    case.command_refused(&folder.iter().map(String::as_str).collect::<Vec<_>>(), &["is a folder, expected a file"]);
    // Beside it stands what is known of it, and that nobody knows what the adapter learned.
    for name in ["there.gguf", "there.gguf.manifest.json", "there.gguf.greffon.json"] {
        fs::remove_file(case.path(name)).expect("it was written");
    }
    assert_same_files(&files(case.folder.path()), &before);
}

#[test]
fn a_base_without_chat_template_is_merged_with_a_warning_and_takes_one() {
    let case = case_with_adapter(|_| ());
    let path = case.path("base/tokenizer_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("JSON");
    config.as_object_mut().expect("an object").remove("chat_template");
    fs::write(&path, config.to_string()).expect("a file");
    fs::remove_file(case.path("base/chat_template.jinja")).ok();
    let said = merges(&case, "merged", &[]);
    assert!(said.contains("has no chat template") && said.contains("--chat-template"), "{said}");
    assert!(!case.path("merged/chat_template.jinja").exists());
    let merged = case.path("merged");
    let words = ["has no chat template"];
    case.command_refused(&["generate", "--model", merged.to_str().expect("UTF-8"), "hello"], &words);

    case.write("own.jinja", "{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}");
    let own = case.path("own.jinja");
    let said = merges(&case, "with", &["--chat-template", own.to_str().expect("UTF-8")]);
    assert!(!said.contains("chat template"), "{said}");
    assert_eq!(case.read("with/chat_template.jinja"), case.read("own.jinja"));
    merges(&case, "with.gguf", &["--as", "gguf", "--chat-template", own.to_str().expect("UTF-8")]);
    let file = GgufFile::open(case.path("with.gguf")).expect("it is sound");
    assert_eq!(file.str("tokenizer.chat_template").expect("it has one"), case.read("own.jinja"));
}

#[test]
fn a_tokenizer_that_llama_cpp_does_not_know_is_refused_with_the_rules_it_knows() {
    let case = case_with_adapter(|_| ());
    case.edit("base/tokenizer.json", "\"individual_digits\": true", "\"individual_digits\": false");
    let words =
        ["tokenizer.json: the tokenizer has no form in a GGUF file: pre_tokenizer: ", "gpt-2, smollm, llama-bpe"];
    refused(&case, &["--as", "gguf"], &[words[0], words[1], "--as safetensors"]);
    merges(&case, "merged", &[]);
}

#[test]
fn blocks_that_cannot_be_read_are_refused_by_name() {
    let case = case_with_adapter(|_| ());
    fs::remove_dir_all(case.path("base")).expect("its own");
    let source = GgufFile::open(fixture("tiny-llama.gguf")).expect("the fixture is sound");
    let mut writer = GgufWriter::new();
    for (key, value) in source.metadata() {
        writer.metadata(key, value.clone());
    }
    for tensor in source.tensors() {
        if tensor.name == "blk.1.ffn_up.weight" {
            let bytes = tensor.len() / GgmlType::Iq4Nl.block_size() * GgmlType::Iq4Nl.block_bytes();
            writer.tensor(&tensor.name, &tensor.shape, GgmlType::Iq4Nl, vec![0; bytes]);
        } else {
            let bytes = source.bytes(&tensor.name).expect("its own");
            writer.tensor(&tensor.name, &tensor.shape, tensor.ggml_type, bytes);
        }
    }
    let mut file = Vec::new();
    writer.write(&mut file).expect("memory has room");
    case.write("base.gguf", file);
    let words = ["base.gguf: tensor `blk.1.ffn_up.weight` is of type IQ4_NL", "not supported; supported are F32, F16"];
    refused(&case, &[], &words);
    refused(&case, &["--as", "gguf"], &words);
    let base = case.path("base.gguf");
    case.command_refused(&["generate", "--model", base.to_str().expect("UTF-8"), "hello"], &words);
}

#[test]
fn a_window_that_llama_cpp_cannot_have_is_refused() {
    let case = case_with_adapter(|_| ());
    fs::remove_dir_all(case.path("base")).expect("its own");
    fs::create_dir(case.path("base")).expect("a folder");
    for entry in fixture("families/gemma3").read_dir().expect("the fixture is a folder") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), case.path("base").join(entry.file_name())).expect("a copy");
    }
    fs::remove_dir_all(case.path("adapter")).expect("its own");
    fs::create_dir(case.path("adapter")).expect("a folder");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(fixture("families/gemma3-adapter").join(name), case.path("adapter").join(name)).expect("a copy");
    }
    let text = case.read("base/config.json");
    let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    config["layer_types"] = serde_json::json!(["full_attention", "sliding_attention", "full_attention"]);
    case.write("base/config.json", config.to_string());
    refused(&case, &["--as", "gguf"], &["config.json: key \"layer_types\" does not repeat with one period"]);
    merges(&case, "merged", &[]);
}
