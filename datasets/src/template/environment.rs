//! The Jinja environment that Hugging Face gives to chat templates, on `minijinja`.
//!
//! Same white space settings, filters, functions and Python methods, so that a template renders the
//! very text that `apply_chat_template` renders. Source: `transformers/utils/chat_template_utils.py`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::civil::DateTime;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, StringInput};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, Value};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// The name under which the template stands in its environment.
pub(super) const NAME: &str = "chat template";

/// What `raise_exception` leaves in the error chain, so that the message is found again.
#[derive(Debug)]
pub(super) struct Raised(pub(super) String);

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Raised {}

/// What a template printed of the clock: the text by its format.
#[derive(Clone, Debug, Default)]
pub(super) struct Printed(Arc<Mutex<BTreeMap<String, String>>>);

impl Printed {
    /// What was printed so far.
    pub(super) fn so_far(&self) -> BTreeMap<String, String> {
        // Inserting is all that happens under the lock, so a panic elsewhere leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, format: &str, text: &str) {
        let mut printed = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !printed.contains_key(format) {
            printed.insert(format.to_owned(), text.to_owned());
        }
    }
}

/// The time in a format of C's `strftime`.
pub(super) fn strftime(format: &str, clock: DateTime) -> Result<String, jiff::Error> {
    jiff::fmt::strtime::format(format, clock)
}

/// Compiles `source` into an environment of its own; `clock` is what `strftime_now` tells, and `printed` learns it.
///
/// # Errors
/// The parser's error when the template is not valid.
pub(super) fn compile(source: String, clock: DateTime, printed: Printed) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python_method);
    environment.add_filter("trim", trim);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Raised(message)))
    });
    environment.add_function("strftime_now", move |format: &str| -> Result<String, Error> {
        let text = strftime(format, clock)
            .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now({format:?}): {error}")))?;
        printed.note(format, &text);
        Ok(text)
    });
    environment.add_template_owned(NAME, source)?;
    Ok(environment)
}

/// White space as Python's `str.strip` sees it: Unicode's, and the four separators U+001C to U+001F.
fn is_python_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// Jinja's `trim` is Python's `strip`.
#[expect(clippy::needless_pass_by_value, reason = "minijinja hands arguments over by value")]
fn trim(value: StringInput<'_>, characters: Option<String>) -> String {
    match characters {
        Some(characters) => value.as_str().trim_matches(|c| characters.contains(c)).to_owned(),
        None => value.as_str().trim_matches(is_python_space).to_owned(),
    }
}

/// Methods of Python's strings, lists and dictionaries.
fn python_method(state: &mut State, value: &Value, method: &str, args: &[Value]) -> Result<Value, Error> {
    if let (Some(text), []) = (value.as_str(), args) {
        match method {
            "strip" => return Ok(text.trim_matches(is_python_space).into()),
            "lstrip" => return Ok(text.trim_start_matches(is_python_space).into()),
            "rstrip" => return Ok(text.trim_end_matches(is_python_space).into()),
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, args)
}

/// Hugging Face's `tojson`: Python's `json.dumps`, without the HTML escapes of Jinja's own filter.
#[expect(clippy::needless_pass_by_value, reason = "minijinja hands arguments over by value")]
fn to_json(value: &Value, kwargs: Kwargs) -> Result<String, Error> {
    let failed = |error: serde_json::Error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}"));
    let indent: Option<usize> = kwargs.get("indent")?;
    let ensure_ascii: Option<bool> = kwargs.get("ensure_ascii")?;
    let sort_keys: Option<bool> = kwargs.get("sort_keys")?;
    let separators: Option<Vec<String>> = kwargs.get("separators")?;
    kwargs.assert_all_used()?;
    let (item_separator, key_separator) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: separators must be a pair"));
        }
        // Python leaves no space before a line break.
        None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
    };
    let mut json = serde_json::to_value(value).map_err(failed)?;
    if sort_keys == Some(true) {
        json.sort_all_objects();
    }
    let mut out = Vec::new();
    let formatter = PythonJson {
        indent,
        ensure_ascii: ensure_ascii == Some(true),
        item_separator,
        key_separator,
        depth: 0,
        is_empty: true,
    };
    json.serialize(&mut Serializer::with_formatter(&mut out, formatter)).map_err(failed)?;
    String::from_utf8(out).map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("tojson: {error}")))
}

/// Python's layout of JSON: a space after separators, line breaks only with an indent.
struct PythonJson {
    indent: Option<usize>,
    ensure_ascii: bool,
    item_separator: String,
    key_separator: String,
    depth: usize,
    is_empty: bool,
}

impl PythonJson {
    fn new_line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{:1$}", "", indent * self.depth),
            None => Ok(()),
        }
    }

    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &str) -> io::Result<()> {
        self.depth += 1;
        self.is_empty = true;
        writer.write_all(bracket.as_bytes())
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &str) -> io::Result<()> {
        self.depth -= 1;
        if !self.is_empty {
            self.new_line(writer)?;
        }
        self.is_empty = false;
        writer.write_all(bracket.as_bytes())
    }

    fn item<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.is_empty = false;
        if !first {
            writer.write_all(self.item_separator.as_bytes())?;
        }
        self.new_line(writer)
    }
}

impl Formatter for PythonJson {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, "[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, "]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, "{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, "}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.item(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key_separator.as_bytes())
    }

    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        if !self.ensure_ascii {
            return writer.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            if character.is_ascii() {
                write!(writer, "{character}")?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(writer, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        match escape {
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
            other => serde_json::ser::CompactFormatter.write_char_escape(writer, other),
        }
    }
}
