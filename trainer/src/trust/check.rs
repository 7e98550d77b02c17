//! Whether an export is what somebody signed.

use std::path::{Path, PathBuf};

use adapters::signing::{Envelope, PublicKey, SecretKey, dsse, read_at_most};
use datasets::sha256_files;

use super::statement::{MANIFEST, PAYLOAD_TYPE, SIGNATURE, Statement, files};
use crate::error::TrainError;
use crate::prove::{Export, Manifest};
use crate::provenance::Place;

/// Checks that the key signed the manifest of an export, and that the export is what it says: each file by its digest,
/// none missing, none beyond, and the working record in agreement.
///
/// # Errors
/// [`TrainError::Refused`] or [`adapters::AdapterError::Signature`], with the file that is not as it was signed.
pub fn check(export: &Export, key: &PublicKey) -> Result<Statement, TrainError> {
    let (manifest, envelope) = (export.beside(MANIFEST), export.beside(SIGNATURE));
    for (path, what) in [(&envelope, "signature"), (&manifest, "manifest")] {
        if path.symlink_metadata().is_err() {
            return refuse(path, &format!("is missing: the export has no {what}; `greffon sign` makes it"));
        }
    }
    let signed = Envelope::read(&envelope)?.verify(&envelope, PAYLOAD_TYPE, key)?;
    if read_at_most(&manifest, dsse::MOST)? != signed {
        return refuse(&manifest, "is not the manifest that was signed: it was altered, or made anew since");
    }
    let statement = Statement::parse(&envelope, &signed)?;
    compare(export, &statement)?;
    Ok(statement)
}

/// Signs what an export is now, its manifest made anew. Gives the files that are not as the manifest before had them.
///
/// # Errors
/// [`TrainError::Refused`] when one of these is what a server reads: then nobody knows what it is.
pub fn sign(export: &Export, key: &SecretKey) -> Result<Vec<String>, TrainError> {
    let earlier = Statement::of(export)?;
    let mut changed = Vec::new();
    if let Some(earlier) = &earlier {
        let now = Statement::as_it_is(export, Some(earlier))?;
        let (before, now) = (earlier.digests(), now.digests());
        let names = before.keys().chain(now.keys().filter(|name| !before.contains_key(*name)));
        changed.extend(names.filter(|name| before.get(*name) != now.get(*name)).map(|name| (*name).to_owned()));
        let served = export.digests()?;
        if let Some(name) = changed.iter().find(|name| served.contains_key(*name)) {
            let path = path_of(export, name);
            return refuse(
                &path,
                &format!(
                    "is not the file that {} names, so that what is said of it would not hold; export it again",
                    export.beside(MANIFEST).display()
                ),
            );
        }
    }
    Statement::renew(export, Some(key))?;
    Ok(changed)
}

/// Whether the signature beside an export is of the manifest that lies there, whoever made it; nothing without one.
///
/// # Errors
/// When one of the two cannot be read.
pub fn is_of_manifest(export: &Export) -> Result<Option<bool>, TrainError> {
    let (manifest, envelope) = (export.beside(MANIFEST), export.beside(SIGNATURE));
    if envelope.symlink_metadata().is_err() {
        return Ok(None);
    }
    let signed = Envelope::read(&envelope)?.payload(&envelope, PAYLOAD_TYPE)?;
    Ok(Some(read_at_most(&manifest, dsse::MOST)? == signed))
}

/// Checks that an export's files are those of its statement.
fn compare(export: &Export, statement: &Statement) -> Result<(), TrainError> {
    let facts = &statement.predicate;
    let found = files(export, facts.data.as_ref())?;
    let named = statement.digests();
    for (name, expected) in &named {
        let Some(path) = found.get(*name) else {
            return refuse(&path_of(export, name), "is missing, and the signed manifest names it");
        };
        let digest = sha256_files([path]).map_err(|source| TrainError::Read { path: path.clone(), source })?;
        if digest != *expected {
            return refuse(path, &format!("was altered: its SHA-256 is {digest}, the signed manifest has {expected}"));
        }
    }
    if let Some((_, path)) = found.iter().find(|(name, _)| !named.contains_key(name.as_str())) {
        return refuse(path, "is not in the signed manifest: it was added since");
    }
    compare_record(export, statement)
}

/// Checks that the working record says what was signed, where it is there.
fn compare_record(export: &Export, statement: &Statement) -> Result<(), TrainError> {
    let (path, facts) = (Manifest::path(export), &statement.predicate);
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    let record = Manifest::read_file(&path)?.without_folders();
    let differing = [
        ("data", record.data == facts.data),
        ("forgetting", record.forgetting == facts.forgetting),
        ("proofs", record.proofs == facts.proofs),
    ];
    if let Some((section, _)) = differing.iter().find(|(_, same)| !same) {
        return refuse(&path, &format!("`{section}` is not what was signed: it was altered, or written since"));
    }
    let place = Place::of_export(export);
    for run in facts.data.iter().flat_map(|data| &data.runs) {
        // The samples are not for everybody; where they are, they are the ones.
        if place.samples_file(run)?.symlink_metadata().is_ok() {
            place.checked(run).map_err(|error| TrainError::Refused(error.with_causes()))?;
        }
    }
    Ok(())
}

fn path_of(export: &Export, name: &str) -> PathBuf {
    if export.form().is_folder() { export.path().join(name) } else { export.path().with_file_name(name) }
}

fn refuse<T>(path: &Path, problem: &str) -> Result<T, TrainError> {
    Err(TrainError::Refused(format!("{}: {problem}", path.display())))
}
