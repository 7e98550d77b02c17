//! Pushing against a small server on this machine that speaks as much of the hub's protocol as is used, and a second
//! one for the storage of large files.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use sha2::Sha256;
use tempfile::TempDir;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_secret";

/// What the servers have, what they saw, and how they misbehave.
#[derive(Default)]
struct State {
    /// Whether the repository is there.
    exists: bool,
    /// The names of the contents on the branch, by path.
    branch: BTreeMap<String, String>,
    /// The large objects.
    storage: BTreeMap<String, Vec<u8>>,
    /// The commits, each as its lines.
    commits: Vec<Vec<Value>>,
    /// Each request as `POST /path`, those of the storage with `storage` before them.
    requests: Vec<String>,
    /// The bodies of requests to the hub, as texts.
    bodies: Vec<String>,
    /// The next answers to requests whose path contains the text: status and content.
    failures: Vec<(&'static str, u16, &'static str)>,
    /// Large files are asked for in parts of this size.
    part_bytes: Option<usize>,
    /// Files that the repository's .gitignore names.
    ignored: BTreeSet<&'static str>,
    parts: BTreeMap<usize, Vec<u8>>,
    /// Whether the storage was ever shown the token.
    leaked: bool,
    endpoint: String,
    storage_endpoint: String,
}

struct Server {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

struct Request {
    method: String,
    path: String,
    token: Option<String>,
    kind: String,
    body: Vec<u8>,
}

impl Server {
    fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let endpoint = serve(state.clone(), hub);
        let storage_endpoint = serve(state.clone(), storage);
        {
            let mut state = state.lock().unwrap();
            state.endpoint.clone_from(&endpoint);
            state.storage_endpoint = storage_endpoint;
        }
        Self { endpoint, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn hub(&self) -> Hub {
        let mut hub = Hub::new(&self.endpoint, "unused").with_token(Some(TOKEN.to_owned()));
        hub.retry_pause = Duration::from_millis(1);
        hub
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state().requests)
    }
}

type Answerer = fn(&mut State, &Request) -> (u16, String, String);

fn serve(state: Arc<Mutex<State>>, answer: Answerer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    // The thread ends with the test process; a request that breaks ends only its connection.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some(request) = read(&stream) else { continue };
            let mut state = state.lock().unwrap();
            let failure = state.failures.iter().position(|(path, _, _)| request.path.contains(path));
            let (status, header, body) = match failure {
                Some(at) => {
                    let (_, status, body) = state.failures.remove(at);
                    state.requests.push(format!("{status} {}", request.path));
                    (status, "retry-after: 0\r\n".to_owned(), body.to_owned())
                }
                None => answer(&mut state, &request),
            };
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} Some\r\n{header}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .ok();
        }
    });
    endpoint
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let header = |name: &str| {
        let find = |line: &String| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        head.iter().find_map(find)
    };
    let mut words = head.first()?.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    // A body without a length would be a mistake: storages refuse it.
    let length = header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        token: header("authorization"),
        kind: header("content-type").unwrap_or_default(),
        body,
    })
}

fn hub(state: &mut State, request: &Request) -> (u16, String, String) {
    state.requests.push(format!("{} {}", request.method, request.path));
    state.bodies.push(String::from_utf8_lossy(&request.body).into_owned());
    let answer = |status, value: Value| (status, String::new(), value.to_string());
    if request.token.as_deref() != Some("Bearer hf_secret") {
        return answer(401, json!({ "error": "Invalid credentials in Authorization header" }));
    }
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    match (request.method.as_str(), request.path.as_str()) {
        ("POST", "/api/repos/create") if state.exists => {
            answer(409, json!({ "error": "You already created this model repo" }))
        }
        ("POST", "/api/repos/create") => {
            state.exists = true;
            answer(200, json!({ "url": "https://hub/owner/name" }))
        }
        ("GET", "/api/models/owner/name") if state.exists => answer(200, json!({ "id": "owner/name" })),
        ("POST", "/api/models/owner/name/preupload/main") => {
            let mode = |file: &Value| {
                let path = file["path"].as_str().unwrap();
                let mode = if path.ends_with(".safetensors") { "lfs" } else { "regular" };
                let ignored = state.ignored.contains(path);
                json!({ "path": path, "uploadMode": mode, "shouldIgnore": ignored, "oid": state.branch.get(path) })
            };
            answer(200, json!({ "files": body["files"].as_array().unwrap().iter().map(mode).collect::<Vec<_>>() }))
        }
        ("POST", "/owner/name.git/info/lfs/objects/batch") => {
            assert_eq!(request.kind, large::KIND);
            let objects = body["objects"].as_array().unwrap().iter().map(|object| wanted(state, object));
            answer(200, json!({ "transfer": "basic", "objects": objects.collect::<Vec<_>>() }))
        }
        ("POST", "/verify") => answer(200, json!({})),
        ("POST", "/complete") => {
            let parts = body["parts"].as_array().unwrap();
            assert!(parts.iter().enumerate().all(|(at, part)| part["etag"] == format!("\"e{}\"", at + 1)));
            let whole = std::mem::take(&mut state.parts).into_values().flatten().collect();
            state.storage.insert(body["oid"].as_str().unwrap().to_owned(), whole);
            answer(200, json!({}))
        }
        ("POST", "/api/models/owner/name/commit/main") => {
            assert_eq!(request.kind, "application/x-ndjson");
            let text = String::from_utf8(request.body.clone()).unwrap();
            state.commits.push(text.lines().map(|line| serde_json::from_str(line).unwrap()).collect());
            answer(200, json!({ "commitOid": COMMIT, "commitUrl": "https://hub/owner/name/commit/x", "success": true }))
        }
        _ => answer(404, json!({ "error": "Not found" })),
    }
}

/// The answer for one object of a batch.
fn wanted(state: &State, object: &Value) -> Value {
    let (oid, size) = (object["oid"].as_str().unwrap(), object["size"].as_u64().unwrap());
    if state.storage.contains_key(oid) {
        return json!({ "oid": oid, "size": size });
    }
    let base = &state.storage_endpoint;
    let mut upload = json!({ "href": format!("{base}/whole/{oid}") });
    if let Some(bytes) = state.part_bytes {
        let mut header = serde_json::Map::from_iter([("chunk_size".to_owned(), bytes.to_string().into())]);
        let count = if bytes == 0 { 0 } else { size.div_ceil(bytes as u64) };
        for number in 1..=count {
            header.insert(number.to_string(), format!("{base}/part/{number}").into());
        }
        upload = json!({ "href": format!("{}/complete", state.endpoint), "header": header });
    }
    json!({ "oid": oid, "size": size, "actions": { "upload": upload } })
}

fn storage(state: &mut State, request: &Request) -> (u16, String, String) {
    state.requests.push(format!("storage {} {}", request.method, request.path));
    state.leaked |= request.token.is_some();
    if let Some(number) = request.path.strip_prefix("/part/") {
        let number: usize = number.parse().unwrap();
        state.parts.insert(number, request.body.clone());
        return (200, format!("etag: \"e{number}\"\r\n"), String::new());
    }
    let oid = request.path.strip_prefix("/whole/").unwrap().to_owned();
    assert_eq!(hex(&Sha256::digest(&request.body)), oid, "other bytes than announced");
    state.storage.insert(oid, request.body.clone());
    (200, String::new(), String::new())
}

/// Weights without a short period, a configuration, a card and an empty file.
fn files(folder: &TempDir) -> (Push, Vec<Vec<u8>>) {
    let weights: Vec<u8> = (0..100_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let contents = vec![weights, b"{}\n".to_vec(), "# Carte \u{e9}\n".as_bytes().to_vec(), Vec::new()];
    let names = ["adapter_model.safetensors", "adapter_config.json", "README.md", "empty.safetensors"];
    let files = names.iter().zip(&contents).map(|(name, content)| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        PushFile { name: (*name).to_owned(), path }
    });
    let files = files.collect();
    let (repo, revision, message) = ("owner/name".to_owned(), "main".to_owned(), "A \"message\"".to_owned());
    (Push { repo, revision, private: true, message, files }, contents)
}

#[test]
fn files_arrive_as_they_are_and_nothing_goes_twice() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let (push, contents) = files(&folder);
    let pushed = server.hub().push(&push).unwrap();
    let names: Vec<&str> = push.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(pushed.commit.as_deref(), Some(COMMIT));
    assert_eq!((pushed.committed, pushed.unchanged), (names.iter().map(|&n| n.to_owned()).collect(), vec![]));
    assert_eq!(pushed.url, format!("{}/owner/name", server.endpoint));
    let digest = hex(&Sha256::digest(&contents[0]));
    let expected = [
        "POST /api/repos/create",
        "POST /api/models/owner/name/preupload/main",
        "POST /owner/name.git/info/lfs/objects/batch",
        &format!("storage PUT /whole/{digest}"),
        "POST /api/models/owner/name/commit/main",
    ];
    assert_eq!(server.requests(), expected);
    {
        let mut state = server.state();
        assert_eq!(state.storage[&digest], contents[0]);
        assert!(!state.leaked, "the token is for the hub alone");
        let created: Value = serde_json::from_str(&state.bodies[0]).unwrap();
        let expected = json!({ "type": "model", "organization": "owner", "name": "name", "private": true });
        assert_eq!(created, expected);
        let listed: Value = serde_json::from_str(&state.bodies[1]).unwrap();
        let samples: Vec<&Value> = listed["files"].as_array().unwrap().iter().map(|file| &file["sample"]).collect();
        assert_eq!(*samples[0], BASE64_STANDARD.encode(&contents[0][..512]));
        let commit = &state.commits[0];
        assert_eq!(commit[0], json!({ "key": "header", "value": { "summary": "A \"message\"", "description": "" } }));
        let large = json!({ "path": names[0], "algo": "sha256", "oid": digest, "size": 400_000 });
        assert_eq!(commit[1], json!({ "key": "lfsFile", "value": large }));
        for (line, (name, content)) in commit[2..].iter().zip(names.iter().zip(&contents).skip(1)) {
            assert_eq!((&line["key"], &line["value"]["path"]), (&json!("file"), &json!(name)));
            assert_eq!(BASE64_STANDARD.decode(line["value"]["content"].as_str().unwrap()).unwrap(), *content);
        }
        assert_eq!(commit.len(), 5);
        // What the branch has now, by git's names: `printf '{}\n' | git hash-object --stdin`, and of nothing.
        state.branch.insert(names[0].to_owned(), digest);
        state.branch.insert(names[1].to_owned(), "0967ef424bce6791893e9a57bb952f80fd536e93".to_owned());
        state.branch.insert(names[3].to_owned(), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391".to_owned());
        state.bodies.clear();
    }
    // Only the card is new: nothing else is sent.
    let pushed = server.hub().push(&push).unwrap();
    assert_eq!(pushed.committed, ["README.md"]);
    assert_eq!(pushed.unchanged, [names[0], names[1], names[3]]);
    let expected = [
        "POST /api/repos/create",
        "POST /api/models/owner/name/preupload/main",
        "POST /api/models/owner/name/commit/main",
    ];
    assert_eq!(server.requests(), expected);
    assert_eq!(server.state().commits[1].len(), 2);

    // And with nothing new there is no commit.
    server.state().branch.insert("README.md".to_owned(), git_name(&push.files[2]).unwrap());
    let pushed = server.hub().push(&push).unwrap();
    assert_eq!((pushed.commit, pushed.committed.len(), pushed.unchanged.len()), (None, 0, 4));
    assert_eq!(server.requests(), expected[..2]);
}

#[test]
fn a_large_file_that_the_storage_has_is_named_and_not_sent() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let (push, contents) = files(&folder);
    let digest = hex(&Sha256::digest(&contents[0]));
    server.state().storage.insert(digest.clone(), contents[0].clone());
    server.hub().push(&push).unwrap();
    assert!(server.requests().iter().all(|request| !request.starts_with("storage")));
    assert_eq!(server.state().commits[0][1]["value"]["oid"], digest);
}

#[test]
fn a_large_file_goes_in_parts_where_the_hub_wants_it() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let (push, contents) = files(&folder);
    server.state().part_bytes = Some(150_001);
    let pieces = Arc::new(Mutex::new(Vec::new()));
    let seen = pieces.clone();
    let hub = server
        .hub()
        .with_progress(move |progress| seen.lock().unwrap().push((progress.done_bytes, progress.total_bytes)));
    hub.push(&push).unwrap();
    let digest = hex(&Sha256::digest(&contents[0]));
    assert_eq!(server.state().storage[&digest], contents[0]);
    let sent: Vec<String> = server.requests().into_iter().filter(|request| request.starts_with("storage")).collect();
    assert_eq!(sent, ["storage PUT /part/1", "storage PUT /part/2", "storage PUT /part/3"]);
    assert_eq!(pieces.lock().unwrap().last(), Some(&(400_000, 400_000)), "the progress ends with the file");
    assert!(pieces.lock().unwrap().is_sorted());

    server.state().storage.clear();
    server.state().part_bytes = Some(0);
    let message = server.hub().push(&push).unwrap_err().to_string();
    assert!(message.contains("asks for parts of \"0\" bytes"), "{message}");
}

#[test]
fn a_busy_hub_is_asked_again_and_in_the_end_given_up() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let (push, contents) = files(&folder);
    server.state().failures = vec![
        ("/api/repos/create", 429, ""),
        ("/preupload/", 503, ""),
        ("/whole/", 500, "slow down"),
        ("/whole/", 502, ""),
        ("/commit/", 504, ""),
    ];
    server.hub().push(&push).unwrap();
    assert_eq!(server.state().storage[&hex(&Sha256::digest(&contents[0]))], contents[0]);
    assert_eq!(server.state().commits.len(), 1);

    server.requests();
    server.state().failures = vec![("/preupload/", 503, r#"{"error": "overloaded by hf_secret"}"#); 9];
    let message = server.hub().push(&push).unwrap_err().to_string();
    let expected = format!(
        "could not push the list of files to owner/name@main ({}): status 503, \"overloaded by <token>\", 5 times; \
         try again later",
        server.endpoint
    );
    assert_eq!(message, expected);
    assert_eq!(server.requests().len(), 6);
}

#[test]
fn refusals_say_what_to_do_and_never_the_token() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let (push, _) = files(&folder);
    let refused = |path, status, content| {
        server.state().failures = vec![(path, status, content)];
        let message = server.hub().push(&push).unwrap_err().to_string();
        assert!(!message.contains(TOKEN) && server.state().commits.is_empty(), "{message}");
        message.split_once("): ").unwrap().1.to_owned()
    };
    let said =
        |path, status, content: &'static str, expected: &str| assert_eq!(refused(path, status, content), expected);
    said(
        "/preupload/",
        401,
        "",
        "status 401; the token is not valid; make one with write permission, and set HF_TOKEN to it",
    );
    said(
        "/preupload/",
        403,
        r#"{"error": "hf_secret may not"}"#,
        "status 403, \"<token> may not\"; the token may not write there; it needs write permission for owner/name",
    );
    said(
        "/preupload/",
        404,
        "",
        "status 404; there is no such repository or branch, or the token does not see it; check the names",
    );
    said("/commit/", 409, "", "status 409; the branch was changed meanwhile; push again");
    said("/commit/", 413, "", "status 413; check the names and the files");
    let message = refused("/preupload/", 200, "<html>");
    assert!(message.starts_with("the answer is not what was expected") && message.ends_with("a hub?"), "{message}");
    let message = refused("/preupload/", 200, r#"{"files": []}"#);
    assert_eq!(message, "the answer does not say how adapter_model.safetensors goes in");
    let message = refused("/commit/", 200, r#"{"commitOid": "x"}"#);
    assert_eq!(message, "the answer names the commit \"x\", which is no hash");

    server.state().exists = false;
    server.state().failures = vec![("/api/repos/create", 403, "")];
    let message = server.hub().push(&push).unwrap_err().to_string();
    assert!(message.contains("could not push the repository to owner/name@main"), "{message}");
    // Where the repository is there, not being allowed to make one does not matter.
    server.state().exists = true;
    server.state().failures = vec![("/api/repos/create", 403, "")];
    server.hub().push(&push).unwrap();

    let wrong = server.hub().with_token(Some("hf_other".to_owned()));
    let message = wrong.push(&push).unwrap_err().to_string();
    assert!(message.contains("Invalid credentials") && message.contains("set HF_TOKEN"), "{message}");
}

#[test]
fn nothing_is_sent_without_a_token_or_a_network_or_with_a_wrong_name() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let (push, _) = files(&folder);
    let message = |hub: Hub, push: &Push| hub.push(push).unwrap_err().to_string();
    let said = message(server.hub().with_offline(true), &push);
    assert!(said.ends_with("HF_HUB_OFFLINE forbids the network; unset it to push"), "{said}");
    let said = message(server.hub().with_token(None), &push);
    assert!(said.ends_with("it needs a token with write permission; set HF_TOKEN to one"), "{said}");
    for repo in ["name", "a/b/c", "../name", "owner/na me"] {
        let said = message(server.hub(), &Push { repo: repo.to_owned(), ..push.clone() });
        assert!(said.starts_with(&format!("hub repository {repo:?} is not valid, expected owner/name")), "{said}");
    }
    let mut outside = push.clone();
    outside.files[0].name = "../escape".to_owned();
    assert!(message(server.hub(), &outside).starts_with("hub file \"../escape\" is not valid"));
    assert!(server.requests().is_empty());
    assert!(!format!("{:?}", server.hub()).contains(TOKEN));

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away = Hub::new(format!("http://127.0.0.1:{port}"), "unused").with_token(Some(TOKEN.to_owned()));
    let said = message(away, &push);
    assert!(
        said.contains("could not push the repository") && said.ends_with("check the connection and HF_ENDPOINT"),
        "{said}"
    );
}

#[test]
fn a_file_that_is_ignored_or_absent_is_told() {
    let (server, folder) = (Server::start(), TempDir::new().unwrap());
    let (mut push, _) = files(&folder);
    server.state().ignored.insert("README.md");
    let pushed = server.hub().push(&push).unwrap();
    assert_eq!(pushed.committed, ["adapter_model.safetensors", "adapter_config.json", "empty.safetensors"]);
    push.files[1].path = folder.path().join("absent");
    let message = server.hub().push(&push).unwrap_err().to_string();
    assert!(message.contains("absent"), "{message}");
}
