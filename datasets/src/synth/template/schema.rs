//! The schema of a kind of document: read from its file, and checked before anything is made.

use std::fs;
use std::path::{Path, PathBuf};

use minijinja::Value;
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::expression::Expressions;
use super::field::Type;
use super::layout::Layouts;
use super::marks::is_mark;
use super::questions::Question;
use super::reading::Reading;
use crate::error::{DataError, RecordError, SynthError};
use crate::screen::Kind;

/// The longest file, in bytes.
const LONGEST: u64 = 4 << 20;

/// A kind of document.
pub(super) struct Schema {
    pub(super) path: PathBuf,
    pub(super) head: Head,
    pub(super) fields: Fields,
    pub(super) layouts: Layouts,
    pub(super) questions: Vec<Question>,
    pub(super) expressions: Expressions,
}

/// The file of a schema. The values of its maps are read later, so that an error can name the key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// What the documents are called; a document is `NAME-000000` and so on.
    pub(super) name: String,
    /// Their language by its ISO 639-1 code, for the names of months and the decimal mark.
    pub(super) lang: String,
    /// The licence of what is made.
    #[serde(default)]
    pub(super) licence: Option<String>,
    /// The system's turn; none without.
    #[serde(default)]
    pub(super) system: Option<String>,
    /// The user's turn, with `{context}` and `{question}`.
    pub(super) prompt: String,
    /// The answer to a question that the document does not answer.
    pub(super) absent: String,
    /// The fields by name.
    fields: Map<String, Json>,
    /// Jinja files, or folders of files that end with .jinja (those that begin with _ are for the others to include).
    layouts: Vec<PathBuf>,
    /// The questions.
    questions: Vec<Json>,
}

/// Fields, each after those that it uses.
#[derive(Default)]
pub(super) struct Fields(pub(super) Vec<Field>);

/// A field.
pub(super) struct Field {
    pub(super) name: String,
    /// Where the schema defines it.
    pub(super) key: String,
    /// How often a document has it.
    pub(super) probability: f64,
    pub(super) rule: Rule,
}

/// How a field is drawn.
pub(super) enum Rule {
    Choice { values: Vec<Json>, weights: Option<Vec<f64>> },
    Pattern(Vec<String>),
    Identifier { of: Kind, forms: Vec<String> },
    Whole { min: Bound, max: Bound },
    Number { min: Bound, max: Bound, decimals: usize },
    Date { from: Bound, to: Bound },
    Person { given: Vec<String>, family: Vec<String> },
    Record(Fields),
    List { min: Bound, max: Bound, fields: Fields, sort: Option<String> },
    Derived { source: Source, of: Type, decimals: usize },
}

/// A bound of what is drawn.
pub(super) enum Bound {
    Constant(Value),
    Expression(String),
}

/// What a derived field is made from.
pub(super) enum Source {
    Expression(String),
    Template(String),
}

impl Schema {
    /// Reads a schema and its layouts.
    ///
    /// # Errors
    /// A file that cannot be read; [`SynthError::Schema`] and [`SynthError::Layout`] for what is wrong in it.
    pub(super) fn read(path: &Path) -> Result<Self, DataError> {
        let text = text(path)?;
        let at_top = |problem: String| bad(path, "the schema", problem);
        let tree = tree(path, &text)?;
        if holds_a_mark(&tree) {
            return Err(at_top("holds a private-use character (U+E000 to U+F8FF), which no font agrees on".to_owned()));
        }
        let mut head: Head = serde_json::from_value(tree).map_err(|error| at_top(error.to_string()))?;
        for (key, text) in [("name", &head.name), ("absent", &head.absent)] {
            if text.trim().is_empty() {
                return Err(bad(path, key, "is empty, expected a text"));
            }
        }
        if !(head.prompt.contains("{context}") && head.prompt.contains("{question}")) {
            return Err(bad(
                path,
                "prompt",
                format!("got {:?}, expected a text with {{context}} and {{question}}", head.prompt),
            ));
        }
        let mut expressions = Expressions::default();
        let fields = Reading::new(path, &mut expressions).all(&std::mem::take(&mut head.fields))?;
        let questions = super::questions::read(path, &std::mem::take(&mut head.questions), &fields)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let listed: Vec<PathBuf> = head.layouts.iter().map(|layout| folder.join(layout)).collect();
        let layouts = Layouts::read(path, &listed, &fields, &head.lang)?;
        Ok(Self { path: path.to_owned(), head, fields, layouts, questions, expressions })
    }

    /// An error at a key of the schema.
    pub(super) fn bad(&self, key: &str, problem: impl Into<String>) -> DataError {
        bad(&self.path, key, problem)
    }
}

/// The text of a file, in which marks cannot occur.
pub(super) fn text(path: &Path) -> Result<String, DataError> {
    let read = |source| DataError::Read { path: path.to_owned(), source };
    let length = fs::metadata(path).map_err(read)?.len();
    let place = path.display().to_string();
    if length > LONGEST {
        let problem = format!("has {length} bytes, expected at most {LONGEST}");
        return Err(RecordError::Document { place, problem }.into());
    }
    let text = fs::read_to_string(path).map_err(read)?;
    if let Some(line) = text.lines().position(|line| line.contains(is_mark)) {
        let problem = "holds a private-use character (U+E000 to U+F8FF), which no font agrees on; remove it".to_owned();
        return Err(SynthError::Layout { path: path.to_owned(), line: line + 1, problem }.into());
    }
    Ok(text)
}

/// The tree of a YAML text. What it may cost is bounded, whatever anchors it holds.
fn tree(path: &Path, text: &str) -> Result<Json, DataError> {
    use serde_saphyr::{Error, MessageFormatter as _, UserMessageFormatter};
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 200_000, max_aliases: 1_000 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let place = error.location().filter(|at| at.line() > 0);
        let place = place.map_or("the schema".to_owned(), |at| format!("line {}, column {}", at.line(), at.column()));
        let problem = match error.without_snippet() {
            Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key {key:?} stands twice; remove one"),
            other => {
                let said = UserMessageFormatter.format_message(other).into_owned();
                format!("is no YAML: {}", said.lines().next().unwrap_or_default())
            }
        };
        bad(path, &place, problem)
    })
}

/// Whether a text in a tree has a character that marks are made of, which an escape may have brought in.
fn holds_a_mark(tree: &Json) -> bool {
    match tree {
        Json::String(text) => text.contains(is_mark),
        Json::Array(items) => items.iter().any(holds_a_mark),
        Json::Object(entries) => entries.values().any(holds_a_mark),
        _ => false,
    }
}

/// An error at a key of a schema.
pub(super) fn bad(path: &Path, key: &str, problem: impl Into<String>) -> DataError {
    SynthError::Schema { path: path.to_owned(), key: key.to_owned(), problem: problem.into() }.into()
}

impl Fields {
    /// The field of a name.
    pub(super) fn get(&self, name: &str) -> Option<&Field> {
        self.0.iter().find(|field| field.name == name)
    }

    /// The names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|field| field.name.as_str())
    }
}
