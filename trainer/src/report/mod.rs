//! What a run left, for people: one HTML file of one run or of several.
//!
//! ```text
//! run folder -> RunReport     mod.rs       all that is known of a run, read once
//!            -> Figures       figures.rs   the few numbers by which runs are listed and compared
//!            -> plots         plots.rs     SVG; series.rs thins and smooths what they show
//!            -> tables        tables.rs
//!            -> Compared      compare.rs   several runs side by side
//!            -> page          page.rs      page.html.jinja with page.css, in the words of words.rs
//! ```
//!
//! `greffon runs` reads its runs here too. Every text from a file is escaped by the template.

pub mod compare;
pub mod figures;
pub mod list;
mod page;
mod planned;
mod plots;
mod series;
mod tables;
mod words;

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::Serialize;

pub use figures::Figures;
pub use page::page;
pub use planned::Planned;
pub(crate) use series::smoothed;

use crate::error::TrainError;
use crate::eval::evaluation::Evaluation;
use crate::forgetting::Forgetting;
use crate::model::adapter;
use crate::provenance::{Data, Place};
use crate::recipe::Recipe;
use crate::track::{
    ForgettingRecord, Lock, METRICS, Record, RunFolder, RunInfo, RunStatus, StepRecord, ValidationRecord, read_metrics,
};

/// How a run stands, as it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// A process is at it.
    Running,
    /// It says that it is running, and no process is at it.
    CutOff,
    /// It was stopped, with its state saved.
    Interrupted,
    /// It ended with an error.
    Failed,
    /// It is done.
    Finished,
}

/// All that is known of a run.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// Its folder.
    pub folder: RunFolder,
    /// The folder's own name.
    pub name: String,
    /// How it stands.
    pub standing: Standing,
    /// `run.json`; `None` where it was killed before it wrote the file.
    pub info: Option<RunInfo>,
    /// The recipe as it ran.
    pub recipe: Recipe,
    /// Its text.
    pub recipe_text: String,
    /// The steps, in order.
    pub steps: Vec<StepRecord>,
    /// When the first step and the last were reported.
    pub stepped: Option<(Timestamp, Timestamp)>,
    /// The validations, in order.
    pub validations: Vec<ValidationRecord>,
    /// The measurements of forgetting, in order.
    pub measurements: Vec<ForgettingRecord>,
    /// The last line of the metrics is not whole.
    pub is_torn: bool,
    /// What the result lost of the base.
    pub forgetting: Option<Forgetting>,
    /// Base and adapter on held-out questions.
    pub evaluation: Option<Evaluation>,
    /// What it learned from.
    pub data: Option<Data>,
    /// Bytes of all its files.
    pub bytes: u64,
}

impl RunReport {
    /// Reads a run folder.
    ///
    /// # Errors
    /// [`TrainError::Run`] when the folder holds no run, or a file of it is not what it should be; [`TrainError::Read`];
    /// [`TrainError::Recipe`].
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        let folder = RunFolder::open(path.to_owned())?;
        let info = if path.join("run.json").is_file() { Some(folder.info()?) } else { None };
        // Before the metrics are read: a run that ends meanwhile was running.
        let is_held = Lock::is_held(path);
        let standing = match info.as_ref().map_or(RunStatus::Running, |info| info.status) {
            // Whatever it says: it is taken up again, or is being asked what it forgot.
            _ if is_held => Standing::Running,
            RunStatus::Running => Standing::CutOff,
            RunStatus::Interrupted => Standing::Interrupted,
            RunStatus::Failed => Standing::Failed,
            RunStatus::Finished => Standing::Finished,
        };
        let recipe = Recipe::load(&folder.recipe(), &[])?.recipe;
        let recipe_text = read_text(&folder.recipe())?;
        let mut steps = Vec::new();
        let mut stepped: Option<(Timestamp, Timestamp)> = None;
        let (mut validations, mut measurements) = (Vec::new(), Vec::new());
        for line in read_metrics(path)? {
            match line.record {
                Record::Step(record) => {
                    stepped = Some((stepped.map_or(line.time, |(first, _)| first), line.time));
                    steps.push(record);
                }
                Record::Validation(record) => validations.push(record),
                Record::Forgetting(record) => measurements.push(record),
            }
        }
        Ok(Self {
            name: folder.name(),
            standing,
            info,
            recipe,
            recipe_text,
            steps,
            stepped,
            validations,
            measurements,
            is_torn: is_torn(&path.join(METRICS))?,
            forgetting: folder.json(&folder.forgetting())?,
            evaluation: Evaluation::read(&folder)?,
            data: Place::of_run(path).data()?,
            bytes: folder.bytes()?,
            folder,
        })
    }

    /// The numbers by which it is listed and compared.
    pub fn figures(&self) -> Figures {
        Figures::of(self)
    }

    /// SHA-256 of the result's two files; `None` where there is no result.
    ///
    /// # Errors
    /// [`TrainError::Read`].
    pub fn adapter_digest(&self) -> Result<Option<String>, TrainError> {
        let result = self.folder.adapter();
        let is_there = adapter::files(&result).iter().all(|file| file.is_file());
        is_there.then(|| adapter::digest(&result)).transpose()
    }

    /// When it was started; for one that does not say, when its recipe was written.
    pub fn started(&self) -> Option<Timestamp> {
        let said = self.info.as_ref().and_then(|info| info.started.parse().ok());
        said.or_else(|| fs::metadata(self.folder.recipe()).ok()?.modified().ok()?.try_into().ok())
    }

    /// When something of it was last written, as far as it says.
    pub fn updated(&self) -> Option<Timestamp> {
        let noted = self.info.as_ref().and_then(|info| info.updated.parse().ok());
        let stepped = self.stepped.map(|(_, last)| last);
        noted.into_iter().chain(stepped).max().or_else(|| self.started())
    }
}

/// The text of a file of a run.
fn read_text(path: &Path) -> Result<String, TrainError> {
    fs::read_to_string(path).map_err(|source| TrainError::Read { path: path.to_owned(), source })
}

/// Whether a file of lines ends within one.
fn is_torn(path: &Path) -> Result<bool, TrainError> {
    let failed = |source| TrainError::Read { path: path.to_owned(), source };
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        file => file.map_err(failed)?,
    };
    if file.metadata().map_err(failed)?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1)).and_then(|_| file.read_exact(&mut last)).map_err(failed)?;
    Ok(last != *b"\n")
}

/// Names that tell runs apart: the folders' own, or where two are the same, their paths.
fn distinct_names(runs: &[RunReport]) -> Vec<String> {
    let is_twice = |name: &str| runs.iter().filter(|run| run.name == name).count() > 1;
    let path = |run: &RunReport| -> PathBuf { run.folder.path().to_owned() };
    runs.iter()
        .map(|run| if is_twice(&run.name) { path(run).display().to_string() } else { run.name.clone() })
        .collect()
}
