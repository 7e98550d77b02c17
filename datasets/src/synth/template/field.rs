//! The kinds of fields, as a schema writes them.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::screen::Kind;

/// What a field holds. Where a whole number, a number or a date is asked for, an expression over other fields may stand
/// instead, such as `add_years(born, 18)`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum Kinds {
    /// One of several values.
    Choice {
        /// Texts, numbers, true or false, or sections of such, which make a record.
        #[serde(default)]
        values: Vec<Value>,
        /// A file with a value a line, beside the schema, instead of `values`.
        #[serde(default)]
        file: Option<PathBuf>,
        /// How often each of `values` is drawn, relative to the others; all the same without.
        #[serde(default)]
        weights: Option<Vec<f64>>,
    },
    /// A text of a form.
    Pattern {
        /// The forms, of which one is drawn: `#` is a digit, `%` one of 1 to 9, `?` a capital letter, `*` a digit or
        /// capital letter, and a backslash takes the next character as it is.
        patterns: Vec<String>,
    },
    /// A number that identifies somebody or something, its check digits right; an address, or whatever else screening
    /// finds.
    Identifier {
        /// Which, by the name that screening has for it, such as `iban` or `licence-plate`.
        of: Kind,
        /// Examples of the form, of which one is drawn; other digits and letters come in place of theirs. A form may
        /// hold `{{ expressions }}`.
        forms: Vec<String>,
    },
    /// A whole number of `min` to `max`.
    Whole {
        /// The least.
        min: Value,
        /// The most.
        max: Value,
    },
    /// A number of `min` to `max`.
    Number {
        /// The least.
        min: Value,
        /// The most.
        max: Value,
        /// Digits after the point, 0 to 9.
        decimals: usize,
    },
    /// A day, as YYYY-MM-DD.
    Date {
        /// The first possible.
        from: String,
        /// The last possible.
        to: String,
    },
    /// A given name and a family name.
    Person {
        /// A file with a given name a line; the program's own without.
        #[serde(default)]
        given: Option<PathBuf>,
        /// A file with a family name a line; the program's own without.
        #[serde(default)]
        family: Option<PathBuf>,
    },
    /// Fields that belong together.
    Record {
        /// The fields.
        fields: Map<String, Value>,
    },
    /// Records.
    List {
        /// The least number of them.
        min: Value,
        /// The most, at most 1000.
        max: Value,
        /// The fields of each, which may use each other, and those outside.
        fields: Map<String, Value>,
        /// The field by which they are in ascending order.
        #[serde(default)]
        sort: Option<String>,
    },
    /// What follows from other fields; one of `expression` and `template`.
    Derived {
        /// A Jinja expression.
        #[serde(default)]
        expression: Option<String>,
        /// A Jinja template, whose text is the value.
        #[serde(default)]
        template: Option<String>,
        /// What the text is.
        #[serde(default, rename = "type")]
        of: Type,
        /// Digits after the point of a number.
        #[serde(default)]
        decimals: usize,
    },
}

/// What a derived value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Type {
    /// A text.
    #[default]
    Text,
    /// A whole number.
    Whole,
    /// A number.
    Number,
    /// A day, as YYYY-MM-DD.
    Date,
    /// True or false; layouts have it for conditions, and cannot print it.
    Flag,
}
