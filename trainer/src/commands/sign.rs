//! `greffon keys` and `greffon sign`.

use std::path::Path;

use adapters::signing::{PublicKey, SecretKey};
use anstream::println;
use serde_json::json;

use super::output;
use crate::cli::{KeysVerb, NewKeyArgs, SignArgs, SignWithArgs};
use crate::error::TrainError;
use crate::prove::Export;
use crate::trust::{MANIFEST, Renewed, SIGNATURE, Statement, sign as sign_export};

pub(super) fn keys(verb: &KeysVerb) -> anyhow::Result<()> {
    match verb {
        KeysVerb::New(args) => new(args),
        KeysVerb::Show(args) => {
            println!("{}", PublicKey::of_either(&args.key).map_err(TrainError::from)?.id());
            Ok(())
        }
    }
}

fn new(args: &NewKeyArgs) -> anyhow::Result<()> {
    let key = SecretKey::generate().map_err(TrainError::from)?;
    let [secret, public] = key.write(&args.to).map_err(TrainError::from)?;
    let id = key.public().id();
    if args.json {
        return output::json(&json!({ "key": secret, "public": public, "id": id }));
    }
    println!("wrote {} (keep it to yourself) and {} (for others); key {id}", secret.display(), public.display());
    Ok(())
}

pub(super) fn sign(args: &SignArgs) -> anyhow::Result<()> {
    let key = read(&args.key)?;
    let export = Export::open(&args.export)?;
    let changed = sign_export(&export, &key)?;
    let (id, signature) = (key.public().id(), export.beside(SIGNATURE));
    if args.json {
        let report = json!({
            "manifest": export.beside(MANIFEST),
            "signature": signature,
            "key": id,
            "changed": changed,
        });
        return output::json(&report);
    }
    if !changed.is_empty() {
        println!("not as the manifest had it, which was made anew: {}", changed.join(", "));
    }
    println!("signed {} by the key {id}: {}", args.export.display(), signature.display());
    Ok(())
}

/// The key to sign with, where one was named; read before any work, so that a wrong one is told at once.
pub(super) fn key(args: &SignWithArgs) -> Result<Option<SecretKey>, TrainError> {
    args.sign_with.as_deref().map(read).transpose()
}

/// Makes the manifest of an export anew where it has one, and says when its signature no longer holds.
pub(super) fn renew(export: &Export, key: Option<&SecretKey>) -> Result<(), TrainError> {
    if let Some(key) = key {
        return sign_export(export, key).map(drop);
    }
    if export.beside(MANIFEST).symlink_metadata().is_err() {
        return Ok(());
    }
    if Statement::renew(export, None)? == Renewed::Unsigned {
        tracing::warn!(
            "{}: is the signature of the manifest before this; sign again with `greffon sign {} --key NAME.key`",
            export.beside(SIGNATURE).display(),
            export.path().display()
        );
    }
    Ok(())
}

fn read(path: &Path) -> Result<SecretKey, TrainError> {
    Ok(SecretKey::read(path)?)
}
