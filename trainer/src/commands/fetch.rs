//! `greffon fetch`.

use std::sync::Arc;

use anstream::println;
use datasets::Hub;

use super::progress;

use crate::cli::FetchArgs;
use crate::error::TrainError;
use crate::model::is_hub_name;

pub(super) fn fetch(args: &FetchArgs) -> anyhow::Result<()> {
    if !is_hub_name(&args.name) {
        let reason = "expected a hub name such as owner/name".to_owned();
        return Err(TrainError::Base { base: args.name.clone(), reason }.into());
    }
    let bar = Arc::new(progress::download_bar());
    let shown = Arc::clone(&bar);
    let hub = Hub::from_env().with_progress(move |p| progress::show_download(&shown, p));
    let folder = hub.model(&args.name, &args.revision).map_err(TrainError::from)?;
    println!("{}", folder.display());
    Ok(())
}
