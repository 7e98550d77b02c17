//! Probe items from JSON Lines: one object a line, UTF-8, blank lines skipped.
//!
//! This is the format of users' own probe files. Every object has `kind` and the keys of its kind:
//!
//! | `kind` | keys | asked |
//! |---|---|---|
//! | `mc` | `query`, `choices` (at least two), `gold` (index of the right choice, from 0) | which choice is the most probable after the query |
//! | `partial` | `contexts` (at least two), `continuation`, `gold` (index of the right context) | after which context the continuation is the most probable |
//! | `pair` | `good`, `bad` | which of two sentences is the more probable |
//! | `cloze` | `context`, `target` | whether the model writes the target next |
//! | `gen` | `prompt`, `answer` (a text, or a list of accepted texts), optional `compare`: `number` (default), `exact-match` or `f1` | an answer, which is compared |
//! | `ifeval` | `prompt`, `instruction_id_list`, `kwargs` (an object for each instruction, as in IFEval) | an answer, which is checked |
//! | `ppl` | `text` | bits per byte of a text |
//!
//! Choices, continuations and targets are written without the space that separates them from what comes before. A
//! `query` and the `context` of a cloze may be empty.
//!
//! Optional in all kinds: `id` (a text or a number, unique in the file; the number of the line by default), `task` (the
//! name under which scores are reported; the file's name without its ending by default) and `lang` (ISO 639-1). A null
//! counts as absent, and other keys are ignored.
//!
//! ```json
//! {"id": "capital-1", "task": "geography", "lang": "en", "kind": "mc", "query": "The capital of France is", "choices": ["Lyon.", "Paris."], "gold": 1}
//! {"kind": "gen", "prompt": "When was the harbour built?", "answer": ["in 1847", "1847"], "compare": "f1"}
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::instructions::Instruction;
use super::{Check, Compare, Generation, LogLikelihood, ProbeItem};
use crate::conversation::Origin;
use crate::error::{DataError, ProbeError, RecordError, closest, did_you_mean};
use crate::source::{BYTE_ORDER_MARK, got, keys, parse_line, shorten, wrong_type};

const KINDS: [&str; 7] = ["mc", "partial", "pair", "cloze", "gen", "ifeval", "ppl"];

const COMPARES: [(&str, Compare); 3] =
    [("number", Compare::Number), ("exact-match", Compare::ExactMatch), ("f1", Compare::F1)];

/// Reads the items of a file, in its order; at least one. `name` is what origins and errors call the file.
///
/// # Errors
/// A file that cannot be read or has no item, and the first line that is no item, with what is wrong with it.
pub fn read_items(file: &Path, name: &Path) -> Result<Vec<ProbeItem>, DataError> {
    let bytes = std::fs::read(file).map_err(|source| DataError::Read { path: name.to_owned(), source })?;
    parse_bytes(&bytes, name)
}

/// The items of a text in the same format, for files that are compiled into a program.
///
/// # Errors
/// As [`read_items`].
pub fn parse_items(text: &str, name: &Path) -> Result<Vec<ProbeItem>, DataError> {
    parse_bytes(text.as_bytes(), name)
}

fn parse_bytes(bytes: &[u8], name: &Path) -> Result<Vec<ProbeItem>, DataError> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(bytes);
    let path: Arc<Path> = name.into();
    let task = name.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut items: Vec<ProbeItem> = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for (i, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let origin = Origin { path: path.clone(), line: i + 1 };
        let value = parse_line(line, &origin).map_err(one_line)?;
        let item = item(&value, origin, &task)?;
        if let Some(first) = lines.insert(item.id.clone(), item.origin.line) {
            return Err(ProbeError::DuplicateId { origin: item.origin, id: shorten(&item.id), first }.into());
        }
        items.push(item);
    }
    if items.is_empty() {
        return Err(DataError::Empty { path: name.to_owned() });
    }
    Ok(items)
}

/// Names the remedy for an item that is spread over several lines: there is no other form of file here.
fn one_line(mut error: DataError) -> DataError {
    if let DataError::Record(RecordError::Json { remedy, .. }) = &mut error
        && !remedy.is_empty()
    {
        *remedy = ", an item must stand on one line";
    }
    error
}

/// The item in a JSON value; `task` is the one it belongs to when it does not say.
fn item(value: &Value, origin: Origin, task: &str) -> Result<ProbeItem, DataError> {
    let fields = value.as_object().ok_or_else(|| wrong_type(&origin, "the item", value, "an object"))?;
    let kind = kind(fields, &origin)?;
    let record = Record { fields, origin: &origin, kind };
    let question = match kind {
        "mc" => multiple_choice(&record)?.into(),
        "partial" => partial(&record)?.into(),
        "pair" => pair(&record)?.into(),
        "cloze" => LogLikelihood::Cloze { context: record.text("context")?, target: record.filled("target")? }.into(),
        "gen" => generation(&record)?.into(),
        "ifeval" => instructions(&record)?.into(),
        _ => LogLikelihood::Text { text: record.filled("text")? }.into(),
    };
    let id = match record.get("id") {
        None => origin.line.to_string(),
        Some(Value::Number(number)) => number.to_string(),
        Some(value) => record.as_filled("\"id\"", value, "a text or a number")?,
    };
    let task = record.optional("task")?.unwrap_or_else(|| task.to_owned());
    let lang = record.optional("lang")?;
    Ok(ProbeItem { id, task, lang, question, origin })
}

fn kind(fields: &Map<String, Value>, origin: &Origin) -> Result<&'static str, DataError> {
    match fields.get("kind").filter(|value| !value.is_null()) {
        Some(Value::String(text)) => match KINDS.into_iter().find(|kind| kind == text) {
            Some(kind) => Ok(kind),
            None => Err(unknown_name(origin, "kind", text, KINDS)),
        },
        Some(value) => Err(wrong_type(origin, "\"kind\"", value, "a text")),
        None => Err(ProbeError::NoKind {
            origin: origin.clone(),
            expected: KINDS.join(", "),
            keys: keys(fields),
            hint: rename("kind", fields),
        }
        .into()),
    }
}

fn multiple_choice(record: &Record<'_>) -> Result<LogLikelihood, DataError> {
    let query = record.text("query")?;
    let choices = record.choices("choices")?;
    let gold = record.gold(choices.len())?;
    Ok(LogLikelihood::MultipleChoice { query, choices, gold })
}

fn partial(record: &Record<'_>) -> Result<LogLikelihood, DataError> {
    let contexts = record.choices("contexts")?;
    let continuation = record.filled("continuation")?;
    let gold = record.gold(contexts.len())?;
    Ok(LogLikelihood::Partial { contexts, continuation, gold })
}

fn pair(record: &Record<'_>) -> Result<LogLikelihood, DataError> {
    let (good, bad) = (record.filled("good")?, record.filled("bad")?);
    if good == bad {
        return Err(ProbeError::SamePair { origin: record.origin.clone() }.into());
    }
    Ok(LogLikelihood::Pair { good, bad })
}

fn generation(record: &Record<'_>) -> Result<Generation, DataError> {
    const EXPECTED: &str = "a text or a list of texts";
    let prompt = record.filled("prompt")?;
    let answers = match record.get("answer") {
        None => Vec::new(),
        Some(Value::Array(list)) => record.filled_list("answer", list)?,
        Some(value) => vec![record.as_filled("\"answer\"", value, EXPECTED)?],
    };
    if answers.is_empty() {
        return Err(record.no_gold(format!("the key \"answer\", {EXPECTED}, at least one")));
    }
    let compare = match record.optional("compare")? {
        None => Compare::default(),
        Some(name) => COMPARES
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, compare)| compare)
            .ok_or_else(|| unknown_name(record.origin, "compare", &name, COMPARES.map(|(known, _)| known)))?,
    };
    Ok(Generation { prompt, check: Check::Answers { answers, compare } })
}

fn instructions(record: &Record<'_>) -> Result<Generation, DataError> {
    let prompt = record.filled("prompt")?;
    let none = || record.no_gold("the key \"instruction_id_list\", a list of instructions, at least one".to_owned());
    let ids = record.list("instruction_id_list", record.get("instruction_id_list").ok_or_else(none)?)?;
    if ids.is_empty() {
        return Err(none());
    }
    let ids = record.filled_list("instruction_id_list", ids)?;
    let kwargs = match record.get("kwargs") {
        Some(value) => record.list("kwargs", value)?,
        None => &[],
    };
    // Absent arguments are those of instructions that take none.
    if record.get("kwargs").is_some() && kwargs.len() != ids.len() {
        let (instructions, arguments) = (ids.len(), kwargs.len());
        return Err(ProbeError::KwargsCount { origin: record.origin.clone(), instructions, arguments }.into());
    }
    let nothing = Map::new();
    let mut instructions = Vec::with_capacity(ids.len());
    for (i, id) in ids.iter().enumerate() {
        let kwargs = match kwargs.get(i) {
            None | Some(Value::Null) => &nothing,
            Some(Value::Object(fields)) => fields,
            Some(value) => {
                return Err(wrong_type(record.origin, format!("entry {} of \"kwargs\"", i + 1), value, "an object"));
            }
        };
        instructions.push(Instruction::new(id, kwargs).map_err(|error| ProbeError::Instruction {
            origin: record.origin.clone(),
            number: i + 1,
            error,
        })?);
    }
    Ok(Generation { prompt, check: Check::Instructions(instructions) })
}

/// An item under inspection, whose kind is known.
struct Record<'a> {
    fields: &'a Map<String, Value>,
    origin: &'a Origin,
    kind: &'static str,
}

impl<'a> Record<'a> {
    /// The value of `key`; a null counts as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    fn required(&self, key: &'static str) -> Result<&'a Value, DataError> {
        self.get(key).ok_or_else(|| {
            DataError::Probe(ProbeError::MissingKey {
                origin: self.origin.clone(),
                kind: self.kind,
                key,
                keys: keys(self.fields),
                hint: rename(key, self.fields),
            })
        })
    }

    /// The text of `key`, which must be there and may be empty.
    fn text(&self, key: &'static str) -> Result<String, DataError> {
        let value = self.required(key)?;
        let text = value.as_str().ok_or_else(|| wrong_type(self.origin, format!("{key:?}"), value, "a text"))?;
        Ok(text.to_owned())
    }

    /// The text of `key`, which must be there and not be empty.
    fn filled(&self, key: &'static str) -> Result<String, DataError> {
        self.as_filled(&format!("{key:?}"), self.required(key)?, "a text")
    }

    /// The text of `key`, if it is there; not empty.
    fn optional(&self, key: &'static str) -> Result<Option<String>, DataError> {
        self.get(key).map(|value| self.as_filled(&format!("{key:?}"), value, "a text")).transpose()
    }

    /// `value` as a text that is not empty; `what` says where it stands.
    fn as_filled(&self, what: &str, value: &Value, expected: &'static str) -> Result<String, DataError> {
        let text = value.as_str().ok_or_else(|| wrong_type(self.origin, what, value, expected))?;
        if text.trim().is_empty() {
            return Err(ProbeError::EmptyText { origin: self.origin.clone(), what: what.to_owned() }.into());
        }
        Ok(text.to_owned())
    }

    fn list(&self, key: &'static str, value: &'a Value) -> Result<&'a [Value], DataError> {
        let list = value.as_array().ok_or_else(|| wrong_type(self.origin, format!("{key:?}"), value, "a list"))?;
        Ok(list)
    }

    fn filled_list(&self, key: &'static str, list: &[Value]) -> Result<Vec<String>, DataError> {
        let entry = |(i, value)| self.as_filled(&format!("entry {} of {key:?}", i + 1), value, "a text");
        list.iter().enumerate().map(entry).collect()
    }

    /// The texts of `key`, at least two.
    fn choices(&self, key: &'static str) -> Result<Vec<String>, DataError> {
        let choices = self.filled_list(key, self.list(key, self.required(key)?)?)?;
        match choices.len() {
            got @ (0 | 1) => Err(ProbeError::TooFewChoices { origin: self.origin.clone(), key, got }.into()),
            _ => Ok(choices),
        }
    }

    /// The index of the right one of `choices`.
    fn gold(&self, choices: usize) -> Result<usize, DataError> {
        let what = "the key \"gold\", the index of the right one, counted from 0";
        let value = self.get("gold").ok_or_else(|| self.no_gold(what.to_owned()))?;
        let index = value.as_u64().and_then(|index| usize::try_from(index).ok());
        index.filter(|index| *index < choices).ok_or_else(|| {
            let gold = match value {
                Value::Number(number) => number.to_string(),
                other => got(other),
            };
            DataError::Probe(ProbeError::GoldOutOfRange { origin: self.origin.clone(), gold, choices })
        })
    }

    fn no_gold(&self, expected: String) -> DataError {
        let (origin, kind) = (self.origin.clone(), self.kind);
        DataError::Probe(ProbeError::NoGold { origin, kind, expected, keys: keys(self.fields) })
    }
}

fn unknown_name<const N: usize>(origin: &Origin, key: &'static str, got: &str, known: [&str; N]) -> DataError {
    DataError::Probe(ProbeError::UnknownName {
        origin: origin.clone(),
        key,
        got: shorten(got),
        expected: known.join(", "),
        hint: did_you_mean(closest(got, known)),
    })
}

/// `; rename "kinds" to "kind"`, where the record has a slip of the key.
fn rename(key: &str, fields: &Map<String, Value>) -> String {
    let slip = closest(key, fields.keys().map(String::as_str));
    slip.map(|slip| format!("; rename {slip:?} to {key:?}")).unwrap_or_default()
}

#[cfg(test)]
mod tests;
