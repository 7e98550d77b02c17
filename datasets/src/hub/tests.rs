//! The hub against a small server on this machine that speaks as much of the hub's protocol as is used.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What the server has and what it saw.
#[derive(Default)]
struct State {
    files: BTreeMap<&'static str, Vec<u8>>,
    /// The digests announced, where they are not the true ones.
    announced: BTreeMap<&'static str, String>,
    /// The next answers with a whole file break off after so many bytes.
    break_after: Vec<usize>,
    /// Each request as `GET path range`.
    requests: Vec<String>,
    token: Option<String>,
}

struct Server {
    endpoint: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn start(files: &[(&'static str, &[u8])]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let files = files.iter().map(|(name, content)| (*name, content.to_vec())).collect();
        let state = Arc::new(Mutex::new(State { files, ..State::default() }));
        let shared = state.clone();
        // The thread ends with the test process; a request that breaks ends only its connection.
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.unwrap(), &mut shared.lock().unwrap()).ok();
            }
        });
        Self { endpoint, state }
    }

    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, state: &mut State) -> std::io::Result<()> {
    let mut head = Vec::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        match line? {
            line if line.is_empty() => break,
            line => head.push(line),
        }
    }
    let header = |name: &str| {
        let find = |line: &String| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        head.iter().find_map(find)
    };
    let path = head[0].split(' ').nth(1).unwrap().to_owned();
    let range = header("range").unwrap_or_default();
    state.requests.push(format!("GET {path} {range}").trim_end().to_owned());
    if state.token.is_some() && header("authorization") != state.token.as_ref().map(|t| format!("Bearer {t}")) {
        return write!(stream, "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    if path.starts_with("/api/") {
        let mut body = String::new();
        for name in state.files.keys() {
            write!(body, r#"{{"rfilename": "{name}"}},"#).unwrap();
        }
        let body = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, body.trim_end_matches(','));
        let length = body.len();
        return write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    }
    let found = state.files.iter().find(|(name, _)| {
        ["main", COMMIT].iter().any(|revision| path.ends_with(&format!("/resolve/{revision}/{name}")))
    });
    let Some((name, content)) = found else {
        return write!(stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let (first, last) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')).unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(content.len() - 1);
    if first >= content.len() {
        return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    }
    let etag = state.announced.get(name).cloned().unwrap_or_else(|| digest(content));
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nx-repo-commit: {COMMIT}\r\netag: \"{etag}\"\r\ncontent-length: {}\r\n\
         content-range: bytes {first}-{last}/{}\r\nconnection: close\r\n\r\n",
        last + 1 - first,
        content.len()
    )?;
    let mut body = &content[first..=last];
    if body.len() > 1
        && let Some(most) = state.break_after.pop()
    {
        body = &body[..most.min(body.len())];
    }
    stream.write_all(body)
}

fn digest(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn data(file: &str) -> HubFile {
    let (repo, revision, file) = ("owner/set".to_owned(), "main".to_owned(), file.to_owned());
    HubFile { kind: RepoKind::Dataset, repo, revision, file }
}

/// A content without a short period, so that a wrongly joined one differs.
fn content(bytes: u32) -> Vec<u8> {
    (0..bytes).flat_map(|i| (i.wrapping_mul(2_654_435_761)).to_le_bytes()).take(bytes as usize).collect()
}

#[test]
fn a_file_is_downloaded_once_and_then_taken_from_the_cache() {
    let server = Server::start(&[("data/a.jsonl", b"hello")]);
    let cache = TempDir::new().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path());
    let path = hub.fetch(&data("data/a.jsonl")).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    assert_eq!(path, cache.path().join("datasets--owner--set/snapshots").join(COMMIT).join("data/a.jsonl"));
    let url = "GET /datasets/owner/set/resolve/main/data/a.jsonl";
    assert_eq!(server.requests(), [format!("{url} bytes=0-0"), format!("{url} bytes=0-")]);

    assert_eq!(hub.fetch(&data("data/a.jsonl")).unwrap(), path);
    let offline = hub.with_offline(true);
    assert_eq!(offline.fetch(&data("data/a.jsonl")).unwrap(), path);
    let pinned = HubFile { revision: COMMIT.to_owned(), ..data("data/a.jsonl") };
    assert_eq!(offline.fetch(&pinned).unwrap(), path);
    assert!(server.requests().is_empty());
    let missing = offline.fetch(&data("data/b.jsonl")).unwrap_err().to_string();
    let cache = cache.path().display();
    assert_eq!(
        missing,
        format!(
            "data/b.jsonl of owner/set@main is not in the cache {cache} and HF_HUB_OFFLINE forbids the network; \
             unset HF_HUB_OFFLINE, or give a local path instead of the hub name"
        )
    );
}

#[test]
fn a_broken_off_download_is_taken_up_where_it_stopped() {
    let whole = content(300_000);
    let server = Server::start(&[("a.parquet", &whole)]);
    server.state.lock().unwrap().break_after = vec![50_000, 100_000];
    let cache = TempDir::new().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = seen.clone();
    let hub = Hub::new(&server.endpoint, cache.path())
        .with_progress(move |progress| listener.lock().unwrap().push((progress.done_bytes, progress.total_bytes)));
    let path = hub.fetch(&data("a.parquet")).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), whole);
    let ranges: Vec<String> = server.requests().iter().map(|r| r.split(' ').nth(2).unwrap().to_owned()).collect();
    assert_eq!(ranges, ["bytes=0-0", "bytes=0-", "bytes=0-0", "bytes=100000-", "bytes=0-0", "bytes=150000-"]);
    let seen = seen.lock().unwrap();
    assert!(seen.is_sorted(), "progress never goes back: {seen:?}");
    assert_eq!(seen.last(), Some(&(300_000, 300_000)));
}

#[test]
fn what_an_earlier_run_left_is_used() {
    let whole = content(200_000);
    let server = Server::start(&[("a.parquet", &whole)]);
    let cache = TempDir::new().unwrap();
    let blobs = cache.path().join("datasets--owner--set/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    // A download that was killed, and one that was killed after its last byte.
    for left in [120_000, 200_000] {
        std::fs::write(blobs.join(digest(&whole)).with_extension("part"), &whole[..left]).unwrap();
        let path = Hub::new(&server.endpoint, cache.path()).fetch(&data("a.parquet")).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), whole, "{left} bytes were there");
        std::fs::remove_file(path).unwrap();
        std::fs::remove_file(blobs.join(digest(&whole))).unwrap();
    }
}

#[test]
fn a_damaged_download_is_not_kept() {
    let server = Server::start(&[("a.parquet", b"not what was announced")]);
    let announced = digest(b"something else");
    server.state.lock().unwrap().announced.insert("a.parquet", announced.clone());
    let cache = TempDir::new().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path());
    let error = hub.fetch(&data("a.parquet")).unwrap_err();
    let DataError::Hub(HubError::Damaged { path, expected, .. }) = &error else { panic!("{error}") };
    assert_eq!(*expected, announced);
    assert!(!path.exists());
    assert!(error.to_string().contains("the download of a.parquet of owner/set is damaged: SHA-256 is "), "{error}");
    assert!(hub.with_offline(true).fetch(&data("a.parquet")).is_err());
}

#[test]
fn refusals_say_what_to_do() {
    let server = Server::start(&[("a.jsonl", b"hello")]);
    let cache = TempDir::new().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path());
    let message = |hub: &Hub, file: &str| hub.fetch(&data(file)).unwrap_err().to_string();
    assert_eq!(
        message(&hub, "b.jsonl"),
        "the hub refused b.jsonl of owner/set@main: not found, check the name and the revision"
    );
    server.state.lock().unwrap().token = Some("hf_x".to_owned());
    assert_eq!(
        message(&hub, "a.jsonl"),
        "the hub refused a.jsonl of owner/set@main: it needs an account, or does not exist; set HF_TOKEN, or check its name"
    );
    assert_eq!(
        message(&hub.clone().with_token(Some("hf_y".to_owned())), "a.jsonl"),
        "the hub refused a.jsonl of owner/set@main: the token gives no access; accept the terms on its page, \
         or check its name"
    );
    let named = hub.with_token(Some("hf_x\n".to_owned()));
    assert!(!format!("{named:?}").contains("hf_x"));
    named.fetch(&data("a.jsonl")).unwrap();
}

#[test]
fn an_unreachable_hub_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cache = TempDir::new().unwrap();
    let hub = Hub::new(format!("http://127.0.0.1:{port}"), cache.path());
    let message = hub.fetch(&data("a.jsonl")).unwrap_err().to_string();
    let start = format!("could not reach the hub for owner/set@main (http://127.0.0.1:{port}): ");
    assert!(message.starts_with(&start), "{message}");
    assert!(message.contains("or give a local path instead of the hub name"), "{message}");
    let message = hub.model("owner/net", "main").unwrap_err().to_string();
    assert!(message.starts_with("could not reach the hub for owner/net@main"), "{message}");
}

#[test]
fn a_server_that_is_no_hub_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            BufReader::new(stream.try_clone().unwrap()).lines().find(|line| line.as_ref().unwrap().is_empty());
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi").unwrap();
        }
    });
    let cache = TempDir::new().unwrap();
    let hub = Hub::new(&endpoint, cache.path());
    let message = hub.fetch(&data("a.jsonl")).unwrap_err().to_string();
    assert_eq!(
        message,
        format!("the hub refused a.jsonl of owner/set@main: Header etag is missing; is {endpoint} a hub?")
    );
    assert!(hub.model("owner/net", "main").unwrap_err().to_string().contains("owner/net@main"));
}

#[test]
fn a_model_comes_with_the_shards_of_its_index_and_nothing_else() {
    let index = br#"{"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let server = Server::start(&[
        ("config.json", b"{}"),
        ("tokenizer.json", b"{}"),
        ("tokenizer_config.json", b"{}"),
        ("chat_template.jinja", b"x"),
        ("model.safetensors.index.json", index),
        ("model-1.safetensors", b"1"),
        ("model-2.safetensors", b"2"),
        ("consolidated.safetensors", b"the same weights once more"),
        ("onnx/model.onnx", b"x"),
        ("README.md", b"x"),
        ("../../escape.json", b"x"),
    ]);
    let cache = TempDir::new().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path());
    let folder = hub.model("owner/net", "main").unwrap();
    assert_eq!(folder, cache.path().join("models--owner--net/snapshots").join(COMMIT));
    let mut files: Vec<String> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort_unstable();
    let expected = [
        "chat_template.jinja",
        "config.json",
        "model-1.safetensors",
        "model-2.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    assert_eq!(files, expected);

    server.requests();
    assert_eq!(hub.model("owner/net", "main").unwrap(), folder);
    assert_eq!(server.requests(), ["GET /api/models/owner/net/revision/main"]);
    assert_eq!(hub.clone().with_offline(true).model("owner/net", "main").unwrap(), folder);
    assert_eq!(hub.with_offline(true).model("owner/net", COMMIT).unwrap(), folder);
    assert!(server.requests().is_empty());
    // A hub out of reach is no obstacle once the files are there.
    let away = Hub::new("http://127.0.0.1:1", cache.path());
    assert_eq!(away.model("owner/net", "main").unwrap(), folder);
}

#[test]
fn a_snapshot_takes_what_the_patterns_match() {
    let server = Server::start(&[("a.jsonl", b"1"), ("b.jsonl", b"2"), ("sub/c.jsonl", b"3"), ("d.txt", b"4")]);
    let cache = TempDir::new().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path());
    let folder = hub.snapshot(RepoKind::Dataset, "owner/set", "main", &["*.jsonl", "sub/*"]).unwrap();
    assert!(["a.jsonl", "b.jsonl", "sub/c.jsonl"].iter().all(|file| folder.join(file).is_file()));
    assert!(!folder.join("d.txt").exists());
    let none = hub.snapshot(RepoKind::Dataset, "owner/set", "main", &["*.parquet"]).unwrap_err().to_string();
    assert_eq!(none, "the hub refused the snapshot of owner/set@main: it has none of the files that are needed");
}

#[test]
fn names_that_would_leave_the_cache_are_refused() {
    let hub = Hub::new("http://127.0.0.1:1", "unused");
    let message = |repo: &str, revision: &str, file: &str| {
        let (repo, revision, file) = (repo.to_owned(), revision.to_owned(), file.to_owned());
        hub.fetch(&HubFile { kind: RepoKind::Dataset, repo, revision, file }).unwrap_err().to_string()
    };
    assert_eq!(
        message("../x", "main", "a"),
        "hub repository \"../x\" is not valid, expected owner/name of letters, digits, dots, hyphens and underscores"
    );
    assert!(message("a/b/c", "main", "a").starts_with("hub repository"));
    assert!(message("a/b?x", "main", "a").starts_with("hub repository"));
    assert!(message("a/b", "../main", "a").starts_with("hub revision"));
    assert!(message("a/b", "", "a").starts_with("hub revision"));
    for file in ["", "/a", "../a", "a/../../b", "a b", "a?b"] {
        assert!(message("a/b", "main", file).starts_with(&format!("hub file {file:?} is not valid")));
    }
}

#[test]
fn a_data_source_can_be_a_hub_file() {
    let record = br#"{"prompt": "a", "completion": "b"}"#;
    let server = Server::start(&[("data/a.jsonl", record)]);
    let cache = TempDir::new().unwrap();
    let source: crate::SourceConfig =
        serde_json::from_str(r#"{"hub": {"dataset": "owner/set", "file": "data/a.jsonl"}}"#).unwrap();
    let loaded = crate::load_with(&source, Path::new(""), &Hub::new(&server.endpoint, cache.path())).unwrap();
    assert_eq!(loaded.conversations[0].origin.to_string(), "owner/set/data/a.jsonl:1");
}
