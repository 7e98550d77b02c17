//! Runs that report to a real MLflow server, which is read back over its own interface.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::variable;
use crate::resume::{adapter_bytes, metrics};
use crate::support::{greffon, greffon_command, signal, tiny_recipe};

/// A server with its own database and artifacts, which it takes itself.
struct Mlflow {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Mlflow {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
        let mut server = Self { folder, port, process: None };
        server.again();
        server
    }

    /// Starts it on what it had.
    fn again(&mut self) {
        let folder = self.folder.path();
        let log = File::options().create(true).append(true).open(folder.join("log.txt")).expect("a log");
        let process = Command::new(variable("GREFFON_PEER_PYTHON"))
            .args(["-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1", "--port", &self.port.to_string()])
            .arg("--backend-store-uri")
            .arg(format!("sqlite:///{}", folder.join("mlflow.db").display()))
            .arg("--artifacts-destination")
            .arg(folder.join("artifacts"))
            .env("MLFLOW_DISABLE_TELEMETRY", "true")
            .env("DO_NOT_TRACK", "true")
            .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")
            .stdout(Stdio::from(log.try_clone().expect("the log")))
            .stderr(Stdio::from(log))
            // It has workers of its own.
            .process_group(0)
            .spawn()
            .expect("python starts");
        self.process = Some(process);
        let started = Instant::now();
        while ureq::get(format!("{}/health", self.url())).call().is_err() {
            let log = || fs::read_to_string(folder.join("log.txt")).unwrap_or_default();
            assert!(started.elapsed() < Duration::from_mins(4), "the server does not start: {}", log());
            thread::sleep(Duration::from_millis(200));
        }
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            signal("KILL", ["--".to_owned(), format!("-{}", process.id())]);
            process.wait().expect("it ends");
        }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut request = ureq::get(format!("{}/api/2.0/mlflow/{path}", self.url()));
        for (key, value) in query {
            request = request.query(key, value);
        }
        let text = request.call().expect("an answer").body_mut().read_to_string().expect("a text");
        serde_json::from_str(&text).expect("JSON")
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let request = ureq::post(format!("{}/api/2.0/mlflow/{path}", self.url())).content_type("application/json");
        let text = request.send(body.to_string()).expect("an answer").body_mut().read_to_string().expect("a text");
        serde_json::from_str(&text).expect("JSON")
    }

    /// The only run of an experiment.
    fn run(&self, experiment: &str) -> Value {
        let id = self.experiment(experiment);
        let found = self.post("runs/search", &json!({ "experiment_ids": [id], "max_results": 10 }));
        let runs = found["runs"].as_array().expect("runs");
        assert_eq!(runs.len(), 1, "{found}");
        runs[0].clone()
    }

    fn experiment(&self, name: &str) -> String {
        let found = self.get("experiments/get-by-name", &[("experiment_name", name)]);
        found["experiment"]["experiment_id"].as_str().expect("an id").to_owned()
    }

    /// All values of a metric with their steps.
    fn history(&self, run: &Value, key: &str) -> Vec<(u64, f64)> {
        let id = run["info"]["run_id"].as_str().expect("an id");
        let found = self.get("metrics/get-history", &[("run_id", id), ("metric_key", key), ("max_results", "25000")]);
        let metrics = found["metrics"].as_array().expect("metrics");
        metrics.iter().map(|m| (m["step"].as_u64().unwrap_or(0), m["value"].as_f64().expect("a number"))).collect()
    }

    /// A file among the artifacts.
    fn artifact(&self, uri: &str, name: &str) -> Vec<u8> {
        let path = uri.strip_prefix("mlflow-artifacts:/").expect("the server's own artifacts");
        let address = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}/{name}", self.url());
        ureq::get(address).call().expect("the file is there").body_mut().read_to_vec().expect("its bytes")
    }
}

impl Drop for Mlflow {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Pairs of a list by their keys.
fn pairs(list: &Value) -> BTreeMap<String, String> {
    let text = |pair: &Value, key: &str| pair[key].as_str().expect("a text").to_owned();
    list.as_array().expect("a list").iter().map(|pair| (text(pair, "key"), text(pair, "value"))).collect()
}

/// The losses of a run's own record.
fn losses(run: &Path) -> Vec<(u64, f64)> {
    let lines = metrics(run);
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("whole lines"));
    lines.filter_map(|line| Some((line["step"].as_u64()?, line["loss"].as_f64()?))).collect()
}

/// Fails unless the server has each metric of a step of the run once, with the run's own losses.
#[track_caller]
fn assert_once(server: &Mlflow, experiment: &str, run: &Path) {
    let found = server.run(experiment);
    let expected = losses(run);
    let keys: Vec<String> =
        found["data"]["metrics"].as_array().expect("metrics").iter().map(|m| m["key"].to_string()).collect();
    assert!(keys.len() > 8, "{keys:?}");
    for key in keys.iter().map(|key| key.trim_matches('"')) {
        let mut history = server.history(&found, key);
        let steps: BTreeSet<u64> = history.iter().map(|(step, _)| *step).collect();
        assert_eq!(steps.len(), history.len(), "{key}");
        if key == "train/loss" {
            history.sort_by_key(|(step, _)| *step);
            assert_eq!(history, expected);
        } else if key.starts_with("train/") {
            assert_eq!(history.len(), expected.len(), "{key}");
        }
    }
}

#[test]
fn a_run_is_in_mlflow_with_all_that_belongs_to_it() {
    let server = Mlflow::start();
    let folder = tempfile::tempdir().expect("a folder");
    let tracking = format!(
        "tracking.mlflow={{url: {}, experiment: claims, tags: {{team: research}}, registered_model: claims-adapter, alias: \
         champion}}",
        server.url()
    );
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=40", "train.eval_every=10", &tracking]);
    let run = folder.path().join("run");
    let done = greffon(&["train", &recipe]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && !said.contains("MLflow"), "{said}");
    assert_once(&server, "claims", &run);

    let found = server.run("claims");
    assert_eq!(found["info"]["status"], "FINISHED");
    assert_eq!(found["info"]["run_name"], "run");
    let params = pairs(&found["data"]["params"]);
    assert_eq!((params["train.max_steps"].as_str(), params["lora.rank"].as_str()), ("40", "4"));
    let tags = pairs(&found["data"]["tags"]);
    assert_eq!((tags["team"].as_str(), tags["greffon.status"].as_str()), ("research", "finished"));
    let info: Value = serde_json::from_slice(&fs::read(run.join("run.json")).unwrap()).unwrap();
    let kwh: f64 = tags["greffon.energy_kwh"].parse().expect("a number");
    assert_eq!(Some(kwh), info["energy"]["kwh"].as_f64());
    assert_eq!(server.history(&found, "validation/loss").len(), 4);
    let dataset = &found["inputs"]["dataset_inputs"][0]["dataset"];
    let sha256 = datasets::sha256_files([folder.path().join("train.jsonl")]).unwrap();
    assert_eq!((dataset["name"].as_str(), dataset["digest"].as_str()), (Some("train.jsonl"), Some(&sha256[..36])));
    let artifacts = found["info"]["artifact_uri"].as_str().unwrap();
    for name in ["adapter/adapter_model.safetensors", "adapter/adapter_config.json", "recipe.yaml", "run.json"] {
        assert_eq!(server.artifact(artifacts, name), fs::read(run.join(name)).unwrap(), "{name}");
    }
    let version =
        server.get("registered-models/alias", &[("name", "claims-adapter"), ("alias", "champion")])["model_version"]
            .clone();
    assert_eq!((version["version"].as_str(), &version["run_id"]), (Some("1"), &found["info"]["run_id"]));
    let model = version["source"].as_str().and_then(|source| source.strip_prefix("models:/")).expect("a logged model");
    let model = server.get(&format!("logged-models/{model}"), &[])["model"]["info"].clone();
    assert_eq!(model["status"], "LOGGED_MODEL_READY");
    let weights = server.artifact(model["artifact_uri"].as_str().unwrap(), "adapter_model.safetensors");
    assert_eq!(weights, fs::read(run.join("adapter/adapter_model.safetensors")).unwrap());

    let again = greffon(&["track", "sync", run.to_str().unwrap(), "--json"]);
    let report: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!((report[0]["metrics"].as_u64(), report[0]["files"].as_u64()), (Some(0), Some(0)), "{report}");
    assert_once(&server, "claims", &run);
}

#[test]
fn a_server_that_is_killed_in_the_middle_of_a_run_has_each_metric_once_in_the_end() {
    let mut server = Mlflow::start();
    let folder = tempfile::tempdir().expect("a folder");
    let tracking = format!("tracking.mlflow={{url: {}, experiment: killed}}", server.url());
    let steps = ["train.max_steps=1500", "train.save_every=100", "train.eval_every=500"];
    let recipe = tiny_recipe(folder.path(), &[steps.as_slice(), &[&tracking]].concat());
    let alone = folder.path().join("alone");
    let done =
        greffon(&["train", &recipe, "--set", "tracking.mlflow=null", "--set", &format!("output={}", alone.display())]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    // The run is killed too, and makes steps again that the server has.
    let run = folder.path().join("run");
    let mut killed = greffon_command(&["train", &recipe]).spawn().expect("greffon starts");
    wait("metrics on the server", || delivered(&run) > 0 && losses_so_far(&run) > 350);
    killed.kill().expect("SIGKILL");
    killed.wait().expect("it ends");
    let resumed = greffon_command(&["train", "--resume", run.to_str().unwrap()]).spawn().expect("greffon starts");
    let before = losses_so_far(&run);
    wait("steps of the resumed run", || losses_so_far(&run) > before + 200);
    server.kill();
    let resumed = resumed.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&resumed.stderr);
    assert!(resumed.status.success(), "{said}");
    assert!(said.contains("the run goes on, and it is tried again") && said.contains("greffon track sync"), "{said}");
    assert_eq!(adapter_bytes(&run), adapter_bytes(&alone));

    server.again();
    let synced = greffon(&["track", "sync", run.to_str().unwrap(), "--json"]);
    assert!(synced.status.success(), "{}", String::from_utf8_lossy(&synced.stderr));
    let report: Value = serde_json::from_slice(&synced.stdout).unwrap();
    println!("{report}");
    assert!(report[0]["metrics"].as_u64() > Some(0), "{report}");
    assert_once(&server, "killed", &run);
    assert_eq!(server.run("killed")["info"]["status"], "FINISHED");
}

#[test]
fn the_trials_of_a_sweep_are_below_its_run() {
    let server = Mlflow::start();
    let folder = tempfile::tempdir().expect("a folder");
    let mlflow = format!("tracking.mlflow={{url: \"{}\", experiment: sweeps, artifacts: false}}", server.url());
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=3", &mlflow]);
    let to = folder.path().join("ranks");
    let sweep = ["sweep", &recipe, "--over", "lora.rank=2,4", "--to", to.to_str().expect("plain path")];
    let out = greffon(&sweep);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));

    let id = server.experiment("sweeps");
    let runs = || server.post("runs/search", &json!({ "experiment_ids": [id] }))["runs"].as_array().unwrap().clone();
    let found = runs();
    assert_eq!(found.len(), 3, "{found:#?}");
    let tag = |run: &Value, key: &str| pairs(&run["data"]["tags"]).get(key).cloned();
    let of_sweep = found.iter().find(|run| tag(run, "greffon.kind").is_some()).expect("the sweep's own run");
    assert_eq!(of_sweep["info"]["run_name"], "ranks");
    assert_eq!(of_sweep["info"]["status"], "FINISHED");
    assert_eq!(pairs(&of_sweep["data"]["params"])["lora.rank"], "2,4");
    let parent = of_sweep["info"]["run_id"].as_str().map(str::to_owned);
    let trials: Vec<&Value> = found.iter().filter(|run| tag(run, "greffon.kind").is_none()).collect();
    assert_eq!(trials.len(), 2);
    for trial in trials {
        assert_eq!(tag(trial, "mlflow.parentRunId"), parent);
    }

    // Started again it takes what is there, also without the server.
    drop(server);
    let again = greffon(&sweep);
    assert!(again.status.success(), "{}", String::from_utf8_lossy(&again.stderr));
}

fn losses_so_far(run: &Path) -> usize {
    metrics(run).matches("\"loss\"").count()
}

/// The bytes that a run has noted as delivered.
fn delivered(run: &Path) -> u64 {
    let state: Option<Value> =
        fs::read(run.join("mlflow.json")).ok().and_then(|text| serde_json::from_slice(&text).ok());
    state.and_then(|state| state["delivered"].as_u64()).unwrap_or(0)
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_mins(3), "{what}: nothing comes");
        thread::sleep(Duration::from_millis(5));
    }
}
