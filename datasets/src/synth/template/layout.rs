//! Layouts: Jinja files that print the values of a document, each within its mark.
//!
//! A layout sees each field by its name: a text in its mark, a section, a list, true or false, or none where the document
//! does not have it. The filters of this file know marks, and give none for none; `pick`, `chance` and `shuffle` draw.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::civil::Date;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Rest;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, UndefinedBehavior, Value, escape_formatter};
use sha2::{Digest as _, Sha256};

use super::draw::Drawn;
use super::expression::said;
use super::marks::{PART, map_inner, marked, width};
use super::schema::{Fields, Rule, bad, text};
use crate::digest::hex;
use crate::error::{DataError, SynthError, closest, did_you_mean};
use crate::screen::{Draw, MONTHS};
use crate::source::files_in;

/// What layouts can call, each drawing from the document's seed.
const DRAWING: [&str; 3] = ["pick", "chance", "shuffle"];

/// The layouts of a schema.
pub(super) struct Layouts {
    environment: Environment<'static>,
    /// In the order in which the schema names them, files of a folder by name.
    pub(super) all: Vec<Layout>,
}

/// A layout.
pub(super) struct Layout {
    pub(super) path: PathBuf,
    /// The file's name.
    file: String,
    /// Its name without ending, and the first 8 digits of the SHA-256 of its text and of the texts it may include.
    pub(super) version: String,
}

impl Layouts {
    /// Reads layouts, and checks what they print.
    pub(super) fn read(schema: &Path, listed: &[PathBuf], fields: &Fields, lang: &str) -> Result<Self, DataError> {
        let mut environment = environment(lang);
        let mut files = Vec::new();
        for path in listed {
            if path.is_dir() {
                files.extend(files_in(path, |file| file.extension().is_some_and(|ending| ending == "jinja"))?);
            } else {
                files.push(path.clone());
            }
        }
        let mut shared = Sha256::new();
        let (mut read, mut names) = (Vec::new(), BTreeSet::new());
        for path in files {
            let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let source = text(&path)?;
            if !names.insert(file.clone()) {
                return Err(bad(schema, "layouts", format!("two are called {file}, expected a name for each")));
            }
            environment.add_template_owned(file.clone(), source.clone()).map_err(|error| wrong(&path, &error))?;
            if file.starts_with('_') {
                shared.update(&source);
            }
            read.push((path, file, source));
        }
        let mut all = Vec::new();
        for (path, file, source) in read {
            check(&environment, &path, (&file, &source), fields)?;
            if file.starts_with('_') {
                continue;
            }
            let digest = hex(&shared.clone().chain_update(source).finalize());
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            all.push(Layout { version: format!("{stem}@{}", &digest[..8]), path, file });
        }
        if all.is_empty() {
            return Err(bad(schema, "layouts", "names no layout, expected at least one file that ends with .jinja"));
        }
        Ok(Self { environment, all })
    }

    /// The marked text of a document, without the fields that are withheld.
    pub(super) fn render(
        &self,
        layout: &Layout,
        values: &[(String, Drawn)],
        withheld: &BTreeSet<String>,
        draw: Draw,
    ) -> Result<String, DataError> {
        let fields = values.iter().map(|(name, drawn)| (name.clone(), shown(drawn, name, withheld)));
        let context = Value::from_pairs(fields.chain(drawing(draw)));
        let template = self.environment.get_template(&layout.file).map_err(|error| wrong(&layout.path, &error))?;
        let text = template.render(context).map_err(|error| wrong(&layout.path, &error))?;
        Ok(text.trim().to_owned())
    }
}

/// Checks that every name that a layout uses is a field or a function.
fn check(
    environment: &Environment<'_>,
    path: &Path,
    (file, source): (&str, &str),
    fields: &Fields,
) -> Result<(), DataError> {
    let template = environment.get_template(file).map_err(|error| wrong(path, &error))?;
    let globals: BTreeSet<&str> = environment.globals().map(|(name, _)| name).chain(DRAWING).collect();
    let mut used: Vec<String> = template.undeclared_variables(true).into_iter().collect();
    used.sort();
    for name in used {
        let mut parts = name.split('.');
        let root = parts.next().unwrap_or_default();
        if globals.contains(root) {
            continue;
        }
        let (mut within, mut at) = (Some(fields), root);
        let mut known = fields.get(root).is_some();
        for part in parts {
            within = match within.and_then(|fields| fields.get(at)).map(|field| &field.rule) {
                Some(Rule::Record(fields)) => Some(fields),
                // What a choice or a list has is seen when it is rendered.
                _ => break,
            };
            at = part;
            known = within.is_some_and(|fields| fields.get(part).is_some());
        }
        if !known {
            let names = within.into_iter().flat_map(Fields::names);
            let hint = did_you_mean(closest(at, names));
            let line = source.lines().position(|line| line.contains(at)).map_or(1, |line| line + 1);
            let problem = format!("uses {name:?}, which is no field of the schema{hint}");
            return Err(SynthError::Layout { path: path.to_owned(), line, problem }.into());
        }
    }
    Ok(())
}

/// A value as layouts see it.
fn shown(drawn: &Drawn, path: &str, withheld: &BTreeSet<String>) -> Value {
    if withheld.contains(path) {
        return Value::from(());
    }
    match drawn {
        Drawn::Absent => Value::from(()),
        Drawn::Flag(flag) => Value::from(*flag),
        Drawn::Leaf(_, text) => Value::from(marked(path, text)),
        Drawn::Record(fields) => Value::from_pairs(
            fields.iter().map(|(name, drawn)| (name.clone(), shown(drawn, &format!("{path}.{name}"), withheld))),
        ),
        Drawn::List(items) => {
            let items = items.iter().enumerate();
            items.map(|(index, item)| shown(item, &format!("{path}[{index}]"), withheld)).collect::<Vec<_>>().into()
        }
    }
}

/// The functions that draw.
fn drawing(draw: Draw) -> [(String, Value); 3] {
    let draw = Arc::new(Mutex::new(draw));
    let below = move |bound: usize| draw.lock().unwrap_or_else(PoisonError::into_inner).below(bound);
    let (one, order) = (below.clone(), below.clone());
    let pick = Value::from_function(move |values: Rest<Value>| match values.len() {
        0 => Err(failed("pick() has nothing to pick from, expected at least one value")),
        count => Ok(values[one(count)].clone()),
    });
    let chance = Value::from_function(move |share: f64| (below(1 << 30) as f64) < share * f64::from(1_u32 << 30));
    let shuffle = Value::from_function(move |values: Vec<Value>| {
        let mut values = values;
        for last in (1..values.len()).rev() {
            values.swap(last, order(last + 1));
        }
        values
    });
    let named = |(name, value): (&str, Value)| (name.to_owned(), value);
    [("pick", pick), ("chance", chance), ("shuffle", shuffle)].map(named)
}

/// The environment of layouts.
fn environment(lang: &str) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the default delimiters are sound"));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // An endless loop in a file ends as an error.
    environment.set_fuel(Some(10_000_000));
    environment.set_formatter(|out, state, value| {
        if value.is_none() {
            let remedy = "use the filter within or default(…, true), or {% if … is not none %}";
            return Err(failed(format!("a value is printed that the document does not have; {remedy}")));
        }
        if matches!(value.kind(), minijinja::value::ValueKind::Bool) {
            return Err(failed("true or false is printed, which is for conditions alone; use {% if … %}"));
        }
        escape_formatter(out, state, value)
    });
    let french = lang == "fr";
    environment.add_filter("date", move |value: &Value, format: &str| {
        some(value, |text| map_inner(text, |day| date(day, format, french)))
    });
    environment.add_filter("number", |value: &Value, mark: &str, decimals: Option<usize>| {
        some(value, |text| map_inner(text, |number| written(number, mark, decimals)))
    });
    environment.add_filter("name", |value: &Value, form: &str| {
        some(value, |text| map_inner(text, |name| Ok(named(name, form))))
    });
    environment.add_filter("within", |value: &Value, form: &str| {
        if value.is_none() { Value::from("") } else { Value::from(form.replace("{}", &value.to_string())) }
    });
    environment.add_filter("tells", |value: &Value, field: &str| some(value, |text| Ok(marked(field, text))));
    environment.add_filter("upper", |value: &Value| some(value, |text| Ok(text.to_uppercase())));
    environment.add_filter("lower", |value: &Value| some(value, |text| Ok(text.to_lowercase())));
    environment.add_filter("ljust", |value: &Value, columns: usize| {
        some(value, |text| Ok(format!("{text}{}", padding(text, columns))))
    });
    environment.add_filter("rjust", |value: &Value, columns: usize| {
        some(value, |text| Ok(format!("{}{text}", padding(text, columns))))
    });
    environment
}

/// The spaces that a text lacks to a width of at most 1000.
fn padding(text: &str, columns: usize) -> String {
    " ".repeat(columns.min(1000).saturating_sub(width(text)))
}

/// None for none, and else what is made of the text.
fn some(value: &Value, map: impl FnOnce(&str) -> Result<String, Error>) -> Result<Value, Error> {
    if value.is_none() { Ok(value.clone()) } else { map(&value.to_string()).map(Value::from) }
}

fn failed(problem: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, problem.into())
}

/// A day in a format of C's `strftime`, or `long`: the way the language writes it out.
fn date(day: &str, format: &str, french: bool) -> Result<String, Error> {
    const SHORT: [&str; 12] =
        ["janv.", "févr.", "mars", "avr.", "mai", "juin", "juil.", "août", "sept.", "oct.", "nov.", "déc."];
    let parsed: Date = day.parse().map_err(|_| failed(format!("date: got {day:?}, expected a day as YYYY-MM-DD")))?;
    let format = match (format, french) {
        // The first of a month alone is an ordinal number in French.
        ("long", true) if parsed.day() == 1 => "1er %B %Y",
        ("long", _) => "%-d %B %Y",
        (format, _) => format,
    };
    let month = usize::from(parsed.month().unsigned_abs()) - 1;
    let format =
        if french { format.replace("%B", MONTHS[0][month]).replace("%b", SHORT[month]) } else { format.to_owned() };
    jiff::fmt::strtime::format(&format, parsed).map_err(|error| failed(format!("date({format:?}): {error}")))
}

/// A number with another decimal mark, and as many digits after it.
fn written(number: &str, mark: &str, decimals: Option<usize>) -> Result<String, Error> {
    let parsed: f64 = number.parse().map_err(|_| failed(format!("number: got {number:?}, expected a number")))?;
    let text = decimals.map_or_else(|| number.to_owned(), |decimals| format!("{parsed:.0$}", decimals.min(9)));
    Ok(text.replace('.', mark))
}

/// A person's name in a form such as `{FAMILY} {Given}` or `{G}. {Family}`.
fn named(name: &str, form: &str) -> String {
    let (given, family) = name.split_once(PART).unwrap_or(("", name));
    let initial: String = given.chars().take(1).collect();
    let parts = [
        ("{Given}", given.to_owned()),
        ("{GIVEN}", given.to_uppercase()),
        ("{Family}", family.to_owned()),
        ("{FAMILY}", family.to_uppercase()),
        ("{G}", initial),
    ];
    parts.iter().fold(form.to_owned(), |text, (part, value)| text.replace(part, value))
}

/// The error of a layout with its line.
fn wrong(path: &Path, error: &Error) -> DataError {
    // An error in an included file names that file.
    let folder = path.parent().unwrap_or(Path::new("."));
    let path = error.name().map_or_else(|| path.to_owned(), |name| folder.join(name));
    SynthError::Layout { path, line: error.line().unwrap_or(1), problem: said(error) }.into()
}
