//! A running server, asked through its own HTTP interface: **the one place to add another dialect**.
//!
//! Two are known: llama.cpp's, whose adapters have a scale in each request, and that of `OpenAI`'s completions as vLLM
//! speaks it, where an adapter is a model of its own name.

mod http;
mod llama_cpp;
mod openai;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::http::Http;
use super::{Adapter, Export};
use crate::error::TrainError;

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// `llama.cpp` or `openai`; a server may name itself.
    pub kind: String,
    /// Its version, if it says.
    pub version: Option<String>,
    /// The model that it serves, as it calls it.
    pub model: String,
    /// The adapter.
    pub adapter: Option<String>,
}

/// The names under which the server knows what is proved, where it knows several.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Of the base, or of the merged model.
    pub model: Option<String>,
    /// Of the adapter.
    pub adapter: Option<String>,
}

/// How to ask.
#[derive(Debug)]
enum Dialect {
    LlamaCpp {
        /// The number of the adapter in requests.
        adapter: Option<u64>,
    },
    OpenAi,
}

/// A server that answers.
#[derive(Debug)]
pub struct Server {
    http: Http,
    dialect: Dialect,
    info: ServerInfo,
}

impl Server {
    /// Finds out what speaks at an address, and that it serves the export.
    ///
    /// # Errors
    /// [`TrainError::Server`] when nothing answers there, when it is no server that gives log-probabilities, or when it
    /// serves something else.
    pub fn connect(address: &str, export: &Export, vocab_size: usize, names: &Names) -> Result<Self, TrainError> {
        let http = Http::new(address)?;
        let props = http.get("/props")?;
        if let Some(props) = props.json().filter(|props| props.get("default_generation_settings").is_some()) {
            let (info, adapter) = llama_cpp::look(&http, &props, export, vocab_size, names)?;
            return Ok(Self { http, dialect: Dialect::LlamaCpp { adapter }, info });
        }
        let models = http.get("/v1/models")?;
        let Some(list) = models.json().and_then(|models| Some(models.get("data")?.as_array()?.clone())) else {
            return Err(http.fail(format!(
                "is neither llama.cpp's server nor one with OpenAI's completions: it answers {} to GET /props and {} to \
                 GET /v1/models",
                props.status, models.status
            )));
        };
        let info = openai::look(&http, &list, export, names)?;
        Ok(Self { http, dialect: Dialect::OpenAi, info })
    }

    /// What it is.
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// The token ids of a text as a document; `None` when the server does not tell.
    pub(super) fn tokens(&self, text: &str) -> Result<Option<Vec<u32>>, TrainError> {
        let body = match self.dialect {
            Dialect::LlamaCpp { .. } => llama_cpp::tokenize(text),
            Dialect::OpenAi => openai::tokenize(text, &self.info.model),
        };
        let answer = self.http.post("/tokenize", &body)?;
        let tokens = answer.json().and_then(|answer| answer.get("tokens")?.as_array().cloned());
        let id = |token: &Value| u32::try_from(token.as_u64()?).ok();
        Ok(tokens.and_then(|tokens| tokens.iter().map(id).collect()))
    }

    /// The most probable next tokens with their log-probabilities, best first, at least one.
    pub(super) fn next(
        &self,
        prompt: &[u32],
        adapter: Adapter,
        vocab_size: usize,
    ) -> Result<Vec<(usize, f64)>, TrainError> {
        let mut tokens = match &self.dialect {
            Dialect::LlamaCpp { adapter: id } => llama_cpp::next(&self.http, prompt, adapter, *id)?,
            Dialect::OpenAi => openai::next(&self.http, prompt, adapter, &self.info)?,
        };
        tokens.sort_by(|a, b| b.1.total_cmp(&a.1));
        if let Some((id, log_prob)) = tokens.iter().find(|(_, log_prob)| !(*log_prob <= 1e-6 && log_prob.is_finite())) {
            return Err(self.fail(format!("gives token {id} the log-probability {log_prob}, expected 0 or less")));
        }
        if let Some((id, _)) = tokens.iter().find(|(id, _)| *id >= vocab_size) {
            return Err(self.fail(format!(
                "answers with token {id}, but the base's vocabulary has {vocab_size}; it serves another model"
            )));
        }
        Ok(tokens)
    }

    pub(super) fn fail(&self, reason: String) -> TrainError {
        self.http.fail(reason)
    }
}

/// The one of several names that is meant: the one the user gave, the one that fits, or the only one.
fn choose<'a, T>(
    http: &Http,
    what: &str,
    flag: &str,
    list: &'a [(String, T)],
    asked: Option<&str>,
    fits: impl Fn(&str) -> bool,
) -> Result<&'a (String, T), TrainError> {
    let known = || list.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    if let Some(asked) = asked {
        let found = list.iter().find(|(name, _)| name == asked);
        return found.ok_or_else(|| http.fail(format!("has no {what} named {asked:?}, it has {}", known())));
    }
    match list {
        [] => Err(http.fail(format!("has no {what} loaded"))),
        [only] => Ok(only),
        several => {
            let mut fitting = several.iter().filter(|(name, _)| fits(name));
            match (fitting.next(), fitting.next()) {
                (Some(one), None) => Ok(one),
                _ => Err(http.fail(format!("has several of the kind {what}: {}; name one with {flag}", known()))),
            }
        }
    }
}
