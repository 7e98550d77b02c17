//! The documents that samples are grounded in, and their passages.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter};

use super::config::DocumentsConfig;
use crate::conversation::Origin;
use crate::digest::hex;
use crate::error::{DataError, SynthError};
use crate::source::parse_line;

/// The longest document, in bytes.
const LONGEST: usize = 64 << 20;
/// The endings of files that are one document.
const TEXTS: [&str; 3] = ["txt", "md", "markdown"];

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

/// Reads documents, in the order of the sources; the files of a folder by their names.
///
/// # Errors
/// A file that cannot be read; [`SynthError::Document`] for one that is no text, too long, or empty, and for a source
/// without any document.
pub fn read_documents(sources: &[DocumentsConfig]) -> Result<Vec<Document>, DataError> {
    let mut documents = Vec::new();
    for source in sources {
        let before = documents.len();
        let limit = source.limit.unwrap_or(usize::MAX);
        for file in files(&source.path)? {
            let found = if has_ending(&file, &TEXTS) { vec![whole(&file)?] } else { lines(&file)? };
            documents.extend(found.into_iter().map(|document| Document {
                licence: document.licence.or_else(|| source.licence.clone()),
                lang: document.lang.or_else(|| source.lang.clone()),
                ..document
            }));
            documents.truncate(before.saturating_add(limit));
        }
        if documents.len() == before {
            return Err(bad(source.path.display().to_string(), "has no document, expected at least one"));
        }
    }
    Ok(documents)
}

fn bad(place: String, problem: impl Into<String>) -> DataError {
    SynthError::Document { place, problem: problem.into() }.into()
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension().and_then(|ending| ending.to_str()).is_some_and(|ending| endings.contains(&ending))
}

/// The files that a path names.
fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if !path.is_dir() {
        if !has_ending(path, &["jsonl"]) && !has_ending(path, &TEXTS) {
            let problem = "has an unknown ending, expected .jsonl, .txt or .md, or a folder of such files";
            return Err(bad(path.display().to_string(), problem));
        }
        return Ok(vec![path.to_owned()]);
    }
    let read = |source| DataError::Read { path: path.to_owned(), source };
    let entries = fs::read_dir(path).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.is_file() && (has_ending(file, &["jsonl"]) || has_ending(file, &TEXTS)));
    files.sort();
    Ok(files)
}

/// The text of a file.
///
/// # Errors
/// [`DataError::Read`]; [`SynthError::Document`] with the place of what is no UTF-8.
pub(super) fn read_text(file: &Path) -> Result<String, DataError> {
    let bytes = fs::read(file).map_err(|source| DataError::Read { path: file.to_owned(), source })?;
    let place = || file.display().to_string();
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(bad(place(), format!("is no text: byte {} is 0, expected UTF-8", at + 1)));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to() + 1;
        bad(place(), format!("is not UTF-8 at byte {at}; convert it first"))
    })?;
    Ok(text.trim_start_matches('\u{feff}').to_owned())
}

fn whole(file: &Path) -> Result<Document, DataError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    document(file.display().to_string(), name, read_text(file)?)
}

fn lines(file: &Path) -> Result<Vec<Document>, DataError> {
    let (text, path) = (read_text(file)?, Arc::<Path>::from(file));
    let mut documents = Vec::new();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let origin = Origin { path: path.clone(), line: index + 1 };
        let record = parse_line(line.as_bytes(), &origin)?;
        let field = |key: &str| match record.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Number(number)) if key == "id" => Ok(Some(number.to_string())),
            Some(value) => Err(crate::source::wrong_type(&origin, format!("{key:?}"), value, "a text")),
        };
        let Some(body) = field("text")? else {
            let keys = record.as_object().map_or_else(|| "no keys".to_owned(), crate::source::keys);
            return Err(bad(origin.to_string(), format!("a document needs the key \"text\", the record has {keys}")));
        };
        let id = field("id")?.unwrap_or_else(|| format!("{}:{}", file.display(), index + 1));
        let own = document(origin.to_string(), id, body)?;
        documents.push(Document {
            title: field("title")?,
            lang: field("lang")?,
            url: field("url")?,
            licence: field("licence")?.or(field("license")?),
            ..own
        });
    }
    Ok(documents)
}

fn document(place: String, id: String, text: String) -> Result<Document, DataError> {
    if text.trim().is_empty() {
        return Err(bad(place, "is empty, expected text; remove it"));
    }
    if text.len() > LONGEST {
        let problem = format!("has {} bytes, expected at most {LONGEST}; cut it into several documents", text.len());
        return Err(bad(place, problem));
    }
    let sha256 = hex(&Sha256::digest(&text));
    Ok(Document { id, title: None, text, lang: None, url: None, licence: None, sha256 })
}

/// Counts tokens.
pub type CountTokens<'a> = &'a (dyn Fn(&str) -> usize + Sync);

struct Sizer<'a>(CountTokens<'a>);

impl ChunkSizer for Sizer<'_> {
    fn size(&self, chunk: &str) -> usize {
        (self.0)(chunk)
    }
}

/// Words and marks, which are about as many as a usual tokenizer's tokens: for where there is no tokenizer.
pub fn words_and_marks(text: &str) -> usize {
    let mut count = 0;
    let mut in_word = false;
    for c in text.chars() {
        let is_word = c.is_alphanumeric();
        count += usize::from(is_word && !in_word || !is_word && !c.is_whitespace());
        in_word = is_word;
    }
    count
}

/// The passages of a text: as long as so many tokens allow, cut at headings, paragraphs and sentences first.
pub fn passages(text: &str, tokens: usize, count: CountTokens<'_>) -> Vec<Range<usize>> {
    let splitter = MarkdownSplitter::new(ChunkConfig::new(tokens.max(1)).with_sizer(Sizer(count)));
    splitter.chunk_indices(text).map(|(start, passage)| start..start + passage.len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &Path) -> DocumentsConfig {
        DocumentsConfig { path: path.to_owned(), licence: Some("etalab-2.0".to_owned()), lang: None, limit: None }
    }

    #[test]
    fn a_folder_has_texts_and_lines() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b.md"), "# Titre\n\nUn texte.").unwrap();
        let lines =
            "{\"id\": 7, \"text\": \"un\", \"licence\": \"CC0-1.0\", \"lang\": \"fr\"}\n\n{\"text\": \"deux\"}\n";
        fs::write(folder.path().join("a.jsonl"), lines).unwrap();
        fs::write(folder.path().join("c.pdf"), [0, 1]).unwrap();
        let found = read_documents(&[source(folder.path())]).unwrap();
        let ids: Vec<&str> = found.iter().map(|document| document.id.as_str()).collect();
        assert!(ids[0] == "7" && ids[1].ends_with("a.jsonl:3") && ids[2] == "b.md", "{ids:?}");
        assert_eq!(found[0].licence.as_deref(), Some("CC0-1.0"));
        assert_eq!(found[1].licence.as_deref(), Some("etalab-2.0"));
        let limited = DocumentsConfig { limit: Some(2), ..source(folder.path()) };
        assert_eq!(read_documents(&[limited]).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_document_is_told_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content, expected) in [
            ("a.txt", &b"ab\0c"[..], "a.txt: is no text: byte 3 is 0, expected UTF-8"),
            ("b.md", b"caf\xe9", "b.md: is not UTF-8 at byte 4; convert it first"),
            ("c.txt", b" \n", "c.txt: is empty, expected text; remove it"),
            ("d.jsonl", b"\n", "d.jsonl: has no document, expected at least one"),
            ("e.jsonl", b"{\"body\": 1}", "e.jsonl:1: a document needs the key \"text\", the record has body"),
            ("f.jsonl", b"{\"text\": 1}", "f.jsonl:1: \"text\" is the number 1, expected a text"),
            ("g.pdf", b"x", "g.pdf: has an unknown ending, expected .jsonl, .txt or .md, or a folder of such files"),
        ] {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            let error = read_documents(&[source(&path)]).unwrap_err().to_string();
            assert!(error.ends_with(expected), "{error}");
        }
    }

    #[test]
    fn passages_lie_in_the_text_and_are_no_longer_than_allowed() {
        let long = "mot ".repeat(5000);
        let sections = "# Un\n\nPremier texte, assez long. Encore.\n\n## Deux\n\nSecond texte.\n".repeat(20);
        for text in [long.as_str(), &sections, "un seul"] {
            let found = passages(text, 40, &words_and_marks);
            assert!(found.iter().all(|range| words_and_marks(&text[range.clone()]) <= 40));
            assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
            let kept: usize = found.iter().map(|range| words_and_marks(&text[range.clone()])).sum();
            assert_eq!(kept, words_and_marks(text), "nothing is left out");
        }
    }
}
