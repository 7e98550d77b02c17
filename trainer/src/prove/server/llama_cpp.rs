//! llama.cpp's server: `/completion` with `n_probs`, an adapter's scale in each request.
//!
//! Source: llama.cpp `tools/server/README.md`.

use serde_json::{Value, json};

use super::http::Http;
use super::{Adapter, Names, ServerInfo, choose};
use crate::error::TrainError;
use crate::prove::{Export, TOP};

/// What it serves, and the number of the adapter.
pub(super) fn look(
    http: &Http,
    props: &Value,
    export: &Export,
    vocab_size: usize,
    names: &Names,
) -> Result<(ServerInfo, Option<u64>), TrainError> {
    let text = |key: &str| props.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let model = text("model_path").unwrap_or_else(|| "unnamed".to_owned());
    let models = http.get("/v1/models")?.json();
    let entries = models.as_ref().and_then(|models| models.get("data")?.get(0)?.get("meta")?.get("n_vocab")?.as_u64());
    if let Some(entries) = entries.filter(|entries| *entries != vocab_size as u64) {
        return Err(http.fail(format!(
            "serves {model} with a vocabulary of {entries} tokens, the base has {vocab_size}; it serves another model"
        )));
    }
    let mut info = ServerInfo { kind: "llama.cpp".to_owned(), version: text("build_info"), model, adapter: None };
    if !export.form().is_adapter() {
        if names.model.is_none() && file_name(&info.model) != export.name() {
            return Err(http.fail(format!(
                "serves {}, not {}; if that is the same file, say so with --served-model {}",
                info.model,
                export.name(),
                file_name(&info.model)
            )));
        }
        return Ok((info, None));
    }
    let loaded = http.get("/lora-adapters")?.json();
    let loaded: Vec<(String, u64)> =
        loaded.as_ref().and_then(Value::as_array).into_iter().flatten().filter_map(adapter).collect();
    let own = export.name();
    let what = "adapter";
    let (path, id) =
        choose(http, what, "--served-adapter", &loaded, names.adapter.as_deref(), |path| file_name(path) == own)?;
    if names.adapter.is_none() && file_name(path) != own {
        return Err(http.fail(format!(
            "has the adapter {path}, not {own}; if that is the same, say so with --served-adapter {path}"
        )));
    }
    info.adapter = Some(path.clone());
    Ok((info, Some(*id)))
}

fn adapter(entry: &Value) -> Option<(String, u64)> {
    Some((entry.get("path")?.as_str()?.to_owned(), entry.get("id")?.as_u64()?))
}

/// The last part of a path, of this system's form or another's.
fn file_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}

pub(super) fn tokenize(text: &str) -> Value {
    json!({ "content": text, "add_special": true, "parse_special": true })
}

pub(super) fn next(
    http: &Http,
    prompt: &[u32],
    adapter: Adapter,
    id: Option<u64>,
) -> Result<Vec<(usize, f64)>, TrainError> {
    const PATH: &str = "/completion";
    let scale = if adapter == Adapter::On { 1.0 } else { 0.0 };
    // Adapters that the list does not name are off; what was computed with another scale must not be used again.
    let scales: Vec<Value> = id.iter().map(|id| json!({ "id": id, "scale": scale })).collect();
    // Of a token that ends the text the server says nothing, so it must go on; the probabilities are those before that.
    let body = json!({
        "prompt": prompt, "n_predict": 1, "n_probs": TOP, "temperature": 0.0, "ignore_eos": true,
        "cache_prompt": false, "lora": scales,
    });
    let answer = http.post_json(PATH, &body)?;
    let list = answer.get("completion_probabilities").and_then(|list| list.get(0)?.get("top_logprobs")?.as_array());
    let entry =
        |entry: &Value| Some((usize::try_from(entry.get("id")?.as_u64()?).ok()?, entry.get("logprob")?.as_f64()?));
    let tokens: Option<Vec<(usize, f64)>> = list.and_then(|list| list.iter().map(entry).collect());
    tokens.filter(|tokens| !tokens.is_empty()).ok_or_else(|| {
        http.fail(format!(
            "gives no log-probabilities: its answer to POST {PATH} has no list of id and logprob at \
             completion_probabilities[0].top_logprobs"
        ))
    })
}
