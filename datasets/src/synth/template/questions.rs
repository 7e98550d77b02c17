//! Questions of a schema, and their answers in a document.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value as Json;

use super::draw::Drawn;
use super::marks::Printed;
use super::schema::{Fields, Rule, bad};
use crate::error::{DataError, closest, did_you_mean};
use crate::synth::sample::Span;

/// A question.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Its name.
    id: String,
    /// The field that answers it, such as `car.plate`, or `claims[-1].date` for that of the last of a list.
    field: String,
    /// How it may be asked.
    ask: Vec<String>,
    /// The answer where the document has none; the schema's own without.
    #[serde(default)]
    absent: Option<String>,
    /// A field from which a reader can tell the answer where the document does not print it, as a number from a list.
    #[serde(default)]
    derived_from: Option<String>,
}

/// A question whose fields the schema has.
#[derive(Clone, Debug)]
pub(super) struct Question {
    field: Reference,
    pub(super) ask: Vec<String>,
    pub(super) absent: Option<String>,
    derived_from: Option<String>,
}

/// What a question is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// What stands in the document.
    Span(Span),
    /// What follows from the document.
    Derived(String),
    /// The document does not say.
    Absent,
}

/// A field, through records and lists.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Reference(Vec<(String, Option<i64>)>);

/// Reads the questions of a schema.
pub(super) fn read(path: &Path, entries: &[Json], fields: &Fields) -> Result<Vec<Question>, DataError> {
    if entries.is_empty() {
        return Err(bad(path, "questions", "is empty, expected at least one question"));
    }
    let (mut questions, mut ids) = (Vec::with_capacity(entries.len()), BTreeSet::new());
    for (index, entry) in entries.iter().enumerate() {
        let key = |name: &str| format!("questions[{index}]{name}");
        let Entry { id, field, ask, absent, derived_from } =
            serde_json::from_value(entry.clone()).map_err(|error| bad(path, &key(""), error.to_string()))?;
        if !ids.insert(id.clone()) {
            return Err(bad(path, &key(".id"), format!("got {id:?} again, expected a name for each")));
        }
        if ask.is_empty() || ask.iter().any(|text| text.trim().is_empty()) {
            return Err(bad(
                path,
                &key(".ask"),
                format!("got {ask:?}, expected at least one text, none of them empty"),
            ));
        }
        let reference = Reference::read(&field, fields).map_err(|problem| bad(path, &key(".field"), problem))?;
        if let Some(source) = &derived_from
            && fields.get(source).is_none()
        {
            let hint = did_you_mean(closest(source, fields.names()));
            return Err(bad(path, &key(".derived_from"), format!("got {source:?}, expected a field{hint}")));
        }
        questions.push(Question { field: reference, ask, absent, derived_from });
    }
    Ok(questions)
}

impl Question {
    /// The field that a document must not have so that it does not answer: the list, where the answer is in one.
    pub(super) fn withheld(&self) -> String {
        let steps = &self.field.0;
        match steps.iter().position(|(_, index)| index.is_some()) {
            Some(list) => {
                let mut steps = steps[..=list].to_vec();
                steps[list].1 = None;
                Reference(steps).to_string()
            }
            None => self.field.to_string(),
        }
    }

    /// The answer in a document.
    pub(super) fn reply(&self, values: &[(String, Drawn)], text: &str, printed: &[Printed]) -> Reply {
        let Some((place, drawn)) = self.field.resolve(values) else { return Reply::Absent };
        let own = printed.iter().find(|printed| printed.field == place && !printed.range.is_empty());
        if let Some(Printed { range, .. }) = own {
            let answer_start = text[..range.start].chars().count();
            return Reply::Span(Span { text: text[range.clone()].to_owned(), answer_start });
        }
        let is_told = self.derived_from.as_ref().is_some_and(|source| {
            let belongs = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
            printed.iter().any(|printed| printed.field.strip_prefix(source.as_str()).is_some_and(belongs))
        });
        match drawn {
            Drawn::Leaf(_, value) if is_told => Reply::Derived(value.clone()),
            _ => Reply::Absent,
        }
    }
}

/// Whether a document's values have this field.
pub(super) fn is_field(values: &[(String, Drawn)], field: &str) -> bool {
    Reference::parse(field).is_some_and(|reference| reference.resolve(values).is_some())
}

impl Reference {
    fn parse(text: &str) -> Option<Self> {
        let step = |part: &str| match part.split_once('[') {
            Some((name, index)) => Some((name.to_owned(), Some(index.strip_suffix(']')?.parse().ok()?))),
            None => Some((part.to_owned(), None)),
        };
        text.split('.').map(step).collect::<Option<Vec<_>>>().map(Self)
    }

    fn read(text: &str, fields: &Fields) -> Result<Self, String> {
        let expected = "expected a field such as plate, car.plate, or claims[-1].date for the last of a list";
        let reference = Self::parse(text).ok_or_else(|| format!("got {text:?}, {expected}"))?;
        let mut within = Some(fields);
        for (name, index) in &reference.0 {
            let Some(fields) = within else {
                break;
            };
            let Some(field) = fields.get(name) else {
                let hint = did_you_mean(closest(name, fields.names()));
                return Err(format!("got {text:?}, but there is no field {name:?}{hint}"));
            };
            within = match (&field.rule, index) {
                (Rule::List { fields, .. }, Some(_)) | (Rule::Record(fields), None) => Some(fields),
                (Rule::List { .. }, None) => {
                    return Err(format!("got {text:?}, but {name} is a list, expected {name}[0] or {name}[-1]"));
                }
                (_, Some(_)) => return Err(format!("got {text:?}, but {name} is no list")),
                // The sections of a choice are known when it is drawn.
                (_, None) => None,
            };
        }
        Ok(reference)
    }

    /// The value, and its name with the index counted from 0.
    fn resolve<'a>(&self, values: &'a [(String, Drawn)]) -> Option<(String, &'a Drawn)> {
        let (mut within, mut place, mut found) = (values, String::new(), None);
        for (name, index) in &self.0 {
            let mut drawn = &within.iter().find(|(own, _)| own == name)?.1;
            if !place.is_empty() {
                place.push('.');
            }
            place.push_str(name);
            if let Some(index) = index {
                let Drawn::List(items) = drawn else { return None };
                let from_end = || items.len().checked_sub(usize::try_from(index.unsigned_abs()).ok()?);
                let at = usize::try_from(*index).ok().or_else(from_end)?;
                drawn = items.get(at)?;
                place = format!("{place}[{at}]");
            }
            within = if let Drawn::Record(fields) = drawn { fields } else { &[] };
            found = Some(drawn);
        }
        found.map(|drawn| (place, drawn))
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (name, index)) in self.0.iter().enumerate() {
            let point = if number > 0 { "." } else { "" };
            write!(f, "{point}{name}")?;
            if let Some(index) = index {
                write!(f, "[{index}]")?;
            }
        }
        Ok(())
    }
}
