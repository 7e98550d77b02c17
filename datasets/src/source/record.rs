//! One JSON record under inspection: typed access to its keys, with errors that say what stands there.

use serde_json::{Map, Value};

use super::format::Format;
use crate::conversation::Origin;
use crate::error::{DataError, RecordError, closest};

/// A record of a file whose format is known.
pub(super) struct Record<'a> {
    pub(super) fields: &'a Map<String, Value>,
    pub(super) origin: &'a Origin,
    pub(super) format: Format,
}

impl<'a> Record<'a> {
    /// The value of `key`. A null counts as absent: Parquet and many exporters write one for each missing key.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    /// The value of `key`, which must be there.
    pub(super) fn required(&self, key: &'static str) -> Result<&'a Value, DataError> {
        self.get(key).ok_or_else(|| {
            DataError::Record(RecordError::MissingKey {
                origin: self.origin.clone(),
                format: self.format,
                key,
                keys: keys(self.fields),
                hint: self.hint(key),
            })
        })
    }

    /// The text of `key`, which must be there.
    pub(super) fn text(&self, key: &'static str) -> Result<&'a str, DataError> {
        self.as_text(key, self.required(key)?)
    }

    /// The text of `key`, or an empty one.
    pub(super) fn text_or_empty(&self, key: &'static str) -> Result<&'a str, DataError> {
        self.get(key).map_or(Ok(""), |value| self.as_text(key, value))
    }

    fn as_text(&self, key: &'static str, value: &'a Value) -> Result<&'a str, DataError> {
        value.as_str().ok_or_else(|| self.wrong_type(format!("{key:?}"), value, "a text"))
    }

    /// The error for `what`, which holds `value` where `expected` should stand.
    pub(super) fn wrong_type(&self, what: impl Into<String>, value: &Value, expected: &'static str) -> DataError {
        wrong_type(self.origin, what, value, expected)
    }

    fn hint(&self, key: &str) -> String {
        if let Some(Value::Null) = self.fields.get(key) {
            return format!(" ({key:?} is null)");
        }
        let slip = closest(key, self.fields.keys().map(String::as_str));
        match (slip, super::format::detect(self.fields)) {
            (Some(slip), _) => format!("; rename {slip:?} to {key:?}"),
            (None, Some(found)) if found != self.format => {
                format!("; it looks like the format {found}: set format: {found}, or auto, and keep one format a file")
            }
            _ => String::new(),
        }
    }
}

/// The keys of a record, for messages.
pub(crate) fn keys(fields: &Map<String, Value>) -> String {
    const SHOWN: usize = 20;
    if fields.is_empty() {
        return "no keys".to_owned();
    }
    let names: Vec<_> = fields.keys().take(SHOWN).map(|key| shorten(key)).collect();
    let more = if fields.len() > SHOWN { ", …" } else { "" };
    format!("{}{more}", names.join(", "))
}

/// At most 60 characters of a text from a file, for messages.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// The error for `what`, which holds `value` where `expected` should stand.
pub(crate) fn wrong_type(origin: &Origin, what: impl Into<String>, value: &Value, expected: &'static str) -> DataError {
    let got = got(value);
    DataError::Record(RecordError::WrongType { origin: origin.clone(), what: what.into(), got, expected })
}

/// What a value is, with its article, for messages.
pub(crate) fn got(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("the boolean {value}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {:?}", shorten(text)),
        Value::Array(list) if list.is_empty() => "an empty list".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
    }
}
