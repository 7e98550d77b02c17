//! The run folder: everything that a run read, did and made.
//!
//! ```text
//! recipe.yaml      the resolved recipe, every default visible
//! run.json         versions, seed, host, git state, status, figures
//! metrics.jsonl    one line a step, validation or measurement of forgetting
//! log.txt          what happened when
//! replay.jsonl     the base's answers that are replayed, where the recipe asks for them
//! checkpoints/     step-00000040/ …, best/
//! adapter/         the result, a PEFT folder
//! samples.jsonl    the samples, and how many times each was trained on; greffon.json has its digest
//! run.lock         held by the process that writes to the folder
//! mlflow.json      how far it is delivered to an MLflow server, where the recipe names one
//! forgetting.json  what it lost of the base, and whether the gate lets it pass
//! eval.json        base and adapter on held-out questions, with the answers; `greffon eval` writes it
//! report.html      all of it for people; `greffon report` writes it
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use datasets::{Counts, Prepared};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Plan;
use super::lock::{Lock, is_lock};
use crate::energy::EnergyRecord;
use crate::error::TrainError;
use crate::kernels;
use crate::model::BaseModel;
use crate::recipe::{Loaded, Recipe};
use crate::train::selection::SelectionRecord;

/// The file of the base's answers that are replayed.
pub const REPLAY: &str = "replay.jsonl";

/// The file of the examples that are trained on, where they are a part.
pub const SELECTED: &str = "selected.json";

/// The folder of one run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Under way, or killed.
    Running,
    /// Stopped by Ctrl-C with its state saved.
    Interrupted,
    /// Ended by an error.
    Failed,
    /// Done.
    Finished,
}

/// `run.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunInfo {
    /// How the run stands.
    pub status: RunStatus,
    /// Version of greffon.
    pub greffon_version: String,
    /// Version of burn.
    pub burn_version: String,
    /// When the run first started, UTC.
    pub started: String,
    /// When this file was last written, UTC.
    pub updated: String,
    /// The machine's name.
    pub host: String,
    /// Logical CPUs that the run may use.
    pub cpus: usize,
    /// The instruction set that the kernels computed with; `None` in the folders of earlier versions.
    #[serde(default)]
    pub instructions: Option<String>,
    /// The recipe's file, absolute.
    pub recipe: PathBuf,
    /// The recipe's git commit, with `-dirty` when its folder has changes; none outside a repository.
    pub git: Option<String>,
    /// The run's seed.
    pub seed: u64,
    /// SHA-256 of the base's weight files, by name.
    pub base_digest: String,
    /// The time that a template which prints the date was given.
    pub template_clock: Option<String>,
    /// What it was about to do when it was last started; `None` before it was ready to.
    pub plan: Option<Plan>,
    /// What was made of its data; `None` as above, and in the folders of earlier versions.
    #[serde(default)]
    pub data: Option<DataCounts>,
    /// The last step made.
    pub step: u64,
    /// The lowest validation loss and its step.
    pub best: Option<(f64, u64)>,
    /// What it took; `None` before the first step, and in the folders of earlier versions.
    #[serde(default)]
    pub energy: Option<EnergyRecord>,
    /// Why the run ended early, or failed.
    pub reason: Option<String>,
}

/// What was made of a run's data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataCounts {
    /// What was counted over the training sources.
    pub train: Counts,
    /// What was counted over the validation conversations.
    pub validation: Counts,
    /// What was left out or cut and why, a line each.
    pub notes: Vec<String>,
    /// What part of it is trained on; `None` for all.
    #[serde(default)]
    pub selection: Option<SelectionRecord>,
}

/// The version of burn that this program is built on; pinned in `Cargo.toml`.
pub(crate) const BURN_VERSION: &str = "0.22.1";

impl RunFolder {
    /// Takes a folder for a new run, and its lock.
    ///
    /// # Errors
    /// [`TrainError::Run`] when it holds a run already and `force` is off, and when another run writes there;
    /// [`TrainError::Write`].
    pub fn create(path: PathBuf, recipe: &Recipe, force: bool) -> Result<(Self, Lock), TrainError> {
        let folder = Self { path };
        let holds_run = folder.holds_run();
        if holds_run && !force {
            return Err(TrainError::Run(format!(
                "{} holds a run already; go on with `greffon train --resume {0}`, or start over with --force",
                folder.path.display()
            )));
        }
        let entries = || fs::read_dir(&folder.path).into_iter().flatten().flatten().filter(|entry| !is_lock(entry));
        if !holds_run && entries().any(|entry| !is_of_a_start(&entry)) {
            return Err(TrainError::Run(format!(
                "output folder {} is not empty and holds no run; name another in the recipe's `output`",
                folder.path.display()
            )));
        }
        fs::create_dir_all(&folder.path).map_err(|source| folder.write_error(source))?;
        let lock = Lock::take(&folder.path)?;
        for entry in entries() {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|source| TrainError::Write { path, source })?;
        }
        fs::create_dir_all(folder.checkpoints()).map_err(|source| folder.write_error(source))?;
        adapters::write_atomic(&folder.recipe(), true, |out| out.write_all(recipe.resolved_yaml().as_bytes()))?;
        Ok((folder, lock))
    }

    /// Opens the folder of an earlier run.
    ///
    /// # Errors
    /// [`TrainError::Run`] when it holds none.
    pub fn open(path: PathBuf) -> Result<Self, TrainError> {
        let folder = Self { path };
        if folder.holds_run() {
            return Ok(folder);
        }
        Err(TrainError::Run(format!(
            "{} is not a run folder: it has no recipe.yaml with run.json; expected the `output` folder of `greffon train`",
            folder.path.display()
        )))
    }

    /// Whether a folder holds a run.
    pub fn is_run(path: &Path) -> bool {
        Self { path: path.to_owned() }.holds_run()
    }

    /// A recipe alone is not a run: it may be the user's own, beside the data.
    fn holds_run(&self) -> bool {
        self.recipe().is_file() && (self.checkpoints().is_dir() || self.path.join("run.json").is_file())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved recipe.
    pub fn recipe(&self) -> PathBuf {
        self.path.join("recipe.yaml")
    }

    /// The checkpoints.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// The result.
    pub fn adapter(&self) -> PathBuf {
        self.path.join("adapter")
    }

    /// The base's answers that are replayed.
    pub fn replay(&self) -> PathBuf {
        self.path.join(REPLAY)
    }

    /// What the result lost of the base.
    pub fn forgetting(&self) -> PathBuf {
        self.path.join("forgetting.json")
    }

    /// Base and adapter on held-out questions.
    pub fn evaluation(&self) -> PathBuf {
        self.path.join("eval.json")
    }

    /// The report.
    pub fn report(&self) -> PathBuf {
        self.path.join("report.html")
    }

    /// The folder's own name, also of `.`.
    pub fn name(&self) -> String {
        let folder = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        folder.file_name().map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned())
    }

    /// Reads a file of it that may not be there.
    ///
    /// # Errors
    /// [`TrainError::Read`]; [`TrainError::Run`] when it is not of this form.
    pub fn json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, TrainError> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|source| TrainError::Read { path: path.to_owned(), source })?,
        };
        let remedy = "expected what greffon writes there, remove the file to go without it";
        let other = |error| TrainError::Run(format!("{}: {error}; {remedy}", path.display()));
        serde_json::from_slice(&bytes).map(Some).map_err(other)
    }

    /// Reads `run.json`.
    ///
    /// # Errors
    /// [`TrainError::Read`]; [`TrainError::Run`] when it is not readable as such.
    pub fn info(&self) -> Result<RunInfo, TrainError> {
        let path = self.path.join("run.json");
        let text = fs::read_to_string(&path).map_err(|source| TrainError::Read { path: path.clone(), source })?;
        serde_json::from_str(&text).map_err(|e| TrainError::Run(format!("{}: {e}", path.display())))
    }

    /// Writes `run.json`.
    ///
    /// # Errors
    /// When it cannot be written; the one before stays.
    pub fn save_info(&self, info: &RunInfo) -> Result<(), TrainError> {
        let path = self.path.join("run.json");
        let failed = |e: serde_json::Error| TrainError::Write { path: path.clone(), source: e.into() };
        let text = serde_json::to_string_pretty(info).map_err(failed)? + "\n";
        Ok(adapters::write_atomic(&path, true, |out| out.write_all(text.as_bytes()))?)
    }

    fn write_error(&self, source: std::io::Error) -> TrainError {
        TrainError::Write { path: self.path.clone(), source }
    }
}

impl From<&Prepared> for DataCounts {
    fn from(data: &Prepared) -> Self {
        Self {
            train: data.train_counts,
            validation: data.validation_counts,
            notes: data.notes.clone(),
            selection: None,
        }
    }
}

impl RunInfo {
    /// The facts of a run that starts now.
    ///
    /// # Errors
    /// When the base's files cannot be read.
    pub fn new(loaded: &Loaded, base: &BaseModel) -> Result<Self, TrainError> {
        let now = jiff::Timestamp::now().to_string();
        Ok(Self {
            status: RunStatus::Running,
            greffon_version: env!("CARGO_PKG_VERSION").to_owned(),
            burn_version: BURN_VERSION.to_owned(),
            started: now.clone(),
            updated: now,
            host: host_name(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            instructions: kernels::instructions(loaded.recipe.kernels),
            recipe: loaded.root.join(loaded.path.file_name().unwrap_or_default()),
            git: git_state(&loaded.path),
            seed: loaded.recipe.train.seed,
            base_digest: base.digest()?,
            template_clock: base.tokenizer.template()?.clock(),
            plan: None,
            data: None,
            step: 0,
            best: None,
            energy: None,
            reason: None,
        })
    }

    /// Notes how the run stands now.
    pub fn update(&mut self, status: RunStatus, step: u64, best: Option<(f64, u64)>, reason: Option<String>) {
        self.status = status;
        self.step = step;
        self.best = best;
        self.reason = reason;
        self.updated = jiff::Timestamp::now().to_string();
    }
}

/// Whether an entry is what a start leaves that was killed while it made the folder.
fn is_of_a_start(entry: &fs::DirEntry) -> bool {
    let name = entry.file_name();
    name.to_str().is_some_and(is_unfinished)
        || name == "checkpoints" && fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_none())
}

/// Whether a name is one under which something is written before it has its own.
pub(super) fn is_unfinished(name: &str) -> bool {
    name.starts_with('.') && name.ends_with(".partial")
}

pub(super) fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}

/// The commit of the folder that holds the recipe.
fn git_state(recipe_path: &Path) -> Option<String> {
    let folder = recipe_path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let git = |arguments: &[&str]| {
        let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", "."])?;
    Some(if changes.is_empty() { commit } else { format!("{commit}-dirty") })
}
