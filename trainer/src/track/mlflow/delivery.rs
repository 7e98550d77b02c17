//! The delivery: the run folder is the queue, `mlflow.json` says how far it has got.
//!
//! **Each metric is there exactly once.** A batch is sent from the byte of `metrics.jsonl` where the last one ended, and
//! that byte moves when the server has said yes. When it is not known what the server has (no answer, a kill, steps that
//! a resumed run makes again), it is asked for all that it has of the run, and what is there already is passed over, by
//! name and step. A step that is made again after a kill has the same loss, and stays as it was first delivered.

use std::path::Path;

use serde::Serialize;

use super::client::{Client, Credentials, Failure, SILENCE};
use super::describe;
use super::rows::{self, Row};
use super::server::{Counts, MlflowRun, NewRun, Server};
use super::state::{Known, State};
use crate::error::TrainError;
use crate::forgetting::Forgetting;
use crate::recipe::{MlflowConfig, Recipe};
use crate::track::{Line, RunFolder, RunInfo, RunStatus};

/// Metrics in a request at most.
const BATCH: usize = 1000;

/// What was delivered by this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    /// Metrics.
    pub metrics: usize,
    /// Files.
    pub files: usize,
}

/// The delivery of one run.
pub(crate) struct Delivery {
    folder: RunFolder,
    config: MlflowConfig,
    recipe: Recipe,
    server: Server,
    state: State,
    /// The run is known to be there, and described.
    opened: bool,
    /// What the server has of what is still to come; `None` when it is not known.
    there: Option<Counts>,
    /// Metrics in a request at most, here.
    batch: usize,
    pub(crate) sent: Sent,
}

impl Delivery {
    /// The delivery of the run in a folder.
    ///
    /// # Errors
    /// When the folder's files or the certificates cannot be read.
    pub(crate) fn open(folder: RunFolder, config: MlflowConfig) -> Result<Self, TrainError> {
        let client = Client::new(&config.url, Credentials::from_env(), SILENCE)?;
        Self::to(Server::new(client), folder, config)
    }

    pub(super) fn to(server: Server, folder: RunFolder, config: MlflowConfig) -> Result<Self, TrainError> {
        let recipe = Recipe::load(&folder.recipe(), &[])?.recipe;
        let mut state = State::read(folder.path(), server.address(), &config.experiment)?;
        let is_as_it_was = state.delivered == 0 && state.last.is_none()
            || rows::time_before(folder.path(), state.delivered)?.is_some_and(|time| state.last == Some(time));
        if !is_as_it_was {
            // Lines were dropped, to be made again.
            state.unsure = true;
        }
        let there = (!state.unsure).then(Counts::new);
        let (opened, batch, sent) = (false, BATCH, Sent::default());
        Ok(Self { folder, config, recipe, server, state, opened, there, batch, sent })
    }

    /// The server's address.
    pub(crate) fn address(&self) -> &str {
        self.server.address()
    }

    /// The run's page, once there is one.
    pub(crate) fn page(&self) -> Option<String> {
        let known = self.state.run.as_ref()?;
        Some(format!("{}/#/experiments/{}/runs/{}", self.address(), known.experiment_id, known.run_id))
    }

    /// Delivers the metrics that are there and not delivered.
    pub(crate) fn deliver(&mut self) -> Result<(), Failure> {
        let run = self.run("RUNNING")?;
        self.metrics(&run)
    }

    /// Delivers all that is not delivered of a run that has ended.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        let info = self.folder.info()?;
        let status = match info.status {
            RunStatus::Finished => "FINISHED",
            RunStatus::Failed => "FAILED",
            RunStatus::Interrupted | RunStatus::Running => "KILLED",
        };
        let run = self.run(status)?;
        self.metrics(&run)?;
        let forgetting = self.forgetting()?;
        self.server.log_tags(&run.run_id, &describe::last_tags(&info, forgetting.as_ref()))?;
        let passed = forgetting.is_none_or(|forgetting| forgetting.verdict.passed);
        let kept = self.files(&run, &info, passed);
        // Whether or not the files have gone through.
        let end = info.updated.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_millisecond);
        self.server.update_run(&run.run_id, status, end)?;
        kept
    }

    /// Uploads the files, and registers the adapter of a finished run that the forgetting gate lets pass.
    fn files(&mut self, run: &Known, info: &RunInfo, passed: bool) -> Result<(), Failure> {
        if !self.config.artifacts {
            return Ok(());
        }
        for (name, path) in describe::files(&self.folder)? {
            self.upload(&run.artifacts, "", &name, &path)?;
        }
        if info.status == RunStatus::Finished && passed { self.register(run, info) } else { Ok(()) }
    }

    /// The run on the server, which is looked for, made and described first.
    fn run(&mut self, status: &str) -> Result<Known, Failure> {
        if let Some(known) = self.state.run.clone().filter(|_| self.opened) {
            return Ok(known);
        }
        let info = self.folder.info()?;
        let unique = describe::unique(&self.folder, &info)?;
        let known = match self.state.run.clone() {
            Some(known) => {
                if self.server.run(&known.run_id)?.is_none() {
                    return Err(Failure::refused(format!(
                        "its run {} is deleted; restore it there, or delete {} to begin another",
                        known.run_id,
                        self.folder.path().join(super::state::STATE).display()
                    )));
                }
                known
            }
            None => self.found_or_made(&unique, &info)?,
        };
        let id = &known.run_id;
        if status == "RUNNING" {
            self.server.update_run(id, status, None)?;
        }
        self.server.log_params(id, &describe::params(&self.recipe))?;
        self.server.log_tags(id, &describe::first_tags(&self.config, &unique, &info))?;
        self.server.log_inputs(id, &describe::inputs(&self.folder)?)?;
        self.opened = true;
        Ok(known)
    }

    fn found_or_made(&mut self, unique: &str, info: &RunInfo) -> Result<Known, Failure> {
        let experiment = self.server.experiment(&self.config.experiment)?;
        let run = if let Some(run) = self.server.find_run(&experiment, (describe::RUN, unique))? {
            // Whoever made it may have sent something.
            self.doubt();
            run
        } else {
            let name = describe::run_name(&self.config, &self.folder);
            let start = info.started.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_millisecond);
            let tags = describe::first_tags(&self.config, unique, info);
            self.server.create_run(&NewRun { experiment: &experiment, name: &name, start, tags: &tags })?
        };
        let known = Known::new(experiment, run);
        self.state.run = Some(known.clone());
        self.save()?;
        Ok(known)
    }

    /// Notes that the server may have more than is known.
    fn doubt(&mut self) {
        self.there = None;
        self.state.unsure = true;
    }

    fn save(&self) -> Result<(), TrainError> {
        self.state.save(self.folder.path())
    }

    fn metrics(&mut self, run: &Known) -> Result<(), Failure> {
        if self.there.is_none() {
            let keys = self.server.run(&run.run_id)?.unwrap_or_default();
            self.there = Some(self.server.counts(&run.run_id, &keys)?);
            (self.state.delivered, self.state.last) = (0, None);
        }
        loop {
            let Some(lines) = rows::read(self.folder.path(), self.state.delivered)? else {
                self.doubt();
                return self.metrics(run);
            };
            if lines.is_empty() {
                return Ok(());
            }
            let mut lines = lines.as_slice();
            while !lines.is_empty() {
                lines = &lines[self.batch(run, lines)?..];
            }
        }
    }

    /// Delivers as many lines as a batch holds, at least one; says how many.
    fn batch(&mut self, run: &Known, lines: &[(Line, u64)]) -> Result<usize, Failure> {
        let there = self.there.as_mut().expect("it was asked for");
        let (mut count, mut missing, mut passed_over) = (0, Vec::new(), Vec::new());
        for (line, _) in lines {
            let rows = rows::rows(line);
            if count > 0 && missing.len() + rows.len() > self.batch {
                break;
            }
            count += 1;
            for row in rows {
                if take(there, &row) { passed_over.push(row) } else { missing.push(row) }
            }
        }
        if !missing.is_empty() {
            if !self.state.unsure {
                self.state.unsure = true;
                self.save()?;
            }
            match self.server.log_metrics(&run.run_id, &missing) {
                Ok(()) => self.sent.metrics += missing.len(),
                Err(failure) => {
                    let untouched = matches!(&failure, Failure::TooLarge(_) | Failure::Passing { untouched: true, .. });
                    if untouched {
                        let there = self.there.as_mut().expect("it was asked for");
                        for row in passed_over {
                            *there.entry((row.key, row.step)).or_default() += 1;
                        }
                    } else {
                        self.doubt();
                    }
                    return match failure {
                        Failure::TooLarge(_) if count > 1 => {
                            self.batch = (missing.len() / 2).max(1);
                            self.batch(run, lines)
                        }
                        Failure::TooLarge(reason) => Err(Failure::refused(format!(
                            "{reason}; the metrics of one step are too large for what stands before it: let it pass \
                             requests of 1 MB"
                        ))),
                        failure => Err(failure),
                    };
                }
            }
        }
        let (line, end) = &lines[count - 1];
        (self.state.delivered, self.state.last) = (*end, Some(line.time));
        // As long as the server has something of what is to come, a next process must ask again.
        self.state.unsure = self.there.as_ref().is_none_or(|there| !there.is_empty());
        self.save()?;
        Ok(count)
    }

    /// Uploads a file below `prefix`, unless it is there as it is.
    fn upload(&mut self, artifacts: &str, prefix: &str, name: &str, path: &Path) -> Result<(), Failure> {
        let digest = datasets::sha256_files([path]);
        let digest = digest.map_err(|source| TrainError::Read { path: path.to_owned(), source })?;
        let key = format!("{prefix}{name}");
        if self.state.files.get(&key) == Some(&digest) {
            return Ok(());
        }
        self.server.upload(artifacts, name, path)?;
        self.state.files.insert(key, digest);
        self.sent.files += 1;
        Ok(self.save()?)
    }

    /// Makes the adapter a version of the registered model, where the recipe asks for it.
    fn register(&mut self, run: &Known, info: &RunInfo) -> Result<(), Failure> {
        let Some(name) = self.config.registered_model.clone() else { return Ok(()) };
        if self.state.version.is_some() {
            // Its alias may belong to a later one by now.
            return Ok(());
        }
        let files = describe::adapter_files(&self.folder)?;
        let tags = [("greffon.base_sha256".to_owned(), info.base_digest.clone())];
        let model = self.server.logged_model(&run.experiment_id, &run.run_id, "adapter", &tags)?;
        let source = match &model {
            Some(MlflowRun { id, artifacts }) => {
                for (file, path) in &files {
                    self.upload(artifacts, &format!("models/{id}/"), file, path)?;
                }
                self.server.model_is_ready(id)?;
                format!("models:/{id}")
            }
            None => format!("{}/adapter", run.artifacts),
        };
        let id = model.map(|model| model.id);
        let version = self.server.register(&name, &run.run_id, &source, id.as_deref())?;
        if let Some(alias) = &self.config.alias {
            self.server.set_alias(&name, alias, &version)?;
        }
        self.state.version = Some(version);
        Ok(self.save()?)
    }

    /// What the run lost of the base; `None` where it was not measured.
    fn forgetting(&self) -> Result<Option<Forgetting>, TrainError> {
        let path = self.folder.forgetting();
        let text = match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| TrainError::Read { path: path.clone(), source })?,
        };
        let unreadable = |error| TrainError::Run(format!("{}: {error}", path.display()));
        serde_json::from_str(&text).map(Some).map_err(unreadable)
    }
}

/// Whether the server has a row; it is then taken from what it has.
fn take(there: &mut Counts, row: &Row) -> bool {
    let key = (row.key.clone(), row.step);
    let Some(count) = there.get_mut(&key) else { return false };
    *count -= 1;
    if *count == 0 {
        there.remove(&key);
    }
    true
}
