//! The fields of a schema: each read and checked, and put after those that it uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use minijinja::Value;
use serde_json::{Map, Value as Json};

use super::expression::Expressions;
use super::field::Kinds;
use super::schema::{Bound, Field, Fields, Rule, Source, bad, text};
use crate::error::{DataError, closest, did_you_mean};
use crate::screen::POOLS;

/// The reading of fields.
pub(super) struct Reading<'a> {
    path: &'a Path,
    expressions: &'a mut Expressions,
}

impl<'a> Reading<'a> {
    pub(super) fn new(path: &'a Path, expressions: &'a mut Expressions) -> Self {
        Self { path, expressions }
    }

    /// The fields of a schema.
    ///
    /// # Errors
    /// [`SynthError::Schema`](crate::SynthError::Schema) with the key.
    pub(super) fn all(mut self, section: &Map<String, Json>) -> Result<Fields, DataError> {
        self.fields(section, "fields", &BTreeSet::new())
    }

    fn bad(&self, key: &str, problem: impl Into<String>) -> DataError {
        bad(self.path, key, problem)
    }

    /// The fields of a section, which may use each other and the names outside.
    fn fields(
        &mut self,
        section: &Map<String, Json>,
        key: &str,
        outer: &BTreeSet<String>,
    ) -> Result<Fields, DataError> {
        if section.is_empty() {
            return Err(self.bad(key, "is empty, expected at least one field"));
        }
        let names: BTreeSet<String> = outer.iter().chain(section.keys()).cloned().collect();
        let mut fields = Vec::with_capacity(section.len());
        for (name, value) in section {
            let key = format!("{key}.{name}");
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(is_plain) {
                let expected = "expected a name of small letters, digits and _, such as birth_date";
                return Err(self.bad(&key, format!("is no name of a field, {expected}")));
            }
            let (field, uses) = self.field(name, value, &key, &names)?;
            if let Some(unknown) = uses.iter().find(|used| !names.contains(*used)) {
                let hint = did_you_mean(closest(unknown, names.iter().map(String::as_str)));
                return Err(self.bad(&key, format!("uses {unknown:?}, which is no field{hint}")));
            }
            let uses: BTreeSet<String> = uses.into_iter().filter(|used| section.contains_key(used)).collect();
            fields.push((field, uses));
        }
        self.in_order(fields).map(Fields)
    }

    /// Puts each field after those that it uses.
    fn in_order(&self, mut waiting: Vec<(Field, BTreeSet<String>)>) -> Result<Vec<Field>, DataError> {
        let (mut ordered, mut done) = (Vec::with_capacity(waiting.len()), BTreeSet::new());
        while !waiting.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, uses)| uses.is_subset(&done));
            if ready.is_empty() {
                return Err(self.circle(&rest));
            }
            for (field, _) in ready {
                done.insert(field.name.clone());
                ordered.push(field);
            }
            waiting = rest;
        }
        Ok(ordered)
    }

    /// The error for fields that use each other in a circle: every one of them uses another one.
    fn circle(&self, fields: &[(Field, BTreeSet<String>)]) -> DataError {
        let find = |name: &str| fields.iter().find(|(field, _)| field.name == name);
        let (mut way, mut at) = (Vec::new(), fields.first());
        while let Some((field, uses)) = at {
            if let Some(start) = way.iter().position(|name| *name == field.name) {
                way.drain(..start);
                way.push(field.name.clone());
                break;
            }
            way.push(field.name.clone());
            at = uses.iter().find_map(|used| find(used));
        }
        let key = fields.iter().find(|(field, _)| Some(&field.name) == way.first()).map_or("fields", |(f, _)| &f.key);
        self.bad(key, format!("is drawn from itself: {}; take one of the references out", way.join(" from ")))
    }

    /// A field, and the names that it uses.
    fn field(
        &mut self,
        name: &str,
        value: &Json,
        key: &str,
        names: &BTreeSet<String>,
    ) -> Result<(Field, BTreeSet<String>), DataError> {
        let Json::Object(section) = value else {
            return Err(self.bad(key, format!("got {value}, expected a section with the key kind")));
        };
        let mut section = section.clone();
        let probability = match section.shift_remove("probability") {
            None => 1.0,
            Some(value) => value.as_f64().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| {
                self.bad(&format!("{key}.probability"), format!("got {value}, expected a share from 0 to 1"))
            })?,
        };
        let kinds: Kinds =
            serde_json::from_value(Json::Object(section)).map_err(|error| self.bad(key, error.to_string()))?;
        let mut uses = BTreeSet::new();
        let rule = self.rule(kinds, key, names, &mut uses)?;
        Ok((Field { name: name.to_owned(), key: key.to_owned(), probability, rule }, uses))
    }

    fn rule(
        &mut self,
        kinds: Kinds,
        key: &str,
        names: &BTreeSet<String>,
        uses: &mut BTreeSet<String>,
    ) -> Result<Rule, DataError> {
        let sub = |name: &str| format!("{key}.{name}");
        Ok(match kinds {
            Kinds::Choice { values, file, weights } => {
                let values = match (values.is_empty(), file) {
                    (false, None) => values,
                    (true, Some(file)) => self.lines(&file, &sub("file"))?.into_iter().map(Json::String).collect(),
                    _ => return Err(self.bad(key, "expected either values, with at least one, or file")),
                };
                if let Some(bad) = values.iter().find(|value| matches!(value, Json::Null | Json::Array(_))) {
                    let expected = "expected texts, numbers, true or false, or sections of such";
                    return Err(self.bad(&sub("values"), format!("got {bad}, {expected}")));
                }
                if let Some(weights) = &weights {
                    let sound = weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0)
                        && weights.iter().sum::<f64>() > 0.0
                        && weights.len() == values.len();
                    if !sound {
                        let expected = format!("expected {} numbers of at least 0, not all 0", values.len());
                        return Err(self.bad(&sub("weights"), format!("got {weights:?}, {expected}")));
                    }
                }
                Rule::Choice { values, weights }
            }
            Kinds::Pattern { patterns } => {
                self.some(&patterns, &sub("patterns"))?;
                Rule::Pattern(patterns)
            }
            Kinds::Identifier { of, forms } => {
                self.some(&forms, &sub("forms"))?;
                for (index, form) in forms.iter().enumerate() {
                    let used = self.expressions.add(form);
                    uses.extend(used.map_err(|error| self.bad(&format!("{key}.forms[{index}]"), error))?);
                }
                Rule::Identifier { of, forms }
            }
            Kinds::Whole { min, max } => {
                let [min, max] = self.bounds([("min", min), ("max", max)], key, true, uses)?;
                Rule::Whole { min, max }
            }
            Kinds::Number { min, max, decimals } => {
                self.decimals(decimals, &sub("decimals"))?;
                let [min, max] = self.bounds([("min", min), ("max", max)], key, false, uses)?;
                Rule::Number { min, max, decimals }
            }
            Kinds::Date { from, to } => {
                let (from, to) = (self.day(from, &sub("from"), uses)?, self.day(to, &sub("to"), uses)?);
                if let (Bound::Constant(first), Bound::Constant(last)) = (&from, &to)
                    && first > last
                {
                    return Err(self.bad(key, format!("from {first} is after to {last}, expected it before")));
                }
                Rule::Date { from, to }
            }
            Kinds::Person { given, family } => {
                let pool = |names: &[&str]| names.iter().map(|name| name[..1].to_uppercase() + &name[1..]).collect();
                let given = given.map_or_else(|| Ok(pool(&POOLS.given)), |file| self.lines(&file, &sub("given")))?;
                let family =
                    family.map_or_else(|| Ok(pool(&POOLS.family)), |file| self.lines(&file, &sub("family")))?;
                Rule::Person { given, family }
            }
            Kinds::Record { fields } => {
                let fields = self.inner(&fields, key, names, uses)?;
                Rule::Record(fields)
            }
            Kinds::List { min, max, fields, sort } => {
                let [min, max] = self.bounds([("min", min), ("max", max)], key, true, uses)?;
                let fields = self.inner(&fields, key, names, uses)?;
                if let Some(sort) = sort.as_ref().filter(|sort| fields.get(sort).is_none()) {
                    let hint = did_you_mean(closest(sort, fields.names()));
                    return Err(self.bad(&sub("sort"), format!("got {sort:?}, expected a field of the list{hint}")));
                }
                Rule::List { min, max, fields, sort }
            }
            Kinds::Derived { expression, template, of, decimals } => {
                self.decimals(decimals, &sub("decimals"))?;
                let source = match (expression, template) {
                    (Some(expression), None) => {
                        let used = self.expressions.check(&expression);
                        uses.extend(used.map_err(|error| self.bad(&sub("expression"), error))?);
                        Source::Expression(expression)
                    }
                    (None, Some(template)) => {
                        let used = self.expressions.add(&template);
                        uses.extend(used.map_err(|error| self.bad(&sub("template"), error))?);
                        Source::Template(template)
                    }
                    _ => return Err(self.bad(key, "expected either expression or template")),
                };
                Rule::Derived { source, of, decimals }
            }
        })
    }

    /// The fields of a record, which see those around it; what they use of those.
    fn inner(
        &mut self,
        section: &Map<String, Json>,
        key: &str,
        names: &BTreeSet<String>,
        uses: &mut BTreeSet<String>,
    ) -> Result<Fields, DataError> {
        let own = key.rsplit('.').next().unwrap_or_default();
        let outer: BTreeSet<String> = names.iter().filter(|name| *name != own).cloned().collect();
        let mut probe = BTreeMap::new();
        for (name, value) in section {
            // What the fields use is found by reading each alone; those around it are told apart by name.
            let (_, used) = self.field(name, value, &format!("{key}.fields.{name}"), &outer)?;
            probe.insert(name.clone(), used);
        }
        uses.extend(probe.into_values().flatten().filter(|used| !section.contains_key(used) && names.contains(used)));
        self.fields(section, &format!("{key}.fields"), &outer)
    }

    fn bounds<const N: usize>(
        &self,
        bounds: [(&str, Json); N],
        key: &str,
        whole: bool,
        uses: &mut BTreeSet<String>,
    ) -> Result<[Bound; N], DataError> {
        let mut constants = Vec::new();
        let mut read = Vec::with_capacity(N);
        for (name, bound) in bounds {
            let key = format!("{key}.{name}");
            read.push(match &bound {
                Json::Number(number) if whole && number.is_i64() => {
                    constants.push(number.as_f64());
                    Bound::Constant(Value::from(number.as_i64()))
                }
                Json::Number(number) if !whole => {
                    constants.push(number.as_f64());
                    Bound::Constant(Value::from(number.as_f64()))
                }
                Json::String(expression) => self.expression(expression, &key, uses)?,
                other => {
                    let expected = if whole { "a whole number" } else { "a number" };
                    return Err(self.bad(&key, format!("got {other}, expected {expected}, or an expression")));
                }
            });
        }
        if constants.is_sorted() || constants.len() < N {
            return read.try_into().map_err(|_| self.bad(key, "expected two bounds"));
        }
        Err(self.bad(key, "min is above max, expected it below"))
    }

    fn day(&self, bound: String, key: &str, uses: &mut BTreeSet<String>) -> Result<Bound, DataError> {
        if bound.parse::<jiff::civil::Date>().is_ok() {
            return Ok(Bound::Constant(Value::from(bound)));
        }
        if bound.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(self.bad(key, format!("got {bound:?}, expected a day as YYYY-MM-DD, or an expression")));
        }
        self.expression(&bound, key, uses)
    }

    fn expression(&self, text: &str, key: &str, uses: &mut BTreeSet<String>) -> Result<Bound, DataError> {
        uses.extend(self.expressions.check(text).map_err(|error| self.bad(key, format!("{text:?}: {error}")))?);
        Ok(Bound::Expression(text.to_owned()))
    }

    fn decimals(&self, decimals: usize, key: &str) -> Result<(), DataError> {
        if decimals > 9 {
            return Err(self.bad(key, format!("got {decimals}, expected 0 to 9")));
        }
        Ok(())
    }

    fn some(&self, texts: &[String], key: &str) -> Result<(), DataError> {
        if texts.is_empty() || texts.iter().any(String::is_empty) {
            return Err(self.bad(key, format!("got {texts:?}, expected at least one text, none of them empty")));
        }
        Ok(())
    }

    /// The lines of a file beside the schema.
    fn lines(&self, file: &Path, key: &str) -> Result<Vec<String>, DataError> {
        let path = self.path.parent().unwrap_or(Path::new(".")).join(file);
        let lines: Vec<String> =
            text(&path)?.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if lines.is_empty() {
            return Err(self.bad(key, format!("{} has no line, expected a value a line", path.display())));
        }
        Ok(lines)
    }
}
