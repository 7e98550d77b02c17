//! `OpenAI`'s completions as vLLM speaks them: a prompt of token ids, log-probabilities by token id, an adapter as a
//! model of its own.
//!
//! Source: vLLM `vllm/entrypoints/openai`, `return_tokens_as_token_ids`.

use serde_json::{Value, json};

use super::http::Http;
use super::{Adapter, Names, ServerInfo, choose};
use crate::error::TrainError;
use crate::prove::{Export, TOP};

/// What it serves. A model with a `parent` is an adapter.
pub(super) fn look(http: &Http, list: &[Value], export: &Export, names: &Names) -> Result<ServerInfo, TrainError> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(ToOwned::to_owned);
    let (mut models, mut adapters) = (Vec::new(), Vec::new());
    for entry in list {
        let Some(id) = text(entry, "id") else { continue };
        let is_adapter = text(entry, "parent").is_some();
        if is_adapter { &mut adapters } else { &mut models }.push((id, ()));
    }
    // A server that tells no parents lists adapters among its models.
    if let Some(name) = names.adapter.as_ref().filter(|name| !adapters.iter().any(|(id, ())| id == *name))
        && let Some(index) = models.iter().position(|(id, ())| id == name)
    {
        adapters.push(models.remove(index));
    }
    let own = export.name();
    let (model, ()) = choose(http, "model", "--served-model", &models, names.model.as_deref(), |id| id == own)?;
    let adapter = if export.form().is_adapter() {
        let asked = names.adapter.as_deref();
        Some(choose(http, "adapter", "--served-adapter", &adapters, asked, |id| id == own)?.0.clone())
    } else {
        None
    };
    let version = http.get("/version")?.json().and_then(|answer| text(&answer, "version"));
    let owner = list.first().and_then(|entry| text(entry, "owned_by"));
    Ok(ServerInfo { kind: owner.unwrap_or_else(|| "openai".to_owned()), version, model: model.clone(), adapter })
}

pub(super) fn tokenize(text: &str, model: &str) -> Value {
    json!({ "model": model, "prompt": text, "add_special_tokens": true })
}

pub(super) fn next(
    http: &Http,
    prompt: &[u32],
    adapter: Adapter,
    info: &ServerInfo,
) -> Result<Vec<(usize, f64)>, TrainError> {
    const PATH: &str = "/v1/completions";
    let model = match (adapter, &info.adapter) {
        (Adapter::On, Some(name)) => name,
        _ => &info.model,
    };
    let body = json!({
        "model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0.0, "logprobs": TOP,
        "return_tokens_as_token_ids": true,
    });
    let answer = http.post_json(PATH, &body)?;
    let list = answer
        .get("choices")
        .and_then(|choices| choices.get(0)?.get("logprobs")?.get("top_logprobs")?.get(0)?.as_object())
        .filter(|list| !list.is_empty());
    let Some(list) = list else {
        return Err(http.fail(format!(
            "gives no log-probabilities: its answer to POST {PATH} has none at choices[0].logprobs.top_logprobs[0]; \
             start it so that it gives {TOP} (vLLM: --max-logprobs {TOP})"
        )));
    };
    let token = |(token, log_prob): (&String, &Value)| {
        Some((token.strip_prefix("token_id:")?.parse().ok()?, log_prob.as_f64()?))
    };
    let tokens: Option<Vec<(usize, f64)>> = list.iter().map(token).collect();
    tokens.ok_or_else(|| {
        let first = list.keys().next().map_or("", String::as_str);
        http.fail(format!(
            "names tokens by their text, such as {first:?}, expected token_id:N; it must understand \
             return_tokens_as_token_ids, as vLLM does"
        ))
    })
}
