//! The documents that samples are grounded in, and their passages.

use std::ops::Range;

use text_splitter::{ChunkConfig, ChunkSizer, MarkdownSplitter};

use super::config::DocumentsConfig;
use crate::error::{DataError, RecordError};
use crate::source::document_files;

pub use crate::source::Document;

/// Reads documents, in the order of the sources; the files of a folder by their names.
///
/// # Errors
/// A file that cannot be read; [`RecordError::Document`] for one that is no text, too long, or empty, and for a source
/// without any document.
pub fn read_documents(sources: &[DocumentsConfig]) -> Result<Vec<Document>, DataError> {
    let mut documents = Vec::new();
    for source in sources {
        let before = documents.len();
        let limit = source.limit.unwrap_or(usize::MAX);
        for file in document_files(&source.path)? {
            let found = Document::read(&file)?;
            documents.extend(found.into_iter().map(|document| Document {
                licence: document.licence.or_else(|| source.licence.clone()),
                lang: document.lang.or_else(|| source.lang.clone()),
                ..document
            }));
            documents.truncate(before.saturating_add(limit));
        }
        if documents.len() == before {
            let (place, problem) = (source.path.display().to_string(), "has no document, expected at least one");
            return Err(RecordError::Document { place, problem: problem.to_owned() }.into());
        }
    }
    Ok(documents)
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
    use std::fs;
    use std::path::Path;

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
            ("b.md", b"caf\xe9", "b.md:1: byte 4 of the line is not valid UTF-8, save the file as UTF-8"),
            ("c.txt", b" \n", "c.txt: is empty, expected text; remove it"),
            ("d.jsonl", b"\n", "d.jsonl: has no document, expected at least one"),
            ("e.jsonl", b"{\"body\": 1}", "e.jsonl:1: a document needs the key \"text\", the record has body"),
            ("f.jsonl", b"{\"text\": 1}", "f.jsonl:1: \"text\" is the number 1, expected a text"),
            ("h.jsonl", b"{\"text\": null}", "h.jsonl:1: \"text\" is null, expected a text"),
            ("i.JSONL", b"[{\"text\": \"a\"}, {}]", "(record 2 of the file)"),
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
