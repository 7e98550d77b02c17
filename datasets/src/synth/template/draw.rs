//! The values of a document, each drawn from the seed, the document's number and the field's name alone.

use std::collections::BTreeMap;

use jiff::civil::Date;
use minijinja::Value;
use minijinja::value::Serde;
use serde_json::Value as Json;

use super::field::Type;
use super::marks::{PART, is_mark};
use super::schema::{Bound, Field, Fields, Rule, Schema, Source};
use crate::error::DataError;
use crate::screen::{Draw, alias};

/// The most records of a list.
const MOST_RECORDS: i64 = 1000;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Drawn {
    /// The document does not have it.
    Absent,
    /// A condition.
    Flag(bool),
    /// What can be printed: the value for expressions, and its text.
    Leaf(Value, String),
    /// Fields by name.
    Record(Vec<(String, Drawn)>),
    /// Records.
    List(Vec<Drawn>),
}

impl Drawn {
    /// The value as expressions see it.
    pub(super) fn value(&self) -> Value {
        match self {
            Self::Absent => Value::from(()),
            Self::Flag(flag) => Value::from(*flag),
            Self::Leaf(value, _) => value.clone(),
            Self::Record(fields) => Value::from_pairs(fields.iter().map(|(name, drawn)| (name.clone(), drawn.value()))),
            Self::List(items) => items.iter().map(Self::value).collect::<Vec<_>>().into(),
        }
    }

    fn text(text: impl Into<String>) -> Self {
        let text = text.into();
        Self::Leaf(Value::from(text.replace(PART, " ")), text)
    }

    fn number(number: f64, decimals: usize) -> Self {
        let text = format!("{number:.decimals$}");
        Self::Leaf(Value::from(text.parse::<f64>().unwrap_or(number)), text)
    }
}

/// The drawing of one document.
pub(super) struct Drawing<'a> {
    pub(super) schema: &'a Schema,
    /// The seed and the document's number.
    pub(super) key: Vec<u8>,
}

impl<'a> Drawing<'a> {
    pub(super) fn new(schema: &'a Schema, seed: u64, document: usize) -> Self {
        Self { schema, key: [seed.to_le_bytes(), (document as u64).to_le_bytes()].concat() }
    }

    /// The stream for a purpose.
    pub(super) fn stream(&self, purpose: &str, name: &str) -> Draw {
        Draw::named(&self.key, purpose, name)
    }

    /// All values.
    pub(super) fn values(&self) -> Result<Vec<(String, Drawn)>, DataError> {
        self.fields(&self.schema.fields, &BTreeMap::new(), "")
    }

    fn fields(
        &self,
        fields: &Fields,
        outer: &BTreeMap<String, Value>,
        place: &str,
    ) -> Result<Vec<(String, Drawn)>, DataError> {
        let mut scope = outer.clone();
        let mut values = Vec::with_capacity(fields.0.len());
        for field in &fields.0 {
            let drawn = self.field(field, &scope, &format!("{place}{}", field.name))?;
            scope.insert(field.name.clone(), drawn.value());
            values.push((field.name.clone(), drawn));
        }
        Ok(values)
    }

    fn field(&self, field: &Field, scope: &BTreeMap<String, Value>, place: &str) -> Result<Drawn, DataError> {
        let mut draw = self.stream("field", place);
        if field.probability < 1.0 && draw.share() >= field.probability {
            return Ok(Drawn::Absent);
        }
        let bad = |problem: String| self.schema.bad(&field.key, problem);
        let bound = |bound: &Bound| match bound {
            Bound::Constant(value) => Ok(value.clone()),
            Bound::Expression(text) => {
                let scope = Value::from_pairs(scope.clone());
                self.schema.expressions.evaluate(text, scope).map_err(|error| bad(format!("{text:?}: {error}")))
            }
        };
        let whole = |value: &Bound| {
            let value = bound(value)?;
            value.as_i64().ok_or_else(|| bad(format!("got the bound {value}, expected a whole number")))
        };
        Ok(match &field.rule {
            Rule::Choice { values, weights } => of_json(&values[chosen(&mut draw, values.len(), weights.as_deref())]),
            Rule::Pattern(patterns) => Drawn::text(filled(&patterns[draw.below(patterns.len())], &mut draw)),
            Rule::Identifier { of, forms } => {
                let form = &forms[draw.below(forms.len())];
                let scope = Value::from_pairs(scope.clone());
                let form = self.schema.expressions.render(form, scope).map_err(bad)?;
                let key: Vec<u8> = [self.key.as_slice(), place.as_bytes()].concat();
                Drawn::text(alias(&key, *of, &form))
            }
            Rule::Whole { min, max } => {
                let (min, max) = (whole(min)?, whole(max)?);
                let number = between(&mut draw, min, max).ok_or_else(|| bad(out_of_order(min, max)))?;
                Drawn::Leaf(Value::from(number), number.to_string())
            }
            Rule::Number { min, max, decimals } => {
                let number = |value: &Bound| {
                    let value = bound(value)?;
                    f64::try_from(value.clone()).map_err(|_| bad(format!("got the bound {value}, expected a number")))
                };
                let (min, max) = (number(min)?, number(max)?);
                if !(min <= max && max - min < f64::MAX) {
                    return Err(bad(out_of_order(min, max)));
                }
                // A drawn number that is rounded stays within the bounds as they are printed.
                Drawn::number(min + (max - min) * draw.share(), *decimals)
            }
            Rule::Date { from, to } => {
                let day = |value: &Bound| {
                    let value = bound(value)?;
                    let day = value.as_str().and_then(|text| text.parse::<Date>().ok());
                    day.ok_or_else(|| bad(format!("got the bound {value}, expected a day as YYYY-MM-DD")))
                };
                let (from, to) = (day(from)?, day(to)?);
                let days = from.duration_until(to).as_hours() / 24;
                let drawn = between(&mut draw, 0, days).ok_or_else(|| bad(out_of_order(from, to)))?;
                let date = from.checked_add(jiff::SignedDuration::from_hours(24 * drawn));
                Drawn::text(date.map_err(|error| bad(error.to_string()))?.to_string())
            }
            Rule::Person { given, family } => {
                let (given, family) = (&given[draw.below(given.len())], &family[draw.below(family.len())]);
                Drawn::text(format!("{given}{PART}{family}"))
            }
            Rule::Record(fields) => Drawn::Record(self.fields(fields, scope, &format!("{place}."))?),
            Rule::List { min, max, fields, sort } => {
                let (min, max) = (whole(min)?, whole(max)?);
                if min < 0 || max > MOST_RECORDS {
                    return Err(bad(format!(
                        "got {min} to {max} records, expected at least 0 and at most {MOST_RECORDS}"
                    )));
                }
                let count = between(&mut draw, min, max).ok_or_else(|| bad(out_of_order(min, max)))?;
                let mut items = Vec::new();
                for index in 0..count {
                    items.push(Drawn::Record(self.fields(fields, scope, &format!("{place}[{index}]."))?));
                }
                if let Some(sort) = sort {
                    items.sort_by_cached_key(|item| item.value().get_attr(sort).unwrap_or_default());
                }
                Drawn::List(items)
            }
            Rule::Derived { source, of, decimals } => self.derived(source, (*of, *decimals), scope).map_err(bad)?,
        })
    }

    fn derived(
        &self,
        source: &Source,
        (of, decimals): (Type, usize),
        scope: &BTreeMap<String, Value>,
    ) -> Result<Drawn, String> {
        let scope = Value::from_pairs(scope.clone());
        let expressions = &self.schema.expressions;
        let value = match source {
            Source::Expression(text) => expressions.evaluate(text, scope)?,
            Source::Template(text) => Value::from(expressions.render(text, scope)?),
        };
        if value.is_none() || value.is_undefined() || value.as_str().is_some_and(str::is_empty) {
            return Ok(Drawn::Absent);
        }
        let text = value.to_string();
        if text.contains(is_mark) {
            return Err("holds a private-use character (U+E000 to U+F8FF); remove it".to_owned());
        }
        let expected = |what: &str| format!("got {text:?}, expected {what}");
        match of {
            Type::Text => Ok(Drawn::text(text)),
            Type::Flag if value.as_str().is_none() => Ok(Drawn::Flag(value.is_true())),
            Type::Flag => match text.as_str() {
                "true" => Ok(Drawn::Flag(true)),
                "false" => Ok(Drawn::Flag(false)),
                _ => Err(expected("true or false")),
            },
            Type::Whole => {
                let number: i64 = text.parse().map_err(|_| expected("a whole number"))?;
                Ok(Drawn::Leaf(Value::from(number), text))
            }
            Type::Number => {
                let number: f64 = text.parse().map_err(|_| expected("a number"))?;
                Ok(Drawn::number(number, decimals))
            }
            Type::Date => {
                text.parse::<Date>().map_err(|_| expected("a day as YYYY-MM-DD"))?;
                Ok(Drawn::text(text))
            }
        }
    }
}

fn out_of_order(min: impl std::fmt::Display, max: impl std::fmt::Display) -> String {
    format!("the least, {min}, is above the most, {max}, expected it below")
}

/// One of `count`, by weight where there are any.
fn chosen(draw: &mut Draw, count: usize, weights: Option<&[f64]>) -> usize {
    let Some(weights) = weights else { return draw.below(count) };
    let mut left = draw.share() * weights.iter().sum::<f64>();
    let found = weights.iter().position(|weight| {
        left -= weight;
        left < 0.0
    });
    // Rounding may leave a rest: then it is the last that can be drawn at all.
    found.or_else(|| weights.iter().rposition(|weight| *weight > 0.0)).unwrap_or(0)
}

/// A whole number of `min` to `max`; none where there is none.
fn between(draw: &mut Draw, min: i64, max: i64) -> Option<i64> {
    let count = usize::try_from(max.checked_sub(min)?.checked_add(1)?).ok().filter(|count| *count > 0)?;
    min.checked_add(i64::try_from(draw.below(count)).ok()?)
}

/// A text of a pattern.
fn filled(pattern: &str, draw: &mut Draw) -> String {
    const CAPITALS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ";
    const BOTH: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789";
    let mut chars = pattern.chars();
    let mut text = String::with_capacity(pattern.len());
    while let Some(c) = chars.next() {
        text.push(match c {
            '#' => char::from(b'0' + draw.digit(0)),
            '%' => char::from(b'0' + draw.digit(1)),
            '?' => char::from(draw.one_of(CAPITALS)),
            '*' => char::from(draw.one_of(BOTH)),
            '\\' => chars.next().unwrap_or('\\'),
            other => other,
        });
    }
    text
}

/// A value of a schema's file.
fn of_json(value: &Json) -> Drawn {
    match value {
        Json::Null | Json::Array(_) => Drawn::Absent,
        Json::Bool(flag) => Drawn::Flag(*flag),
        Json::Number(number) => Drawn::Leaf(Value::from(Serde(number)), number.to_string()),
        Json::String(text) => Drawn::text(text.as_str()),
        Json::Object(fields) => {
            Drawn::Record(fields.iter().map(|(name, value)| (name.clone(), of_json(value))).collect())
        }
    }
}
