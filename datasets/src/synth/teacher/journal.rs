//! The answers that were given, one JSON object a line: what was paid for is written to the disk before it is used.
//!
//! The file is only ever added to. A line that a kill cut off is dropped when it is opened again; a second program that
//! opens it is refused. Of several processes that make a set together the first one has the file, and all have the answers.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Completion, Identity, Request, Spent, key};
use crate::error::{DataError, SynthError};
use crate::peers::{Peers, exchange};

/// The answers of a set of samples.
#[derive(Debug)]
pub struct Journal {
    /// Where it is kept; `None` where another process does so.
    kept: Option<(PathBuf, File)>,
    answers: HashMap<String, Completion>,
    spent: Spent,
}

/// One line.
#[derive(Serialize, Deserialize)]
struct Line<'a> {
    key: Cow<'a, str>,
    teacher: Cow<'a, Identity>,
    request: Cow<'a, Request>,
    completion: Cow<'a, Completion>,
}

impl Journal {
    /// Opens the journal of a set, or begins one; the first process does, and the others have its answers.
    ///
    /// # Errors
    /// As [`Self::open`]; [`DataError::Peer`].
    pub fn open_together(path: &Path, peers: &dyn Peers) -> Result<Self, DataError> {
        let own = if peers.rank() == 0 { Some(Self::open(path)?) } else { None };
        if peers.ranks() == 1
            && let Some(own) = own
        {
            return Ok(own);
        }
        let mut all: Vec<Option<(HashMap<String, Completion>, Spent)>> =
            exchange(peers, &own.as_ref().map(|own| (&own.answers, own.spent)))?;
        let (answers, spent) = all.swap_remove(0).unwrap_or_default();
        Ok(own.unwrap_or(Self { kept: None, answers, spent }))
    }

    /// Opens the journal of a set, or begins one.
    ///
    /// # Errors
    /// [`DataError::Write`] and [`DataError::Read`]; [`SynthError::Journal`] for a line in the middle that is none, and
    /// [`SynthError::Locked`] while another program has it open.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let write = |source| DataError::Write { path: path.to_owned(), source };
        let read = |source| DataError::Read { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(write)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SynthError::Locked { path: path.to_owned() }.into()),
            Err(TryLockError::Error(source)) => return Err(write(source)),
        }
        let (mut answers, mut spent, mut sound) = (HashMap::new(), Spent::default(), 0);
        let mut reader = BufReader::new(&mut file);
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let count = reader.read_until(b'\n', &mut line).map_err(read)?;
            if count == 0 {
                break;
            }
            match serde_json::from_slice::<Line<'_>>(&line) {
                Ok(Line { key, completion, .. }) if line.ends_with(b"\n") => {
                    spent.add(Spent::of(&completion));
                    answers.insert(key.into_owned(), completion.into_owned());
                    sound += count as u64;
                }
                // What a kill cut off is at the end.
                _ if !line.ends_with(b"\n") => break,
                Ok(_) => unreachable!("both ends of the line are matched above"),
                Err(error) => {
                    let reason = error.to_string();
                    return Err(SynthError::Journal { path: path.to_owned(), line: number, reason }.into());
                }
            }
        }
        file.set_len(sound).map_err(write)?;
        file.seek(SeekFrom::End(0)).map_err(write)?;
        Ok(Self { kept: Some((path.to_owned(), file)), answers, spent })
    }

    /// The answer under a key.
    pub fn get(&self, key: &str) -> Option<&Completion> {
        self.answers.get(key)
    }

    /// What all answers took.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Keeps the answers of some requests, in one piece; on the disk when this returns.
    ///
    /// # Errors
    /// [`DataError::Write`], for instance on a full disk.
    pub(super) fn put(&mut self, identity: &Identity, made: &[(&Request, Completion)]) -> Result<(), DataError> {
        let keys: Vec<String> = made.iter().map(|(request, _)| key(identity, request)).collect();
        if let Some((path, file)) = self.kept.as_mut().filter(|_| !made.is_empty()) {
            let mut text = Vec::new();
            for ((request, completion), key) in made.iter().zip(&keys) {
                let line = Line {
                    key: Cow::Borrowed(key),
                    teacher: Cow::Borrowed(identity),
                    request: Cow::Borrowed(request),
                    completion: Cow::Borrowed(completion),
                };
                serde_json::to_writer(&mut text, &line).expect("plain data");
                text.push(b'\n');
            }
            let written = file.write_all(&text).and_then(|()| file.sync_data());
            written.map_err(|source| DataError::Write { path: path.clone(), source })?;
        }
        for (key, (_, completion)) in keys.into_iter().zip(made) {
            self.spent.add(Spent::of(completion));
            self.answers.insert(key, completion.clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::teacher::{Prompt, Sampling};

    fn request(text: &str) -> Request {
        let sampling = Sampling { temperature: 0.7, top_p: 1.0, max_tokens: 8, seed: 1, stop: Vec::new() };
        Request { prompt: Prompt::Text(text.to_owned()), sampling }
    }

    fn teacher() -> Identity {
        Identity { model: "m".to_owned(), revision: None, at: "local".to_owned() }
    }

    fn completion(text: &str) -> Completion {
        Completion { text: text.to_owned(), finished: true, prompt_tokens: 3, completion_tokens: 2 }
    }

    #[test]
    fn answers_outlive_the_program_and_a_line_that_was_cut_off_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        for text in ["é\n", "b"] {
            journal.put(&teacher(), &[(&request(text), completion(text))]).unwrap();
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for cut in 1..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let mut journal = Journal::open(&path).unwrap();
            let lines = whole[..cut].split(|byte| *byte == b'\n').count() as u64 - 1;
            assert_eq!(
                journal.spent(),
                Spent { requests: lines, prompt_tokens: 3 * lines, completion_tokens: 2 * lines }
            );
            // What is added goes after whole lines.
            journal.put(&teacher(), &[(&request("c"), completion("c"))]).unwrap();
            drop(journal);
            let journal = Journal::open(&path).unwrap();
            assert_eq!(journal.spent().requests, lines + 1);
            assert_eq!(journal.get(&key(&teacher(), &request("c"))), Some(&completion("c")));
        }
    }

    #[test]
    fn another_request_or_teacher_is_another_answer() {
        let own = key(&teacher(), &request("a"));
        assert_ne!(own, key(&teacher(), &request("b")));
        assert_ne!(own, key(&Identity { model: "n".to_owned(), ..teacher() }, &request("a")));
        let mut colder = request("a");
        colder.sampling.temperature = 0.6;
        assert_ne!(own, key(&teacher(), &colder));
    }

    #[test]
    fn a_second_program_and_a_foreign_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answers.jsonl");
        let first = Journal::open(&path).unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(
            error.ends_with(
                "is in use by another program that makes the same samples; wait for it, or name another output"
            ),
            "{error}"
        );
        drop(first);
        std::fs::write(&path, "{\"key\": 1}\n").unwrap();
        let error = Journal::open(&path).unwrap_err().to_string();
        assert!(error.contains("answers.jsonl:1: is no answer of a teacher"), "{error}");
        // And nothing of it is lost.
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"key\": 1}\n");
    }
}
