//! Delivery against a small server on this machine that misbehaves as servers do.

mod fake;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use tempfile::TempDir;

use self::fake::{Fake, Fault};
use super::client::{Client, Credentials};
use super::server::Server;
use super::*;

/// The run's metrics of a step.
const OF_A_STEP: usize = 9;

/// A run folder as a run leaves it.
struct Run(TempDir);

impl Run {
    fn new() -> Self {
        let run = Self(tempfile::tempdir().unwrap());
        run.write("recipe.yaml", "model: {base: a/b}\ndata: {train: [{path: x.jsonl}], validation_fraction: 0.1}\n");
        fs::create_dir_all(run.path().join("adapter")).unwrap();
        run.write("adapter/adapter_model.safetensors", "weights");
        run.write("adapter/adapter_config.json", "{}");
        run.info("running");
        run
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).unwrap();
    }

    fn info(&self, status: &str) {
        let info = serde_json::json!({
            "status": status, "greffon_version": "0.1.0", "burn_version": "0.22.1",
            "started": "2026-11-23T10:00:00.123456789Z", "updated": "2026-11-23T11:00:00Z", "host": "here", "cpus": 2,
            "recipe": "/recipes/recipe.yaml", "git": "0123abcd-dirty", "seed": 1, "base_digest": "ab", "plan": null,
            "template_clock": null, "step": 3, "best": [1.5, 2], "reason": null,
        });
        self.write("run.json", &info.to_string());
    }

    /// The lines of the steps so far; `start` tells those of one start from those of another.
    fn steps(&self, start: u64, steps: std::ops::RangeInclusive<u64>) {
        let path = self.path().join("metrics.jsonl");
        let mut text = fs::read_to_string(&path).unwrap_or_default();
        for step in steps {
            let (minute, second) = (step / 60, step % 60);
            writeln!(
                text,
                "{{\"time\":\"2026-11-23T1{start}:{minute:02}:{second:02}.5Z\",\"step\":{step},\"loss\":{},\
                 \"gradient_norm\":1.0,\"learning_rate\":0.0001,\"tokens\":100,\"supervised_tokens\":50,\"seconds\":0.5,\
                 \"kwh\":1e-6,\"memory\":null,\"cpu\":0.5}}",
                3.0 / (step as f64)
            )
            .unwrap();
        }
        fs::write(path, text).unwrap();
    }

    /// Takes the lines after a step away, as a resumed run does.
    fn drop_after(&self, step: usize) {
        let text = fs::read_to_string(self.path().join("metrics.jsonl")).unwrap();
        self.write("metrics.jsonl", &text.split_inclusive('\n').take(step).collect::<String>());
    }

    fn config(fake: &Fake) -> MlflowConfig {
        MlflowConfig::new(format!("{}/", fake.url), "claims".to_owned())
    }

    /// A process that delivers, which loses patience after a moment.
    fn delivery(&self, config: MlflowConfig) -> Delivery {
        self.delivery_as(config, Credentials::default())
    }

    fn delivery_as(&self, config: MlflowConfig, credentials: Credentials) -> Delivery {
        let client = Client::new(&config.url, credentials, Duration::from_millis(300)).unwrap();
        let folder = RunFolder::open(self.path().to_owned()).unwrap();
        Delivery::to(Server::new(client), folder, config).unwrap()
    }
}

/// Fails unless the server has each metric of the steps once.
#[track_caller]
fn assert_once(fake: &Fake, steps: u64) {
    let metrics = fake.metrics();
    let distinct: BTreeSet<_> = metrics.iter().collect();
    assert_eq!(distinct.len(), metrics.len(), "{metrics:?}");
    assert_eq!(metrics.len(), OF_A_STEP * usize::try_from(steps).unwrap(), "{metrics:?}");
}

#[test]
fn a_run_is_there_with_all_that_belongs_to_it_and_nothing_is_sent_twice() {
    let (fake, run) = (Fake::start(), Run::new());
    let config = MlflowConfig {
        run_name: Some("first try".to_owned()),
        tags: [("team".to_owned(), "é".to_owned())].into(),
        parent_run: Some("abc".to_owned()),
        ..Run::config(&fake)
    };
    let mut delivery = run.delivery(config.clone());
    run.steps(0, 1..=2);
    delivery.deliver().unwrap();
    assert_once(&fake, 2);
    assert_eq!(fake.state().runs[0].status, "RUNNING");
    run.steps(0, 3..=3);
    delivery.deliver().unwrap();
    run.info("finished");
    delivery.finish().unwrap();
    assert_once(&fake, 3);
    {
        let state = fake.state();
        let of_run = &state.runs[0];
        assert_eq!(state.experiments, [("claims".to_owned(), false)]);
        assert_eq!((of_run.name.as_str(), of_run.status.as_str()), ("first try", "FINISHED"));
        let loss: Vec<_> = of_run.metrics.iter().filter(|(key, ..)| key == "train/loss").collect();
        assert_eq!(loss[1], &("train/loss".to_owned(), 2, 1_795_428_002_500, 1.5.into()));
        for (key, value) in [
            ("team", "é"),
            ("mlflow.parentRunId", "abc"),
            ("mlflow.source.git.commit", "0123abcd"),
            ("greffon.git.dirty", "true"),
            ("greffon.status", "finished"),
            ("greffon.best_validation_loss", "1.5"),
        ] {
            assert_eq!(of_run.tags.get(key).map(String::as_str), Some(value), "{key}");
        }
        assert_eq!(of_run.params["model.base"], "a/b");
        assert_eq!(of_run.params["train.learning_rate"], "0.0002");
        assert!(of_run.params["data.train.0.path"].ends_with("x.jsonl"));
        assert_eq!(state.files["0/0/artifacts/adapter/adapter_model.safetensors"], b"weights");
        assert!(state.files.contains_key("0/0/artifacts/run.json"));
        assert!(state.authorizations.iter().all(String::is_empty));
    }
    let mut again = run.delivery(config);
    again.finish().unwrap();
    assert_eq!(again.sent, Sent::default());
    assert_once(&fake, 3);
}

#[test]
fn what_the_server_may_have_is_asked_for_before_more_is_sent() {
    for fault in [Fault::CutAfter, Fault::CutBefore, Fault::Slow(Duration::from_millis(900))] {
        let (fake, run) = (Fake::start(), Run::new());
        run.steps(0, 1..=5);
        let mut delivery = run.delivery(Run::config(&fake));
        fake.will("\"metrics\"", fault);
        let failure = delivery.deliver().unwrap_err();
        assert!(is_passing(&failure), "{fault:?}: {failure:?}");
        run.steps(0, 6..=7);
        delivery.deliver().unwrap();
        assert_once(&fake, 7);
    }
}

#[test]
fn a_process_that_was_killed_after_sending_leaves_nothing_twice() {
    let (fake, run) = (Fake::start(), Run::new());
    run.steps(0, 1..=5);
    let mut killed = run.delivery(Run::config(&fake));
    fake.will("\"metrics\"", Fault::CutAfter);
    killed.deliver().unwrap_err();
    drop(killed);
    run.steps(0, 6..=6);
    run.delivery(Run::config(&fake)).deliver().unwrap();
    assert_once(&fake, 6);
    // Nor when what it had noted is lost: the run is found by its tag.
    fs::remove_file(run.path().join(state::STATE)).unwrap();
    run.steps(0, 7..=7);
    run.delivery(Run::config(&fake)).deliver().unwrap();
    assert_once(&fake, 7);
}

#[test]
fn steps_that_are_made_again_stay_as_they_were_first_delivered() {
    let (fake, run) = (Fake::start(), Run::new());
    run.steps(0, 1..=6);
    run.delivery(Run::config(&fake)).deliver().unwrap();
    // Killed after step 6, resumed after step 2, killed again after 4.
    run.drop_after(2);
    run.steps(1, 3..=4);
    run.delivery(Run::config(&fake)).deliver().unwrap();
    assert_once(&fake, 6);
    run.drop_after(3);
    run.steps(2, 4..=5);
    let mut last = run.delivery(Run::config(&fake));
    last.deliver().unwrap();
    run.steps(2, 6..=9);
    last.deliver().unwrap();
    assert_once(&fake, 9);
    let state = fake.state();
    let hour = |step: u64| state.runs[0].metrics.iter().find(|m| m.1 == step).unwrap().2 / 3_600_000 % 24;
    assert_eq!([4, 5, 6, 9].map(hour), [10, 10, 10, 12]);
}

#[test]
fn a_run_whose_making_was_not_answered_is_found_again() {
    let (fake, run) = (Fake::start(), Run::new());
    run.steps(0, 1..=1);
    let mut delivery = run.delivery(Run::config(&fake));
    fake.will("runs/create", Fault::CutAfter);
    assert!(is_passing(&delivery.deliver().unwrap_err()));
    delivery.deliver().unwrap();
    assert_once(&fake, 1);
}

#[test]
fn a_batch_that_is_too_large_is_halved_until_the_server_takes_it() {
    let (fake, run) = (Fake::start(), Run::new());
    run.steps(0, 1..=200);
    fake.state().most_metrics = Some(150);
    run.delivery(Run::config(&fake)).deliver().unwrap();
    assert_once(&fake, 200);

    let (fake, run) = (Fake::start(), Run::new());
    run.steps(0, 1..=2);
    fake.state().most_metrics = Some(OF_A_STEP - 1);
    let failure = run.delivery(Run::config(&fake)).deliver().unwrap_err();
    assert!(!is_passing(&failure) && failure.reason().contains("the metrics of one step are too large"), "{failure:?}");
}

#[test]
fn a_busy_server_is_given_time() {
    let (fake, run) = (Fake::start(), Run::new());
    run.steps(0, 1..=3);
    let mut delivery = run.delivery(Run::config(&fake));
    fake.will("\"metrics\"", Fault::Answer(429, "retry-after: 7\r\n", "{}"));
    let failure = delivery.deliver().unwrap_err();
    assert_eq!(pause(&failure, 1), Duration::from_secs(7));
    fake.will("\"metrics\"", Fault::Answer(503, "", "<html>overloaded</html>"));
    let failure = delivery.deliver().unwrap_err();
    assert!(is_passing(&failure) && failure.reason().contains("status 503"), "{failure:?}");
    assert!(pause(&failure, 1) < pause(&failure, 4) && pause(&failure, 60) <= LONGEST_PAUSE * 2);
    fake.will("\"metrics\"", Fault::Answer(500, "", "{\"error_code\": \"INTERNAL_ERROR\", \"message\": \"disk\"}"));
    let failure = delivery.deliver().unwrap_err();
    assert!(is_passing(&failure) && failure.reason().contains("status 500, \"disk\""), "{failure:?}");
    fake.will("\"metrics\"", Fault::Answer(200, "", "{\"half\": "));
    assert!(is_passing(&delivery.deliver().unwrap_err()));
    delivery.deliver().unwrap();
    assert_once(&fake, 3);
}

/// Fails unless the delivery is refused for good, with all of these words.
#[track_caller]
fn assert_refused(delivery: &mut Delivery, words: &[&str]) {
    let failure = delivery.deliver().unwrap_err();
    assert!(!is_passing(&failure), "{failure:?}");
    let reason = failure.reason();
    assert!(words.iter().all(|word| reason.contains(word)), "{words:?}: {reason}");
}

#[test]
fn what_must_be_mended_is_told_with_its_remedy() {
    let (fake, run) = (Fake::start(), Run::new());
    let mut delivery = run.delivery(Run::config(&fake));
    let html = "<!doctype html><title>Log in</title>";
    fake.will("get-by-name", Fault::Answer(401, "", "no"));
    assert_refused(&mut delivery, &["experiments/get-by-name: status 401", "set MLFLOW_TRACKING_USERNAME"]);
    fake.will("get-by-name", Fault::Answer(403, "", "{\"message\": \"Permission denied\"}"));
    assert_refused(&mut delivery, &["status 403, \"Permission denied\"", "the permission to edit the experiment"]);
    fake.will("get-by-name", Fault::Answer(200, "", html));
    assert_refused(&mut delivery, &["it answers with HTML, expected JSON", "check the address"]);
    fake.will("get-by-name", Fault::Answer(302, "location: https://login.example\r\n", html));
    assert_refused(&mut delivery, &["status 302; it redirects to https://login.example; name that address"]);
    fake.will("get-by-name", Fault::Answer(404, "", html));
    assert_refused(&mut delivery, &["status 404; is it an MLflow server?"]);
    fake.will("get-by-name", Fault::Answer(200, "", "{}"));
    assert_refused(&mut delivery, &["its answer has no experiment_id"]);
    fake.state().experiments.push(("claims".to_owned(), true));
    assert_refused(&mut delivery, &["the experiment \"claims\" is deleted", "restore --experiment-id 0"]);
    fake.state().experiments[0].1 = false;
    delivery.deliver().unwrap();
    let without_tls = MlflowConfig { url: fake.url.replace("http://", "https://"), ..Run::config(&fake) };
    let words = ["the connection is not safe: check that it is https", "MLFLOW_TRACKING_SERVER_CERT_PATH"];
    assert_refused(&mut Run::new().delivery(without_tls), &words);
    fake.state().runs[0].is_deleted = true;
    assert_refused(&mut run.delivery(Run::config(&fake)), &["its run 0 is deleted", "mlflow.json to begin another"]);
}

#[test]
fn the_server_is_told_who_we_are_and_no_message_repeats_it() {
    let (fake, run) = (Fake::start(), Run::new());
    let token = Credentials { token: Some("sesame".to_owned()), ..Credentials::default() };
    let mut delivery = run.delivery_as(Run::config(&fake), token.clone());
    fake.will("get-by-name", Fault::Answer(401, "", "{\"message\": \"sesame is not valid\"}"));
    let reason = delivery.deliver().unwrap_err().reason();
    assert!(reason.contains("\"<secret> is not valid\"; it does not accept what"), "{reason}");
    assert_eq!(fake.state().authorizations, ["Bearer sesame"]);
    let both = Credentials { user: Some("me".to_owned()), password: Some("pass".to_owned()), ..token };
    run.delivery_as(Run::config(&fake), both).deliver().unwrap();
    assert_eq!(fake.state().authorizations.last().unwrap(), "Basic bWU6cGFzcw==");
}

#[test]
fn certificates_that_are_none_are_an_error_before_the_run_starts() {
    let run = Run::new();
    run.write("roots.pem", "nothing");
    let path = run.path().join("roots.pem");
    let new = |path: &Path| {
        let credentials = Credentials { certificates: Some(path.to_owned()), ..Credentials::default() };
        Client::new("https://127.0.0.1", credentials, Duration::from_secs(1)).map(drop).unwrap_err().to_string()
    };
    assert!(new(&path).contains("has no certificate, expected a PEM file"), "{}", new(&path));
    assert!(new(Path::new("/no/such.pem")).contains("could not read /no/such.pem"));
}

#[test]
fn the_adapter_becomes_a_version_once_and_its_alias_is_never_taken_back() {
    let (fake, run) = (Fake::start(), Run::new());
    run.info("finished");
    let config = MlflowConfig {
        registered_model: Some("claims".to_owned()),
        alias: Some("champion".to_owned()),
        ..Run::config(&fake)
    };
    fake.will("model-versions/create", Fault::CutAfter);
    let mut delivery = run.delivery(config.clone());
    assert!(is_passing(&delivery.finish().unwrap_err()));
    delivery.finish().unwrap();
    {
        let mut state = fake.state();
        assert_eq!(state.models, [("adapter".to_owned(), "0".to_owned(), "LOGGED_MODEL_READY".to_owned())]);
        assert_eq!(state.versions, [("claims".to_owned(), "0".to_owned(), "models:/m-0".to_owned())]);
        assert_eq!(state.aliases["champion"], "1");
        assert_eq!(state.files["0/models/m-0/artifacts/adapter_model.safetensors"], b"weights");
        state.aliases.insert("champion".to_owned(), "2".to_owned());
    }
    run.delivery(config).finish().unwrap();
    let state = fake.state();
    assert_eq!((state.aliases["champion"].as_str(), state.versions.len()), ("2", 1));
}

#[test]
fn artifacts_past_the_server_are_refused_and_all_else_is_there() {
    let (fake, run) = (Fake::start(), Run::new());
    run.steps(0, 1..=2);
    run.info("failed");
    fake.state().artifacts = Some("s3://bucket");
    let failure = run.delivery(Run::config(&fake)).finish().unwrap_err();
    let reason = failure.reason();
    assert!(!is_passing(&failure) && reason.contains("s3://bucket/0/0/artifacts, past the server"), "{reason}");
    assert_once(&fake, 2);
    assert_eq!(fake.state().runs[0].status, "FAILED");
    run.delivery(MlflowConfig { artifacts: false, ..Run::config(&fake) }).finish().unwrap();
}

#[test]
fn a_run_that_was_killed_is_told_as_such() {
    let (fake, run) = (Fake::start(), Run::new());
    run.steps(0, 1..=1);
    let folder = RunFolder::open(run.path().to_owned()).unwrap();
    let (sent, page) = sync(&folder, Run::config(&fake)).unwrap();
    assert_eq!((sent.metrics, page), (OF_A_STEP, format!("{}/#/experiments/0/runs/0", fake.url)));
    let state = fake.state();
    assert_eq!((state.runs[0].status.as_str(), state.runs[0].tags["greffon.status"].as_str()), ("KILLED", "killed"));
}

#[test]
fn a_tracker_delivers_beside_the_run_and_tells_a_failure_once() {
    let (fake, run) = (Fake::start(), Run::new());
    let folder = RunFolder::open(run.path().to_owned()).unwrap();
    fake.will("runs/create", Fault::Answer(503, "", ""));
    fake.will("runs/create", Fault::Answer(503, "", ""));
    let lock = Arc::new(Lock::take(run.path()).unwrap());
    let tracker = Mlflow::open(folder.clone(), Run::config(&fake), Some(lock)).unwrap();
    run.steps(0, 1..=2);
    tracker.news();
    let until = Instant::now() + Duration::from_secs(20);
    while fake.state().runs.first().is_none_or(|run| run.metrics.is_empty()) {
        assert!(Instant::now() < until, "nothing was delivered");
        thread::sleep(Duration::from_millis(20));
    }
    let refused = sync(&folder, Run::config(&fake)).unwrap_err().to_string();
    assert!(refused.contains("is being written to by another run"), "{refused}");
    run.steps(0, 3..=3);
    run.info("interrupted");
    drop(tracker);
    assert_once(&fake, 3);
    assert_eq!(fake.state().runs[0].status, "KILLED");
    let log = fs::read_to_string(run.path().join("log.txt")).unwrap();
    assert_eq!(log.matches("status 503; the run goes on, and it is tried again").count(), 1, "{log}");
    assert!(log.ends_with("delivered again\n"), "{log}");
    sync(&folder, Run::config(&fake)).unwrap();
}
