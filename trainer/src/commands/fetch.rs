//! `greffon fetch`.

use anstream::println;

use crate::cli::FetchArgs;
use crate::error::TrainError;
use crate::model::is_hub_name;

pub(super) fn fetch(args: &FetchArgs) -> anyhow::Result<()> {
    if !is_hub_name(&args.name) {
        let reason = "expected a hub name such as owner/name".to_owned();
        return Err(TrainError::Base { base: args.name.clone(), reason }.into());
    }
    let folder = datasets::hub::fetch_model(&args.name, &args.revision).map_err(TrainError::from)?;
    println!("{}", folder.display());
    Ok(())
}
