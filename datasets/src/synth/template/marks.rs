//! Marks around the values that a layout prints: what makes the labels exact.
//!
//! A mark is made of private-use characters, the field's name among them, so that neither a filter of a layout nor noise
//! changes it. When all is done to the text, the marks are taken out, and what stood between them is the answer.

use std::ops::Range;

const OPEN: char = '\u{e000}';
const INNER: char = '\u{e001}';
const CLOSE: char = '\u{e002}';
/// Stands between the parts of a person's name, and is a space in the end.
pub(super) const PART: char = '\u{e003}';
/// Where the characters of names begin.
const NAME: u32 = 0xe100;

/// Whether a character belongs to a mark.
pub(super) fn is_mark(c: char) -> bool {
    ('\u{e000}'..='\u{f8ff}').contains(&c)
}

/// How many characters of a text are seen.
pub(super) fn width(text: &str) -> usize {
    text.chars().filter(|c| !is_mark(*c) || *c == PART).count()
}

/// A text with the mark of a field around it; the field's name is in ASCII.
pub(super) fn marked(field: &str, text: &str) -> String {
    let name = field.chars().filter_map(|c| char::from_u32(NAME + u32::from(c)));
    [OPEN].into_iter().chain(name).chain([INNER]).chain(text.chars()).chain([CLOSE]).collect()
}

/// Changes what stands within the marks of a text, or all of it where it has none.
pub(super) fn map_inner<E>(text: &str, map: impl FnOnce(&str) -> Result<String, E>) -> Result<String, E> {
    let start = text.rfind(INNER).map_or(0, |at| at + INNER.len_utf8());
    let end = text.find(CLOSE).filter(|at| *at >= start).unwrap_or(text.len());
    Ok(format!("{}{}{}", &text[..start], map(&text[start..end])?, &text[end..]))
}

/// A value that a document prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Printed {
    /// The field.
    pub(super) field: String,
    /// Where its text stands, in bytes.
    pub(super) range: Range<usize>,
}

/// Takes the marks out: the text that one sees, and what it prints.
///
/// # Errors
/// When a mark is not whole, as when a filter of the layout cut it.
pub(super) fn unmarked(marked: &str) -> Result<(String, Vec<Printed>), &'static str> {
    const BROKEN: &str = "a filter cut a value apart; print it whole";
    let (mut text, mut printed, mut open) = (String::with_capacity(marked.len()), Vec::new(), Vec::new());
    let mut chars = marked.chars();
    while let Some(c) = chars.next() {
        match c {
            OPEN => {
                let mut field = String::new();
                loop {
                    match chars.next() {
                        Some(INNER) => break,
                        Some(c) => {
                            let ascii = u32::from(c).checked_sub(NAME).and_then(|code| u8::try_from(code).ok());
                            field.push(char::from(ascii.ok_or(BROKEN)?));
                        }
                        None => return Err(BROKEN),
                    }
                }
                open.push((field, text.len()));
            }
            CLOSE => {
                let (field, start) = open.pop().ok_or(BROKEN)?;
                let inner = &text[start..];
                let before = inner.len() - inner.trim_start().len();
                let range = start + before..start + before + inner.trim().len();
                printed.push(Printed { field, range });
            }
            PART => text.push(' '),
            c if is_mark(c) => return Err(BROKEN),
            c => text.push(c),
        }
    }
    printed.sort_by_key(|printed| printed.range.start);
    if open.is_empty() { Ok((text, printed)) } else { Err(BROKEN) }
}
