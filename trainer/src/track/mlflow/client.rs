//! One request to an MLflow server: who we are, how long it may take, and what its answer means.
//!
//! Nothing is tried again here: [`Failure`] says whether trying again may help, and the delivery decides.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, AsSendBody, SendBody};

use crate::error::TrainError;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may be silent.
pub(super) const SILENCE: Duration = Duration::from_mins(1);
/// The longest that the server may make us wait before the next attempt.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);
/// The longest part of an answer that an error repeats, in characters.
const LONGEST_REASON: usize = 300;

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Trying again may help.
    Passing {
        /// What happened.
        reason: String,
        /// How long the server asks us to wait.
        pause: Option<Duration>,
        /// The server has surely not done what was asked.
        untouched: bool,
    },
    /// The request is too large for the server, or for what stands before it.
    TooLarge(String),
    /// Trying again does not help: something must be mended first.
    Refused {
        /// What the server said, and the remedy.
        reason: String,
        /// The server's word for it, such as `RESOURCE_DOES_NOT_EXIST`; empty where it has none.
        code: String,
        /// The status.
        status: u16,
    },
    /// What is to be delivered cannot be read, or the progress not written.
    Own(TrainError),
}

impl Failure {
    pub(super) fn refused(reason: String) -> Self {
        Self::Refused { reason, code: String::new(), status: 0 }
    }

    /// Whether the server has no such thing.
    pub(super) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "RESOURCE_DOES_NOT_EXIST")
    }

    /// Whether the server has such a thing already.
    pub(super) fn is_there(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "RESOURCE_ALREADY_EXISTS")
    }

    /// What happened, in words.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Passing { reason, .. } | Self::TooLarge(reason) | Self::Refused { reason, .. } => reason.clone(),
            Self::Own(error) => error.with_causes(),
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Self {
        Self::Own(error)
    }
}

/// Who we are, and whom we trust, by the variables of MLflow's own client: `MLFLOW_TRACKING_USERNAME` with
/// `MLFLOW_TRACKING_PASSWORD`, else `MLFLOW_TRACKING_TOKEN`; and `MLFLOW_TRACKING_SERVER_CERT_PATH`.
#[derive(Clone, Default)]
pub(super) struct Credentials {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    /// A PEM file.
    pub(super) certificates: Option<PathBuf>,
}

impl Credentials {
    pub(super) fn from_env() -> Self {
        let [user, password, token, certificates] = [
            "MLFLOW_TRACKING_USERNAME",
            "MLFLOW_TRACKING_PASSWORD",
            "MLFLOW_TRACKING_TOKEN",
            "MLFLOW_TRACKING_SERVER_CERT_PATH",
        ]
        .map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()));
        Self { user, password, token, certificates: certificates.map(PathBuf::from) }
    }
}

/// The conversation with one server.
pub(super) struct Client {
    agent: Agent,
    address: String,
    /// The value of the header `authorization`.
    authorization: Option<String>,
    /// What no message may repeat.
    secret: Option<String>,
}

impl Client {
    /// A client of a server that may be silent for so long at most. `HTTPS_PROXY` and its like are respected.
    ///
    /// # Errors
    /// When the file of certificates cannot be read.
    pub(super) fn new(address: &str, credentials: Credentials, silence: Duration) -> Result<Self, TrainError> {
        let Credentials { user, password, token, certificates } = credentials;
        let (authorization, secret) = match (user, password, token) {
            (Some(user), Some(password), _) => {
                let both = BASE64_STANDARD.encode(format!("{user}:{password}"));
                (Some(format!("Basic {both}")), Some(password))
            }
            (_, _, Some(token)) => (Some(format!("Bearer {token}")), Some(token)),
            _ => (None, None),
        };
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            // What redirects is a login page or another address, and neither is to get what is for the server.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_per_read(Some(silence))
            .timeout_per_write(Some(silence))
            .timeout_recv_response(Some(silence));
        if let Some(path) = certificates {
            config = config.tls_config(TlsConfig::builder().root_certs(roots(&path)?).build());
        }
        let address = address.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.build().into(), address, authorization, secret })
    }

    /// The server's address.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Asks for something below `/api/2.0/mlflow/`, by parameters.
    pub(super) fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, Failure> {
        let mut request = self.agent.get(format!("{}/api/2.0/mlflow/{path}", self.address));
        for (key, value) in query {
            request = request.query(key, value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        self.answered(path, request.call())
    }

    /// Tells something below `/api/2.0/mlflow/`.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.tell(&Method::POST, path, body)
    }

    /// As [`Self::post`], by the method `PATCH`.
    pub(super) fn patch(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.tell(&Method::PATCH, path, body)
    }

    fn tell(&self, method: &Method, path: &str, body: &Value) -> Result<Value, Failure> {
        let (address, text) = (format!("{}/api/2.0/mlflow/{path}", self.address), body.to_string());
        self.send(path, method, &address, "application/json", text.len() as u64, text)
    }

    /// Uploads a file under a path of the server's artifacts, read as it is sent.
    pub(super) fn upload(&self, path: &str, file: &Path) -> Result<(), Failure> {
        let failed = |source| TrainError::Read { path: file.to_owned(), source };
        let opened = File::open(file).map_err(failed)?;
        let length = opened.metadata().map_err(failed)?.len();
        let address = format!("{}/api/2.0/mlflow-artifacts/artifacts/{path}", self.address);
        let body = SendBody::from_owned_reader(opened);
        self.send(path, &Method::PUT, &address, "application/octet-stream", length, body).map(drop)
    }

    fn send(
        &self,
        what: &str,
        method: &Method,
        address: &str,
        kind: &str,
        length: u64,
        body: impl AsSendBody,
    ) -> Result<Value, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(address)
            .header("content-type", kind)
            .header("content-length", length);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let bad = |error: ureq::http::Error| Failure::refused(self.plain(&format!("{what}: {error}")));
        self.answered(what, self.agent.run(request.body(body).map_err(bad)?))
    }

    fn answered(&self, what: &str, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<Value, Failure> {
        let (parts, mut body) = answer.map_err(|error| self.failure(what, &error))?.into_parts();
        let content = body.read_to_vec().map_err(|error| self.failure(what, &error))?;
        let content = String::from_utf8_lossy(&content).into_owned();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let (status, json) = (parts.status.as_u16(), serde_json::from_str::<Value>(&content).ok());
        let is_html = content.trim_start().starts_with('<');
        if parts.status.is_success() {
            return match json {
                Some(json) => Ok(json),
                // An upload has nothing to say.
                None if content.trim().is_empty() => Ok(Value::Null),
                None if is_html => Err(Failure::refused(format!(
                    "{what}: it answers with HTML, expected JSON: a login page or another service answers in its place; \
                     check the address"
                ))),
                None => Err(passing(format!("{what}: its answer is cut off"))),
            };
        }
        let text = |key: &str| json.as_ref().and_then(|json| json[key].as_str()).unwrap_or_default().to_owned();
        let (code, message) = (text("error_code"), text("message"));
        let message: String = message.chars().take(LONGEST_REASON).collect();
        let said = match (message.is_empty(), code.is_empty()) {
            (false, _) => format!("{what}: status {status}, {message:?}"),
            (true, false) => format!("{what}: status {status}, {code}"),
            (true, true) => format!("{what}: status {status}"),
        };
        let said = self.plain(&said);
        let refused = |remedy: &str| Err(Failure::Refused { reason: format!("{said}{remedy}"), code, status });
        match status {
            300..=399 => {
                refused(&format!("; it redirects to {}; name that address", header("location").unwrap_or("?")))
            }
            401 if self.authorization.is_none() => refused(
                "; it wants to know who we are: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or \
                 MLFLOW_TRACKING_TOKEN",
            ),
            401 => refused(
                "; it does not accept what MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN, say",
            ),
            403 => refused("; this user may not do it there; ask for the permission to edit the experiment"),
            404 if is_html || json.is_none() => refused("; is it an MLflow server?"),
            413 => Err(Failure::TooLarge(said)),
            408 | 425 | 429 | 500.. => {
                let pause = header("retry-after").and_then(|seconds| seconds.trim().parse().ok());
                let pause = pause.map(|seconds| Duration::from_secs(seconds).min(LONGEST_PAUSE));
                Err(Failure::Passing { reason: said, pause, untouched: status == 429 })
            }
            _ => refused(""),
        }
    }

    /// Why there is no answer.
    fn failure(&self, what: &str, error: &ureq::Error) -> Failure {
        let said = self.plain(&format!("{what}: {error}"));
        let is_tls = matches!(error, ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Pem(_))
            // What is not TLS at all comes as data that is not valid.
            || matches!(error, ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::InvalidData)
            || said.contains("certificate");
        match error {
            _ if is_tls => Failure::refused(format!(
                "{said}; the connection is not safe: check that it is https, and set MLFLOW_TRACKING_SERVER_CERT_PATH to \
                 the certificates (PEM) of who signed the server's"
            )),
            ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
                Failure::refused(format!("{said}; check the address, and HTTPS_PROXY where it is set"))
            }
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                Failure::Passing { reason: said, pause: None, untouched: true }
            }
            ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused => {
                Failure::Passing { reason: said, pause: None, untouched: true }
            }
            _ => passing(said),
        }
    }

    /// A text from outside, which might repeat what was sent.
    fn plain(&self, text: &str) -> String {
        match &self.secret {
            Some(secret) => text.replace(secret.as_str(), "<secret>"),
            None => text.to_owned(),
        }
    }
}

fn passing(reason: String) -> Failure {
    Failure::Passing { reason, pause: None, untouched: false }
}

/// The certificates of a PEM file.
fn roots(path: &Path) -> Result<RootCerts, TrainError> {
    let pem = fs::read(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
    let certificates = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let certificates: Vec<_> = certificates.collect();
    if certificates.is_empty() {
        return Err(TrainError::Run(format!(
            "MLFLOW_TRACKING_SERVER_CERT_PATH: {} has no certificate, expected a PEM file with those that are trusted",
            path.display()
        )));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
