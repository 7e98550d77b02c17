//! `greffon.json`: what is known of an adapter or export: what it forgot, what it learned from, and its proofs.
//!
//! It lies in an exported folder, or beside an exported file under the file's name. A proof holds as long as the files
//! have the digests that it names.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Agreement, Export, ServerInfo, prompts_digest};
use crate::error::TrainError;
use crate::provenance::Data;
use crate::recipe::without_folder;

/// One comparison of an export in a server with the trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Proof {
    /// Every condition was met.
    pub proved: bool,
    /// When, UTC.
    pub date: String,
    /// Version of greffon.
    pub greffon_version: String,
    /// The server and what it served.
    pub server: ServerInfo,
    /// The base with which the trainer computed.
    pub base: String,
    /// SHA-256 of its weight files.
    pub base_digest: String,
    /// SHA-256 of the PEFT folder's two files with which the trainer computed; none for a base as such.
    pub adapter_digest: Option<String>,
    /// SHA-256 of the export's files, by name.
    pub files: BTreeMap<String, String>,
    /// How many prompts.
    pub prompts: usize,
    /// SHA-256 of the prompts.
    pub prompts_digest: String,
    /// The server's tokenizer cut the prompts as the trainer's; none when the server does not say.
    pub same_tokens: Option<bool>,
    /// How many of the server's most probable tokens were compared after each prompt.
    pub top: usize,
    /// The largest mean difference that counts as equal, in nats.
    pub limit: f64,
    /// With the adapter, switched on or folded in; the base where there is none.
    pub on: Agreement,
    /// With the adapter off; none for a merged model.
    pub off: Option<Agreement>,
    /// How far the adapter moves the log-probabilities: the mean difference if the server ignored it.
    pub effect: Option<f64>,
}

/// What an adapter lost of its base, in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ForgettingNote {
    /// The gate let it pass.
    pub passed: bool,
    /// When it was measured, UTC.
    pub date: String,
    /// SHA-256 over all that was asked.
    pub questions_digest: String,
    /// SHA-256 of the two files of the adapter that was measured.
    pub adapter_digest: Option<String>,
    /// The mean accuracy over the tasks less that of the base.
    pub average_difference: Option<f64>,
    /// The divergence from the base by language, in nats per token.
    pub kl: BTreeMap<String, f64>,
    /// The limits that it is beyond.
    pub beyond: Vec<String>,
    /// Why it was exported nevertheless.
    pub accepted: Option<String>,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Manifest {
    /// What the adapter lost of its base; none where that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forgetting: Option<ForgettingNote>,
    /// The samples that it learned from; none where nobody recorded them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Data>,
    /// The newest proof for each server, model and base.
    #[serde(default)]
    pub proofs: Vec<Proof>,
    /// What else stands there.
    #[serde(flatten)]
    other: Map<String, Value>,
}

impl Manifest {
    /// The file's name.
    pub const NAME: &str = "greffon.json";

    /// Where an export's manifest lies.
    pub fn path(export: &Export) -> PathBuf {
        export.beside(Self::NAME)
    }

    /// Reads an export's manifest; an empty one where there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is not of this form.
    pub fn read(export: &Export) -> Result<Self, TrainError> {
        Self::read_file(&Self::path(export))
    }

    /// Reads a manifest; an empty one where there is none.
    pub(crate) fn read_file(path: &Path) -> Result<Self, TrainError> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                TrainError::Run(format!("{}: not a manifest: {error}; remove it and prove again", path.display()))
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(TrainError::Read { path: path.to_owned(), source }),
        }
    }

    /// Adds a proof in place of an earlier one of the same server, model and base, and of all that were of other files.
    ///
    /// # Errors
    /// When the file cannot be written; the one before stays.
    pub fn add(mut self, export: &Export, proof: Proof) -> Result<PathBuf, TrainError> {
        let key = |proof: &Proof| (proof.server.kind.clone(), proof.server.model.clone(), proof.base_digest.clone());
        self.proofs.retain(|earlier| earlier.files == proof.files && key(earlier) != key(&proof));
        self.proofs.push(proof);
        self.write(export)
    }

    /// Notes in an export's manifest what its adapter forgot.
    ///
    /// # Errors
    /// As [`Self::read`] and [`Self::add`].
    pub fn note_forgetting(export: &Export, note: ForgettingNote) -> Result<(), TrainError> {
        Self { forgetting: Some(note), ..Self::read(export)? }.write(export).map(drop)
    }

    fn write(&self, export: &Export) -> Result<PathBuf, TrainError> {
        let path = Self::path(export);
        self.write_file(&path)?;
        Ok(path)
    }

    /// Writes a manifest as others may see it: without the folders of this machine.
    ///
    /// # Errors
    /// When one of the two cannot be read or written.
    pub fn publish(from: &Path, to: &Path) -> Result<(), TrainError> {
        Self::read_file(from)?.without_folders().write_file(to)
    }

    /// The same without the folders of this machine.
    #[must_use]
    pub fn without_folders(mut self) -> Self {
        self.data = self.data.map(Data::without_folders);
        for proof in &mut self.proofs {
            proof.base = without_folder(&proof.base);
            proof.server.model = without_folder(&proof.server.model);
            proof.server.adapter = proof.server.adapter.as_deref().map(without_folder);
        }
        self
    }

    /// Writes a manifest whole or not at all.
    pub(crate) fn write_file(&self, path: &Path) -> Result<(), TrainError> {
        let failed = |error: serde_json::Error| TrainError::Write { path: path.to_owned(), source: error.into() };
        let text = serde_json::to_string_pretty(self).map_err(failed)? + "\n";
        Ok(adapters::write_atomic(path, true, |out| out.write_all(text.as_bytes()))?)
    }
}

impl ForgettingNote {
    /// Lets an adapter out that the gate let pass, or whose loss somebody accepts, with a reason that is kept.
    ///
    /// # Errors
    /// [`TrainError::Refused`] without a reason.
    pub fn let_out(mut self, adapter: &Path, reason: Option<&str>) -> Result<Self, TrainError> {
        if self.passed || self.accepted.is_some() {
            return Ok(self);
        }
        let Some(reason) = reason else {
            return Err(TrainError::Refused(format!(
                "{}: the adapter forgot more of its base than its recipe allows: {}; repair it with `greffon forgetting \
                 repair`, or export the run with --accept-forgetting \"REASON\"",
                adapter.display(),
                self.beyond.join("; ")
            )));
        };
        self.accepted = Some(reason.to_owned());
        Ok(self)
    }
}

impl Proof {
    /// Why the proof says nothing about the files as they are now; `None` when it holds.
    pub fn outdated(&self, files: &BTreeMap<String, String>) -> Option<&'static str> {
        if self.files != *files {
            return Some("the files have changed since");
        }
        (self.prompts_digest != prompts_digest()).then_some("it was made with other prompts")
    }
}
