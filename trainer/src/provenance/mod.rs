//! Which samples an adapter learned from: recorded by the run, carried on with the adapter, asked by `greffon data trace`.
//!
//! A record is a file of samples ([`datasets::SampleRecord`], a line each) and an entry in the section `data` of the
//! manifest beside it ([`RunData`]), which has the file's digest. The recorder writes both into the run folder, from
//! where [`Place::carry`] takes them on: to checkpoints, the result, exports and merged models. [`trace`] reads them.

mod places;
mod recorder;
pub mod trace;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use datasets::{Counts, SampleRecord, SamplesFile, ScreeningRecord, SourceRecord};
use serde::{Deserialize, Serialize};

pub use places::places;
pub(crate) use recorder::Recorder;

use crate::error::TrainError;
use crate::prove::{Export, Manifest};
use crate::recipe::without_folder;
use crate::track::RunFolder;

/// The file of samples; further ones, of earlier runs, are `samples-2.jsonl` and so on.
pub const SAMPLES: &str = "samples.jsonl";

/// The section `data` of a manifest: what an adapter learned from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// The runs that it comes from: the last one, those that it goes on from, and those of merged adapters.
    pub runs: Vec<RunData>,
    /// Adapters that it comes from whose samples nobody recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// What one run learned from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunData {
    /// The name of the run's folder.
    pub run: String,
    /// The base.
    pub base: String,
    /// SHA-256 of its weight files.
    pub base_digest: String,
    /// When it was written, UTC.
    pub date: String,
    /// The optimizer steps up to which samples are counted.
    pub step: u64,
    /// The file of samples, beside the manifest.
    pub file: String,
    /// Its lines and its digest.
    #[serde(flatten)]
    pub samples: SamplesFile,
    /// What was counted over the training sources, and what was left out of them; none in the records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<Counts>,
    /// The files that the samples come from.
    pub sources: Vec<SourceRecord>,
    /// What screening did to them; none where the recipe does not ask for it.
    pub screening: Option<ScreeningRecord>,
}

/// Where a record lies: in the folder of a run, of an adapter or of a model, or beside a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    path: PathBuf,
    manifest: PathBuf,
    is_adapter: bool,
}

impl Place {
    /// The place of a run folder, an adapter or an export.
    ///
    /// # Errors
    /// When the path is none of these.
    pub fn open(path: &Path) -> Result<Self, TrainError> {
        if RunFolder::is_run(path) {
            return Ok(Self::of_run(path));
        }
        let export = Export::open(path).map_err(|error| match error {
            TrainError::Run(reason) => TrainError::Run(format!("{reason}, or a run folder (recipe.yaml)")),
            error => error,
        })?;
        Ok(Self::of_export(&export))
    }

    /// The place of a run.
    pub(crate) fn of_run(folder: &Path) -> Self {
        Self { path: folder.to_owned(), manifest: folder.join(Manifest::NAME), is_adapter: true }
    }

    /// The place of an adapter's or a model's files.
    pub fn of_export(export: &Export) -> Self {
        let is_adapter = export.form().is_adapter();
        Self { path: export.path().to_owned(), manifest: Manifest::path(export), is_adapter }
    }

    /// The folder or file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The section `data` of its manifest; none where nothing was recorded.
    ///
    /// # Errors
    /// When the manifest cannot be read.
    pub fn data(&self) -> Result<Option<Data>, TrainError> {
        Ok(Manifest::read_file(&self.manifest)?.data)
    }

    fn write(&self, data: Option<Data>) -> Result<(), TrainError> {
        let mut manifest = Manifest::read_file(&self.manifest)?;
        manifest.data = data;
        manifest.write_file(&self.manifest)
    }

    /// The file of a run's samples.
    ///
    /// # Errors
    /// When the manifest names one outside its folder.
    pub fn samples_file(&self, run: &RunData) -> Result<PathBuf, TrainError> {
        let mut parts = Path::new(&run.file).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
            return Err(TrainError::Run(format!(
                "{}: data names the file {:?}, expected the name of a file in the same folder",
                self.manifest.display(),
                run.file
            )));
        }
        Ok(self.manifest.with_file_name(&run.file))
    }

    /// Checks that a run's samples are those that were recorded; gives their file.
    ///
    /// # Errors
    /// When the file is missing, or does not have the digest of the manifest.
    pub fn checked(&self, run: &RunData) -> Result<PathBuf, TrainError> {
        let path = self.samples_file(run)?;
        let manifest = self.manifest.display();
        let digest = datasets::sha256_files([&path]).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => TrainError::Run(format!(
                "{}: there is no such file, expected the record of samples that {manifest} names; copy it with the \
                 adapter",
                path.display()
            )),
            _ => TrainError::Read { path: path.clone(), source: error },
        })?;
        if digest == run.samples.sha256 {
            return Ok(path);
        }
        Err(TrainError::Run(format!(
            "{}: the record of samples was altered: its SHA-256 is {digest}, expected {} as {manifest} has it; restore it, \
             or resume the run if it was killed while it wrote the file",
            path.display(),
            run.samples.sha256
        )))
    }

    /// Reads a run's samples, which are first checked.
    ///
    /// # Errors
    /// As [`Self::checked`]; when a line is no record of a sample.
    pub fn samples(&self, run: &RunData, visit: impl FnMut(SampleRecord)) -> Result<(), TrainError> {
        Ok(datasets::read_samples(&self.checked(run)?, visit)?)
    }

    /// Checks all records of a place, before something is made of it.
    ///
    /// # Errors
    /// As [`Self::checked`]; when the manifest cannot be read.
    pub fn check(&self) -> Result<(), TrainError> {
        let data = self.data()?.unwrap_or_default();
        data.runs.iter().try_for_each(|run| self.checked(run).map(drop))
    }

    /// Takes the records of the places that something was made of on to where it was written.
    ///
    /// # Errors
    /// When a record cannot be read or written.
    pub fn carry(from: &[Self], to: &Self) -> Result<(), TrainError> {
        let mut data = Data::default();
        for place in from {
            data.take(place, to)?;
        }
        // An adapter without the section is unknown anyway; a model without it passes for a base.
        let data = Some(data).filter(|data| !data.runs.is_empty() || !to.is_adapter && !data.unknown.is_empty());
        // Nor may it keep what was said of a file that stood there before.
        if data.is_none() && to.data()?.is_none() {
            return Ok(());
        }
        to.write(data)
    }

    /// The name of the file of samples with this number, counted from 1.
    fn file_name(&self, number: usize) -> String {
        let name = self.manifest.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let before = name.strip_suffix(Manifest::NAME).unwrap_or_default();
        if number == 1 { format!("{before}{SAMPLES}") } else { format!("{before}samples-{number}.jsonl") }
    }
}

impl Data {
    /// The same without the folders of this machine.
    #[must_use]
    pub fn without_folders(mut self) -> Self {
        let name = |path: &Path| path.file_name().map(PathBuf::from).unwrap_or_default();
        for run in &mut self.runs {
            run.base = without_folder(&run.base);
            for source in &mut run.sources {
                source.path = name(&source.path);
            }
        }
        for unknown in &mut self.unknown {
            *unknown = name(Path::new(unknown)).display().to_string();
        }
        self
    }

    /// Adds what a place has to what another is about to get, with the files of samples.
    fn take(&mut self, from: &Place, to: &Place) -> Result<(), TrainError> {
        let Some(Self { runs, unknown }) = from.data()? else {
            // A base as such has nothing to record.
            if from.is_adapter {
                self.unknown.push(from.path.display().to_string());
            }
            return Ok(());
        };
        for mut run in runs {
            let source = from.checked(&run)?;
            run.file = to.file_name(self.runs.len() + 1);
            link(&source, &to.samples_file(&run)?)?;
            self.runs.push(run);
        }
        self.unknown.extend(unknown);
        Ok(())
    }
}

/// Puts a file in a second place. Files of samples are replaced and never written again, so that a link is as good as a
/// copy and takes no room.
fn link(from: &Path, to: &Path) -> Result<(), TrainError> {
    let failed = |source| TrainError::Write { path: to.to_owned(), source };
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    if fs::hard_link(from, to).is_ok() {
        return Ok(());
    }
    // Another file system, or one without links.
    let mut source = fs::File::open(from).map_err(|source| TrainError::Read { path: from.to_owned(), source })?;
    Ok(adapters::write_atomic(to, true, |out| io::copy(&mut source, out).map(drop))?)
}
