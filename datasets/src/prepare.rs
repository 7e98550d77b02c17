//! The whole of the data's way in one call: from a recipe's `data` part to examples in a seeded order.
//!
//! The sources are read as streams: a batch of conversations at a time is rendered and tokenised on all cores and
//! written to a file, which is then mapped. So memory does not grow with the data, and the file is what the next run
//! with the same data begins with. Several processes share out the rendering and tokenising.

mod build;
mod tally;
mod tokenised;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::cache::Cache;
use crate::config::{DataConfig, SourceConfig};
use crate::conversation::Conversation;
use crate::error::DataError;
use crate::hub::Hub;
use crate::key;
use crate::mixture::Order;
use crate::peers::{Alone, Peers};
use crate::prefix::families;
use crate::samples::{SampleRecord, ScreeningRecord, SourceRecord, Split};
use crate::screen::{self, ScreenConfig, Screening};
use crate::source::{Format, Located, load_with};
use crate::store::{Counts, ExampleRef, Examples, Summary};
use crate::tokenizer::ChatTokenizer;

use build::{Build, Built};

/// The data of a run.
#[derive(Debug)]
pub struct Prepared {
    /// The training examples, source after source.
    pub train: Examples,
    /// The validation examples; none of them is trained on.
    pub validation: Examples,
    /// In which order, and how often, the training examples come.
    pub order: Order,
    /// What happened on the way, a line each.
    pub notes: Vec<String>,
    /// What was counted over the training sources.
    pub train_counts: Counts,
    /// What was counted over the validation conversations.
    pub validation_counts: Counts,
    /// SHA-256 over the tokens and masks of the training examples, in hexadecimal.
    pub fingerprint: String,
    /// The files that the examples come from: those trained on, then those held out.
    pub sources: Vec<SourceRecord>,
    /// What screening did; `None` where the recipe does not ask for it.
    pub screening: Option<ScreeningRecord>,
    /// The file in the cache; `None` when the tokens are not kept.
    pub cache_file: Option<PathBuf>,
    /// Whether the tokens are those of an earlier run.
    pub from_cache: bool,
    /// Where each source begins in `train`.
    starts: Vec<usize>,
    /// The epoch that was asked for last, and the places in `train` of its examples.
    epoch: Mutex<Option<(u64, Arc<[usize]>)>>,
}

/// How far tokenising has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Conversations done.
    pub conversations: u64,
    /// Tokens made.
    pub tokens: u64,
    /// About how many bytes of the sources are read.
    pub done_bytes: u64,
    /// The bytes of all sources.
    pub total_bytes: u64,
}

impl Prepared {
    /// The examples at `count` positions of the endless order that begins with the first epoch. They follow from the
    /// seed and the position alone.
    #[expect(clippy::missing_panics_doc, reason = "a place in an epoch is below the length of a list")]
    pub fn examples_at(&self, position: u64, count: usize) -> Vec<ExampleRef<'_>> {
        let length = self.order.len_per_epoch() as u64;
        if length == 0 {
            return Vec::new();
        }
        let mut examples = Vec::with_capacity(count);
        let (mut epoch, mut skipped) = (position / length, position % length);
        while examples.len() < count {
            let order = self.epoch(epoch);
            let skip = usize::try_from(skipped).expect("it is below the length of a list");
            let here = order.iter().skip(skip).take(count - examples.len());
            examples.extend(here.map(|index| self.train.get(*index)));
            (epoch, skipped) = (epoch + 1, 0);
        }
        examples
    }

    /// What is chosen together where a part is trained on: the places in `train` of each family, or of one example.
    pub fn units(&self) -> Vec<Vec<usize>> {
        let families: Vec<usize> = self.order.families().concat();
        if families.is_empty() {
            return (0..self.train.len()).map(|place| vec![place]).collect();
        }
        let mut units = vec![Vec::new(); families.iter().max().map_or(0, |last| last + 1)];
        families.iter().enumerate().for_each(|(place, family)| units[*family].push(place));
        units.retain(|unit| !unit.is_empty());
        units
    }

    /// Trains on the examples at these places in `train` alone.
    #[must_use]
    pub fn of_some(mut self, places: &[usize]) -> Self {
        let mut chosen = vec![Vec::new(); self.starts.len()];
        let mut places = places.to_vec();
        places.sort_unstable();
        for place in places {
            // The last source that begins at or before it: those without examples begin where the next one does.
            let source = self.starts.partition_point(|start| *start <= place) - 1;
            chosen[source].push(place - self.starts[source]);
        }
        self.order = self.order.of_some(chosen);
        self.epoch = Mutex::new(None);
        self
    }

    /// What each example is, the training examples first, with how many times it came at the first `positions` positions
    /// of the order. One record is made at a time.
    pub fn samples(&self, positions: u64) -> impl Iterator<Item = SampleRecord> + '_ {
        let seen = self.order.seen(positions).into_iter().flatten();
        let train = seen.enumerate().map(|(index, seen)| self.train.sample(index, seen));
        train.chain((0..self.validation.len()).map(|index| self.validation.sample(index, 0)))
    }

    /// The order of an epoch, which is shuffled once and kept until another is asked for.
    fn epoch(&self, epoch: u64) -> Arc<[usize]> {
        // A panic elsewhere leaves a whole value here.
        let mut kept = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((number, order)) if *number == epoch => order.clone(),
            _ => {
                let order = self.order.epoch(epoch).into_iter().map(|(source, index)| self.starts[source] + index);
                let order: Arc<[usize]> = order.collect();
                *kept = Some((epoch, order.clone()));
                order
            }
        }
    }
}

/// Reads, splits, renders and tokenises the data of a recipe, or takes up what an earlier run made of the same data.
///
/// `progress` is told after each batch; it stays silent when the tokens come from the cache. Where the cache cannot be
/// written, or `data.cache` is false, the tokens are in a temporary file without a name.
///
/// # Errors
/// [`DataError::Config`] for a value out of its range; the error of the first record, conversation or file, in order,
/// that cannot be used; [`DataError::Write`] when there is no room for the tokens.
pub fn prepare(
    config: &DataConfig,
    tokenizer: &ChatTokenizer,
    seed: u64,
    hub: &Hub,
    cache: &Cache,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared, DataError> {
    prepare_together(config, tokenizer, seed, hub, cache, &Alone, progress)
}

/// The same by several processes: each renders and tokenises its part, the first one writes the cache, and the others read
/// it. The data is the same bytes on any number of them. Where there is no cache, or not the same one, each prepares for
/// itself.
///
/// # Errors
/// As [`prepare`]; [`DataError::Peer`] with the error of another process, and when their data is not the same.
pub fn prepare_together(
    config: &DataConfig,
    tokenizer: &ChatTokenizer,
    seed: u64,
    hub: &Hub,
    cache: &Cache,
    peers: &dyn Peers,
    progress: &mut dyn FnMut(Progress),
) -> Result<Prepared, DataError> {
    config.validate()?;
    // Paths are absolute by now, or meant from the working folder.
    let locate = |source| Located::new(source, Path::new(""), hub);
    let sources: Vec<Located<'_>> =
        config.train.iter().chain(&config.validation).map(locate).collect::<Result<_, _>>()?;
    let owed = match &config.screen {
        Some(screen) => screen.check_licences(config.train.iter().chain(&config.validation))?,
        None => Vec::new(),
    };
    let screening = config.screen.as_ref().map(Screening::new).transpose()?;
    let digests = key::digests(&sources)?;
    let whole: Option<Vec<String>> = digests.iter().cloned().collect();
    let key = match whole.filter(|_| config.cache) {
        Some(digests) => Some(key::key(config, &sources, &digests, tokenizer, screening.as_ref())?),
        None => None,
    };
    let build = Build { config, tokenizer, sources: &sources, digests, key, cache, screening, peers };
    let (built, from_cache) = build.get(progress)?;
    let mut prepared = assemble(config, &sources, seed, built, from_cache);
    prepared.notes.extend(owed);
    Ok(prepared)
}

fn assemble(
    config: &DataConfig,
    sources: &[Located<'_>],
    seed: u64,
    Built { train, validation, counts, summary, digests, cache_file }: Built,
    from_cache: bool,
) -> Prepared {
    let records = source_records(config, sources, &digests, &counts, &validation);
    let screening = config.screen.as_ref();
    let screening = screening.map(|screen| ScreeningRecord { action: screen.action, found: summary.screened.clone() });
    let counts = &counts[..config.train.len()];
    let starts = counts.iter().scan(0, |end, count| Some(std::mem::replace(end, *end + count))).collect();
    let weights: Vec<f64> = config.train.iter().map(|source| source.weight).collect();
    let order = Order::new(counts, &weights, seed);
    let order = match config.share_prefix {
        Some(most) => order.with_families(families_of(&train, counts, most, config.max_length)),
        None => order,
    };
    Prepared {
        train,
        validation,
        order,
        notes: notes(config, sources, &summary),
        train_counts: summary.train,
        validation_counts: summary.validation,
        fingerprint: summary.fingerprint,
        sources: records,
        screening,
        cache_file,
        from_cache,
        starts,
        epoch: Mutex::new(None),
    }
}

/// The number of its family for each example of each source.
fn families_of(train: &Examples, counts: &[usize], most: usize, capacity: usize) -> Vec<Vec<usize>> {
    let parts: Vec<(&[u32], &[bool])> = train.iter().map(|example| (example.input_ids, example.loss_mask)).collect();
    let mut numbers = vec![0; parts.len()];
    for (number, family) in families(&parts, most, capacity).into_iter().enumerate() {
        family.members.into_iter().for_each(|member| numbers[member] = number);
    }
    let mut rest = &numbers[..];
    let of_source = |count: &usize| {
        let (own, others) = rest.split_at(*count);
        rest = others;
        own.to_vec()
    };
    counts.iter().map(of_source).collect()
}

/// The files that the examples come from.
fn source_records(
    config: &DataConfig,
    sources: &[Located<'_>],
    digests: &[Option<String>],
    trained: &[usize],
    validation: &Examples,
) -> Vec<SourceRecord> {
    let mut held_out = vec![0; sources.len()];
    for index in 0..validation.len() {
        held_out[validation.source(index)] += 1;
    }
    let record = |split, number: usize, samples| {
        let Located { source, name, .. } = &sources[number];
        let (path, sha256, licence) = (name.to_path_buf(), digests[number].clone(), source.licence.clone());
        SourceRecord { split, path, sha256, licence, samples }
    };
    let train = (0..config.train.len()).map(|number| record(Split::Train, number, trained[number] as u64));
    let validation = (0..sources.len()).filter(|number| *number >= config.train.len() || held_out[*number] > 0);
    train.chain(validation.map(|number| record(Split::Validation, number, held_out[number]))).collect()
}

/// What is to be told of the data, and warns of what is wrong with it. The same whether it comes from the cache or not.
fn notes(config: &DataConfig, sources: &[Located<'_>], summary: &Summary) -> Vec<String> {
    let mut notes = Vec::new();
    let (train, validation) = (0..config.train.len(), config.train.len()..sources.len());
    for number in validation.chain(train).filter(|number| sources[*number].source.format == Format::Auto) {
        let (name, format) = (sources[number].name.display(), summary.formats[number]);
        notes.push(format!("{name}: the records have the format {format}; confirm it in the recipe"));
    }
    describe("training", &summary.train, config.max_length, &mut notes);
    if summary.leaked > 0 {
        let (leaked, all) = (summary.leaked, summary.validation.conversations);
        tracing::warn!("{leaked} of {all} validation conversations are trained on too: the validation loss is too low");
        notes.push(format!("{leaked} of {all} validation conversations are trained on too"));
    }
    describe("validation", &summary.validation, config.max_length, &mut notes);
    if let Some(screen) = &config.screen {
        notes.push(screen::note(screen.action, &summary.screened));
    }
    notes
}

fn describe(what: &str, part: &Counts, max_length: usize, notes: &mut Vec<String>) {
    let counts = [
        (part.near_duplicates, format!("{what} conversations left out: near-duplicates of others")),
        (part.dropped_overlong, format!("{what} conversations left out: longer than {max_length} tokens")),
        (part.truncated, format!("{what} conversations cut to {max_length} tokens")),
        (part.unsupervised_turns, format!("{what} turns not supervised: the template rewrites earlier turns")),
    ];
    for (count, text) in counts {
        if count > 0 {
            tracing::warn!("{count} {text}");
            notes.push(format!("{count} {text}"));
        }
    }
}

/// Reads the conversations of several sources, one after the other, to question a model on them; `screen` is the
/// recipe's gate, so that what is asked has gone through it as what was learned from.
///
/// # Errors
/// As [`load_with`], and as [`prepare`] for the gate.
pub fn load_conversations(
    sources: &[SourceConfig],
    system_prompt: Option<&str>,
    screen: Option<&ScreenConfig>,
    hub: &Hub,
) -> Result<Vec<Conversation>, DataError> {
    let mut all = Vec::new();
    for source in sources {
        all.extend(load_with(source, Path::new(""), hub)?.conversations);
    }
    if let Some(screen) = screen {
        screen.check_licences(sources)?;
        let screening = Screening::new(screen)?;
        let done: Vec<_> = all.par_iter_mut().map(|conversation| screening.conversation(conversation)).collect();
        done.into_iter().collect::<Result<Vec<_>, _>>()?;
    }
    if let Some(content) = system_prompt {
        for conversation in &mut all {
            conversation.set_default_system(content);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
