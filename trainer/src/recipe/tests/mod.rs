//! Recipes from text, through a real file.

mod files;
mod messages;
mod overrides;
mod round_trip;

use std::fs;
use std::path::Path;

use super::{Loaded, Recipe, RecipeError};

/// The smallest recipe.
const SMALL: &str = "\
model:
  base: owner/name
data:
  train:
    - path: x.jsonl
";

fn load(text: &str, overrides: &[&str]) -> Result<Loaded, RecipeError> {
    let folder = tempfile::tempdir().unwrap();
    load_in(folder.path(), text, overrides)
}

/// Loads a text as `recipe.yaml` of a folder.
fn load_in(folder: &Path, text: impl AsRef<[u8]>, overrides: &[&str]) -> Result<Loaded, RecipeError> {
    let path = folder.join("recipe.yaml");
    fs::write(&path, text).unwrap();
    let overrides: Vec<_> = overrides.iter().map(ToString::to_string).collect();
    Recipe::load(&path, &overrides)
}

/// The message for a text that must be refused, without the folder of the recipe.
#[track_caller]
fn refusal(text: impl AsRef<[u8]>, overrides: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let error = load_in(folder.path(), text, overrides).map(|loaded| loaded.recipe).unwrap_err();
    error.to_string().replace(&format!("{}/", folder.path().display()), "")
}
