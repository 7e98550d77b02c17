//! `greffon verify --prove` against small servers of this machine: proofs, and what goes wrong with servers.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;

use burn::tensor::Device;
use serde_json::{Value, json};
use trainer::eval::next_log_probs;
use trainer::model::{Decoder, adapter};

use crate::support::{base, fixture, greffon};

/// An answer: status and body.
type Answer = (u16, String);

/// Starts a server that answers each request by its method and path; it ends with the test's process.
fn serve(mut answer: impl FnMut(&str, Value) -> Answer + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let (what, body) = request(&stream);
            let (status, text) = answer(&what, body);
            write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len())
                .ok();
        }
    });
    address
}

/// The method with the path, and the body.
fn request(stream: &TcpStream) -> (String, Value) {
    let mut reader = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).expect("a request");
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a header");
        let lower = line.trim().to_ascii_lowercase();
        if lower.is_empty() {
            break;
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let what = first.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
    (what, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A server that gives fixed answers, and 404 to the rest.
fn fixed(answers: &[(&str, u16, Value)]) -> String {
    let answers: HashMap<String, Answer> =
        answers.iter().map(|(what, status, body)| ((*what).to_owned(), (*status, body.to_string()))).collect();
    serve(move |what, _| answers.get(what).cloned().unwrap_or((404, "{}".to_owned())))
}

/// The models of a server that serves the tiny Llama with an adapter.
fn models() -> Value {
    json!({ "data": [{ "id": "tiny", "parent": null, "owned_by": "test" }, { "id": "mine", "parent": "tiny" }] })
}

/// A server that is right: it computes as the trainer does.
fn right() -> String {
    let plain = base("tiny-llama").decoder(&Device::flex()).expect("the fixture loads");
    let mut adapted = plain.clone();
    adapter::load(&mut adapted, &fixture("parity/adapter_final"), &Device::flex()).expect("the adapter loads");
    let tokenizer = base("tiny-llama").tokenizer;
    serve(move |what, body| {
        let answer = match what {
            "GET /v1/models" => models(),
            "GET /version" => json!({ "version": "1.2.3" }),
            "POST /tokenize" => {
                json!({ "tokens": tokenizer.encode_document(body["prompt"].as_str().expect("a text")).expect("tokens") })
            }
            "POST /v1/completions" => {
                let decoder = if body["model"] == "mine" { &adapted } else { &plain };
                json!({ "choices": [{ "logprobs": { "top_logprobs": [top(decoder, &body)] } }] })
            }
            _ => return (404, String::new()),
        };
        (200, answer.to_string())
    })
}

fn top(decoder: &Decoder, body: &Value) -> Value {
    let prompt: Vec<u32> = serde_json::from_value(body["prompt"].clone()).expect("token ids");
    let count = usize::try_from(body["logprobs"].as_u64().expect("a number")).expect("a small one");
    let mut ranked: Vec<(usize, f64)> =
        next_log_probs(decoder, &prompt, &Device::flex()).into_iter().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(count);
    ranked
        .into_iter()
        .map(|(id, log_prob)| (format!("token_id:{id}"), Value::from(log_prob)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// A copy of a PEFT folder of the fixtures.
fn peft(folder: &Path, name: &str) -> PathBuf {
    let copy = folder.join("adapter");
    std::fs::create_dir(&copy).expect("a folder");
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(fixture(name).join(file), copy.join(file)).expect("a copy");
    }
    copy
}

fn prove(export: &Path, address: &str, more: &[&str]) -> Output {
    let model = fixture("tiny-llama");
    let mut arguments = vec!["verify", export.to_str().unwrap(), "--prove", "--model", model.to_str().unwrap()];
    arguments.extend(["--server", address]);
    arguments.extend(more);
    greffon(&arguments)
}

fn report(out: &Output) -> Value {
    serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)))
}

#[test]
fn a_right_server_is_proved_and_the_manifest_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let export = peft(folder.path(), "parity/adapter_final");
    let out = prove(&export, &right(), &["--json", "--limit", "1e-4"]);
    let proof = report(&out);
    assert_eq!(out.status.code(), Some(0), "{proof:#}");
    assert_eq!((&proof["proved"], &proof["same_tokens"]), (&json!(true), &json!(true)));
    assert_eq!(proof["server"], json!({ "kind": "test", "version": "1.2.3", "model": "tiny", "adapter": "mine" }));
    for agreement in [&proof["on"], &proof["off"]] {
        assert_eq!(agreement["same_first"], proof["prompts"]);
        assert!(agreement["largest"].as_f64().unwrap() < 1e-5, "{agreement}");
    }
    assert!(proof["effect"].as_f64().unwrap() > 1e-3);

    let told = || report(&greffon(&["verify", export.to_str().unwrap(), "--for", "peft", "--json"]))["proofs"].clone();
    let kept = told();
    assert_eq!(kept.as_array().unwrap().len(), 1);
    assert_eq!((&kept[0]["outdated"], &kept[0]["proof"]["files"]), (&Value::Null, &proof["files"]));
    // Another proof of the same takes its place.
    assert_eq!(prove(&export, &right(), &["--limit", "1e-4"]).status.code(), Some(0));
    assert_eq!(told().as_array().unwrap().len(), 1);
    let config = export.join("adapter_config.json");
    std::fs::write(&config, std::fs::read_to_string(&config).unwrap() + "\n").unwrap();
    assert_eq!(told()[0]["outdated"], "the files have changed since");
    let text = greffon(&["verify", export.to_str().unwrap(), "--for", "peft"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("the proof no longer holds: prove it again"));
}

#[test]
fn a_server_with_another_adapter_is_not_proved() {
    let folder = tempfile::tempdir().unwrap();
    let export = peft(folder.path(), "parity/adapter_init");
    let out = prove(&export, &right(), &["--json", "--limit", "1e-4"]);
    let proof = report(&out);
    assert_eq!((out.status.code(), &proof["proved"]), (Some(3), &json!(false)));
    let reasons = proof["reasons"].to_string();
    assert!(reasons.contains("adapter on: the mean difference") && reasons.contains("above the limit"), "{reasons}");
    // It is told later too.
    let later = greffon(&["verify", export.to_str().unwrap(), "--for", "peft"]);
    assert!(String::from_utf8_lossy(&later.stdout).contains("not proved ("));
}

#[test]
fn a_proof_that_could_not_fail_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let export = peft(folder.path(), "parity/adapter_final");
    let out = prove(&export, &right(), &["--json", "--limit", "5"]);
    assert_eq!(out.status.code(), Some(3));
    let reasons = report(&out)["reasons"].to_string();
    assert!(reasons.contains("a server which ignores it would pass the limit 5; lower --limit"), "{reasons}");
}

/// The proof ends with exit code 2 and one error that has all the words, and no manifest is written.
#[track_caller]
fn refused(address: &str, more: &[&str], words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let export = peft(folder.path(), "parity/adapter_final");
    let out = prove(&export, address, more);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    assert!(!said.contains("panicked") && !said.trim_end().ends_with('.'), "{said}");
    assert!(!export.join("greffon.json").exists());
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let address = format!("http://{free}");
    refused(&address, &[], &[&format!("server {address}: cannot be reached"), "start it, or correct --server"]);
    refused("127.0.0.1:8080", &[], &["server 127.0.0.1:8080: expected an address such as http://127.0.0.1:8080"]);
    refused(&address, &["--limit", "0"], &["--limit is 0, expected above 0"]);
}

#[test]
fn a_server_of_another_kind_is_named() {
    refused(
        &fixed(&[]),
        &[],
        &["neither llama.cpp's server nor one with OpenAI's completions", "404 to GET /v1/models"],
    );
    refused(&fixed(&[("GET /v1/models", 200, json!("no list"))]), &[], &["neither llama.cpp's server nor"]);
    let models = ("GET /v1/models", 200, models());
    let boom = json!({ "error": "boom" });
    refused(
        &fixed(&[models.clone(), ("POST /v1/completions", 500, boom)]),
        &[],
        &["answers 500 to POST /v1/completions: {\"error\":\"boom\"}"],
    );
    refused(&fixed(&[models]), &[], &["answers 404 to POST /v1/completions"]);
}

#[test]
fn a_server_without_the_adapter_or_with_several_is_named() {
    let without = json!({ "data": [{ "id": "tiny" }] });
    refused(&fixed(&[("GET /v1/models", 200, without)]), &[], &["has no adapter loaded"]);
    let several =
        json!({ "data": [{ "id": "tiny" }, { "id": "a", "parent": "tiny" }, { "id": "b", "parent": "tiny" }] });
    let several = [("GET /v1/models", 200, several)];
    refused(&fixed(&several), &[], &["several of the kind adapter: a, b; name one with --served-adapter"]);
    refused(&fixed(&several), &["--served-adapter", "c"], &["has no adapter named \"c\", it has a, b"]);
}

#[test]
fn answers_without_probabilities_or_with_odd_ones_are_named() {
    let answer = |logprobs: Value| {
        let body = json!({ "choices": [{ "text": "x", "logprobs": logprobs }] });
        fixed(&[("GET /v1/models", 200, models()), ("POST /v1/completions", 200, body)])
    };
    let top = |token: &str, value: f64| answer(json!({ "top_logprobs": [{ token: value }] }));
    refused(&answer(Value::Null), &[], &["gives no log-probabilities", "--max-logprobs 20"]);
    refused(&top("Paris", -1.0), &[], &["names tokens by their text, such as \"Paris\"", "return_tokens_as_token_ids"]);
    refused(&top("token_id:5", 3.0), &[], &["gives token 5 the log-probability 3, expected 0 or less"]);
    refused(
        &top("token_id:90000", -1.0),
        &[],
        &["answers with token 90000, but the base's vocabulary has 384; it serves another model"],
    );
}

#[test]
fn a_proof_is_in_the_manifest_and_asks_for_a_new_signature() {
    let folder = tempfile::tempdir().unwrap();
    let export = peft(folder.path(), "parity/adapter_final");
    let key = folder.path().join("alice");
    let run = |arguments: &[&str]| {
        let out = greffon(arguments);
        let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        (out.status.code(), said)
    };
    run(&["keys", "new", "--to", key.to_str().unwrap()]);
    let [secret, public] = [".key", ".pub"].map(|ending| format!("{}{ending}", key.display()));
    let export_name = export.to_str().unwrap();
    let checked = || run(&["verify", export_name, "--signed-by", &public]);
    let (code, said) = run(&["sign", export_name, "--key", &secret]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(checked().0, Some(0));
    let server = right();
    let out = prove(&export, &server, &[]);
    assert_eq!(out.status.code(), Some(0));
    let warned = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(warned.contains("is the signature of the manifest before this; sign again"), "{warned}");
    let (code, said) = checked();
    assert_eq!(code, Some(3), "{said}");
    assert!(said.contains("manifest.json: is not the manifest that was signed"), "{said}");
    let manifest: Value = serde_json::from_slice(&std::fs::read(export.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["predicate"]["proofs"][0]["proved"], true);
    assert_eq!(manifest["predicate"]["proofs"][0]["base"], "tiny-llama", "no folder of this machine");
    assert_eq!(prove(&export, &server, &["--sign-with", &secret]).status.code(), Some(0));
    assert_eq!(checked().0, Some(0));
}

/// llama.cpp's server as far as the checks go, with an adapter of a name.
fn llama_cpp(entries: usize, adapters: &Value, completion: &Value) -> String {
    fixed(&[
        ("GET /props", 200, json!({ "default_generation_settings": {}, "model_path": "/m/base.gguf" })),
        ("GET /v1/models", 200, json!({ "data": [{ "meta": { "n_vocab": entries } }] })),
        ("GET /lora-adapters", 200, adapters.clone()),
        ("POST /completion", 200, completion.clone()),
    ])
}

#[test]
fn a_llama_cpp_server_with_something_else_is_named() {
    let own = json!([{ "id": 0, "path": "/m/adapter", "scale": 1.0 }]);
    refused(&llama_cpp(99, &own, &json!({})), &[], &["vocabulary of 99 tokens, the base has 384", "another model"]);
    refused(&llama_cpp(384, &json!([]), &json!({})), &[], &["has no adapter loaded"]);
    let other = json!([{ "id": 0, "path": "/m/other.gguf", "scale": 1.0 }]);
    refused(
        &llama_cpp(384, &other, &json!({})),
        &[],
        &["has the adapter /m/other.gguf, not adapter", "--served-adapter /m/other.gguf"],
    );
    let words = ["gives no log-probabilities", "completion_probabilities[0].top_logprobs"];
    refused(&llama_cpp(384, &own, &json!({ "content": "x" })), &[], &words);
    let served = ["--served-adapter", "/m/other.gguf"];
    refused(&llama_cpp(384, &other, &json!({ "content": "x" })), &served, &words);
    let tokens = fixed(&[
        ("GET /props", 200, json!({ "default_generation_settings": {} })),
        ("GET /lora-adapters", 200, own),
        ("POST /tokenize", 200, json!({ "tokens": [1, 2, 3] })),
    ]);
    refused(&tokens, &[], &["cuts \"The capital of France", "into the tokens [1, 2, 3]", "another tokenizer"]);
}

#[test]
fn what_cannot_be_proved_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = prove(folder.path(), "http://127.0.0.1:9", &[]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("expected a PEFT folder (adapter_config.json), a model"));
    // Without the base or the server there is no proof.
    let export = peft(folder.path(), "parity/adapter_final");
    let out = greffon(&["verify", export.to_str().unwrap(), "--prove"]);
    assert_eq!(out.status.code(), Some(2));
    std::fs::write(export.join("greffon.json"), "{").unwrap();
    let out = prove(&export, "http://127.0.0.1:9", &[]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("greffon.json: not a manifest"));
}
