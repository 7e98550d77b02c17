//! llama.cpp's server takes what we export, and finds the trainer's log-probabilities.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use adapters::export::gguf_lora::write_gguf_lora;
use adapters::export::gguf_merged::write_gguf_merged;
use adapters::{AdapterConfig, GgmlType, GgufFile};
use burn::tensor::Device;
use serde_json::{Value, json};
use trainer::eval::logits;
use trainer::model::{Decoder, adapter};

use super::{export, prompts, smollm2, trained, variable};

/// The most probable tokens that are compared.
const TOP: usize = 40;

/// The most that log-probabilities may differ on average; 0.004 is what float32 leaves between the two programs.
const TOLERANCE: f64 = 0.01;

/// The server with a model; it ends with the value.
struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(model: &Path, adapter: Option<&Path>) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/real/llama_server.py");
        let mut command = Command::new(variable("GREFFON_PEER_PYTHON"));
        command.arg(script).arg(model).arg(port.to_string()).args(adapter);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the server starts");
        let said = BufReader::new(process.stdout.take().expect("it is piped")).lines().map_while(Result::ok);
        let ready = said.into_iter().any(|line| line.starts_with("listening"));
        assert!(ready, "llama.cpp does not load {} with {adapter:?}", model.display());
        Self { process, address: format!("http://127.0.0.1:{port}") }
    }

    /// The most probable next tokens with their log-probabilities. The scale is of the adapter, if there is one.
    fn next(&self, prompt: &[u32], scale: Option<f64>) -> Vec<(usize, f64)> {
        let mut request = json!({
            "prompt": prompt, "n_predict": 1, "n_probs": TOP, "temperature": 0.0, "cache_prompt": false,
        });
        if let Some(scale) = scale {
            request["lora"] = json!([{ "id": 0, "scale": scale }]);
        }
        let request = ureq::post(format!("{}/completion", self.address)).send(request.to_string());
        let answer = request.expect("the server answers").into_body().read_to_string().expect("it answers text");
        let answer: Value = serde_json::from_str(&answer).expect("the server answers JSON");
        let tokens = answer["completion_probabilities"][0]["top_logprobs"].as_array().expect("log-probabilities");
        let token = |token: &Value| {
            let id = usize::try_from(token["id"].as_u64().expect("an id")).expect("a small id");
            (id, token["logprob"].as_f64().expect("a number"))
        };
        tokens.iter().map(token).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Two tokens that are closer than this may change places by rounding alone.
const MARGIN: f64 = 0.02;

/// How far a server is from the trainer.
#[derive(Debug)]
struct Proof {
    mean_difference: f64,
    /// The server's first token is the trainer's, or as probable to the trainer within [`MARGIN`].
    same_first: bool,
}

impl Proof {
    fn holds(&self) -> bool {
        self.mean_difference <= TOLERANCE && self.same_first
    }
}

/// The trainer's log-probabilities of the token after a prompt.
fn next_log_probs(decoder: &Decoder, prompt: &[u32]) -> Vec<f64> {
    let all = logits(decoder, prompt, &Device::flex());
    let last: Vec<f64> = all[all.len() - decoder.config.vocab_size..].iter().map(|l| f64::from(*l)).collect();
    let largest = last.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = last.iter().map(|l| (l - largest).exp()).sum::<f64>().ln() + largest;
    last.iter().map(|l| l - sum).collect()
}

fn prove(server: &Server, scale: Option<f64>, decoder: &Decoder) -> Proof {
    let (mut differences, mut same_first) = (Vec::new(), true);
    for prompt in prompts() {
        let own = next_log_probs(decoder, &prompt);
        let theirs = server.next(&prompt, scale);
        let best = own.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        same_first &= theirs.first().is_some_and(|(id, _)| best - own[*id] < MARGIN);
        differences.extend(theirs.iter().map(|(id, log_prob)| (own[*id] - log_prob).abs()));
    }
    Proof { mean_difference: differences.iter().sum::<f64>() / differences.len() as f64, same_first }
}

/// The base in float32, which shows what four bits would hide.
fn base_f32(folder: &Path) -> (GgufFile, PathBuf) {
    let source = GgufFile::open(variable("GREFFON_SMOLLM2")).expect("the real model");
    let path = folder.join("base-f32.gguf");
    write_gguf_merged(&path, &source, None, &smollm2().gguf(), GgmlType::F32, false).expect("room for the base");
    (source, path)
}

#[test]
fn llama_cpp_finds_the_trainers_log_probabilities_and_a_broken_export_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let run = trained(folder.path());
    let (peft, gguf) = (folder.path().join("adapter"), folder.path().join("adapter.gguf"));
    export(&run, &peft, &[]);
    export(&run, &gguf, &["--as", "gguf-lora"]);

    let plain = smollm2().decoder(&Device::flex()).unwrap();
    let mut adapted = plain.clone();
    adapter::load(&mut adapted, &peft, &Device::flex()).unwrap();
    let (source, base) = base_f32(folder.path());

    let server = Server::start(&base, Some(&gguf));
    let (on, off) = (prove(&server, Some(1.0), &adapted), prove(&server, Some(0.0), &plain));
    println!("adapter on {on:?}, off {off:?}");
    assert!(on.holds() && off.holds(), "on {on:?}, off {off:?}");
    // The proof can fail: with the adapter off, the server is not what was trained.
    let unlike = prove(&server, Some(0.0), &adapted);
    assert!(!unlike.holds(), "the adapter does nothing: {unlike:?}");
    drop(server);

    let (config, pairs) = adapters::read_peft(&peft).unwrap();
    let own = smollm2().gguf();
    for (ggml_type, tolerance) in [(GgmlType::F32, TOLERANCE), (GgmlType::F16, 2.0 * TOLERANCE)] {
        let merged = folder.path().join(format!("merged-{ggml_type}.gguf"));
        write_gguf_merged(&merged, &source, Some((&config, &pairs)), &own, ggml_type, false).unwrap();
        let proof = prove(&Server::start(&merged, None), None, &adapted);
        println!("merged, {ggml_type}: {proof:?}");
        assert!(proof.same_first && proof.mean_difference <= tolerance, "{ggml_type}: {proof:?}");
    }

    let no_permutation = adapters::export::gguf_lora::GgufBase { interleaved_heads: None, ..own.clone() };
    let broken: [(&str, AdapterConfig, _); 3] = [
        ("rows of q and k", config.clone(), no_permutation),
        ("rank-stabilised scale", AdapterConfig { use_rslora: true, ..config.clone() }, own.clone()),
        ("alpha", AdapterConfig { lora_alpha: 2.0 * config.lora_alpha, ..config.clone() }, own),
    ];
    for (what, config, target) in broken {
        let path = folder.path().join("broken.gguf");
        write_gguf_lora(&path, &config, &pairs, &target, GgmlType::F32, true).unwrap();
        let proof = prove(&Server::start(&base, Some(&path)), Some(1.0), &adapted);
        println!("broken {what}: {proof:?}");
        assert!(!proof.holds(), "{what}: {proof:?}");
    }
}
