//! A small server on this machine that speaks as much of MLflow's protocol as is used, and misbehaves when told to.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// The answer's status, its further headers and its content; nothing is done.
    Answer(u16, &'static str, &'static str),
    /// The connection ends before anything is done.
    CutBefore,
    /// It is done, and the connection ends without an answer.
    CutAfter,
    /// It is done, and the answer comes after so long.
    Slow(Duration),
}

/// A run as the server has it.
#[derive(Default)]
pub(super) struct Run {
    pub(super) tags: BTreeMap<String, String>,
    pub(super) params: BTreeMap<String, String>,
    /// Name, step, time and value, in the order of their arrival.
    pub(super) metrics: Vec<(String, u64, i64, Value)>,
    pub(super) inputs: Vec<Value>,
    pub(super) status: String,
    pub(super) name: String,
    pub(super) is_deleted: bool,
}

/// What the server has, what it saw, and how it misbehaves.
#[derive(Default)]
pub(super) struct State {
    /// The experiments' names, and whether they are deleted; the id is the place.
    pub(super) experiments: Vec<(String, bool)>,
    pub(super) runs: Vec<Run>,
    pub(super) files: BTreeMap<String, Vec<u8>>,
    /// The logged models, by name, run and status.
    pub(super) models: Vec<(String, String, String)>,
    /// The versions' name, run and source.
    pub(super) versions: Vec<(String, String, String)>,
    pub(super) aliases: BTreeMap<String, String>,
    /// Each request as `POST path`.
    pub(super) requests: Vec<String>,
    pub(super) authorizations: Vec<String>,
    /// The next faults: a part of the request's line or its content, and what happens.
    pub(super) faults: Vec<(&'static str, Fault)>,
    /// The most metrics in a request.
    pub(super) most_metrics: Option<usize>,
    /// Where artifacts go; through the server without it.
    pub(super) artifacts: Option<&'static str>,
}

pub(super) struct Fake {
    pub(super) url: String,
    state: Arc<Mutex<State>>,
}

type Answer = (u16, Value);

impl Fake {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state: Arc<Mutex<State>> = Arc::default();
        let shared = state.clone();
        // The threads end with the test process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), shared.clone());
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, state }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(super) fn will(&self, to: &'static str, fault: Fault) {
        self.state().faults.push((to, fault));
    }

    /// The name and step of all metrics of the only run, sorted.
    pub(super) fn metrics(&self) -> Vec<(String, u64)> {
        let state = self.state();
        assert_eq!(state.runs.len(), 1);
        let mut metrics: Vec<_> = state.runs[0].metrics.iter().map(|(key, step, ..)| (key.clone(), *step)).collect();
        metrics.sort();
        metrics
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).is_err() || !line.ends_with(" HTTP/1.1\r\n") {
        let _ = stream.write_all(b"HTTP/1.1 400 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        return;
    }
    let request = line.trim_end_matches(" HTTP/1.1\r\n").to_owned();
    let (mut length, mut authorization) = (0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.split_once(':') else { break };
        match name.to_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "authorization" => value.trim().clone_into(&mut authorization),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let fault = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        state.authorizations.push(authorization);
        let text = String::from_utf8_lossy(&body);
        let at = state.faults.iter().position(|(part, _)| request.contains(part) || text.contains(part));
        at.map(|at| state.faults.remove(at).1)
    };
    let (status, headers, content) = match fault {
        Some(Fault::Answer(status, headers, content)) => (status, headers, content.to_owned()),
        Some(Fault::CutBefore) => return,
        fault => {
            let (status, answer) = state.lock().unwrap().answer(&request, &body);
            match fault {
                Some(Fault::CutAfter) => return,
                Some(Fault::Slow(time)) => thread::sleep(time),
                _ => {}
            }
            (status, "", answer.to_string())
        }
    };
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}connection: close\r\n\r\n", content.len());
    // A client that has lost patience is gone.
    let _ = stream.write_all((head + &content).as_bytes());
}

fn missing(what: &str) -> Answer {
    (404, json!({ "error_code": "RESOURCE_DOES_NOT_EXIST", "message": format!("no {what}") }))
}

fn pairs(body: &Value, key: &str) -> Vec<(String, String)> {
    let text = |pair: &Value, key: &str| pair[key].as_str().unwrap().to_owned();
    body[key].as_array().into_iter().flatten().map(|pair| (text(pair, "key"), text(pair, "value"))).collect()
}

/// A parameter of an address, decoded as far as the tests need it.
fn parameter(request: &str, key: &str) -> String {
    let query = request.split_once('?').map_or("", |(_, query)| query);
    let value = query.split('&').find_map(|pair| pair.strip_prefix(&format!("{key}=")));
    let decode = [("%20", " "), ("+", " "), ("%2F", "/"), ("%27", "'"), ("%3D", "=")];
    decode.iter().fold(value.unwrap_or_default().to_owned(), |value, (from, to)| value.replace(from, to))
}

impl State {
    fn answer(&mut self, request: &str, body: &[u8]) -> Answer {
        let (method, path) = request.split_once(' ').unwrap();
        if let Some(file) = path.strip_prefix("/api/2.0/mlflow-artifacts/artifacts/") {
            self.files.insert(file.to_owned(), body.to_vec());
            return (200, json!({}));
        }
        let path = path.strip_prefix("/api/2.0/mlflow/").unwrap().split('?').next().unwrap();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        match (method, path) {
            ("GET", "experiments/get-by-name") => {
                let name = parameter(request, "experiment_name");
                let Some(id) = self.experiments.iter().position(|(known, _)| *known == name) else {
                    return missing("experiment");
                };
                let stage = if self.experiments[id].1 { "deleted" } else { "active" };
                (200, json!({ "experiment": { "experiment_id": id.to_string(), "lifecycle_stage": stage } }))
            }
            ("POST", "experiments/create") => {
                self.experiments.push((body["name"].as_str().unwrap().to_owned(), false));
                (200, json!({ "experiment_id": (self.experiments.len() - 1).to_string() }))
            }
            ("POST", "runs/search") => {
                let filter = body["filter"].as_str().unwrap();
                let (key, value) = filter.strip_prefix("tags.`").unwrap().split_once("` = '").unwrap();
                let value = value.trim_end_matches('\'');
                let is = |run: &Run| !run.is_deleted && run.tags.get(key).is_some_and(|tag| tag == value);
                let found: Vec<Value> =
                    (0..self.runs.len()).filter(|id| is(&self.runs[*id])).map(|id| self.run(id)).collect();
                (200, json!({ "runs": found }))
            }
            ("POST", "runs/create") => {
                let name = body["run_name"].as_str().unwrap().to_owned();
                let tags = pairs(&body, "tags").into_iter().collect();
                self.runs.push(Run { tags, name, ..Run::default() });
                (200, json!({ "run": self.run(self.runs.len() - 1) }))
            }
            ("GET", "runs/get") => match parameter(request, "run_id").parse() {
                Ok(id) if id < self.runs.len() => (200, json!({ "run": self.run(id) })),
                _ => missing("run"),
            },
            ("GET", "metrics/get-history") => {
                let (key, page) = (parameter(request, "metric_key"), parameter(request, "page_token"));
                let run = &self.runs[parameter(request, "run_id").parse::<usize>().unwrap()];
                let all: Vec<Value> = run
                    .metrics
                    .iter()
                    .filter(|(known, ..)| *known == key)
                    .map(
                        |(key, step, time, value)| json!({"key": key, "step": step, "timestamp": time, "value": value}),
                    )
                    .collect();
                // Small pages, so that there are several.
                let from = page.parse::<usize>().unwrap_or(0);
                let to = (from + 3).min(all.len());
                let next = if to < all.len() { to.to_string() } else { String::new() };
                (200, json!({ "metrics": all[from..to], "next_page_token": next }))
            }
            ("POST", _) if path.starts_with("runs/") => {
                let Ok(id) = body["run_id"].as_str().unwrap().parse::<usize>() else { return missing("run") };
                self.tell(id, path, &body)
            }
            ("POST" | "PATCH" | "GET", _) => self.models(method, path, &body),
            _ => (404, json!({})),
        }
    }

    fn run(&self, id: usize) -> Value {
        let run = &self.runs[id];
        let stage = if run.is_deleted { "deleted" } else { "active" };
        let place = self.artifacts.unwrap_or("mlflow-artifacts:");
        let mut keys: Vec<&String> = run.metrics.iter().map(|(key, ..)| key).collect();
        keys.sort();
        keys.dedup();
        let metrics: Vec<Value> = keys.into_iter().map(|key| json!({ "key": key })).collect();
        let artifacts = format!("{place}/0/{id}/artifacts");
        let info = json!({ "run_id": id.to_string(), "artifact_uri": artifacts, "lifecycle_stage": stage });
        json!({ "info": info, "data": { "metrics": metrics } })
    }

    fn tell(&mut self, id: usize, path: &str, body: &Value) -> Answer {
        let run = &mut self.runs[id];
        match path {
            "runs/log-batch" => {
                let metrics = body["metrics"].as_array().cloned().unwrap_or_default();
                if self.most_metrics.is_some_and(|most| metrics.len() > most) {
                    return (413, json!({ "message": "too large" }));
                }
                assert!(metrics.len() <= 1000 && pairs(body, "params").len() <= 100);
                for metric in metrics {
                    let (step, time) = (metric["step"].as_u64().unwrap(), metric["timestamp"].as_i64().unwrap());
                    run.metrics.push((metric["key"].as_str().unwrap().to_owned(), step, time, metric["value"].clone()));
                }
                for (key, value) in pairs(body, "params") {
                    let before = run.params.insert(key, value.clone());
                    assert!(before.is_none_or(|before| before == value), "params never change");
                }
                run.tags.extend(pairs(body, "tags"));
            }
            "runs/update" => body["status"].as_str().unwrap().clone_into(&mut run.status),
            "runs/log-inputs" => run.inputs = body["datasets"].as_array().unwrap().clone(),
            _ => panic!("{path}"),
        }
        (200, json!({}))
    }

    fn models(&mut self, method: &str, path: &str, body: &Value) -> Answer {
        let text = |key: &str| body[key].as_str().unwrap_or_default().to_owned();
        let model = |id: usize| {
            let id = format!("m-{id}");
            let artifacts = format!("mlflow-artifacts://host:5000/0/models/{id}/artifacts");
            json!({ "info": { "model_id": id, "artifact_uri": artifacts } })
        };
        match (method, path) {
            ("POST", "logged-models/search") => {
                (200, json!({ "models": (0..self.models.len()).map(model).collect::<Vec<_>>() }))
            }
            ("POST", "logged-models") => {
                self.models.push((text("name"), text("source_run_id"), "PENDING".to_owned()));
                (200, json!({ "model": model(self.models.len() - 1) }))
            }
            ("PATCH", _) => {
                let id: usize = path.rsplit_once("m-").unwrap().1.parse().unwrap();
                self.models[id].2 = text("status");
                (200, json!({}))
            }
            ("POST", "registered-models/create") if self.versions.is_empty() => (200, json!({})),
            ("POST", "registered-models/create") => {
                (400, json!({ "error_code": "RESOURCE_ALREADY_EXISTS", "message": "it is there" }))
            }
            ("GET", "model-versions/search") => {
                let version = |(index, (_, _, source)): (usize, &(String, String, String))| json!({ "version": (index + 1).to_string(), "source": source });
                (200, json!({ "model_versions": self.versions.iter().enumerate().map(version).collect::<Vec<_>>() }))
            }
            ("POST", "model-versions/create") => {
                self.versions.push((text("name"), text("run_id"), text("source")));
                (200, json!({ "model_version": { "version": self.versions.len().to_string() } }))
            }
            ("POST", "registered-models/alias") => {
                self.aliases.insert(text("alias"), text("version"));
                (200, json!({}))
            }
            _ => panic!("{method} {path}"),
        }
    }
}
