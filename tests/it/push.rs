//! `greffon push` and the card of `greffon export`, against a server on this machine that plays the hub.
//!
//! The protocol, large files included, is tested beside the client, in `datasets`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{fixture, greffon, greffon_command, tiny_recipe};

const TOKEN: &str = "hf_very_secret";

/// A hub that takes every file into the commit itself; it keeps path and body of each request.
struct Hub {
    endpoint: String,
    requests: Arc<Mutex<Vec<(String, String)>>>,
}

impl Hub {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        // The thread ends with the test process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &seen);
            }
        });
        Self { endpoint, requests }
    }

    fn push(&self, arguments: &[&str]) -> Output {
        let mut all = vec!["push"];
        all.extend(arguments);
        let mut command = greffon_command(&all);
        command.env("HF_ENDPOINT", &self.endpoint).env("HF_TOKEN", TOKEN).env_remove("HF_HUB_OFFLINE");
        command.output().expect("greffon starts")
    }

    fn requests(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn answer(mut stream: TcpStream, seen: &Mutex<Vec<(String, String)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    let path = first.split(' ').nth(1).unwrap().to_owned();
    let answer = if path.contains("/preupload/") {
        let listed: Value = serde_json::from_str(&body).unwrap();
        let files = listed["files"].as_array().unwrap().iter();
        json!({ "files": files.map(|f| json!({ "path": f["path"], "uploadMode": "regular" })).collect::<Vec<_>>() })
    } else {
        json!({ "url": "x", "commitOid": "0123456789abcdef0123456789abcdef01234567" })
    };
    seen.lock().unwrap().push((path, body));
    let answer = answer.to_string();
    let length = answer.len();
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{answer}").unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().expect("plain path")
}

/// A copy of a fixture's adapter, for a base on the hub.
fn adapter(folder: &TempDir) -> PathBuf {
    let to = folder.path().join("adapter");
    let (mut config, pairs) = adapters::read_peft(&fixture("parity/adapter_final")).expect("the fixture");
    config.base_model_name_or_path = Some("owner/base".into());
    adapters::write_peft(&to, &config, &pairs, false).expect("a new folder");
    to
}

fn said(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

#[test]
fn what_was_learned_goes_up_without_the_samples_and_the_folders_of_this_machine() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let adapter = adapter(&folder);
    let manifest = |path: &str, unknown: &str| {
        let run = json!({
            "run": "claims", "base": "owner/base", "base_digest": "00", "date": "2026-11-22T12:00:00Z", "step": 3,
            "file": "samples.jsonl", "samples": 1, "learned": 1, "sha256": "ff",
            "sources": [{"split": "train", "path": path, "sha256": "aa", "licence": null, "samples": 1}],
            "screening": null,
        });
        let manifest = json!({"data": {"runs": [run], "unknown": [unknown]}, "proofs": []});
        format!("{manifest:#}\n")
    };
    let own = manifest("/home/someone/claims/letters.jsonl", "/home/someone/earlier");
    std::fs::write(adapter.join("greffon.json"), &own).unwrap();
    std::fs::write(adapter.join("samples.jsonl"), "{}\n").unwrap();
    let out = hub.push(&[text(&adapter), "me/graft"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(said(&out).contains("not pushed: samples.jsonl"), "{}", said(&out));
    let requests = hub.requests();
    let (_, commit) = requests.iter().find(|(path, _)| path.contains("/commit/")).unwrap();
    let lines: Vec<Value> = commit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let sent = lines.iter().find(|line| line["value"]["path"] == "greffon.json").unwrap();
    let public = manifest("letters.jsonl", "earlier");
    assert_eq!(sent["value"]["content"].as_str().unwrap().len(), public.len().div_ceil(3) * 4);
    assert_eq!(std::fs::read_to_string(adapter.join("greffon.json")).unwrap(), own, "the adapter's own stays");
}

#[test]
fn a_signed_manifest_goes_up_as_it_is_and_never_without_its_signature() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let adapter = adapter(&folder);
    let key = folder.path().join("alice");
    assert!(greffon(&["keys", "new", "--to", text(&key)]).status.success());
    let [secret, public] = [".key", ".pub"].map(|ending| format!("{}{ending}", key.display()));
    assert!(greffon(&["sign", text(&adapter), "--key", &secret]).status.success());
    // Without a card one is written, which the signature does not cover.
    let out = hub.push(&[text(&adapter), "me/graft"]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(said(&out).contains("the folder has changed since it was signed; sign it again"), "{}", said(&out));
    std::fs::write(adapter.join("notes.txt"), "mine").unwrap();
    let out = hub.push(&[text(&adapter), "me/graft", "--sign-with", &secret]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(said(&out).contains("would name notes.txt, which is no part of an adapter"), "{}", said(&out));
    assert!(hub.requests().is_empty(), "nothing was sent");
    std::fs::remove_file(adapter.join("notes.txt")).unwrap();
    let out = hub.push(&[text(&adapter), "me/graft", "--sign-with", &secret, "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    let report: Value = serde_json::from_slice(&out.stdout).unwrap();
    let sent = ["adapter_config.json", "adapter_model.safetensors", "README.md", "manifest.json", "manifest.dsse.json"];
    assert_eq!(report["committed"], json!(sent));
    assert!(greffon(&["verify", text(&adapter), "--signed-by", &public]).status.success());
    let before = std::fs::read(adapter.join("manifest.json")).unwrap();
    let out = hub.push(&[text(&adapter), "me/graft"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert_eq!(std::fs::read(adapter.join("manifest.json")).unwrap(), before);
    hub.requests();
    // A signature of another manifest stays at home, with the rest.
    let other = tempfile::tempdir().unwrap();
    let signed = self::adapter(&other);
    assert!(greffon(&["sign", text(&signed), "--key", &secret]).status.success());
    std::fs::copy(signed.join("manifest.dsse.json"), adapter.join("manifest.dsse.json")).unwrap();
    let out = hub.push(&[text(&adapter), "me/graft"]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    assert!(said(&out).contains("sign it again") && hub.requests().is_empty(), "{}", said(&out));
}

#[test]
fn an_adapter_goes_up_with_a_card_and_nothing_else() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let adapter = adapter(&folder);
    std::fs::write(adapter.join("notes.txt"), "mine").unwrap();
    let out = hub.push(&[text(&adapter), "me/graft", "--private", "--license", "mit", "--language", "fr,en", "--json"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(!said(&out).contains(TOKEN));
    assert!(said(&out).contains("no part of an adapter, not pushed: notes.txt"), "{}", said(&out));
    let report: Value = serde_json::from_slice(&out.stdout).expect("JSON and nothing else");
    assert_eq!(report["committed"], json!(["adapter_config.json", "adapter_model.safetensors", "README.md"]));
    assert_eq!(report["url"], format!("{}/me/graft", hub.endpoint));

    let requests = hub.requests();
    let paths: Vec<&str> = requests.iter().map(|(path, _)| path.as_str()).collect();
    let commit = "/api/models/me/graft/commit/main";
    assert_eq!(paths, ["/api/repos/create", "/api/models/me/graft/preupload/main", commit]);
    assert_eq!(serde_json::from_str::<Value>(&requests[0].1).unwrap()["private"], true);
    let lines: Vec<Value> = requests[2].1.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    // The content itself is compared beside the client; here, that each is the folder's file.
    for line in &lines[1..] {
        let path = adapter.join(line["value"]["path"].as_str().unwrap());
        let sent = line["value"]["content"].as_str().unwrap();
        assert_eq!(sent.len(), std::fs::read(&path).unwrap().len().div_ceil(3) * 4, "{}", path.display());
    }
    let card = std::fs::read_to_string(adapter.join("README.md")).unwrap();
    for part in ["base_model: \"owner/base\"", "license: \"mit\"", "- \"fr\"\n- \"en\"", "vllm serve owner/base"] {
        assert!(card.contains(part), "{part} is not in {card}");
    }

    // A card that is there stays.
    std::fs::write(adapter.join("README.md"), "# Mine\n").unwrap();
    let out = hub.push(&[text(&adapter), "me/graft", "--license", "mit"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    assert!(said(&out).contains("commit 0123456789abcdef"), "{}", said(&out));
    assert_eq!(std::fs::read_to_string(adapter.join("README.md")).unwrap(), "# Mine\n");
}

#[test]
fn what_a_server_or_the_reader_refuses_is_not_pushed() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let adapter = adapter(&folder);
    let config = std::fs::read_to_string(adapter.join("adapter_config.json")).unwrap();
    let patterned = config.replace("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": 1}");
    assert_ne!(patterned, config);
    std::fs::write(adapter.join("adapter_config.json"), patterned).unwrap();
    let out = hub.push(&[text(&adapter), "me/graft"]);
    assert_eq!(out.status.code(), Some(3), "{}", said(&out));
    for part in ["not pushed: vllm refuses it", "lorax refuses it", "--fold-patterns", "name the servers", "--for"] {
        assert!(said(&out).contains(part), "{part} is not in {}", said(&out));
    }
    assert!(!adapter.join("README.md").exists() && hub.requests().is_empty());
    let out = hub.push(&[text(&adapter), "me/graft", "--for", "peft,mistral.rs"]);
    assert_eq!(out.status.code(), Some(0), "{}", said(&out));
    hub.requests();

    std::fs::write(adapter.join("adapter_config.json"), config).unwrap();
    let weights = adapter.join("adapter_model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 4;
    bytes[last..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    for (arguments, expected) in [
        (vec![text(&adapter), "me/graft"], "expected finite values"),
        (vec![text(folder.path()), "me/graft"], "adapter_config.json"),
        (vec![text(&adapter), "me/graft", "--for", "ollama"], "expected some of vllm, llama.cpp"),
        (vec![text(&adapter), "me/graft", "--license", "MIT License"], "expected the hub's name for a licence"),
        (vec![text(&adapter), "me/graft", "--language", "French"], "expected an ISO 639 code"),
    ] {
        let out = hub.push(&arguments);
        assert_eq!(out.status.code(), Some(2), "{}", said(&out));
        assert!(said(&out).contains(expected), "{expected} is not in {}", said(&out));
    }
    assert!(hub.requests().is_empty(), "nothing was sent");
}

#[test]
fn nothing_is_pushed_offline_or_without_a_token() {
    let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
    let adapter = adapter(&folder);
    for (key, value, expected) in [("HF_HUB_OFFLINE", "1", "HF_HUB_OFFLINE forbids"), ("HF_TOKEN", "", "set HF_TOKEN")]
    {
        let mut command = greffon_command(&["push", text(&adapter), "me/graft"]);
        command.env("HF_ENDPOINT", &hub.endpoint).env("HF_HOME", folder.path()).env("HF_TOKEN", TOKEN);
        let out = command.env(key, value).output().expect("greffon starts");
        assert_eq!(out.status.code(), Some(2), "{}", said(&out));
        assert!(said(&out).contains(expected), "{}", said(&out));
    }
    assert!(hub.requests().is_empty());
}

#[test]
fn an_export_has_a_card_that_tells_of_its_training() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=3", "train.seed=11"]);
    let run = folder.path().join("run");
    assert!(greffon(&["train", &recipe]).status.success());
    let to = folder.path().join("exported");
    let export = |more: &[&str]| {
        let mut arguments = vec!["export", text(&run), "--to", text(&to)];
        arguments.extend(more);
        let out = greffon(&arguments);
        assert!(out.status.success(), "{}", said(&out));
    };
    export(&["--license", "apache-2.0"]);
    let card = std::fs::read_to_string(to.join("README.md")).expect("a card");
    for part in ["# run\n", "license: \"apache-2.0\"", "| steps | 3 |", "| seed | 11 |", "| data | train.jsonl |"] {
        assert!(card.contains(part), "{part} is not in {card}");
    }
    assert!(!card.contains(text(folder.path())), "no path of this machine: {card}");
    adapters::read_peft(&to).expect("a card is in nobody's way");
    export(&["--no-card", "--force"]);
    assert!(!to.join("README.md").exists());
}
