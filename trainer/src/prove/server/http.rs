//! Requests and answers in JSON, with errors that name the server.

use std::time::Duration;

use serde_json::Value;

use crate::error::TrainError;

/// The longest that one answer may take; a large model on a slow machine reads a prompt for a while.
const TIMEOUT: Duration = Duration::from_mins(5);

/// The longest that a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A server's address, and the way there.
#[derive(Debug)]
pub(super) struct Http {
    address: String,
    agent: ureq::Agent,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    /// HTTP's.
    pub(super) status: u16,
    text: String,
}

impl Http {
    pub(super) fn new(address: &str) -> Result<Self, TrainError> {
        let trimmed = address.trim_end_matches('/');
        let trimmed = trimmed.strip_suffix("/v1").unwrap_or(trimmed);
        if !["http://", "https://"]
            .iter()
            .any(|scheme| trimmed.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
        {
            return Err(TrainError::Server {
                address: address.to_owned(),
                reason: "expected an address such as http://127.0.0.1:8080".to_owned(),
            });
        }
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .http_status_as_error(false)
            // While the trainer computes, a server may close a connection that is kept for the next request.
            .max_idle_connections(0)
            .max_idle_connections_per_host(0)
            .build();
        Ok(Self { address: trimmed.to_owned(), agent: config.into() })
    }

    pub(super) fn get(&self, path: &str) -> Result<Answer, TrainError> {
        let answer = self.agent.get(format!("{}{path}", self.address)).call();
        self.read(answer)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Answer, TrainError> {
        let request = self.agent.post(format!("{}{path}", self.address)).header("content-type", "application/json");
        self.read(request.send(body.to_string()))
    }

    /// The same, where everything but JSON and success is an error.
    pub(super) fn post_json(&self, path: &str, body: &Value) -> Result<Value, TrainError> {
        let answer = self.post(path, body)?;
        match answer.json() {
            Some(value) => Ok(value),
            None => Err(self.fail(format!("answers {} to POST {path}: {}", answer.status, answer.excerpt()))),
        }
    }

    fn read(&self, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Answer, TrainError> {
        let read = answer.and_then(|mut answer| {
            Ok(Answer { status: answer.status().as_u16(), text: answer.body_mut().read_to_string()? })
        });
        read.map_err(|error| self.fail(format!("cannot be reached: {error}; start it, or correct --server")))
    }

    pub(super) fn fail(&self, reason: String) -> TrainError {
        TrainError::Server { address: self.address.clone(), reason }
    }
}

impl Answer {
    /// The value, where the request succeeded and the answer is JSON.
    pub(super) fn json(&self) -> Option<Value> {
        if self.status == 200 { serde_json::from_str(&self.text).ok() } else { None }
    }

    /// The beginning of the answer, for a message.
    fn excerpt(&self) -> String {
        let line: String = self.text.split_whitespace().collect::<Vec<_>>().join(" ");
        match line.char_indices().nth(200) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None if line.is_empty() => "nothing".to_owned(),
            None => line,
        }
    }
}
