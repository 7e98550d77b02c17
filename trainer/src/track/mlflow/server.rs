//! The calls to an MLflow server that a run needs. All of them may be made again: what is made is looked for first.
//!
//! Source: MLflow's REST API, <https://mlflow.org/docs/latest/api_reference/rest-api.html>.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::client::{Client, Failure};
use super::rows::Row;

/// Params and tags in a request at most.
const PAIRS: usize = 100;
/// Metrics in an answer at most.
const PAGE: &str = "25000";
/// The scheme of artifacts that go through the server.
const PROXIED: &str = "mlflow-artifacts:";

/// A key and a value.
pub(super) type Pair = (String, String);

/// A run on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MlflowRun {
    pub(super) id: String,
    /// Where its artifacts go.
    pub(super) artifacts: String,
}

/// A run that is to be made.
pub(super) struct NewRun<'a> {
    pub(super) experiment: &'a str,
    pub(super) name: &'a str,
    /// Milliseconds since 1970.
    pub(super) start: i64,
    pub(super) tags: &'a [Pair],
}

/// A data set that a run read.
pub(super) struct Input {
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) source: String,
    pub(super) context: &'static str,
}

/// How many metrics of a name and a step there are.
pub(super) type Counts = HashMap<(String, u64), usize>;

pub(super) struct Server {
    client: Client,
}

impl Server {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(super) fn address(&self) -> &str {
        self.client.address()
    }

    /// The id of an experiment, which is made when it is not there.
    pub(super) fn experiment(&self, name: &str) -> Result<String, Failure> {
        match self.client.get("experiments/get-by-name", &[("experiment_name", name)]) {
            Ok(found) => {
                let experiment = &found["experiment"];
                let id = text(experiment, "experiment_id")?;
                if experiment["lifecycle_stage"] == "deleted" {
                    return Err(Failure::refused(format!(
                        "the experiment {name:?} is deleted; restore it there (`mlflow experiments restore \
                         --experiment-id {id}`), or name another as tracking.mlflow.experiment"
                    )));
                }
                return Ok(id);
            }
            Err(failure) if failure.is_missing() => {}
            Err(failure) => return Err(failure),
        }
        match self.client.post("experiments/create", &json!({ "name": name })) {
            // Another run has made it meanwhile.
            Err(failure) if failure.is_there() => {
                let found = self.client.get("experiments/get-by-name", &[("experiment_name", name)])?;
                text(&found["experiment"], "experiment_id")
            }
            made => text(&made?, "experiment_id"),
        }
    }

    /// The run of an experiment that has a tag; the tag must be free of quotes.
    pub(super) fn find_run(&self, experiment: &str, (key, value): (&str, &str)) -> Result<Option<MlflowRun>, Failure> {
        let filter = format!("tags.`{key}` = '{value}'");
        let body = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 });
        let found = self.client.post("runs/search", &body)?;
        found["runs"].get(0).map(run).transpose()
    }

    pub(super) fn create_run(&self, new: &NewRun<'_>) -> Result<MlflowRun, Failure> {
        let body = json!({
            "experiment_id": new.experiment,
            "run_name": new.name,
            "start_time": new.start,
            "tags": pairs(new.tags),
        });
        run(&self.client.post("runs/create", &body)?["run"])
    }

    /// A run that is not deleted, with the names of its metrics; `None` where there is none.
    pub(super) fn run(&self, id: &str) -> Result<Option<Vec<String>>, Failure> {
        let found = match self.client.get("runs/get", &[("run_id", id)]) {
            Err(failure) if failure.is_missing() => return Ok(None),
            found => found?,
        };
        if found["run"]["info"]["lifecycle_stage"] == "deleted" {
            return Ok(None);
        }
        let metrics = found["run"]["data"]["metrics"].as_array().into_iter().flatten();
        Ok(Some(metrics.filter_map(|metric| metric["key"].as_str().map(str::to_owned)).collect()))
    }

    /// How many metrics of each name and step a run has.
    pub(super) fn counts(&self, run: &str, keys: &[String]) -> Result<Counts, Failure> {
        let mut counts = Counts::new();
        for key in keys {
            let mut page = String::new();
            loop {
                let mut query = vec![("run_id", run), ("metric_key", key), ("max_results", PAGE)];
                if !page.is_empty() {
                    query.push(("page_token", &page));
                }
                let found = self.client.get("metrics/get-history", &query)?;
                for metric in found["metrics"].as_array().into_iter().flatten() {
                    let step = &metric["step"];
                    let step = step.as_u64().or_else(|| step.as_str()?.parse().ok()).unwrap_or_default();
                    *counts.entry((key.clone(), step)).or_default() += 1;
                }
                let next = found["next_page_token"].as_str().unwrap_or_default().to_owned();
                if next.is_empty() || next == page {
                    break;
                }
                page = next;
            }
        }
        Ok(counts)
    }

    pub(super) fn log_metrics(&self, run: &str, rows: &[Row]) -> Result<(), Failure> {
        let metrics: Vec<Value> = rows.iter().map(Row::json).collect();
        self.client.post("runs/log-batch", &json!({ "run_id": run, "metrics": metrics })).map(drop)
    }

    pub(super) fn log_params(&self, run: &str, params: &[Pair]) -> Result<(), Failure> {
        params.chunks(PAIRS).try_for_each(|part| {
            self.client.post("runs/log-batch", &json!({ "run_id": run, "params": pairs(part) })).map(drop)
        })
    }

    pub(super) fn log_tags(&self, run: &str, tags: &[Pair]) -> Result<(), Failure> {
        tags.chunks(PAIRS).try_for_each(|part| {
            self.client.post("runs/log-batch", &json!({ "run_id": run, "tags": pairs(part) })).map(drop)
        })
    }

    pub(super) fn log_inputs(&self, run: &str, inputs: &[Input]) -> Result<(), Failure> {
        if inputs.is_empty() {
            return Ok(());
        }
        let datasets = inputs.iter().map(|input| {
            json!({
                "tags": [{ "key": "mlflow.data.context", "value": input.context }],
                "dataset": {
                    "name": input.name,
                    "digest": input.digest,
                    "source_type": "local",
                    "source": json!({ "uri": input.source }).to_string(),
                },
            })
        });
        let datasets: Vec<Value> = datasets.collect();
        match self.client.post("runs/log-inputs", &json!({ "run_id": run, "datasets": datasets })) {
            // Servers before MLflow 2.4 know of no inputs.
            Err(Failure::Refused { status: 404, code, .. }) if code.is_empty() => Ok(()),
            done => done.map(drop),
        }
    }

    /// Sets how a run stands; `end` in milliseconds since 1970.
    pub(super) fn update_run(&self, run: &str, status: &str, end: Option<i64>) -> Result<(), Failure> {
        self.client.post("runs/update", &json!({ "run_id": run, "status": status, "end_time": end })).map(drop)
    }

    /// Uploads a file below the place of a run's or a model's artifacts.
    pub(super) fn upload(&self, artifacts: &str, name: &str, file: &Path) -> Result<(), Failure> {
        let Some(path) = artifacts.strip_prefix(PROXIED) else {
            return Err(Failure::refused(format!(
                "artifacts of this experiment go to {artifacts}, past the server; start it with --artifacts-destination, so \
                 that it takes them, or set tracking.mlflow.artifacts to false"
            )));
        };
        // Either `mlflow-artifacts:/path` or, with a server's name, `mlflow-artifacts://host/path`.
        let path = path.strip_prefix("//").map_or(path, |rest| rest.split_once('/').map_or("", |(_, path)| path));
        self.client.upload(&format!("{}/{name}", path.trim_matches('/')), file)
    }

    /// The logged model of a run by its name, with the place of its files; made when it is not there. `None` on servers
    /// before MLflow 3, which have none.
    pub(super) fn logged_model(
        &self,
        experiment: &str,
        run: &str,
        name: &str,
        tags: &[Pair],
    ) -> Result<Option<MlflowRun>, Failure> {
        let filter = format!("name = '{name}' AND source_run_id = '{run}'");
        let body = json!({ "experiment_ids": [experiment], "filter": filter, "max_results": 1 });
        let found = match self.client.post("logged-models/search", &body) {
            Err(Failure::Refused { status: 404, code, .. }) if code.is_empty() => return Ok(None),
            found => found?,
        };
        if let Some(model) = found["models"].get(0) {
            return self::model(model).map(Some);
        }
        let body = json!({
            "experiment_id": experiment,
            "name": name,
            "source_run_id": run,
            "model_type": "lora",
            "tags": pairs(tags),
        });
        self::model(&self.client.post("logged-models", &body)?["model"]).map(Some)
    }

    /// Says that all files of a logged model are there.
    pub(super) fn model_is_ready(&self, model: &str) -> Result<(), Failure> {
        let body = json!({ "model_id": model, "status": "LOGGED_MODEL_READY" });
        self.client.patch(&format!("logged-models/{model}"), &body).map(drop)
    }

    /// Registers what lies at `source` as a version of a model, unless the run has one from there already.
    pub(super) fn register(&self, name: &str, run: &str, source: &str, model: Option<&str>) -> Result<String, Failure> {
        match self.client.post("registered-models/create", &json!({ "name": name })) {
            Err(failure) if failure.is_there() => {}
            made => drop(made?),
        }
        let filter = format!("name = '{name}' and run_id = '{run}'");
        let found = self.client.get("model-versions/search", &[("filter", &filter), ("max_results", "200")])?;
        let of_source = |version: &&Value| version["source"] == source;
        if let Some(version) = found["model_versions"].as_array().into_iter().flatten().find(of_source) {
            return text(version, "version");
        }
        let body = json!({ "name": name, "source": source, "run_id": run, "model_id": model });
        text(&self.client.post("model-versions/create", &body)?["model_version"], "version")
    }

    pub(super) fn set_alias(&self, name: &str, alias: &str, version: &str) -> Result<(), Failure> {
        let body = json!({ "name": name, "alias": alias, "version": version });
        self.client.post("registered-models/alias", &body).map(drop)
    }
}

fn pairs(pairs: &[Pair]) -> Vec<Value> {
    pairs.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect()
}

fn run(run: &Value) -> Result<MlflowRun, Failure> {
    let info = &run["info"];
    Ok(MlflowRun { id: text(info, "run_id")?, artifacts: text(info, "artifact_uri")? })
}

fn model(model: &Value) -> Result<MlflowRun, Failure> {
    let info = &model["info"];
    Ok(MlflowRun { id: text(info, "model_id")?, artifacts: text(info, "artifact_uri")? })
}

/// A text of an answer.
fn text(value: &Value, key: &str) -> Result<String, Failure> {
    let found = value[key].as_str().filter(|text| !text.is_empty());
    let expected = || Failure::refused(format!("its answer has no {key}: {value}; is it an MLflow server?"));
    found.map(str::to_owned).ok_or_else(expected)
}
