//! Asking against a small server on this machine that misbehaves as servers do.

mod together;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::ask::{Answer, Answered, Asking, Early, ask};
use super::*;
use crate::peers::Alone;
use crate::synth::config::EndpointConfig;

/// What the server does with a request, by the count of requests before it; the body, for good answers.
type Answerer = fn(usize, &str) -> Reply;

enum Reply {
    Status(u16, String),
    /// The connection ends in the middle of the answer.
    Half,
    Slow,
}

struct Server {
    url: String,
    /// The prompts asked, in order.
    asked: Arc<Mutex<Vec<String>>>,
}

fn good(text: &str) -> Reply {
    let answer = json!({
        "choices": [{"message": {"content": text}, "text": text, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    });
    Reply::Status(200, answer.to_string())
}

fn serve(answer: Answerer) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = asked.clone();
    // The threads end with the test process.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, seen) = (stream.unwrap(), seen.clone());
            thread::spawn(move || {
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0);
                while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    line.clear();
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let body: Value = serde_json::from_slice(&body).unwrap_or_default();
                let prompt = body["prompt"].as_str().or_else(|| body["messages"][0]["content"].as_str());
                let prompt = prompt.unwrap_or_default().to_owned();
                let before = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(prompt.clone());
                    seen.len() - 1
                };
                let (status, text) = match answer(before, &prompt) {
                    Reply::Status(status, text) => (status, text),
                    Reply::Half => {
                        let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{{\"choices\": [");
                        return;
                    }
                    Reply::Slow => {
                        thread::sleep(Duration::from_secs(3));
                        return;
                    }
                };
                let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nretry-after: 0\r\n", text.len());
                let _ = write!(stream, "{head}connection: close\r\n\r\n{text}");
            });
        }
    });
    Server { url, asked }
}

fn config(url: &str) -> EndpointConfig {
    EndpointConfig {
        url: url.to_owned(),
        model: "m".to_owned(),
        revision: None,
        api_key_env: Some("TEACHER_KEY".to_owned()),
        concurrency: 4,
        requests_per_minute: None,
        timeout: 1.0,
        retries: 2,
        price: Price::default(),
    }
}

fn request(text: impl Into<String>) -> Request {
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, max_tokens: 8, seed: 0, stop: Vec::new() };
    Request { prompt: Prompt::Text(text.into()), sampling }
}

fn requests(count: usize) -> Vec<Request> {
    (0..count).map(|index| request(format!("prompt {index:03}"))).collect()
}

type Asked = Result<(Vec<Answered>, Option<Early>), crate::DataError>;

/// Asking without a budget.
fn asking<'a>(teacher: &'a Endpoint, journal: &'a Mutex<Journal>, stop: &'a AtomicBool) -> Asking<'a> {
    Asking { teacher, journal, budget: Budget::default(), price: Price::default(), stop, peers: &Alone }
}

fn run(server: &Server, folder: &Path, requests: &[Request], budget: Budget) -> Asked {
    let teacher = Endpoint::new(&config(&format!("{}/v1/", server.url)), Some("sk-secret".to_owned()));
    let journal = Mutex::new(Journal::open(&folder.join("answers.jsonl")).unwrap());
    let stop = AtomicBool::new(false);
    let asking = Asking { budget, ..asking(&teacher, &journal, &stop) };
    ask(asking, requests, &mut |_| ())
}

fn texts(answers: &[Answered]) -> Vec<&str> {
    answers
        .iter()
        .map(|answered| match &answered.answer {
            Answer::Written(completion) => completion.text.as_str(),
            Answer::Failed(_) => "failed",
            Answer::NotAsked => "not asked",
        })
        .collect()
}

#[test]
fn many_are_asked_at_a_time_and_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|_, prompt| good(&prompt.to_uppercase()));
    let mut asked = requests(40);
    asked.push(request("prompt 007"));
    let (answers, early) = run(&server, folder.path(), &asked, Budget::default()).unwrap();
    assert_eq!(early, None);
    assert!(texts(&answers).iter().zip(0..40).all(|(text, index)| *text == format!("PROMPT {index:03}")));
    assert_eq!(texts(&answers)[40], "PROMPT 007");
    assert_eq!(server.asked.lock().unwrap().len(), 40);
    // And none in a second run, but what is new.
    asked.push(request("new"));
    let (answers, _) = run(&server, folder.path(), &asked, Budget::default()).unwrap();
    assert_eq!(texts(&answers)[41], "NEW");
    assert_eq!(server.asked.lock().unwrap().len(), 41);
}

#[test]
fn what_passes_is_tried_again_and_what_does_not_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|before, prompt| match before {
        0 => Reply::Status(503, "busy".to_owned()),
        1 => Reply::Half,
        3 => Reply::Status(200, "<html>gateway</html>".to_owned()),
        4 => Reply::Slow,
        6 => Reply::Status(429, String::new()),
        7 => Reply::Status(200, "{\"choices\": []}".to_owned()),
        _ if prompt == "too long" => Reply::Status(400, json!({"error": {"message": "context is full"}}).to_string()),
        _ => good(prompt),
    });
    let asked: Vec<Request> = ["a", "b", "c", "too long"].map(request).to_vec();
    let teacher = EndpointConfig { concurrency: 1, ..config(&server.url) };
    let teacher = Endpoint::new(&teacher, None);
    let journal = Mutex::new(Journal::open(&folder.path().join("answers.jsonl")).unwrap());
    let stop = AtomicBool::new(false);
    let (answers, _) = ask(asking(&teacher, &journal, &stop), &asked, &mut |_| ()).unwrap();
    assert_eq!(texts(&answers)[..3], ["a", "b", "c"]);
    assert_eq!(answers[3].answer, Answer::Failed("status 400, \"context is full\"".to_owned()));
    assert_eq!(teacher.repeated(), 6);
}

#[test]
fn a_wrong_key_is_said_once_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|_, _| Reply::Status(401, json!({"error": {"message": "bad key sk-secret"}}).to_string()));
    let error = run(&server, folder.path(), &requests(30), Budget::default()).unwrap_err().to_string();
    let expected = "status 401, \"bad key <key>\"; the key in TEACHER_KEY is refused";
    assert!(error.starts_with("teacher m at http://127.0.0.1:") && error.ends_with(expected), "{error}");
    assert_eq!(server.asked.lock().unwrap().len(), 1);
}

#[test]
fn a_server_that_is_gone_is_named_and_what_was_answered_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|_, prompt| good(prompt));
    run(&server, folder.path(), &requests(3), Budget::default()).unwrap();
    let gone = Server { url: "http://127.0.0.1:1".to_owned(), asked: Arc::default() };
    let error = run(&gone, folder.path(), &requests(3), Budget::default()).unwrap_err().to_string();
    assert!(error.contains("3 times; start it, or correct teacher.endpoint.url, and run again"), "{error}");
    let journal = Journal::open(&folder.path().join("answers.jsonl")).unwrap();
    assert_eq!(journal.spent(), Spent { requests: 3, prompt_tokens: 30, completion_tokens: 15 });
}

#[test]
fn a_server_that_answers_nothing_any_more_ends_the_work() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|before, prompt| if before < 5 { good(prompt) } else { Reply::Status(422, "no".to_owned()) });
    let error = run(&server, folder.path(), &requests(300), Budget::default()).unwrap_err().to_string();
    assert!(error.contains("12 requests in a row had no answer, the last one: status 422, \"no\""), "{error}");
    assert!(server.asked.lock().unwrap().len() < 30);
}

#[test]
fn a_budget_is_never_passed_and_ends_the_work_with_all_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|_, prompt| good(prompt));
    let budget = Budget { requests: Some(10), ..Budget::default() };
    let (answers, early) = run(&server, folder.path(), &requests(30), budget).unwrap();
    assert_eq!(early, Some(Early::Budget("budget.requests, 10".to_owned())));
    assert_eq!(answers.iter().filter(|answered| matches!(answered.answer, Answer::Written(_))).count(), 10);
    assert_eq!(server.asked.lock().unwrap().len(), 10);
    // It holds over all runs of the set.
    let (answers, early) = run(&server, folder.path(), &requests(30), budget).unwrap();
    assert!(early.is_some() && texts(&answers).contains(&"not asked"));
    assert_eq!(server.asked.lock().unwrap().len(), 10);
    // A request is taken to need 18 tokens, and needs 15; so the last ones may be held back by those under way.
    let tokens = Budget { tokens: Some(400), ..Budget::default() };
    run(&server, folder.path(), &requests(30), tokens).unwrap();
    let spent = Journal::open(&folder.path().join("answers.jsonl")).unwrap().spent();
    assert!((328..=400).contains(&(spent.prompt_tokens + spent.completion_tokens)), "{spent:?}");
}

#[test]
fn work_that_is_stopped_asks_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let server = serve(|_, prompt| good(prompt));
    let teacher = Endpoint::new(&config(&server.url), None);
    let journal = Mutex::new(Journal::open(&folder.path().join("answers.jsonl")).unwrap());
    let stop = AtomicBool::new(false);
    let (answers, early) = ask(asking(&teacher, &journal, &stop), &requests(50), &mut |at| {
        if at.asked >= 5 {
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    })
    .unwrap();
    assert_eq!(early, Some(Early::Stopped));
    let written = answers.iter().filter(|answered| matches!(answered.answer, Answer::Written(_))).count();
    assert!((5..20).contains(&written) && written == server.asked.lock().unwrap().len(), "{written}");
}
