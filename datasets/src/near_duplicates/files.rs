//! Near-duplicates in files: they are read once to find them, and again to hand on the records that are kept.
//!
//! Between the two readings 4 bytes a record are kept beside what [`NearDuplicates`] keeps, so that files larger than
//! the memory can be gone through.

use std::io::{self, Write};
use std::path::PathBuf;

use super::{Bands, Compare, DedupConfig, DedupGroups, DedupText, NearDuplicates, SimilarPair};
use crate::conversation::{Message, Origin, Role};
use crate::error::DataError;
use crate::source::{Entry, Understood, Whole};

/// Characters shown of an example's text.
const SHOWN: usize = 160;

/// The near-duplicates of some files.
#[derive(Debug)]
pub struct DedupFiles {
    files: Vec<PathBuf>,
    /// The line of each record.
    lines: Vec<u32>,
    /// The number of the first record of each file.
    starts: Vec<usize>,
    config: DedupConfig,
    form: &'static str,
    groups: DedupGroups,
    pairs: Vec<SimilarPair>,
    bands: Bands,
    state_bytes: usize,
}

/// A group of near-duplicates, to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupExample {
    /// How many records the group has.
    pub size: usize,
    /// The first of them, that which is kept in front.
    pub members: Vec<DedupMember>,
}

/// A record of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DedupMember {
    /// Where it stands.
    pub origin: Origin,
    /// The beginning of what was compared of it.
    pub text: String,
}

impl DedupFiles {
    /// Reads files and finds their near-duplicates, within a file and across them; `progress` is told the bytes read.
    /// The records are of one form in all files: one of those that conversations have, or documents, which have a `text`.
    /// The pairs are only looked for where they are wanted. Equal seeds give equal results.
    ///
    /// # Errors
    /// [`DataError::Config`] for a value of the configuration out of range; the first file or record that cannot be
    /// read; [`DataError::Config`] for a file of another form than the first.
    pub fn find(
        files: &[PathBuf],
        config: &DedupConfig,
        seed: u64,
        with_pairs: bool,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self, DataError> {
        let mut search = NearDuplicates::new(config, seed)?;
        let (mut lines, mut starts, mut form) = (Vec::new(), Vec::new(), None);
        let mut before = 0;
        for file in files {
            starts.push(lines.len());
            let mut whole = Whole::open(file)?;
            loop {
                let batch = whole.next_batch(|entry| {
                    let line = u32::try_from(entry.origin.line).unwrap_or(u32::MAX);
                    Ok((line, compared(entry, config.compare)?))
                })?;
                let found = whole.form().unwrap_or_default();
                let first = *form.get_or_insert(found);
                if first != found {
                    return Err(DataError::Config {
                        key: file.display().to_string(),
                        got: format!("records of the form {found}"),
                        expected: format!("{first}, as in {}; give files of one form at a time", files[0].display()),
                    });
                }
                if batch.is_empty() {
                    break;
                }
                let (places, texts): (Vec<u32>, Vec<DedupText>) = batch.into_iter().unzip();
                lines.extend(places);
                search.extend(&texts);
                progress(before + whole.done_bytes());
            }
            before += whole.done_bytes();
        }
        let (bands, state_bytes) = (search.bands(), search.state_bytes());
        let pairs = if with_pairs { search.pairs() } else { Vec::new() };
        let files = files.to_vec();
        let form = form.unwrap_or_default();
        Ok(Self { files, lines, starts, config: *config, form, groups: search.groups(), pairs, bands, state_bytes })
    }

    /// What the records are: `documents`, or the name of their format.
    pub fn form(&self) -> &'static str {
        self.form
    }

    /// The groups of the records, which are numbered over all files.
    pub fn groups(&self) -> &DedupGroups {
        &self.groups
    }

    /// The similar pairs, where they were wanted; see [`NearDuplicates::pairs`].
    pub fn pairs(&self) -> &[SimilarPair] {
        &self.pairs
    }

    /// The bands chosen for the threshold.
    pub fn bands(&self) -> Bands {
        self.bands
    }

    /// The bytes that the search kept of the texts.
    pub fn state_bytes(&self) -> usize {
        self.state_bytes
    }

    /// Where a record stands.
    ///
    /// # Panics
    /// When there is no record of this number.
    pub fn origin(&self, record: usize) -> Origin {
        let file = self.starts.partition_point(|start| *start <= record) - 1;
        Origin { path: self.files[file].as_path().into(), line: self.lines[record] as usize }
    }

    /// The largest groups, each with the beginnings of its first records. The files are read again up to the last of them.
    ///
    /// # Errors
    /// When a file cannot be read again, or changed since.
    pub fn examples(&self, groups: usize, members: usize) -> Result<Vec<DedupExample>, DataError> {
        let mut largest = self.groups.groups();
        largest.sort_by_key(|group| std::cmp::Reverse(group.len()));
        largest.truncate(groups);
        let mut wanted: Vec<usize> = largest.iter().flat_map(|group| group.iter().take(members)).copied().collect();
        wanted.sort_unstable();
        let mut texts = Vec::with_capacity(wanted.len());
        let Some(&last) = wanted.last() else {
            return Ok(Vec::new());
        };
        self.again(|record, entry| {
            if wanted.binary_search(&record).is_ok() {
                texts.push(beginning(&compared(entry, self.config.compare)?));
            }
            Ok(record < last)
        })?;
        let member = |record: &usize| {
            let text = wanted.binary_search(record).ok().map(|at| texts[at].clone());
            DedupMember { origin: self.origin(*record), text: text.unwrap_or_default() }
        };
        let example = |group: &Vec<usize>| DedupExample {
            size: group.len(),
            members: group.iter().take(members).map(member).collect(),
        };
        Ok(largest.iter().map(example).collect())
    }

    /// Writes the records that are kept, one a line, as their files have them; gives their number.
    ///
    /// # Errors
    /// When a file cannot be read again, or changed since; [`DataError::Write`], which names no file, when `out` fails.
    pub fn write_kept(&self, out: &mut dyn Write) -> Result<usize, DataError> {
        let mut kept = 0;
        self.again(|record, entry| {
            if self.groups.is_kept(record) {
                let mut line = entry.into_json();
                line.push(b'\n');
                out.write_all(&line).map_err(|source| DataError::Write { path: PathBuf::new(), source })?;
                kept += 1;
            }
            Ok(true)
        })?;
        Ok(kept)
    }

    /// Goes through all records again, until `each` says that it is enough.
    fn again(&self, mut each: impl FnMut(usize, Entry<'_>) -> Result<bool, DataError>) -> Result<(), DataError> {
        let changed = |file: &PathBuf| {
            let source = io::Error::other("it changed between two readings, run it again");
            DataError::Read { path: file.clone(), source }
        };
        for (number, file) in self.files.iter().enumerate() {
            let end = self.starts.get(number + 1).copied().unwrap_or(self.lines.len());
            let mut record = self.starts[number];
            let mut whole = Whole::open(file)?;
            while let Some(entries) = whole.next_entries()? {
                for entry in entries {
                    if record >= end || u32::try_from(entry.origin.line).unwrap_or(u32::MAX) != self.lines[record] {
                        return Err(changed(file));
                    }
                    if !each(record, entry)? {
                        return Ok(());
                    }
                    record += 1;
                }
            }
            if record != end {
                return Err(changed(file));
            }
        }
        Ok(())
    }
}

/// What of a record is compared. Of a `SQuAD` record that is the question with its answer and, apart from them, the
/// context, so that questions about one text are told apart however short they are beside it.
fn compared(entry: Entry<'_>, compare: Compare) -> Result<DedupText, DataError> {
    Ok(match entry.understand()? {
        Understood::Document(text) => DedupText::document(text),
        Understood::Conversation { conversation, squad: None } => {
            DedupText::conversation(&conversation.messages, compare)
        }
        Understood::Conversation { conversation, squad: Some((question, context)) } => {
            let is_answer = |message: &&Message| message.role == Role::Assistant;
            let answer = conversation.messages.iter().find(is_answer).map(|message| message.content.as_str());
            let answer = answer.unwrap_or_default();
            match compare {
                Compare::Both => DedupText { prompt: format!("{question}\n{answer}"), answer: context },
                Compare::Prompt => DedupText { prompt: question, answer: context },
                Compare::Answer => DedupText::document(answer),
            }
        }
    })
}

fn beginning(text: &DedupText) -> String {
    let whole = if text.answer.is_empty() { text.prompt.clone() } else { format!("{} | {}", text.prompt, text.answer) };
    let words = whole.split_whitespace().collect::<Vec<_>>().join(" ");
    match words.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &words[..end]),
        None => words,
    }
}
