//! `greffon check`.

use anstream::println;

use crate::cli::RecipeArgs;
use crate::error::TrainError;
use crate::recipe::Recipe;

pub(super) fn check(args: &RecipeArgs) -> anyhow::Result<()> {
    let loaded = Recipe::load(&args.recipe, &args.set).map_err(TrainError::from)?;
    let report = loaded.check().map_err(TrainError::from)?;
    for (part, what) in &report.summary {
        println!("{part:<15}{what}");
    }
    for warning in &report.warnings {
        println!("warning: {warning}");
    }
    println!("{}: valid", args.recipe.display());
    Ok(())
}
