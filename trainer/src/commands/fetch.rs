//! `greffon fetch`.

use anstream::println;

use super::progress;

use crate::cli::FetchArgs;
use crate::error::TrainError;
use crate::recipe::is_hub_name;

pub(super) fn fetch(args: &FetchArgs) -> anyhow::Result<()> {
    if !is_hub_name(&args.name) {
        let reason = "expected a hub name such as owner/name".to_owned();
        return Err(TrainError::Base { base: args.name.clone(), reason }.into());
    }
    let folder = progress::hub().model(&args.name, &args.revision).map_err(TrainError::from)?;
    println!("{}", folder.display());
    Ok(())
}
