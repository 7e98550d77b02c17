//! `greffon push`.

use std::path::Path;
use std::process::ExitCode;

use adapters::PeftAdapter;
use adapters::export::card::{CARD_FILE, Card};
use adapters::export::peft::{CONFIG_FILE, WEIGHTS_FILE};
use adapters::serving::{Facts, Verdict};
use adapters::signing::SecretKey;
use anstream::{eprintln, println};
use datasets::{Push, PushFile};
use owo_colors::OwoColorize as _;
use serde_json::json;

use super::output;
use super::verify::REFUSED;
use super::{progress, sign, verify};
use crate::cli::PushArgs;
use crate::document::DATA_CARD;
use crate::error::TrainError;
use crate::prove::{Export, Manifest};
use crate::recipe::is_hub_name;
use crate::track::card;
use crate::trust::{MANIFEST, SIGNATURE, Statement, is_of_manifest, sign as sign_export};

/// What goes up, where it is there; anything else in the folder stays.
const FILES: [&str; 9] =
    [CONFIG_FILE, WEIGHTS_FILE, CARD_FILE, DATA_CARD, Manifest::NAME, MANIFEST, SIGNATURE, "LICENSE", "NOTICE"];

pub(super) fn push(args: &PushArgs) -> anyhow::Result<ExitCode> {
    let folder = &args.adapter;
    let key = sign::key(&args.signing)?;
    let servers = verify::servers(&args.servers)?;
    let facts = Facts::of_folder(folder).map_err(TrainError::from)?;
    let mut refused = false;
    for server in servers {
        if let Verdict::Refuses { because, remedy } = server.judge(&facts) {
            let name = server.name;
            eprintln!("{} not pushed: {name} refuses it: {because}\n  remedy: {remedy}", "error:".red().bold());
            refused = true;
        }
    }
    verify::let_out(folder)?;
    if refused {
        eprintln!("  or name the servers that it is for with --for");
        return Ok(ExitCode::from(REFUSED));
    }
    let config = PeftAdapter::read(folder).map_err(TrainError::from)?.config;
    if let Some(base) = config.base_model_name_or_path.filter(|base| !is_hub_name(base)) {
        tracing::warn!(
            "the adapter names its base {base}, which nobody else has; `greffon import {} --model OWNER/NAME` names \
             another",
            folder.display()
        );
    }
    if !folder.join(CARD_FILE).is_file() {
        card::write(args.card.fill(Card::default()), folder)?;
    }
    settle_manifest(&Export::open(folder)?, key.as_ref())?;
    let published = tempfile::tempdir().map_err(|source| TrainError::Write { path: std::env::temp_dir(), source })?;
    let push = Push {
        repo: args.repository.clone(),
        revision: args.revision.clone(),
        private: args.private,
        message: args.message.clone(),
        files: files(folder, published.path())?,
    };
    let pushed = progress::hub().push(&push).map_err(TrainError::from)?;
    if args.json {
        let report = json!({
            "repository": args.repository,
            "revision": args.revision,
            "url": pushed.url,
            "commit": pushed.commit,
            "committed": pushed.committed,
            "unchanged": pushed.unchanged,
        });
        output::json(&report)?;
        return Ok(ExitCode::SUCCESS);
    }
    match pushed.commit {
        Some(commit) => println!("pushed {} to {}: commit {commit}", pushed.committed.join(", "), pushed.url),
        None => println!("{} has all of it already", pushed.url),
    }
    Ok(ExitCode::SUCCESS)
}

/// Brings the manifest of what is pushed up to date. A signature is never left behind by what it signs.
fn settle_manifest(export: &Export, key: Option<&SecretKey>) -> Result<(), TrainError> {
    let earlier = Statement::of(export)?;
    if earlier.is_none() && key.is_none() {
        return Ok(());
    }
    let manifest = export.beside(MANIFEST);
    let now = Statement::as_it_is(export, earlier.as_ref())?;
    if let Some(file) = now.subject.iter().find(|file| !FILES.contains(&file.name.as_str())) {
        return Err(TrainError::Refused(format!(
            "{}: would name {}, which is no part of an adapter and is not pushed, so that nobody could check the rest; take \
             it out of the folder",
            manifest.display(),
            file.name
        )));
    }
    if let Some(key) = key {
        return sign_export(export, key).map(drop);
    }
    let is_signed = is_of_manifest(export)?;
    if is_signed == Some(false) || is_signed.is_some() && earlier.as_ref() != Some(&now) {
        return Err(TrainError::Refused(format!(
            "{}: the folder has changed since it was signed; sign it again with --sign-with NAME.key",
            export.beside(SIGNATURE).display()
        )));
    }
    Statement::renew(export, None).map(drop)
}

/// The files of the folder that are pushed; the others are named.
fn files(folder: &Path, published: &Path) -> Result<Vec<PushFile>, TrainError> {
    let read = |source| TrainError::Read { path: folder.to_owned(), source };
    let mut left = Vec::new();
    for entry in folder.read_dir().map_err(read)? {
        let name = entry.map_err(read)?.file_name().to_string_lossy().into_owned();
        if !FILES.contains(&name.as_str()) {
            left.push(name);
        }
    }
    if !left.is_empty() {
        left.sort();
        tracing::warn!("{}: no part of an adapter, not pushed: {}", folder.display(), left.join(", "));
    }
    let file = |name: &str| PushFile { name: name.to_owned(), path: folder.join(name) };
    let mut files: Vec<PushFile> = FILES.into_iter().map(file).filter(|file| file.path.is_file()).collect();
    if let Some(manifest) = files.iter_mut().find(|file| file.name == Manifest::NAME) {
        let to = published.join(Manifest::NAME);
        Manifest::publish(&manifest.path, &to)?;
        manifest.path = to;
    }
    Ok(files)
}
