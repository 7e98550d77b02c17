//! The MLflow run that the trials of a sweep are shown below.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::client::{Client, Credentials, Failure};
use super::describe;
use super::server::{NewRun, Pair, Server};
use super::state::STATE;
use crate::error::TrainError;
use crate::recipe::MlflowConfig;

/// How long the server may be silent: whoever starts a sweep waits for it.
const SILENCE: Duration = Duration::from_secs(10);

/// What a sweep's folder keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// `None` where the server did not answer when the sweep was first started: its trials are runs of their own then,
    /// and stay so, for their recipes are not to change.
    run_id: Option<String>,
}

/// The run of a sweep, which is made when the sweep is first started; `params` are the values that it tries. `None` where
/// the server does not take one, which is told.
///
/// # Errors
/// When the certificates cannot be read, or the sweep's folder cannot be read or written.
pub fn parent(sweep: &Path, config: &MlflowConfig, params: &[Pair]) -> Result<Option<String>, TrainError> {
    let path = sweep.join(STATE);
    match fs::read(&path) {
        Ok(bytes) => {
            let other = |error| TrainError::Run(format!("{}: {error}; expected what a sweep leaves", path.display()));
            return Ok(serde_json::from_slice::<Kept>(&bytes).map_err(other)?.run_id);
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(source) => return Err(TrainError::Read { path, source }),
    }
    let server = Server::new(Client::new(&config.url, Credentials::from_env(), SILENCE)?);
    let run_id = match made(&server, sweep, config, params) {
        Ok(id) => Some(id),
        Err(Failure::Own(error)) => return Err(error),
        Err(failure) => {
            let (address, reason) = (server.address(), failure.reason());
            tracing::warn!("MLflow at {address}: {reason}; the trials are shown there without a run above them");
            None
        }
    };
    let kept = Kept { run_id };
    kept.save(&path)?;
    Ok(kept.run_id)
}

impl Kept {
    fn save(&self, path: &Path) -> Result<(), TrainError> {
        let text = serde_json::to_string_pretty(self).expect("it is plain data") + "\n";
        Ok(adapters::write_atomic(path, true, |out| out.write_all(text.as_bytes()))?)
    }
}

fn made(server: &Server, sweep: &Path, config: &MlflowConfig, params: &[Pair]) -> Result<String, Failure> {
    let now = jiff::Timestamp::now();
    let unique = datasets::hex(&Sha256::digest(format!("{now} {}", sweep.display())))[..32].to_owned();
    let own = [(describe::RUN, unique.as_str()), ("greffon.kind", "sweep"), ("mlflow.source.type", "JOB")];
    let own = own.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let tags: Vec<Pair> = own.into_iter().chain(config.tags.clone()).collect();
    let name = sweep.file_name().map_or_else(|| "sweep".to_owned(), |name| name.to_string_lossy().into_owned());
    let name = config.run_name.clone().unwrap_or(name);
    let experiment = server.experiment(&config.experiment)?;
    let new = NewRun { experiment: &experiment, name: &name, start: now.as_millisecond(), tags: &tags };
    let run = server.create_run(&new)?;
    server.log_params(&run.id, params)?;
    Ok(run.id)
}

/// Says there how a sweep has ended; a server that does not take it is told of and ends nothing.
///
/// # Errors
/// When the certificates cannot be read.
pub fn finish(run: &str, config: &MlflowConfig, succeeded: bool) -> Result<(), TrainError> {
    let server = Server::new(Client::new(&config.url, Credentials::from_env(), SILENCE)?);
    let status = if succeeded { "FINISHED" } else { "FAILED" };
    if let Err(failure) = server.update_run(run, status, Some(jiff::Timestamp::now().as_millisecond())) {
        tracing::warn!("MLflow at {}: {}; the sweep's run there stays open", server.address(), failure.reason());
    }
    Ok(())
}
