//! Records of one task and its solution: the Alpaca form and the prompt-completion form.

use serde_json::Value;

use super::messages::text_or_messages;
use super::prompt::render;
use super::record::Record;
use crate::conversation::{Message, Role};
use crate::error::DataError;

/// The default user text of an Alpaca record; rendering removes the gap that an empty input leaves.
const ALPACA_PROMPT: &str = "{instruction}\n\n{input}";

/// The messages of an Alpaca record: `system` and `history` (pairs of texts) come first when present.
pub(super) fn alpaca(record: &Record<'_>, prompt: Option<&str>) -> Result<Vec<Message>, DataError> {
    let mut messages = Vec::with_capacity(2);
    let mut push = |role, content: &str| messages.push(Message { role, content: content.to_owned() });
    let system = record.text_or_empty("system")?;
    if !system.is_empty() {
        push(Role::System, system);
    }
    for (asked, answered) in history(record)? {
        push(Role::User, asked);
        push(Role::Assistant, answered);
    }
    let (instruction, input) = (record.text("instruction")?, record.text_or_empty("input")?);
    let value = |name: &str| if name == "input" { input } else { instruction };
    push(Role::User, &render(prompt.unwrap_or(ALPACA_PROMPT), value));
    push(Role::Assistant, record.text("output")?);
    Ok(messages)
}

/// The earlier turns of an Alpaca record, each a pair of what was asked and what was answered.
fn history<'a>(record: &Record<'a>) -> Result<Vec<(&'a str, &'a str)>, DataError> {
    let Some(value) = record.get("history") else {
        return Ok(Vec::new());
    };
    let pair = |turn: &'a Value| match turn.as_array()?.as_slice() {
        [asked, answered] => Some((asked.as_str()?, answered.as_str()?)),
        _ => None,
    };
    let pairs = value.as_array().and_then(|turns| turns.iter().map(pair).collect());
    pairs.ok_or_else(|| record.wrong_type("\"history\"", value, "a list of pairs of texts, [asked, answered]"))
}

/// The messages of a prompt-completion record, each side a text or a list of messages.
pub(super) fn prompt_completion(record: &Record<'_>) -> Result<Vec<Message>, DataError> {
    let mut messages = text_or_messages(record, "prompt", Role::User)?;
    messages.extend(text_or_messages(record, "completion", Role::Assistant)?);
    Ok(messages)
}
