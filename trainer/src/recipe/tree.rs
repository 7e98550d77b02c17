//! A YAML text as a tree in which every node knows where it stood.
//!
//! The recipe's text and each `--set` become such a tree; overrides are laid over it, and `typed` turns the result
//! into a [`Recipe`](super::Recipe). The tree is what lets a wrong value be shown in its line.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::error::printable;

/// Where a node stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// In the recipe; both counted from 1.
    File { line: usize, column: usize },
    /// In the override of this index.
    Override(usize),
}

/// A value with its origin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

/// A key of a section with its origin.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Key {
    pub(super) name: String,
    pub(super) origin: Origin,
}

/// A YAML value by the core schema of YAML 1.2.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Section(Vec<(Key, Node)>),
}

/// Why a text is no tree.
#[derive(Debug)]
pub(super) struct Flaw {
    /// Line and column, counted from 1, where known.
    pub(super) at: Option<(usize, usize)>,
    pub(super) kind: FlawKind,
}

/// The kinds of [`Flaw`].
#[derive(Debug)]
pub(super) enum FlawKind {
    /// A key stands twice in a section.
    Duplicate(String),
    /// Anything else, in words.
    Syntax(String),
}

const TOO_MUCH: &str =
    "too much for a recipe: it is nested too deeply, too long, or its anchors expand to too many values";

/// Reads a YAML text of one document. What it may cost is bounded, whatever anchors it holds.
pub(super) fn parse(text: &str) -> Result<Node, Flaw> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_depth: 16,
            flow_nesting_limit: 64,
            max_events: 50_000,
            max_nodes: 20_000,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_recorded_anchor_events: 50_000,
            max_total_scalar_bytes: super::load::MAX_BYTES,
            max_buffered_comment_events: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 20_000 },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| flaw(&error))
}

fn flaw(error: &serde_saphyr::Error) -> Flaw {
    use serde_saphyr::{Error, MessageFormatter as _, UserMessageFormatter};
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let at = error.location().map(|l| (number(l.line()), number(l.column()))).filter(|at| at.0 > 0);
    let inner = match error.without_snippet() {
        Error::AliasError { error, .. } => error.without_snippet(),
        other => other,
    };
    let kind = match inner {
        Error::DuplicateMappingKey { key: Some(key), .. } => FlawKind::Duplicate(key.clone()),
        Error::MultipleDocuments { .. } => {
            FlawKind::Syntax("a second document starts here, expected one; remove the `---`".to_owned())
        }
        Error::NonFiniteFloat { value, .. } => {
            FlawKind::Syntax(format!("got the number {value}, expected a finite one"))
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => FlawKind::Syntax(TOO_MUCH.to_owned()),
        other => {
            let words = printable(&UserMessageFormatter.format_message(other));
            if words.contains("recursion limit") {
                return Flaw { at, kind: FlawKind::Syntax(TOO_MUCH.to_owned()) };
            }
            let remedy = if words.contains("tabs") { "; indent with spaces" } else { "" };
            FlawKind::Syntax(format!("not valid YAML: {}{remedy}", words.trim_end_matches('.')))
        }
    };
    Flaw { at, kind }
}

impl Node {
    /// The value of a key, where this is a section that has it.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Section(entries) => entries.iter().find(|(key, _)| key.name == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Gives this node and all below it one origin.
    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.set_origin(origin)),
            Value::Section(entries) => {
                for (key, node) in entries {
                    key.origin = origin;
                    node.set_origin(origin);
                }
            }
            _ => {}
        }
    }
}

impl fmt::Display for Value {
    /// In a user's terms: `the text "2e-4"`, `a list of 3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Unsigned(value) => write!(f, "the number {value}"),
            Self::Signed(value) => write!(f, "the number {value}"),
            Self::Float(value) => write!(f, "the number {value:?}"),
            Self::Text(text) if text.chars().count() > 60 => {
                write!(f, "the text {:?}…", text.chars().take(60).collect::<String>())
            }
            Self::Text(text) => write!(f, "the text {text:?}"),
            Self::List(items) => write!(f, "a list of {}", items.len()),
            Self::Section(entries) => {
                let names: Vec<_> = entries.iter().take(4).map(|(key, _)| key.name.as_str()).collect();
                let more = if entries.len() > names.len() { ", …" } else { "" };
                write!(f, "a section with the keys {}{more}", names.join(", "))
            }
        }
    }
}

/// The place of a node: that of its use, where it is an alias.
fn origin<T>(spanned: &Spanned<T>) -> Origin {
    let number = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let place = spanned.referenced;
    Origin::File { line: number(place.line()), column: number(place.column()) }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { origin: origin(&spanned), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<String>::deserialize(deserializer)?;
        Ok(Self { origin: origin(&spanned), name: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Unsigned(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Signed(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Section(entries))
    }
}
