//! Writes what a run learns from into its folder, and takes it on to the adapters that the run writes.

use std::path::{Path, PathBuf};

use datasets::{Prepared, SampleRecord, SourceRecord, Split, write_samples};

use super::{Data, Place, RunData};
use crate::error::TrainError;
use crate::model::BaseModel;
use crate::prove::Export;
use crate::recipe::{Answers, Recipe};
use crate::track::{REPLAY, RunFolder, RunInfo};
use crate::train::replay::Replay;

/// The record of a run under way.
pub(crate) struct Recorder {
    place: Place,
    run: String,
    base: String,
    base_digest: String,
    /// Whether the replayed answers are the base's, and so in a file of the run's own.
    answered: bool,
    batch: u64,
    total_examples: u64,
    /// What the adapter and the base that the run goes on from learned, with files in the run folder.
    earlier: Data,
    /// The step up to which the samples on disk are counted.
    written: Option<u64>,
}

impl Recorder {
    /// A recorder of a run in its folder; what it goes on from is taken over.
    pub(crate) fn new(
        folder: &RunFolder,
        recipe: &Recipe,
        base: &BaseModel,
        info: &RunInfo,
        total_examples: u64,
    ) -> Result<Self, TrainError> {
        let place = Place::of_run(folder.path());
        // The run's own file comes first.
        let mut earlier = Data { runs: vec![RunData::default()], unknown: Vec::new() };
        if let Some(adapter) = &recipe.model.adapter {
            earlier.take(&self::place(adapter)?, &place)?;
        }
        earlier.take(&self::place(base.path())?, &place)?;
        earlier.runs.remove(0);
        Ok(Self {
            place,
            run: folder.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            base: base.name.clone(),
            base_digest: info.base_digest.clone(),
            answered: recipe.forgetting.replay.as_ref().is_some_and(|replay| replay.answers == Answers::Base),
            batch: recipe.train.global_batch_size as u64,
            total_examples,
            earlier,
            written: None,
        })
    }

    /// Writes what was learned from up to a step, unless that is on disk. Before an adapter of that step is, so that no
    /// adapter ever knows more than the record says.
    pub(crate) fn write(&mut self, data: &Prepared, replay: Option<&Replay>, step: u64) -> Result<(), TrainError> {
        if self.written == Some(step) {
            return Ok(());
        }
        let positions = step.saturating_mul(self.batch).min(self.total_examples);
        let replayed = replay.into_iter().flat_map(|replay| {
            replay.data.samples(step.saturating_mul(replay.per_step as u64)).map(|sample| self.replayed(sample))
        });
        let mut run = RunData {
            run: self.run.clone(),
            base: self.base.clone(),
            base_digest: self.base_digest.clone(),
            date: jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            step,
            file: self.place.file_name(1),
            counts: Some(data.train_counts),
            sources: data.sources.clone(),
            screening: data.screening.clone(),
            ..RunData::default()
        };
        for source in replay.into_iter().flat_map(|replay| &replay.data.sources) {
            let path = self.source(source.path.clone());
            run.sources.push(SourceRecord { split: Split::Replay, path, ..source.clone() });
        }
        let mut written = None;
        adapters::write_atomic(&self.place.samples_file(&run)?, true, |out| {
            written = Some(write_samples(out, data.samples(positions).chain(replayed))?);
            Ok(())
        })?;
        run.samples = written.expect("it was written");
        let Data { runs, unknown } = self.earlier.clone();
        let runs = std::iter::once(run).chain(runs).collect();
        self.place.write(Some(Data { runs, unknown }))?;
        self.written = Some(step);
        Ok(())
    }

    /// Takes the record on to an adapter that was just written, from the adapter that it was made of, else from the run.
    pub(crate) fn carry(&self, from: Option<&Path>, to: &Path) -> Result<(), TrainError> {
        let from = from.map(place).transpose()?;
        // What the whole run learned from covers an adapter of which nothing was recorded.
        let recorded = from.map(|from| Ok::<_, TrainError>(from.data()?.map(|_| from))).transpose()?.flatten();
        carry(recorded.as_ref().unwrap_or(&self.place), to)
    }

    fn replayed(&self, sample: SampleRecord) -> SampleRecord {
        SampleRecord { split: Split::Replay, source: self.source(sample.source), ..sample }
    }

    /// The name of a replayed file: the base's answers are read from wherever they lie at the moment.
    fn source(&self, path: PathBuf) -> PathBuf {
        if self.answered { REPLAY.into() } else { path }
    }
}

/// Takes a record on to an adapter that was just written.
fn carry(from: &Place, to: &Path) -> Result<(), TrainError> {
    Place::carry(std::slice::from_ref(from), &place(to)?)
}

/// The place of an adapter or a base.
fn place(path: &Path) -> Result<Place, TrainError> {
    Ok(Place::of_export(&Export::open(path)?))
}
