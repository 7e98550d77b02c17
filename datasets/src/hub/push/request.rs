//! One request after the other: the token, patience where the hub is busy, and refusals in words.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom, Take};
use std::path::PathBuf;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use ureq::http::{HeaderMap, Response};
use ureq::{Agent, SendBody};

use super::super::download::is_broken_connection;
use super::super::names::At;
use super::super::{Hub, OnProgress, TransferProgress};
use crate::error::DataError;

/// How often a request is made before it is given up.
const ATTEMPTS: u32 = 5;
/// The longest that the hub may make us wait before the next attempt.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest part of an answer that an error repeats, in characters.
const LONGEST_REASON: usize = 300;

/// What a request does.
#[derive(Clone, Copy)]
pub(super) enum Method {
    Get,
    Post,
    Put,
}

/// What a request carries.
pub(super) enum Body {
    Empty,
    Text {
        kind: &'static str,
        content: String,
    },
    /// A part of a file of `total` bytes.
    Part {
        path: PathBuf,
        offset: u64,
        length: u64,
        total: u64,
    },
}

impl Body {
    pub(super) fn json(value: &Value) -> Self {
        Self::Text { kind: "application/json", content: value.to_string() }
    }
}

/// An answer that is no sign of a busy hub.
pub(super) struct Answer {
    status: u16,
    headers: HeaderMap,
    content: String,
}

impl Answer {
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The conversation about one repository.
pub(super) struct Client<'a> {
    hub: &'a Hub,
    token: &'a str,
    at: At<'a>,
    agent: Agent,
}

impl<'a> Client<'a> {
    pub(super) fn new(hub: &'a Hub, token: &'a str, at: At<'a>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(30)))
            .timeout_recv_response(Some(Duration::from_mins(2)))
            .build();
        Self { hub, token, at, agent: config.into() }
    }

    /// An address of the hub.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.hub.endpoint)
    }

    /// An address below the repository's in the hub's interface.
    pub(super) fn model_url(&self, path: &str) -> String {
        self.url(&format!("/api/models/{}{path}", self.at.repo))
    }

    /// The repository.
    pub(super) fn repo(&self) -> &str {
        self.at.repo
    }

    /// The branch as one part of an address.
    pub(super) fn revision(&self) -> String {
        self.at.revision.replace('/', "%2F")
    }

    /// The branch's name.
    pub(super) fn branch(&self) -> &str {
        self.at.revision
    }

    pub(super) fn error(&self, what: &str, message: String) -> DataError {
        self.hub.push_error(&self.at, what, message)
    }

    /// Makes a request, again and again while the hub is overloaded. The token goes to the hub alone, not to the
    /// storage that it names.
    pub(super) fn send(&self, what: &str, method: Method, url: &str, body: &Body) -> Result<Answer, DataError> {
        let mut attempt = 1;
        loop {
            let (reason, pause) = match self.send_once(what, method, url, body) {
                Ok(answer) if answer.status != 429 && answer.status < 500 => return Ok(answer),
                Ok(answer) => (self.reason(&answer), asked_pause(&answer)),
                Err(Failure::File(error)) => return Err(error),
                Err(Failure::Request(error)) if is_passing(&error) => (self.without_token(&error.to_string()), None),
                Err(Failure::Request(error)) => {
                    let message =
                        format!("{}; check the connection and HF_ENDPOINT", self.without_token(&error.to_string()));
                    return Err(self.error(what, message));
                }
            };
            if attempt == ATTEMPTS {
                return Err(self.error(what, format!("{reason}, {ATTEMPTS} times; try again later")));
            }
            tracing::warn!(what, reason, attempt, "the hub did not take it, it is sent again");
            std::thread::sleep(pause.unwrap_or(self.hub.retry_pause * 2_u32.pow(attempt)));
            attempt += 1;
        }
    }

    fn send_once(&self, what: &str, method: Method, url: &str, body: &Body) -> Result<Answer, Failure> {
        let is_hub = url.strip_prefix(&self.hub.endpoint).is_some_and(|rest| rest.starts_with('/'));
        let token = is_hub.then(|| format!("Bearer {}", self.token));
        let mut request = match method {
            Method::Get => {
                let mut request = self.agent.get(url);
                if let Some(token) = token {
                    request = request.header("authorization", token);
                }
                return answer(request.call()?);
            }
            Method::Post => self.agent.post(url),
            Method::Put => self.agent.put(url),
        };
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        match body {
            Body::Empty => answer(request.send_empty()?),
            Body::Text { kind, content } => {
                answer(request.header("content-type", *kind).header("accept", accept(kind)).send(content)?)
            }
            Body::Part { path, offset, length, total } => {
                let failed = |source| Failure::File(DataError::Read { path: path.clone(), source });
                let mut file = File::open(path).map_err(failed)?;
                file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
                let listener = &self.hub.on_progress;
                let mut part = Counted { part: file.take(*length), listener, file: what, done: *offset, total: *total };
                // Storages want to know the length beforehand.
                answer(request.header("content-length", length.to_string()).send(SendBody::from_reader(&mut part))?)
            }
        }
    }

    /// The answer, unless it is a refusal.
    pub(super) fn accept(&self, what: &str, answer: Answer) -> Result<Answer, DataError> {
        if answer.is_ok() {
            return Ok(answer);
        }
        let remedy = match answer.status {
            401 => "the token is not valid; make one with write permission, and set HF_TOKEN to it".to_owned(),
            403 => format!("the token may not write there; it needs write permission for {}", self.at.repo),
            404 => "there is no such repository or branch, or the token does not see it; check the names".to_owned(),
            409 => "the branch was changed meanwhile; push again".to_owned(),
            _ => "check the names and the files".to_owned(),
        };
        Err(self.error(what, format!("{}; {remedy}", self.reason(&answer))))
    }

    /// The JSON of an answer that is no refusal.
    pub(super) fn json<T: DeserializeOwned>(&self, what: &str, answer: Answer) -> Result<T, DataError> {
        let answer = self.accept(what, answer)?;
        serde_json::from_str(&answer.content).map_err(|error| {
            self.error(what, format!("the answer is not what was expected ({error}); is {} a hub?", self.hub.endpoint))
        })
    }

    /// Status and reason of a refusal.
    fn reason(&self, answer: &Answer) -> String {
        let json: Option<Value> = serde_json::from_str(&answer.content).ok();
        let said = answer
            .header("x-error-message")
            .or_else(|| json.as_ref().and_then(|json| super::text(json, "error").or(super::text(json, "message"))));
        let status = answer.status;
        match said {
            Some(said) => {
                let said: String = said.chars().take(LONGEST_REASON).collect();
                format!("status {status}, {:?}", self.without_token(&said))
            }
            None => format!("status {status}"),
        }
    }

    /// A text from outside, which might repeat what was sent.
    fn without_token(&self, text: &str) -> String {
        text.replace(self.token, "<token>")
    }
}

/// A part of a file that tells how far it was read.
struct Counted<'a> {
    part: Take<File>,
    listener: &'a OnProgress,
    file: &'a str,
    done: u64,
    total: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.part.read(buffer)?;
        self.done += count as u64;
        (self.listener)(&TransferProgress { file: self.file, done_bytes: self.done, total_bytes: self.total });
        Ok(count)
    }
}

/// Why there is no answer.
enum Failure {
    File(DataError),
    Request(ureq::Error),
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        Self::Request(error)
    }
}

fn answer(response: Response<ureq::Body>) -> Result<Answer, Failure> {
    let (parts, mut body) = response.into_parts();
    let content = String::from_utf8_lossy(&body.read_to_vec()?).into_owned();
    Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, content })
}

/// What the hub answers in; only the large file storage has a kind of its own.
fn accept(kind: &str) -> &str {
    if kind == super::large::KIND { kind } else { "application/json" }
}

/// How long a busy hub asks us to wait.
fn asked_pause(answer: &Answer) -> Option<Duration> {
    let seconds = answer.header("retry-after")?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}

/// Whether the connection broke, so that trying again may help.
fn is_passing(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Io(error) => is_broken_connection(error),
        ureq::Error::Protocol(_) | ureq::Error::Timeout(_) => true,
        _ => false,
    }
}
