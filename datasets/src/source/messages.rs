//! Records that are lists of messages already: the OpenAI form and the ShareGPT form.

use serde_json::{Map, Value};

use super::record::{Record, keys, shorten};
use crate::conversation::{Message, Role};
use crate::error::{DataError, RecordError, closest, did_you_mean};

/// The names of the roles in the OpenAI form.
const ROLES: &[(&str, Role)] =
    &[("system", Role::System), ("user", Role::User), ("assistant", Role::Assistant), ("tool", Role::Tool)];

/// The names that ShareGPT files use for the roles.
const SPEAKERS: &[(&str, Role)] = &[
    ("human", Role::User),
    ("gpt", Role::Assistant),
    ("system", Role::System),
    ("tool", Role::Tool),
    ("user", Role::User),
    ("assistant", Role::Assistant),
    ("chatgpt", Role::Assistant),
    ("model", Role::Assistant),
    ("observation", Role::Tool),
];

/// The keys and names that a kind of message uses.
struct Dialect {
    role: &'static [&'static str],
    content: &'static [&'static str],
    roles: &'static [(&'static str, Role)],
}

const OPENAI: Dialect = Dialect { role: &["role"], content: &["content"], roles: ROLES };
/// Some files keep the list's name `conversations` and write `role` and `content` inside.
const SHAREGPT: Dialect = Dialect { role: &["from", "role"], content: &["value", "content"], roles: SPEAKERS };

/// The messages in the list under `key`.
pub(super) fn messages(record: &Record<'_>, key: &'static str) -> Result<Vec<Message>, DataError> {
    list(record, key, &OPENAI)
}

/// The messages of a ShareGPT record; a `system` beside the list becomes the first message.
pub(super) fn sharegpt(record: &Record<'_>) -> Result<Vec<Message>, DataError> {
    let mut messages = list(record, "conversations", &SHAREGPT)?;
    let system = record.text_or_empty("system")?;
    if !system.is_empty() && messages.first().is_none_or(|first| first.role != Role::System) {
        messages.insert(0, Message { role: Role::System, content: system.to_owned() });
    }
    Ok(messages)
}

fn list(record: &Record<'_>, key: &'static str, dialect: &Dialect) -> Result<Vec<Message>, DataError> {
    let value = record.required(key)?;
    let items = value.as_array().ok_or_else(|| record.wrong_type(format!("{key:?}"), value, "a list of messages"))?;
    items.iter().enumerate().map(|(i, item)| message(record, i + 1, item, dialect)).collect()
}

/// Reads message `number` of a record.
fn message(record: &Record<'_>, number: usize, item: &Value, dialect: &Dialect) -> Result<Message, DataError> {
    let fields = item
        .as_object()
        .ok_or_else(|| record.wrong_type(format!("message {number}"), item, "an object with role and content"))?;
    let has_calls = fields.get("tool_calls").is_some_and(|calls| match calls {
        Value::Null => false,
        Value::Array(calls) => !calls.is_empty(),
        _ => true,
    });
    if has_calls {
        return Err(DataError::Record(RecordError::ToolCalls { origin: record.origin.clone(), message: number }));
    }
    let role = first(record, number, fields, dialect.role)?;
    let role = role
        .as_str()
        .ok_or_else(|| record.wrong_type(format!("the {} of message {number}", dialect.role[0]), role, "a text"))?;
    let role = parse_role(record, number, role, dialect.roles)?;
    let content = text(record, number, first(record, number, fields, dialect.content)?)?;
    Ok(Message { role, content })
}

/// The value of the first of `names` that the message has.
fn first<'a>(
    record: &Record<'_>,
    number: usize,
    fields: &'a Map<String, Value>,
    names: &'static [&'static str],
) -> Result<&'a Value, DataError> {
    let found = names.iter().find_map(|name| fields.get(*name).filter(|value| !value.is_null()));
    found.ok_or_else(|| {
        DataError::Record(RecordError::MessageKey {
            origin: record.origin.clone(),
            message: number,
            key: names[0],
            keys: keys(fields),
        })
    })
}

fn parse_role(
    record: &Record<'_>,
    message: usize,
    role: &str,
    roles: &[(&'static str, Role)],
) -> Result<Role, DataError> {
    if let Some((_, known)) = roles.iter().find(|(name, _)| *name == role) {
        return Ok(*known);
    }
    let names = || roles.iter().map(|(name, _)| *name);
    let hint = if SPEAKERS.iter().any(|(name, _)| *name == role) {
        "; these are the names of the format sharegpt".to_owned()
    } else {
        did_you_mean(closest(role, names()))
    };
    Err(DataError::Record(RecordError::UnknownRole {
        origin: record.origin.clone(),
        message,
        role: shorten(role),
        expected: names().collect::<Vec<_>>().join(", "),
        hint,
    }))
}

/// The text of a content: a string, or a list of text parts, which are joined as chat templates do.
fn text(record: &Record<'_>, number: usize, content: &Value) -> Result<String, DataError> {
    let parts = match content {
        Value::String(text) => return Ok(text.clone()),
        Value::Array(parts) => parts,
        other => {
            let what = format!("the content of message {number}");
            return Err(record.wrong_type(what, other, "a text or a list of text parts"));
        }
    };
    let mut text = String::new();
    for (i, part) in parts.iter().enumerate() {
        let is_text = part.get("type").is_none_or(|kind| kind == "text");
        match part.get("text").and_then(Value::as_str) {
            Some(piece) if is_text => text.push_str(piece),
            _ => {
                let what = format!("part {} of the content of message {number}", i + 1);
                let kind = part.get("type").unwrap_or(part);
                return Err(record.wrong_type(what, kind, "{\"type\": \"text\", \"text\": …}, only text is read"));
            }
        }
    }
    Ok(text)
}

/// The value of `key` as messages: a text becomes one message of `role`, a list is read as messages.
pub(super) fn text_or_messages(record: &Record<'_>, key: &'static str, role: Role) -> Result<Vec<Message>, DataError> {
    match record.required(key)? {
        Value::String(text) => Ok(vec![Message { role, content: text.clone() }]),
        Value::Array(_) => messages(record, key),
        other => Err(record.wrong_type(format!("{key:?}"), other, "a text or a list of messages")),
    }
}
