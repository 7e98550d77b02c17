//! From the sources to a file of examples, or to the one in the cache.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use crate::cache::Cache;
use crate::config::DataConfig;
use crate::error::DataError;
use crate::key;
use crate::near_duplicates::{DedupGroups, DedupText, NearDuplicates};
use crate::peers::{Alone, Peers, exchange};
use crate::screen::{Screened, Screening};
use crate::source::{Format, Located};
use crate::split::{HeldOut, is_held_out};
use crate::store::{self, Examples, Expected, Index, Summary, Writer};
use crate::tokenize::Outcome;
use crate::tokenizer::ChatTokenizer;

use super::Progress;
use super::tally::Tally;
use super::tokenised::{ENDED, Printed, Reading, Tokenised};

/// The data of a recipe, found but not read.
pub(super) struct Build<'a> {
    pub(super) config: &'a DataConfig,
    pub(super) tokenizer: &'a ChatTokenizer,
    /// The training sources, then the validation sources.
    pub(super) sources: &'a [Located<'a>],
    /// Of the files of the sources; none for one that can be read but once.
    pub(super) digests: Vec<Option<String>>,
    /// The name of the data in the cache; none when nothing is kept.
    pub(super) key: Option<String>,
    pub(super) cache: &'a Cache,
    /// The recipe's gate.
    pub(super) screening: Option<Screening>,
    /// Those that make it together.
    pub(super) peers: &'a dyn Peers,
}

/// The examples, mapped, and what is known of them.
pub(super) struct Built {
    pub(super) train: Examples,
    pub(super) validation: Examples,
    /// How many training examples each source has.
    pub(super) counts: Vec<usize>,
    pub(super) summary: Summary,
    /// Of the files of the sources, as they were read.
    pub(super) digests: Vec<Option<String>>,
    /// Where they are kept.
    pub(super) cache_file: Option<PathBuf>,
}

/// Why a file of examples could not be made.
enum Failure {
    /// The data is wrong: nothing can be done.
    Data(DataError),
    /// The file cannot be written: another place may do.
    Storage(io::Error),
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Storage(error)
    }
}

impl Build<'_> {
    /// The data, and whether it is that of an earlier run. Several processes make it together where there is a cache that
    /// the first one writes and the others read; without one, and where the others do not find it, each makes its own.
    pub(super) fn get(self, progress: &mut dyn FnMut(Progress)) -> Result<(Built, bool), DataError> {
        let (peers, found) = (self.peers, self.cached());
        if peers.ranks() == 1 {
            return self.found_or_made(found, progress);
        }
        let all: Vec<(bool, Option<String>)> = exchange(peers, &(found.is_some(), &self.key))?;
        let (is_found, key) = &all[0];
        if let Some(rank) = all.iter().position(|(_, other)| other != key) {
            let reason =
                "its data is not that of rank 0; give all of them the same recipe, the same files and the same greffon";
            return Err(DataError::Peer { rank, ranks: peers.ranks(), reason: reason.to_owned() });
        }
        let alone = |build: Self| Build { peers: &Alone, ..build };
        if *is_found || key.is_none() {
            return alone(self).found_or_made(found, progress);
        }
        if peers.rank() == 0 {
            return Ok((self.run(progress)?, false));
        }
        self.help()?;
        let found = self.cached();
        alone(self).found_or_made(found, progress)
    }

    fn found_or_made(
        &self,
        found: Option<Built>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Built, bool), DataError> {
        match found {
            Some(found) => Ok((found, true)),
            None => Ok((self.run(progress)?, false)),
        }
    }

    /// Tokenises its part for the first process, until that one has all.
    fn help(&self) -> Result<(), DataError> {
        for number in self.in_order() {
            let mut reading = Reading::open(self, number, self.peers)?;
            while reading.next(&mut Printed::new())?.is_some() {}
            if reading.is_given_up() {
                return Ok(());
            }
        }
        self.peers.gather(&[]).map(|_| ())
    }

    /// The sources as they are read, the validation sources first: the leak check knows them before it sees what is trained
    /// on.
    fn in_order(&self) -> impl Iterator<Item = usize> {
        let (trained, all) = (self.config.train.len(), self.sources.len());
        (trained..all).chain(0..trained)
    }

    /// What an earlier run made of the same data. A file that is not sound is told, and made anew.
    fn cached(&self) -> Option<Built> {
        let key = self.key.as_deref()?;
        let (file, path) = match self.cache.open(key) {
            Ok(found) => found?,
            Err(error) => {
                tracing::warn!("the cache of tokens cannot be read: {error}; the data is tokenised again");
                return None;
            }
        };
        let expected = Expected {
            key,
            sources: self.sources.len(),
            max_length: self.config.max_length,
            vocab_size: self.tokenizer.vocab_size(),
        };
        let checked = store::check(&file, &expected).and_then(|(index, summary)| {
            if self.tokenizer.template().is_ok_and(|template| template.prints(&summary.printed)) {
                self.map(&file, index, summary).map(Some).map_err(|error| error.to_string())
            } else {
                // The date has changed since: nothing is wrong.
                Ok(None)
            }
        });
        match checked {
            Ok(built) => Some(Built { cache_file: Some(path), ..built? }),
            Err(reason) => {
                tracing::warn!("{}: {reason}; the data is tokenised again", path.display());
                None
            }
        }
    }

    /// Reads and tokenises the sources.
    fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<Built, DataError> {
        if let Some(key) = &self.key {
            let kept = self.keep(key, progress);
            if self.peers.ranks() > 1 && !matches!(kept, Err(Failure::Data(_))) {
                self.peers.gather(&ENDED)?;
            }
            match kept {
                Ok(built) => return Ok(built),
                Err(Failure::Data(error)) => return Err(error),
                Err(Failure::Storage(error)) => self.warn_not_kept(&error),
            }
        }
        let made = tempfile::tempfile().map_err(Failure::from).and_then(|file| {
            let (file, index, summary) = self.write(file, &Alone, progress)?;
            Ok(Built { digests: self.unchanged()?, ..self.map(&file, index, summary)? })
        });
        made.map_err(|failure| match failure {
            Failure::Data(error) => error,
            Failure::Storage(source) => DataError::Write { path: std::env::temp_dir(), source },
        })
    }

    /// Makes a file in the cache.
    fn keep(&self, key: &str, progress: &mut dyn FnMut(Progress)) -> Result<Built, Failure> {
        let target = self.cache.create()?;
        let (file, index, summary) = self.write(target.as_file().try_clone()?, self.peers, progress)?;
        let built = self.map(&file, index, summary)?;
        // The files were read twice, once for the key; what changed in between must not stand under that key.
        let built = Built { digests: self.unchanged()?, ..built };
        if built.digests != self.digests {
            tracing::warn!("the data changed while it was read: its tokens are not kept");
            return Ok(built);
        }
        match self.cache.publish(target, key) {
            Ok(path) => Ok(Built { cache_file: Some(path), ..built }),
            Err(error) => {
                self.warn_not_kept(&error);
                Ok(built)
            }
        }
    }

    /// The digests, without those of files that are no longer what they were.
    fn unchanged(&self) -> Result<Vec<Option<String>>, DataError> {
        let now = key::digests(self.sources)?.into_iter().zip(&self.digests);
        Ok(now.map(|(now, before)| now.filter(|now| Some(now) == before.as_ref())).collect())
    }

    fn warn_not_kept(&self, error: &io::Error) {
        let folder = self.cache.folder().unwrap_or(std::path::Path::new("~/.cache/greffon/data")).display();
        tracing::warn!(
            "the tokens cannot be kept in {folder}: {error}; the next start tokenises again (GREFFON_CACHE names \
             another folder, data.cache: false keeps nothing)"
        );
    }

    /// The training conversations in groups of near-duplicates, where those are left out.
    fn near_duplicates(&self) -> Result<Option<DedupGroups>, DataError> {
        let Some(config) = &self.config.dedup else {
            return Ok(None);
        };
        // Not the seed of the run: the data must not change with it.
        let mut search = NearDuplicates::new(config, 0)?;
        for (number, source) in self.sources[..self.config.train.len()].iter().enumerate() {
            if !source.file.is_file() {
                return Err(DataError::Config {
                    key: format!("train[{number}]"),
                    got: format!("{}, which is no regular file", source.name.display()),
                    expected: "a file that can be read twice, as dedup does, or dedup: null".to_owned(),
                });
            }
            let mut stream = source.stream()?;
            loop {
                let batch = stream
                    .next_batch(|conversation| Ok(DedupText::conversation(&conversation.messages, config.compare)))?;
                if batch.is_empty() {
                    break;
                }
                search.extend(&batch);
            }
        }
        Ok(Some(search.groups()))
    }

    fn map(&self, file: &File, index: Index, summary: Summary) -> io::Result<Built> {
        let names = self.sources.iter().map(|source| source.name.clone()).collect();
        let (train, validation) = store::map(file, &index, names)?;
        let digests = self.digests.clone();
        Ok(Built { train, validation, counts: index.counts, summary, digests, cache_file: None })
    }

    fn write(
        &self,
        file: File,
        peers: &dyn Peers,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(File, Index, Summary), Failure> {
        let mut total_bytes = 0;
        for source in self.sources {
            let metadata = source.file.metadata();
            total_bytes +=
                metadata.map_err(|error| DataError::Read { path: source.name.to_path_buf(), source: error })?.len();
        }
        let mut pass = Pass {
            build: self,
            peers,
            groups: self.near_duplicates()?,
            read: 0,
            writer: Writer::new(file, self.sources.len())?,
            progress: Progress { total_bytes, ..Progress::default() },
            held_out: HeldOut::default(),
            leaked: 0,
            screened: Screened::new(),
            printed: Printed::new(),
        };
        let (mut train, mut validation) = (Tally::default(), Tally::default());
        let mut formats = Vec::new();
        for number in self.in_order() {
            let mut tally = Tally::default();
            formats.push(pass.source(number, &mut tally, &mut validation, progress)?);
            if number < self.config.train.len() {
                tally.check(self.config.max_length)?;
                train.add(&tally);
            }
        }
        formats.rotate_left(self.config.validation.len());
        validation.check(self.config.max_length)?;
        let summary = Summary {
            key: self.key.clone().unwrap_or_default(),
            formats,
            train: train.counts,
            validation: validation.counts,
            leaked: pass.leaked,
            screened: pass.screened,
            fingerprint: String::new(),
            printed: {
                pass.printed.extend(self.tokenizer.template()?.printed());
                pass.printed
            },
        };
        Ok(pass.writer.finish(summary)?)
    }
}

/// A pass over all sources.
struct Pass<'a> {
    build: &'a Build<'a>,
    peers: &'a dyn Peers,
    /// The training conversations in groups of near-duplicates, where those are left out.
    groups: Option<DedupGroups>,
    /// The training conversations that were read.
    read: usize,
    writer: Writer,
    progress: Progress,
    held_out: HeldOut,
    leaked: u64,
    screened: Screened,
    /// What the templates of the others printed of the date.
    printed: Printed,
}

impl Pass<'_> {
    /// Whether the next training conversation is left out.
    fn is_near_duplicate(&mut self) -> bool {
        let number = self.read;
        self.read += 1;
        self.groups.as_ref().is_some_and(|groups| !groups.is_kept(number))
    }

    /// Reads one source; gives the form of its records.
    fn source(
        &mut self,
        number: usize,
        train: &mut Tally,
        validation: &mut Tally,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Format, Failure> {
        let config = self.build.config;
        let is_validation = number >= config.train.len();
        let fraction = if config.validation.is_empty() { config.validation_fraction } else { 0.0 };
        let mut reading = Reading::open(self.build, number, self.peers)?;
        let begin = self.progress.done_bytes;
        while let Some(batch) = reading.next(&mut self.printed)? {
            for Tokenised { hash, lineage, origin, outcome, screened } in batch {
                for (kind, count) in screened {
                    *self.screened.entry(kind).or_default() += count;
                }
                if !is_validation && self.is_near_duplicate() {
                    train.leave_out(origin);
                    self.progress.conversations += 1;
                    continue;
                }
                let held_out = is_validation || is_held_out(&hash, fraction);
                if is_validation {
                    self.held_out.insert(hash);
                } else {
                    self.leaked += self.held_out.take(&hash);
                }
                if let Outcome::Kept { example, .. } = &outcome {
                    self.progress.tokens += example.input_ids.len() as u64;
                    self.writer.push(example, &hash, &lineage, number, held_out)?;
                }
                self.progress.conversations += 1;
                if held_out { &mut *validation } else { &mut *train }.count(origin, &outcome);
            }
            self.progress.done_bytes = begin + reading.done_bytes();
            progress(self.progress);
        }
        Ok(reading.format().expect("a source without a record is refused"))
    }
}
