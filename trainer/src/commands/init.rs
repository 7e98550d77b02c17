//! `greffon init`.

use anstream::print;

use crate::cli::InitArgs;
use crate::error::TrainError;
use crate::recipe::init_recipe;

pub(super) fn init(args: &InitArgs) -> anyhow::Result<()> {
    print!("{}", init_recipe(&args.model, &args.data).map_err(TrainError::from)?);
    Ok(())
}
