//! A teacher behind an OpenAI-compatible interface: vLLM, llama.cpp's server, Ollama, or a hosted one.
//!
//! Source: OpenAI's API reference, `/v1/chat/completions` and `/v1/completions`. What passes (a busy server, a broken
//! connection, half an answer) is tried again; what does not (a refused key, a model that is not there) is said at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

use super::pace::{Pace, pause};
use super::{Completion, Failure, Hands, Identity, Prompt, Request, Teacher};
use crate::synth::config::EndpointConfig;

/// The wait before the second attempt.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest part of an answer that a message repeats, in characters.
const LONGEST_EXCERPT: usize = 160;

/// A server, and how it is asked.
#[derive(Debug)]
pub struct Endpoint {
    identity: Identity,
    /// The address without `/v1`.
    address: String,
    key: Option<String>,
    /// The variable that the key is from, for messages.
    key_variable: Option<String>,
    threads: usize,
    attempts: u32,
    pace: Pace,
    agent: Agent,
    /// Attempts made after a first one, for reports.
    repeated: AtomicU64,
}

/// Why an attempt failed.
enum Attempt {
    /// Another one may succeed.
    Again { reason: String, asked: Option<Duration>, is_gone: bool },
    /// None will.
    Failed(Failure),
}

impl Endpoint {
    /// As a recipe describes it; `key` is what the variable of `api_key_env` holds.
    pub fn new(config: &EndpointConfig, key: Option<String>) -> Self {
        let address = config.url.trim_end_matches('/');
        let address = address.strip_suffix("/v1").unwrap_or(address).to_owned();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(Duration::from_secs_f64(config.timeout)))
            .build();
        Self {
            identity: Identity { model: config.model.clone(), revision: config.revision.clone(), at: address.clone() },
            address,
            key,
            key_variable: config.api_key_env.clone(),
            threads: config.concurrency,
            attempts: config.retries + 1,
            pace: Pace::new(config.requests_per_minute),
            agent: agent.into(),
            repeated: AtomicU64::new(0),
        }
    }

    /// How often a request was made again.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    fn answer(&self, request: &Request) -> Result<Completion, Failure> {
        let mut attempt = 1;
        loop {
            self.pace.wait();
            let (reason, asked, is_gone) = match self.attempt(request) {
                Ok(completion) => return Ok(completion),
                Err(Attempt::Failed(failure)) => return Err(failure),
                Err(Attempt::Again { reason, asked, is_gone }) => (self.without_key(&reason), asked, is_gone),
            };
            if attempt >= self.attempts {
                let times = if attempt == 1 { "once".to_owned() } else { format!("{attempt} times") };
                return Err(if is_gone {
                    Failure::Teacher(format!(
                        "{reason}, {times}; start it, or correct teacher.endpoint.url, and run again"
                    ))
                } else {
                    Failure::Request(format!("{reason}, {times}"))
                });
            }
            tracing::debug!(attempt, reason, "the teacher is asked again");
            self.repeated.fetch_add(1, Ordering::Relaxed);
            // Those who failed together do not come back together.
            let shift = (request.sampling.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f64 / f64::from(1 << 24);
            sleep(pause(FIRST_PAUSE, attempt, asked, shift));
            attempt += 1;
        }
    }

    fn attempt(&self, request: &Request) -> Result<Completion, Attempt> {
        let (path, body) = self.body(request);
        let mut post = self.agent.post(format!("{}{path}", self.address)).header("content-type", "application/json");
        if let Some(key) = &self.key {
            post = post.header("authorization", format!("Bearer {key}"));
        }
        let gone = |error: &ureq::Error| {
            matches!(error, ureq::Error::Io(_) | ureq::Error::HostNotFound | ureq::Error::ConnectionFailed)
        };
        let broken =
            |error: ureq::Error| Attempt::Again { is_gone: gone(&error), reason: error.to_string(), asked: None };
        let mut answer = match post.send(body.to_string()) {
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::Tls(_))) => {
                return Err(Attempt::Failed(Failure::Teacher(format!("{error}; correct teacher.endpoint.url"))));
            }
            other => other.map_err(broken)?,
        };
        let status = answer.status().as_u16();
        let asked = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let asked = asked.map(Duration::from_secs);
        let text = answer.body_mut().read_to_string().map_err(broken)?;
        if status != 200 {
            return Err(self.refusal(status, &text, asked));
        }
        completion(&text, request).map_err(|reason| Attempt::Again { reason, asked: None, is_gone: false })
    }

    fn body(&self, request: &Request) -> (&'static str, Value) {
        let sampling = &request.sampling;
        let mut body = json!({
            "model": self.identity.model,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": sampling.seed,
            "stream": false,
        });
        if !sampling.stop.is_empty() {
            body["stop"] = json!(sampling.stop);
        }
        match &request.prompt {
            Prompt::Chat(messages) => {
                body["messages"] = json!(messages);
                ("/v1/chat/completions", body)
            }
            Prompt::Text(text) => {
                body["prompt"] = json!(text);
                ("/v1/completions", body)
            }
        }
    }

    /// What a status other than 200 means.
    fn refusal(&self, status: u16, text: &str, asked: Option<Duration>) -> Attempt {
        let said = self.without_key(&said(text));
        let teacher = |remedy: String| Attempt::Failed(Failure::Teacher(format!("status {status}, {said}; {remedy}")));
        match status {
            401 | 403 => teacher(match (&self.key_variable, &self.key) {
                (Some(variable), Some(_)) => format!("the key in {variable} is refused"),
                (Some(variable), None) => format!("{variable} is not set; put the key there"),
                (None, _) => "it wants a key: name the variable that has it in teacher.api_key_env".to_owned(),
            }),
            404 => teacher(format!("correct teacher.endpoint.url, or teacher.model, {}", self.identity.model)),
            402 => teacher("the account is exhausted; nothing that was answered is lost".to_owned()),
            408 | 425 | 429 | 500.. => {
                Attempt::Again { reason: format!("status {status}, {said}"), asked, is_gone: false }
            }
            _ => Attempt::Failed(Failure::Request(format!("status {status}, {said}"))),
        }
    }

    /// A text from outside, which might repeat what was sent.
    fn without_key(&self, text: &str) -> String {
        match &self.key {
            Some(key) if !key.is_empty() => text.replace(key, "<key>"),
            _ => text.to_owned(),
        }
    }
}

impl Teacher for Endpoint {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn hands(&self) -> Hands {
        Hands { threads: self.threads, batch: 1, first_alone: true }
    }

    fn complete(&self, requests: &[&Request]) -> Vec<Result<Completion, Failure>> {
        requests.iter().map(|request| self.answer(request)).collect()
    }
}

/// The completion in an answer's text; what is wrong with it where there is none.
fn completion(text: &str, request: &Request) -> Result<Completion, String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("an answer that is no JSON ({error}), {}", said(text)))?;
    let choice = value.get("choices").and_then(|choices| choices.get(0));
    let content = choice.and_then(|choice| match &request.prompt {
        Prompt::Chat(_) => choice.get("message")?.get("content"),
        Prompt::Text(_) => choice.get("text"),
    });
    let content = match content {
        Some(Value::String(content)) => content.clone(),
        // What some servers send where nothing was written.
        Some(Value::Null) => String::new(),
        _ => return Err(format!("an answer without choices[0], {}", said(text))),
    };
    let finished = choice.and_then(|choice| choice.get("finish_reason")).and_then(Value::as_str) != Some("length");
    let count = |key: &str| value.get("usage").and_then(|usage| usage.get(key)).and_then(Value::as_u64);
    // A server that does not count: four characters a token is usual.
    let estimate = |characters: usize| characters.div_ceil(4) as u64;
    Ok(Completion {
        finished,
        prompt_tokens: count("prompt_tokens").unwrap_or_else(|| estimate(request.prompt.characters())),
        completion_tokens: count("completion_tokens").unwrap_or_else(|| estimate(content.chars().count())),
        text: content,
    })
}

/// What a server says, for a message: the reason in its JSON, or the beginning of whatever it is.
fn said(text: &str) -> String {
    let json: Option<Value> = serde_json::from_str(text).ok();
    let reason = json.as_ref().and_then(|json| {
        let error = json.get("error").unwrap_or(json);
        error.get("message").unwrap_or(error).as_str().map(str::to_owned)
    });
    let reason = reason.unwrap_or_else(|| text.split_whitespace().collect::<Vec<_>>().join(" "));
    let cut: String = reason.chars().take(LONGEST_EXCERPT).collect();
    let dots = if cut.len() < reason.len() { "…" } else { "" };
    if cut.is_empty() { "an empty answer".to_owned() } else { format!("{:?}", format!("{cut}{dots}")) }
}
