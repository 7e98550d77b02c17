//! Runs that report elsewhere too: what they make is the same, whatever the other side does.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use crate::resume::adapter_bytes;
use crate::support::{greffon, tiny_recipe};

/// The address of a port where nobody listens.
fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("http://{}", listener.local_addr().expect("its address"))
}

/// The address of a server that answers everything in the same way.
fn always(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("its address"));
    // The thread ends with the test process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut request = [0; 1 << 12];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

/// Trains into a folder, which must succeed.
#[track_caller]
fn train(folder: &Path, name: &str, set: &[&str]) -> Output {
    let run = format!("output={}", folder.join(name).display());
    let values = ["train.max_steps=6", "train.save_every=3", &run];
    let recipe = tiny_recipe(folder, &[values.as_slice(), set].concat());
    let done = greffon(&["train", &recipe]);
    assert!(done.status.success(), "{}", stderr(&done));
    done
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn log(run: &Path) -> String {
    fs::read_to_string(run.join("log.txt")).expect("a log")
}

#[test]
fn a_run_is_the_same_whatever_the_server_does() {
    let folder = tempfile::tempdir().expect("a folder");
    train(folder.path(), "alone", &[]);
    let expected = adapter_bytes(&folder.path().join("alone"));
    let servers = [
        ("dead", nobody(), "it is tried again"),
        (
            "html",
            always("HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>"),
            "goes on without it",
        ),
        ("cut", always("HTTP/1.1 200 OK\r\ncontent-length: 100\r\nconnection: close\r\n\r\n{"), "it is tried again"),
        ("key", always("HTTP/1.1 401 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), "goes on without it"),
    ];
    for (name, url, told) in servers {
        let tracking = format!("tracking.mlflow={{url: {url}, experiment: claims}}");
        let started = Instant::now();
        let done = train(folder.path(), name, &[&tracking]);
        let run = folder.path().join(name);
        assert_eq!(adapter_bytes(&run), expected, "{name}");
        assert!(started.elapsed() < Duration::from_mins(1), "{name}: {:?}", started.elapsed());
        let (said, log) = (stderr(&done), log(&run));
        assert_eq!(said.matches(told).count(), 1, "{name}: {said}");
        assert_eq!(log.matches(told).count(), 1, "{name}: {log}");
        let later = format!("nothing is lost, to deliver it: greffon track sync {}", run.display());
        assert!(said.contains(&later) && log.contains(&later), "{name}: {said}");
    }
}

#[test]
fn what_cannot_be_synchronised_is_told_with_its_exit_code() {
    let folder = tempfile::tempdir().expect("a folder");
    train(folder.path(), "run", &[]);
    let run = folder.path().join("run");
    let run = run.to_str().expect("plain path");
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let done = greffon(&[&["track", "sync", run], arguments].concat());
        let said = stderr(&done);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        assert!(!said.contains("sesame"), "{said}");
    };
    refused(&[], 2, &["its recipe names no MLflow server (tracking.mlflow); name one with --url and --experiment"]);
    let with_password = "https://me:sesame@mlflow.example";
    refused(
        &["--url", with_password, "--experiment", "x"],
        2,
        &["--url", "https://…@mlflow.example", "MLFLOW_TRACKING_TOKEN"],
    );
    let key = always("HTTP/1.1 401 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    refused(&["--url", &key, "--experiment", "x"], 2, &["status 401", "set MLFLOW_TRACKING_USERNAME"]);
    let again = format!("5 times; nothing is lost, try again later: greffon track sync {run}");
    refused(&["--url", &nobody(), "--experiment", "x", "--json"], 1, &[&again]);
}

#[test]
fn a_run_leaves_its_figures_for_prometheus() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("greffon.prom");
    train(folder.path(), "run", &[&format!("tracking.prometheus={{textfile: {}}}", file.display())]);
    let text = fs::read_to_string(&file).expect("the file is written");
    for line in
        ["greffon_step{run=\"run\"} 6\n", "greffon_running{run=\"run\"} 0\n", "greffon_validation_loss{run=\"run\"} "]
    {
        assert!(text.contains(line), "{line}: {text}");
    }
}
