//! `greffon document`.

use anstream::println;

use crate::cli::DocumentArgs;
use crate::document::{DATA_CARD, Known};
use crate::error::TrainError;
use crate::track::RunFolder;

pub(super) fn document(args: &DocumentArgs) -> anyhow::Result<()> {
    let known = Known::of_run(&RunFolder::open(args.run.clone())?)?;
    let drafts = known.drafts(args.lang)?.into_iter();
    let files: Vec<(&str, String)> = drafts.chain(known.data_card()?.map(|card| (DATA_CARD, card))).collect();
    let taken = files.iter().map(|(name, _)| args.to.join(name)).find(|path| path.symlink_metadata().is_ok());
    if let Some(path) = taken.filter(|_| !args.force) {
        let reason =
            format!("{} is there already, and may have been filled in; replace it with --force", path.display());
        return Err(TrainError::Run(reason).into());
    }
    std::fs::create_dir_all(&args.to).map_err(|source| TrainError::Write { path: args.to.clone(), source })?;
    for (name, text) in files {
        let path = args.to.join(name);
        adapters::write_atomic(&path, args.force, |out| out.write_all(text.as_bytes())).map_err(TrainError::from)?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
