//! What `greffon merge` writes, in transformers and in llama.cpp: the trainer's log-probabilities, ids and ends.
//!
//! For the tiny model of each family and for the real one; from folders and from GGUF bases.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use adapters::GgmlType;
use adapters::export::merged::MergedForm;
use adapters::export::safetensors::FloatType;
use burn::tensor::Device;
use datasets::{Message, Role};
use serde_json::{Value, json};
use trainer::eval::{log_probs, logits};
use trainer::model::merged::Merged;
use trainer::model::{BaseModel, Decoder, adapter};

use super::servers::Server;
use super::table::{METHODS, adapter_of};
use super::{export, gemma3, open, smollm2, trained, variable};
use crate::families::FAMILIES;
use crate::merge::merge;
use crate::support::{fixture, ids, json as fixture_json, parity_examples};

/// The most that log-probabilities may differ on average between float32 in two programs.
const TOLERANCE: f64 = 0.01;

/// The most probable tokens that are compared with llama.cpp's.
const TOP: usize = 40;

/// All weights in one file, as they are computed.
const FORM: MergedForm = MergedForm { float: FloatType::F32, max_shard_size: 5_000_000_000 };

const HARD_TEXT: &str = "Où est l'été à Besançon — cœur naïf ?\n\n\n  1234 🌹👩‍🚀 x<|im_end|>\n";

/// A base, and the decoder with an adapter of it.
struct Subject {
    name: String,
    base: PathBuf,
    adapter: PathBuf,
    sequences: Vec<Vec<u32>>,
}

impl Subject {
    fn open(&self) -> (BaseModel, Decoder) {
        let base = open(&self.base);
        let mut decoder = base.decoder(&Device::flex()).expect("it loads");
        adapter::load(&mut decoder, &self.adapter, &Device::flex()).expect("the adapter loads");
        (base, decoder)
    }
}

/// The tiny model of each family and the tiny Llama with each method, folders.
fn tiny() -> Vec<Subject> {
    let sequences: Vec<Vec<u32>> = parity_examples().into_iter().map(|example| example.input_ids).collect();
    let subject = |family: &&str| Subject {
        name: (*family).to_owned(),
        base: fixture(&format!("families/{family}")),
        adapter: fixture(&format!("families/{family}-adapter")),
        sequences: sequences.clone(),
    };
    let method = |method: &&str| Subject {
        name: (*method).to_owned(),
        base: fixture("tiny-llama"),
        adapter: adapter_of(method),
        sequences: sequences.clone(),
    };
    let tied = Subject { base: fixture("tiny-llama-tied"), ..method(&"ends-tied") };
    FAMILIES.iter().map(subject).chain(METHODS.iter().map(method)).chain([tied]).collect()
}

/// The real model with an adapter that was trained for a few steps, as a GGUF file.
fn real(folder: &Path) -> Subject {
    let adapter = folder.join("adapter");
    export(&trained(folder, &variable("GREFFON_SMOLLM2"), None), &adapter, &[]);
    Subject { name: "SmolLM2".to_owned(), base: variable("GREFFON_SMOLLM2"), adapter, sequences: prompts() }
}

/// The token ids of the committed prompts.
fn prompts() -> Vec<Vec<u32>> {
    fixture_json("smollm2/smollm2.json")["prompts"].as_array().unwrap().iter().map(|p| ids(&p["input_ids"])).collect()
}

fn messages() -> Vec<Message> {
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    vec![message(Role::System, "Sois bref."), message(Role::User, "Où est l'été 🌹 ?")]
}

#[test]
fn transformers_loads_merged_folders_and_finds_the_trainers_log_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let mut subjects = tiny();
    subjects.push(real(folder.path()));
    let (mut cases, mut expected) = (Vec::new(), Vec::new());
    for subject in &subjects {
        let (base, decoder) = subject.open();
        let whole = merge(&subject.base, &subject.adapter, path(&subject.name), &[]);
        let size = if subject.name == "SmolLM2" { "150MB" } else { "20KB" };
        let cut =
            merge(&subject.base, &subject.adapter, path(&format!("{}-cut", subject.name)), &["--max-shard-size", size]);
        let own: Vec<Vec<f32>> =
            subject.sequences.iter().map(|ids| log_probs(&decoder, ids, &Device::flex())).collect();
        let chat_ids = base.tokenizer.render_prompt(&messages()).unwrap();
        let again = path(&format!("{}-again", subject.name));
        for (form, save) in [(&whole, Value::Null), (&cut, json!({ "to": again, "max_shard_size": size }))] {
            cases.push(json!({
                "folder": form, "sequences": subject.sequences, "messages": messages(), "save": save,
            }));
        }
        expected.push((subject, own, chat_ids, base.tokenizer.eos_token_ids().to_vec(), cut, again));
    }
    fs::write(path("cases.json"), serde_json::to_vec(&cases).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/real/merged_models.py");
    let out = Command::new(variable("GREFFON_PEER_PYTHON")).arg(script).arg(path("cases.json")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let found: Vec<Value> = serde_json::from_slice(&out.stdout).expect("the script prints JSON");

    for ((subject, own, chat_ids, eos, cut, again), found) in expected.iter().zip(found.chunks_exact(2)) {
        for (form, found) in ["one file", "shards"].into_iter().zip(found) {
            let name = format!("{}, {form}", subject.name);
            assert_eq!((&found["missing"], &found["unexpected"]), (&json!(0), &json!(0)), "{name}");
            let theirs: Vec<Vec<f32>> = serde_json::from_value(found["logprobs"].clone()).unwrap();
            let pairs = own.iter().flatten().zip(theirs.iter().flatten());
            let differences: Vec<f64> = pairs.map(|(own, theirs)| f64::from((own - theirs).abs())).collect();
            assert_eq!(differences.len(), own.iter().map(Vec::len).sum::<usize>(), "{name}");
            let mean = differences.iter().sum::<f64>() / differences.len() as f64;
            let worst = differences.iter().copied().fold(0.0, f64::max);
            println!("{name} in transformers: mean difference {mean:.1e}, largest {worst:.1e}");
            assert!(mean <= 1e-4, "{name}: {mean:e}");
            assert_eq!(found["chat_ids"], json!(chat_ids), "{name}");
            let said = &found["eos_token_id"];
            let said = if said.is_array() { said.clone() } else { json!([said]) };
            let said: Vec<u32> = serde_json::from_value(said).unwrap();
            assert!(!said.is_empty() && said.iter().all(|id| eos.contains(id)), "{name}: {said:?} of {eos:?}");
        }
        // The shards are cut where transformers cuts them, and the index has its bytes.
        let index = |folder: &Path| fs::read_to_string(folder.join("model.safetensors.index.json")).expect("an index");
        assert_eq!(index(cut), index(again), "{}", subject.name);
    }
}

#[test]
fn llama_cpp_tokenises_and_scores_what_was_merged_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut subjects = tiny();
    // The real model as a folder, which its GGUF file becomes first.
    let real = real(folder.path());
    let base = folder.path().join("SmolLM2-folder");
    Merged::new(&smollm2()).unwrap().write_folder(&base, FORM, false).unwrap();
    subjects.push(Subject { base, ..real });
    for mut subject in subjects {
        let (base, decoder) = subject.open();
        let merged = folder.path().join(format!("{}.gguf", subject.name));
        let merged = merge(&subject.base, &subject.adapter, merged, &["--as", "gguf"]);
        let server = Server::llama_cpp(&merged, &[]);
        assert_eq!(tokenize(&server, HARD_TEXT), base.tokenizer.encode(HARD_TEXT).unwrap(), "{}", subject.name);
        if subject.name == "mistral" {
            // llama.cpp has no window for it, which the program says; within the window they are the same.
            subject.sequences.iter_mut().for_each(|ids| ids.truncate(base.config.sliding_window.unwrap()));
        }
        let mean = mean_difference(&server, &decoder, &subject.sequences);
        println!("{} in llama.cpp: mean difference {mean:.1e}", subject.name);
        assert!(mean <= TOLERANCE, "{}: {mean}", subject.name);
        // The proof can fail: the base without the adapter is something else.
        let plain = mean_difference(&server, &decoder.without_adapter(), &subject.sequences);
        assert!(plain > TOLERANCE, "{}: the adapter does nothing: {plain}", subject.name);
    }
}

/// The real `SentencePiece` vocabulary: a GGUF file becomes a folder, and that a GGUF file again.
#[test]
fn gemma_becomes_a_folder_and_a_gguf_file_again_with_its_tokens_and_scores() {
    let folder = tempfile::tempdir().unwrap();
    let (base, as_folder) = (gemma3(), folder.path().join("gemma3"));
    Merged::new(&base).unwrap().write_folder(&as_folder, FORM, false).unwrap();
    let decoder = base.decoder(&Device::flex()).unwrap();
    let again = open(&as_folder);
    let gguf = folder.path().join("gemma3.gguf");
    Merged::new(&again).unwrap().write_gguf(&gguf, GgmlType::F32, false).unwrap();
    let server = Server::llama_cpp(&gguf, &[]);
    for text in [
        HARD_TEXT,
        "  two spaces,   three, and\ttabs",
        "日本語のテキスト العربية",
        "<start_of_turn>user\nOù ?<end_of_turn>",
    ] {
        let expected = base.tokenizer.encode(text).unwrap();
        assert_eq!(again.tokenizer.encode(text).unwrap(), expected, "{text:?} by the folder");
        assert_eq!(tokenize(&server, text), expected, "{text:?} by llama.cpp");
    }
    let sequences = ["La capitale de la France est", "def main():\n    print(", "In 1958 he was elected"];
    let sequences = sequences.map(|text| base.tokenizer.encode_document(text).unwrap());
    let mean = mean_difference(&server, &decoder, &sequences);
    println!("Gemma 3 270M from a folder in llama.cpp: mean difference {mean:.1e}");
    assert!(mean <= TOLERANCE, "{mean}");
}

#[test]
fn llama_cpp_scores_every_type_near_the_trainer() {
    let folder = tempfile::tempdir().unwrap();
    let subject = real(folder.path());
    let (_, decoder) = subject.open();
    for (number_type, tolerance) in [("f16", 0.02), ("bf16", 0.05), ("q8_0", 0.2), ("q4_0", 1.0), ("q4_k", 0.6)] {
        let to = folder.path().join(format!("{number_type}.gguf"));
        let merged = merge(&subject.base, &subject.adapter, to, &["--as", "gguf", "--type", number_type]);
        let bytes = merged.metadata().unwrap().len();
        let mean = mean_difference(&Server::llama_cpp(&merged, &[]), &decoder, &subject.sequences);
        println!("{number_type} in llama.cpp: {} MB, mean difference {mean:.1e}", bytes / 1_000_000);
        assert!(mean <= tolerance, "{number_type}: {mean}");
    }
}

fn post(server: &Server, path: &str, request: &Value) -> Value {
    let answer = ureq::post(format!("{}/{path}", server.address)).send(request.to_string());
    let text = answer.expect("the server answers").into_body().read_to_string().expect("it answers text");
    serde_json::from_str(&text).expect("the server answers JSON")
}

fn tokenize(server: &Server, text: &str) -> Vec<u32> {
    let request = json!({ "content": text, "add_special": false, "parse_special": true });
    serde_json::from_value(post(server, "tokenize", &request)["tokens"].clone()).expect("ids")
}

/// The most probable next tokens with their log-probabilities; none when the most probable one ends the text, of which
/// the server then says nothing.
fn next(server: &Server, prompt: &[u32]) -> Option<Vec<(usize, f64)>> {
    let request = json!({
        "prompt": prompt, "n_predict": 1, "n_probs": TOP, "temperature": 0.0, "cache_prompt": false,
    });
    let answer = post(server, "completion", &request);
    let tokens = answer["completion_probabilities"][0]["top_logprobs"].as_array()?;
    let token = |token: &Value| {
        let id = usize::try_from(token["id"].as_u64().expect("an id")).expect("a small id");
        (id, token["logprob"].as_f64().expect("a number"))
    };
    Some(tokens.iter().map(token).collect())
}

/// How far the server's log-probabilities after each sequence, or the longest part of it that does not end the text, are
/// from the trainer's, on average.
pub(super) fn mean_difference(server: &Server, decoder: &Decoder, sequences: &[Vec<u32>]) -> f64 {
    let mut differences = Vec::new();
    for ids in sequences {
        let answer = (1..=ids.len()).rev().find_map(|length| Some((length, next(server, &ids[..length])?)));
        let (length, next) = answer.expect("some part of the sequence goes on");
        let all = logits(decoder, &ids[..length], &Device::flex());
        let last: Vec<f64> = all[all.len() - decoder.config.vocab_size..].iter().map(|l| f64::from(*l)).collect();
        let largest = last.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum = last.iter().map(|l| (l - largest).exp()).sum::<f64>().ln() + largest;
        assert_eq!(next.len(), TOP);
        differences.extend(next.iter().map(|(id, log_prob)| (last[*id] - sum - log_prob).abs()));
    }
    differences.iter().sum::<f64>() / differences.len() as f64
}
