//! `greffon export`.

use anstream::println;

use crate::cli::{ExportArgs, Which};
use crate::error::TrainError;
use crate::track::RunFolder;
use crate::train::checkpoint::Checkpoints;

pub(super) fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let folder = RunFolder::open(args.run.clone())?;
    let source = match args.checkpoint {
        Which::Best => folder.adapter(),
        Which::Last => Checkpoints::new(folder.checkpoints(), 1).last_adapter().unwrap_or_else(|| folder.adapter()),
    };
    if !source.is_dir() {
        let reason =
            format!("the run has no adapter yet; finish it with `greffon train --resume {}`", args.run.display());
        return Err(TrainError::Checkpoint { path: source, reason }.into());
    }
    let (config, pairs) = adapters::read_peft(&source).map_err(TrainError::from)?;
    adapters::write_peft(&args.to, &config, &pairs, args.force).map_err(TrainError::from)?;
    println!(
        "wrote {}: PEFT adapter, rank {}, {} modules, base {}",
        args.to.display(),
        config.r,
        pairs.len(),
        config.base_model_name_or_path.as_deref().unwrap_or("unnamed")
    );
    Ok(())
}
