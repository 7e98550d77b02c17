//! Which samples a run learned from: a line for each, from its place in a source to the times it was trained on.
//!
//! [`Lineage`] is what a record says of where it comes from. It is kept beside the tokens, so that it is there whether
//! they were made now or by an earlier run. [`Prepared::samples`](crate::Prepared::samples) adds place and counts;
//! [`write_samples`] is the one place that writes such lines, and [`read_samples`] the one that reads them. Neither holds
//! more than one in memory.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::conversation::{Message, Origin};
use crate::digest::{hex, name_of};
use crate::error::{DataError, RecordError};
use crate::screen::{Action, Screened};
use crate::source::Whole;

/// What a record says of where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lineage {
    /// The record's own `id`, a text or a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What it was made from.
    #[serde(flatten)]
    pub ancestry: Ancestry,
}

/// What a record was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ancestry {
    /// `grounding.document`: the document that it rests on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// `grounding.document_sha256`: the SHA-256 of the document's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document_sha256: Option<String>,
    /// `grounding.url`: the document's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// `grounding.licence`: the document's licence; that of the source stands with the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// `provenance.parents`: the ids of the records that it was made after.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
}

impl Lineage {
    /// Reads it from a record of any form. What is not of the form of a [`Sample`](crate::synth::sample::Sample) says nothing:
    /// others use these names for other things.
    pub(crate) fn of(record: &Map<String, Value>) -> Self {
        let id = match record.get("id") {
            Some(Value::String(id)) if !id.is_empty() => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        let grounding = record.get("grounding");
        let text = |key: &str| grounding?.get(key)?.as_str().map(str::to_owned);
        let parents = record.get("provenance").and_then(|provenance| provenance.get("parents")?.as_array());
        let ancestry = Ancestry {
            document: text("document"),
            document_sha256: text("document_sha256"),
            url: text("url"),
            licence: text("licence"),
            parents: parents.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        };
        Self { id, ancestry }
    }

    /// The keys `grounding` and `provenance` of a record that is made after this one.
    pub fn of_child(&self) -> Map<String, Value> {
        let Ancestry { document, document_sha256, url, licence, .. } = &self.ancestry;
        let document =
            [("document", document), ("document_sha256", document_sha256), ("url", url), ("licence", licence)];
        let known = document.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text.as_deref()?.into())));
        let grounding: Map<String, Value> = known.collect();
        let parents: Vec<Value> = self.id.iter().map(|id| id.as_str().into()).collect();
        let provenance = Map::from_iter([("parents".to_owned(), parents.into())]);
        let keys = [("grounding", grounding), ("provenance", provenance)].into_iter();
        keys.filter(|(_, fields)| !fields.is_empty()).map(|(key, fields)| (key.to_owned(), fields.into())).collect()
    }

    /// With the name that a record without an own one gets: the first 16 digits of the SHA-256 over its messages, as a
    /// [`Sample`](crate::synth::sample::Sample) is named.
    #[must_use]
    pub fn named(self, messages: &[Message]) -> Self {
        let id = self.id.unwrap_or_else(|| name_of(messages));
        Self { id: Some(id), ..self }
    }
}

/// What a run does with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// It is learned.
    Train,
    /// The run is judged by it; nothing is learned from it.
    Validation,
    /// It is learned beside the task, to keep what the base knows.
    Replay,
}

impl Split {
    /// The name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Replay => "replay",
        }
    }
}

/// One sample of a run: a line of `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SampleRecord {
    /// What the run does with it.
    pub split: Split,
    /// The record's own name, or the first 16 digits of the SHA-256 over its messages as its file has them.
    pub id: String,
    /// SHA-256 over its messages as they are learned: screened, with the recipe's system message.
    pub sha256: String,
    /// The file, as the recipe names it.
    pub source: PathBuf,
    /// The line or row of the file, counted from 1.
    pub line: usize,
    /// How many times it was trained on.
    pub seen: u64,
    /// What it was made from.
    #[serde(flatten)]
    pub ancestry: Ancestry,
}

impl SampleRecord {
    pub(crate) fn new(split: Split, sha256: String, origin: &Origin, seen: u64, lineage: Lineage) -> Self {
        let Lineage { id, ancestry } = lineage;
        let (source, line) = (origin.path.to_path_buf(), origin.line);
        Self { split, id: id.unwrap_or_default(), sha256, source, line, seen, ancestry }
    }
}

/// A file that samples come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// What the run does with these samples.
    pub split: Split,
    /// The file, as the recipe names it.
    pub path: PathBuf,
    /// SHA-256 of the file; none for one that can be read but once, such as a pipe, or that changed under the reader.
    pub sha256: Option<String>,
    /// Its licence, as the recipe says.
    pub licence: Option<String>,
    /// How many samples come from it.
    pub samples: u64,
}

/// What screening did to the samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScreeningRecord {
    /// What was done with what was found.
    pub action: Action,
    /// How often each kind was found.
    pub found: Screened,
}

/// What was written to a file of samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SamplesFile {
    /// Its lines.
    pub samples: u64,
    /// Those that were trained on at least once.
    pub learned: u64,
    /// SHA-256 of the file.
    pub sha256: String,
}

/// Writes samples, a JSON object a line.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_samples(out: &mut dyn Write, records: impl IntoIterator<Item = SampleRecord>) -> io::Result<SamplesFile> {
    let (mut hash, mut samples, mut learned) = (Sha256::new(), 0, 0);
    let mut line = Vec::new();
    for record in records {
        line.clear();
        serde_json::to_writer(&mut line, &record)?;
        line.push(b'\n');
        hash.update(&line);
        out.write_all(&line)?;
        samples += 1;
        learned += u64::from(record.seen > 0);
    }
    Ok(SamplesFile { samples, learned, sha256: hex(&hash.finalize()) })
}

/// Reads what [`write_samples`] wrote, one record after the other.
///
/// # Errors
/// When the file cannot be read; [`RecordError::Json`] with the line that is no record of a sample.
pub fn read_samples(path: &Path, mut visit: impl FnMut(SampleRecord)) -> Result<(), DataError> {
    let failed = |source| DataError::Read { path: path.to_owned(), source };
    let file = BufReader::with_capacity(1 << 18, File::open(path).map_err(failed)?);
    for (number, line) in file.lines().enumerate() {
        let line = line.map_err(failed)?;
        let record = serde_json::from_str(&line).map_err(|error| {
            DataError::Record(RecordError::Json {
                origin: Origin { path: path.into(), line: number + 1 },
                column: error.column(),
                message: error.to_string(),
                remedy: "",
            })
        })?;
        visit(record);
    }
    Ok(())
}

/// The record at a place, as its file has it; `None` where there is none.
///
/// # Errors
/// When the file cannot be read up to there.
pub fn source_record(path: &Path, line: usize) -> Result<Option<Value>, DataError> {
    let mut whole = Whole::open(path)?;
    while let Some(mut entries) = whole.next_entries()? {
        if let Some(entry) = entries.find(|entry| entry.origin.line == line) {
            return Ok(serde_json::from_slice(&entry.into_json()).ok());
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::conversation::Role;
    use crate::synth::sample::{Grounding, Provenance, Sample};

    fn lineage(record: &Value) -> Lineage {
        Lineage::of(record.as_object().unwrap())
    }

    fn messages() -> Vec<Message> {
        let message = |role, content: &str| Message { role, content: content.to_owned() };
        vec![message(Role::User, "Où ? \"là\""), message(Role::Assistant, "Ici.\n")]
    }

    #[test]
    fn a_record_says_what_a_sample_says_and_anything_else_says_nothing() {
        let sample = Sample::new(
            messages(),
            Some(Grounding {
                document: "a.md".to_owned(),
                document_sha256: "00ff".to_owned(),
                url: Some("https://example.org/a".to_owned()),
                licence: Some("CC0-1.0".to_owned()),
                context: String::new(),
                context_start: 0,
                question: String::new(),
                answer: None,
            }),
            Provenance {
                method: "paraphrase".to_owned(),
                prompt: String::new(),
                teacher: None,
                revision: None,
                seed: 0,
                answers: Vec::new(),
                parents: vec!["p".to_owned()],
                outputs_licence: None,
                filters: Vec::new(),
            },
        );
        let said = lineage(&serde_json::to_value(&sample).unwrap());
        let text = |text: &str| Some(text.to_owned());
        let ancestry = Ancestry {
            document: text("a.md"),
            document_sha256: text("00ff"),
            url: text("https://example.org/a"),
            licence: text("CC0-1.0"),
            parents: vec!["p".to_owned()],
        };
        let expected = Lineage { id: Some(sample.id.clone()), ancestry: ancestry.clone() };
        assert_eq!(said, expected);
        // What is made after it is of the same document.
        let child = Lineage::of(&expected.of_child());
        let parents = vec![sample.id.clone()];
        assert_eq!(child, Lineage { id: None, ancestry: Ancestry { parents, ..ancestry } });
        // A record without a name gets the one that a sample of these messages has.
        assert_eq!(Lineage::default().named(&messages()).id, Some(sample.id));
        assert_eq!(lineage(&json!({"id": 17})).named(&messages()).id, text("17"));
        for other in [
            json!({"id": ["a"], "grounding": "text", "provenance": "web"}),
            json!({"id": "", "grounding": {"document": 3}, "provenance": {"parents": "p"}}),
            json!({"provenance": {"parents": [1, null]}}),
            json!({"id": null, "grounding": null, "provenance": null}),
        ] {
            assert_eq!(lineage(&other), Lineage::default(), "{other}");
        }
    }

    #[test]
    fn the_lines_and_lineages_of_earlier_versions_are_read_and_written_as_they_were() {
        // What was written when both types had all keys themselves.
        const OWN: &str =
            r#""id":"é","document":"a.md","document_sha256":"00ff","url":"u","licence":"CC0-1.0","parents":["p"]"#;
        let rest = OWN.split_once(',').unwrap().1;
        let place = r#""split":"train","id":"é","sha256":"ab","source":"a.jsonl","line":7,"seen":3"#;
        for (lineage, line) in [
            (format!("{{{OWN}}}"), format!("{{{place},{rest}}}")),
            (r#"{"id":"é"}"#.to_owned(), format!("{{{place}}}")),
        ] {
            let read: Lineage = serde_json::from_str(&lineage).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), lineage);
            let record: SampleRecord = serde_json::from_str(&line).unwrap();
            assert_eq!(serde_json::to_string(&record).unwrap(), line);
            let origin = Origin { path: Path::new("a.jsonl").into(), line: 7 };
            assert_eq!(record, SampleRecord::new(Split::Train, "ab".to_owned(), &origin, 3, read));
        }
        for (wrong, expected) in [
            (format!("{{{place},\"grade\":1}}"), "unknown field `grade`"),
            (format!("{{{place},\"url\":1}}"), "invalid type: integer `1`, expected a string"),
            (place.replace("\"id\":\"é\",", "").replacen('"', "{\"", 1) + "}", "missing field `id`"),
        ] {
            let error = serde_json::from_str::<SampleRecord>(&wrong).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_a_bad_line_is_named() {
        let record = |line: usize, seen| {
            let origin = Origin { path: Path::new("a.jsonl").into(), line };
            let lineage = Lineage { id: Some(format!("é{line}")), ..Lineage::default() };
            SampleRecord::new(Split::Train, "ab".to_owned(), &origin, seen, lineage)
        };
        let records = [record(1, 0), record(2, 3)];
        let mut bytes = Vec::new();
        let written = write_samples(&mut bytes, records.clone()).unwrap();
        assert_eq!((written.samples, written.learned), (2, 1));
        assert_eq!(written.sha256, hex(&Sha256::digest(&bytes)));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.jsonl");
        std::fs::write(&path, &bytes).unwrap();
        let mut read = Vec::new();
        read_samples(&path, |record| read.push(record)).unwrap();
        assert_eq!(read, records);
        std::fs::write(&path, [&bytes[..], b"{\"split\": \"test\"}\n"].concat()).unwrap();
        let error = read_samples(&path, drop).unwrap_err().to_string();
        assert!(error.contains("samples.jsonl:3:") && error.contains("unknown variant `test`"), "{error}");
    }
}
