//! Documents: texts with a name, and where they say so a title, a language, an address and a licence.
//!
//! A file of plain text or Markdown is one document, a file of JSON Lines has one on each line, under the key `text`.
//! What is made from documents reads them here; records of which only the text is wanted are read with [`text_of`].

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::format::{self, ending, is_lines, object};
use super::jsonl::read_text;
use super::record::{keys, wrong_type};
use super::stream::Raw;
use crate::conversation::Origin;
use crate::digest::hex;
use crate::error::{DataError, RecordError};

/// The longest document, in bytes.
const LONGEST: usize = 64 << 20;

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its name, or its place where it has none.
    pub id: String,
    /// Its title, where it has one.
    pub title: Option<String>,
    /// The text.
    pub text: String,
    /// Its language, where it is known.
    pub lang: Option<String>,
    /// Its address, where it has one.
    pub url: Option<String>,
    /// Its licence, where it is known.
    pub licence: Option<String>,
    /// SHA-256 of the text.
    pub sha256: String,
}

impl Document {
    /// The documents of a file, none of them empty or too long.
    pub(crate) fn read(file: &Path) -> Result<Vec<Self>, DataError> {
        if is_text(file) {
            let id = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Ok(vec![Self::new(&file.display().to_string(), id, read_plain(file)?)?]);
        }
        let name: Arc<Path> = file.into();
        let mut records = format::open(file, &name)?;
        let mut documents = Vec::new();
        while let Some(Raw { line, content }) = records.next()? {
            documents
                .push(content.read(Origin { path: name.clone(), line }, |value, origin| Self::of(value, &origin))?);
        }
        Ok(documents)
    }

    fn of(record: &Value, origin: &Origin) -> Result<Self, DataError> {
        let fields = object(record, origin)?;
        // A null counts as absent.
        let field = |key: &str| match fields.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) if key == "id" => Ok(Some(number.to_string())),
            Some(value) => Err(wrong_type(origin, format!("{key:?}"), value, "a text")),
        };
        let place = origin.to_string();
        Ok(Self {
            title: field("title")?,
            lang: field("lang")?,
            url: field("url")?,
            licence: field("licence")?.or(field("license")?),
            ..Self::new(&place, field("id")?.unwrap_or_else(|| place.clone()), text_of(record, origin)?.to_owned())?
        })
    }

    fn new(place: &str, id: String, text: String) -> Result<Self, DataError> {
        if text.trim().is_empty() {
            return Err(bad(place, "is empty, expected text; remove it"));
        }
        if text.len() > LONGEST {
            let problem =
                format!("has {} bytes, expected at most {LONGEST}; cut it into several documents", text.len());
            return Err(bad(place, problem));
        }
        let sha256 = hex(&Sha256::digest(&text));
        Ok(Self { id, title: None, text, lang: None, url: None, licence: None, sha256 })
    }
}

/// The text of a record that is a document.
pub(super) fn text_of<'a>(record: &'a Value, origin: &Origin) -> Result<&'a str, DataError> {
    let fields = object(record, origin)?;
    match fields.get("text") {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(wrong_type(origin, "\"text\"", other, "a text")),
        None => {
            let problem = format!("a document needs the key \"text\", the record has {}", keys(fields));
            Err(bad(&origin.to_string(), problem))
        }
    }
}

/// The text of a file that is no JSON.
pub(crate) fn read_plain(file: &Path) -> Result<String, DataError> {
    let text = read_text(file, &file.into())?;
    if let Some(at) = text.find('\0') {
        let problem = format!("is no text: byte {} is 0, expected UTF-8", at + 1);
        return Err(bad(&file.display().to_string(), problem));
    }
    Ok(text)
}

/// The files of documents that a path names: itself, or those in the folder.
pub(crate) fn document_files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let has_documents = |file: &Path| is_text(file) || is_lines(&ending(file));
    if path.is_dir() {
        return files_in(path, has_documents);
    }
    if !has_documents(path) {
        let problem = "has an unknown ending, expected .jsonl, .txt or .md, or a folder of such files";
        return Err(bad(&path.display().to_string(), problem));
    }
    Ok(vec![path.to_owned()])
}

/// The files in a folder that are wanted, by their names.
pub(crate) fn files_in(folder: &Path, is_wanted: impl Fn(&Path) -> bool) -> Result<Vec<PathBuf>, DataError> {
    let read = |source| DataError::Read { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.is_file() && is_wanted(file));
    files.sort();
    Ok(files)
}

/// Whether a file is one document, by its ending.
fn is_text(file: &Path) -> bool {
    matches!(ending(file).as_str(), "txt" | "md" | "markdown")
}

fn bad(place: &str, problem: impl Into<String>) -> DataError {
    RecordError::Document { place: place.to_owned(), problem: problem.into() }.into()
}
