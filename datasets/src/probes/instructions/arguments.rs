//! The arguments of an instruction, an entry of IFEval's `kwargs`, checked as they are read.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::language;
use crate::error::InstructionError;
use crate::source::got;

/// How many there must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bound {
    relation: Relation,
    count: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    LessThan,
    AtLeast,
}

impl Bound {
    pub(super) fn holds(self, count: usize) -> bool {
        match self.relation {
            Relation::LessThan => count < self.count,
            Relation::AtLeast => count >= self.count,
        }
    }
}

/// The arguments of one instruction.
pub(super) struct Arguments<'a> {
    /// Its name.
    pub(super) id: &'static str,
    pub(super) kwargs: &'a Map<String, Value>,
}

impl Arguments<'_> {
    /// What `read` makes of an argument.
    fn read<T>(
        &self,
        key: &'static str,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<T, InstructionError> {
        let value = self.kwargs.get(key).filter(|value| !value.is_null());
        value.and_then(read).ok_or_else(|| {
            let got = value.map_or_else(|| "missing".to_owned(), got);
            InstructionError::Argument { id: self.id, key, got, expected }
        })
    }

    pub(super) fn count(&self, key: &'static str) -> Result<usize, InstructionError> {
        self.count_in(key, 0..=usize::MAX, "a whole number, 0 or more")
    }

    pub(super) fn count_in(
        &self,
        key: &'static str,
        range: RangeInclusive<usize>,
        expected: &'static str,
    ) -> Result<usize, InstructionError> {
        let count = |value: &Value| usize::try_from(value.as_u64()?).ok();
        self.read(key, expected, |value| count(value).filter(|count| range.contains(count)))
    }

    pub(super) fn bound(&self, relation: &'static str, count: &'static str) -> Result<Bound, InstructionError> {
        let relation = self.read(relation, "\"less than\" or \"at least\"", |value| match value.as_str() {
            Some("less than") => Some(Relation::LessThan),
            Some("at least") => Some(Relation::AtLeast),
            _ => None,
        })?;
        Ok(Bound { relation, count: self.count(count)? })
    }

    /// A text that is not empty, without white space at its ends.
    pub(super) fn text(&self, key: &'static str) -> Result<String, InstructionError> {
        self.read(key, "a text that is not empty", trimmed)
    }

    /// Texts that are not empty, at least one.
    pub(super) fn texts(&self, key: &'static str) -> Result<Vec<String>, InstructionError> {
        self.read(key, "a list of texts that are not empty, at least one", |value| {
            let list = value.as_array().filter(|list| !list.is_empty())?;
            list.iter().map(trimmed).collect()
        })
    }

    /// One character, in lower case.
    pub(super) fn letter(&self, key: &'static str) -> Result<char, InstructionError> {
        self.read(key, "one letter", |value| {
            let text = trimmed(value)?.to_lowercase();
            let mut letters = text.chars();
            letters.next().filter(|_| letters.next().is_none())
        })
    }

    /// A language that can be told from others.
    pub(super) fn language(&self, key: &'static str) -> Result<&'static str, InstructionError> {
        self.read(key, "the ISO 639-1 code of a language that can be told from others, such as \"fr\"", |value| {
            language::known(value.as_str()?)
        })
    }
}

fn trimmed(value: &Value) -> Option<String> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty()).map(str::to_owned)
}
