//! `manifest.json`: the facts of an export and the digests of its files, as an in-toto statement.
//!
//! Source: in-toto attestations, <https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md>.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use adapters::signing::{Envelope, SecretKey, dsse, read_at_most};
use datasets::sha256_files;
use serde::{Deserialize, Serialize};

use super::Facts;
use crate::error::TrainError;
use crate::prove::{Export, Manifest};
use crate::provenance::Data;

/// The manifest's file, beside which the signature lies.
pub const MANIFEST: &str = "manifest.json";
/// The file of the signature.
pub const SIGNATURE: &str = "manifest.dsse.json";
/// What a signed manifest is, as DSSE has it.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// What a statement is.
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
/// What is said in it: [`Facts`].
const PREDICATE_TYPE: &str = "tag:greffon,2026:manifest/v1";
/// What the hub puts into a repository, which no server reads.
const OF_THE_HUB: &str = ".gitattributes";

/// The file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statement {
    /// What it is.
    #[serde(rename = "_type")]
    pub statement_type: String,
    /// The files that it is of, in the order of their names.
    pub subject: Vec<Subject>,
    /// The form of what it says.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// What it says.
    pub predicate: Facts,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subject {
    /// Its name in the export's folder, with `/` between the parts.
    pub name: String,
    /// Its digests.
    pub digest: Digests,
}

/// Digests of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    /// SHA-256, in hexadecimal.
    pub sha256: String,
}

/// What became of a manifest that was made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    /// It says what it said.
    Unchanged,
    /// It was written, and signed if there was a key.
    Written,
    /// It was written, and the signature beside it is of the one before.
    Unsigned,
}

impl Statement {
    /// What is to be said of an export as its files are now.
    ///
    /// # Errors
    /// When a file cannot be read; [`TrainError::Refused`] for a link that leaves the folder.
    pub fn new(export: &Export, facts: Facts) -> Result<Self, TrainError> {
        let subject = files(export, facts.data.as_ref())?.into_iter().map(|(name, path)| {
            let sha256 = sha256_files([&path]).map_err(|source| TrainError::Read { path, source })?;
            Ok(Subject { name, digest: Digests { sha256 } })
        });
        Ok(Self {
            statement_type: STATEMENT_TYPE.to_owned(),
            subject: subject.collect::<Result<_, TrainError>>()?,
            predicate_type: PREDICATE_TYPE.to_owned(),
            predicate: facts,
        })
    }

    /// The manifest beside an export; none where nothing lies there.
    ///
    /// # Errors
    /// When it is not readable as such.
    pub fn of(export: &Export) -> Result<Option<Self>, TrainError> {
        let path = export.beside(MANIFEST);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        Self::read(&path).map(Some)
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// When it cannot be read, and as [`Self::parse`].
    pub fn read(path: &Path) -> Result<Self, TrainError> {
        Self::parse(path, &read_at_most(path, dsse::MOST)?)
    }

    /// Reads the bytes of a manifest; `path` is for messages.
    ///
    /// # Errors
    /// [`TrainError::Refused`] when they are not a statement of the form that is written here, name a file twice or one
    /// outside the folder.
    pub fn parse(path: &Path, bytes: &[u8]) -> Result<Self, TrainError> {
        let refuse = |problem: String| TrainError::Refused(format!("{}: {problem}", path.display()));
        let statement: Self =
            serde_json::from_slice(bytes).map_err(|error| refuse(format!("is no manifest of an export: {error}")))?;
        for (key, got, expected) in [
            ("_type", &statement.statement_type, STATEMENT_TYPE),
            ("predicateType", &statement.predicate_type, PREDICATE_TYPE),
        ] {
            if got != expected {
                return Err(refuse(format!("{key} is {got:?}, expected {expected:?}")));
            }
        }
        if statement.subject.is_empty() {
            return Err(refuse("names no file".to_owned()));
        }
        let mut names = std::collections::BTreeSet::new();
        for Subject { name, digest } in &statement.subject {
            if !is_inside(name) {
                return Err(refuse(format!("names the file {name:?}, expected one inside the export's folder")));
            }
            if !names.insert(name) {
                return Err(refuse(format!("names the file {name:?} twice")));
            }
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            if digest.sha256.len() != 64 || !digest.sha256.bytes().all(is_hex) {
                return Err(refuse(format!("gives {name:?} a SHA-256 that is none: {:?}", digest.sha256)));
            }
        }
        Ok(statement)
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// When a number cannot be written as JSON.
    pub fn to_bytes(&self, path: &Path) -> Result<Vec<u8>, TrainError> {
        let failed = |error: serde_json::Error| TrainError::Write { path: path.to_owned(), source: error.into() };
        let mut bytes = serde_json::to_vec_pretty(self).map_err(failed)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The digests by name.
    pub fn digests(&self) -> BTreeMap<&str, &str> {
        self.subject.iter().map(|file| (file.name.as_str(), file.digest.sha256.as_str())).collect()
    }

    /// Writes the manifest of an export that was made just now. A signature of what stood there before goes.
    ///
    /// # Errors
    /// As [`Self::new`]; when it cannot be written.
    pub fn write_new(export: &Export, facts: Facts, key: Option<&SecretKey>) -> Result<(), TrainError> {
        let path = export.beside(SIGNATURE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(TrainError::Write { path, source: error });
            }
            _ => {}
        }
        Self::new(export, facts)?.write(export, key)
    }

    /// Makes the manifest of an export anew: what is known of run and base stays, the rest is read again. One is made where
    /// there is none.
    ///
    /// # Errors
    /// As [`Self::write_new`], and as [`Self::of`].
    pub fn renew(export: &Export, key: Option<&SecretKey>) -> Result<Renewed, TrainError> {
        let earlier = Self::of(export)?;
        let statement = Self::as_it_is(export, earlier.as_ref())?;
        if earlier.as_ref() == Some(&statement) && key.is_none() {
            return Ok(Renewed::Unchanged);
        }
        statement.write(export, key)?;
        let is_signed = key.is_some() || export.beside(SIGNATURE).symlink_metadata().is_err();
        Ok(if is_signed { Renewed::Written } else { Renewed::Unsigned })
    }

    /// What an export's manifest would say, were it made now.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn as_it_is(export: &Export, earlier: Option<&Self>) -> Result<Self, TrainError> {
        let facts = match earlier {
            Some(earlier) => earlier.predicate.clone().with(Manifest::read(export)?),
            None => Facts::of_files(export)?,
        };
        Self::new(export, facts)
    }

    /// Writes the manifest, and the envelope after it: a kill between the two leaves a signature that does not fit, never
    /// one that covers something else.
    fn write(&self, export: &Export, key: Option<&SecretKey>) -> Result<(), TrainError> {
        let path = export.beside(MANIFEST);
        let bytes = self.to_bytes(&path)?;
        adapters::write_atomic(&path, true, |out| out.write_all(&bytes))?;
        if let Some(key) = key {
            let envelope = Envelope::sign(PAYLOAD_TYPE, &bytes, key).to_json();
            adapters::write_atomic(&export.beside(SIGNATURE), true, |out| out.write_all(envelope.as_bytes()))?;
        }
        Ok(())
    }
}

/// The files of an export by their names in the statement. Not among them are the statement itself, its signature, and
/// the working record with its files of samples: what that says is in the statement.
///
/// # Errors
/// When a folder cannot be listed; [`TrainError::Refused`] for a link that leaves the folder, and for what is no file.
pub fn files(export: &Export, data: Option<&Data>) -> Result<BTreeMap<String, PathBuf>, TrainError> {
    if !export.form().is_folder() {
        return Ok(BTreeMap::from([(export.name(), export.path().to_owned())]));
    }
    let samples = data.into_iter().flat_map(|data| &data.runs).map(|run| run.file.as_str());
    let apart: Vec<&str> = [MANIFEST, SIGNATURE, Manifest::NAME, OF_THE_HUB].into_iter().chain(samples).collect();
    let root = export.path();
    let canonical = root.canonicalize().map_err(|source| TrainError::Read { path: root.to_owned(), source })?;
    let mut found = BTreeMap::new();
    walk(root, "", &canonical, &mut found)?;
    found.retain(|name, _| !apart.contains(&name.as_str()));
    Ok(found)
}

fn walk(folder: &Path, before: &str, root: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), TrainError> {
    let failed = |source| TrainError::Read { path: folder.to_owned(), source };
    for entry in folder.read_dir().map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(failed)?);
        let refuse = |problem: &str| Err(TrainError::Refused(format!("{}: {problem}", path.display())));
        let Ok(name) = entry.file_name().into_string() else {
            return refuse("has a name that is no UTF-8, which no manifest can have");
        };
        let name = format!("{before}{name}");
        if kind.is_dir() {
            walk(&path, &format!("{name}/"), root, found)?;
            continue;
        }
        if kind.is_symlink() && !path.canonicalize().is_ok_and(|end| end.starts_with(root)) {
            return refuse("is a link that leaves the folder; put the file itself there");
        }
        if !path.is_file() {
            return refuse("is no file, expected files and folders");
        }
        found.insert(name, path);
    }
    Ok(())
}

/// Whether a name leads to a file inside the folder, written as [`files`] writes it.
fn is_inside(name: &str) -> bool {
    let parts = Path::new(name).components();
    let is_plain = parts.clone().all(|part| matches!(part, Component::Normal(_)));
    !name.is_empty() && is_plain && parts.collect::<PathBuf>().to_str() == Some(name)
}
