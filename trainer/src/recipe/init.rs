//! `greffon init`: a recipe with every key, its default and a comment.
//!
//! The comments are the descriptions of the schema and the values come from the types, so neither can go stale.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use datasets::{DataConfig, Format, SourceConfig};
use serde_json::{Map, Value};

use super::{
    ClusterConfig, EnergyConfig, EvalConfig, ForgettingConfig, ModelConfig, PlanConfig, Recipe, RecipeError,
    TrackingConfig, TrainConfig, schema,
};
use crate::kernels::Kernels;

/// Writes a commented recipe for a base model and a data file; the file's first record tells its format.
///
/// Both paths are relative to the current folder, where the recipe is expected to be saved.
///
/// # Errors
/// [`RecipeError::Data`] when the file cannot be read or its format is not known; [`RecipeError::PathNotUtf8`].
pub fn init_recipe(base: &str, data: &Path) -> Result<String, RecipeError> {
    let first = SourceConfig { limit: Some(1), ..SourceConfig::from_path(data) };
    let loaded = datasets::load(&first, Path::new("")).map_err(|error| RecipeError::Data(Box::new(error)))?;
    if data.to_str().is_none() {
        return Err(RecipeError::PathNotUtf8 { path: data.to_owned() });
    }
    Ok(recipe_text(base, data, loaded.format))
}

/// The recipe of [`init_recipe`] for a data file whose format is known.
pub(super) fn recipe_text(base: &str, data: &Path, format: Format) -> String {
    let data = data.to_string_lossy().into_owned();
    let recipe = Recipe {
        model: ModelConfig::new(base),
        data: DataConfig {
            train: vec![SourceConfig { format, ..SourceConfig::from_path(data) }],
            validation_fraction: 0.1,
            ..DataConfig::from_sources(Vec::new())
        },
        lora: adapters::LoraConfig::default(),
        train: TrainConfig::default(),
        eval: EvalConfig::default(),
        forgetting: ForgettingConfig::default(),
        device: "flex".to_owned(),
        kernels: Kernels::default(),
        cluster: ClusterConfig::default(),
        energy: EnergyConfig::default(),
        plan: PlanConfig::default(),
        tracking: TrackingConfig::default(),
        output: PathBuf::new(),
    };
    let mut text = String::from(
        "# A recipe for greffon. Every key is here; one that is deleted gets its default.\n\
         # Next: greffon check, greffon data preview, greffon train.\n\
         # For completion in an editor: greffon schema > schema.json, and as the first line of this file\n\
         #   `# yaml-language-server: $schema=schema.json`\n",
    );
    let tree = serde_json::to_value(&recipe).expect("a recipe with UTF-8 paths is plain data");
    for (key, value) in tree.as_object().into_iter().flatten() {
        text.push('\n');
        write_key(&mut text, key, value, &schema::root()["properties"][key], 0);
    }
    text.push('\n');
    write_comment(&mut text, &schema::root()["properties"]["output"], 0);
    text.push_str("# output: runs/my-run\n");
    text
}

/// Characters of a line of comment.
const WIDTH: usize = 110;

/// Writes what a key is for: one line, or a few where its first sentence is long.
fn write_comment(text: &mut String, node: &'static Value, indent: usize) {
    let mut comment = schema::summary(node, WIDTH - indent).unwrap_or_default();
    let words = schema::words(schema::target(node));
    if !words.is_empty() {
        let _ = write!(comment, " One of {}.", words.join(", "));
    }
    let margin = " ".repeat(indent);
    let mut line = format!("{margin}#");
    for word in comment.split(' ') {
        if line.len() + word.len() >= WIDTH {
            let _ = writeln!(text, "{line}");
            line = format!("{margin}#");
        }
        line.extend([" ", word]);
    }
    let _ = writeln!(text, "{line}");
}

/// Writes a key with its comment and value.
fn write_key(text: &mut String, key: &str, value: &Value, node: &'static Value, indent: usize) {
    let margin = " ".repeat(indent);
    write_comment(text, node, indent);
    match value {
        Value::Object(section) if section.is_empty() => {
            let _ = writeln!(text, "{margin}{key}: {{}}");
        }
        Value::Object(section) => {
            let _ = writeln!(text, "{margin}{key}:");
            write_section(text, section, schema::target(node), indent + 2);
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let _ = writeln!(text, "{margin}{key}:");
            for item in items.iter().filter_map(Value::as_object) {
                let mut entry = String::new();
                write_section(&mut entry, item, schema::target(&node["items"]), indent + 4);
                // The dash stands before the entry's first key, below the comment of that key.
                let is_comment = |line: &&str| line.trim_start().starts_with('#');
                let comment: usize = entry.split_inclusive('\n').take_while(is_comment).map(str::len).sum();
                let (comment, keys) = entry.split_at(comment);
                comment.lines().for_each(|line| text.extend([&line[2..], "\n"]));
                let _ = write!(text, "{margin}  - {}", keys.trim_start());
            }
        }
        scalar => {
            let _ = writeln!(text, "{margin}{key}: {}", flow(scalar));
        }
    }
}

fn write_section(text: &mut String, section: &Map<String, Value>, node: &'static Value, indent: usize) {
    for (key, value) in section {
        write_key(text, key, value, &node["properties"][key], indent);
    }
}

/// A value on one line. JSON is YAML; a text goes without quotes where it stays the same text.
fn flow(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) if is_plain(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Whether a text needs no quotes: letters, digits and the signs of paths, beginning with a letter, and not a word
/// that YAML reads as something else.
fn is_plain(text: &str) -> bool {
    let begins_well = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_word = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    begins_well && !is_word && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
}
