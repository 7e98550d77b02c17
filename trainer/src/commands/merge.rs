//! `greffon merge`.

use anstream::println;

use super::subject::Loading;
use crate::cli::{MergeArgs, ModelArgs};
use crate::model::merged::write_folder;

pub(super) fn merge(args: &MergeArgs) -> anyhow::Result<()> {
    let model = Loading::from_args(&ModelArgs {
        model: Some(args.model.clone()),
        revision: args.revision.clone(),
        adapter: Some(args.adapter.clone()),
        run: None,
        base: false,
        device: "flex".to_owned(),
    })?;
    let merged = model.decoder.merged();
    write_folder(&merged, &model.base, &args.to, args.force)?;
    println!("wrote {}: the base with the adapter folded in, float32", args.to.display());
    Ok(())
}
