//! The card of an exported adapter, with what the run folder knows of its training.

use std::path::Path;

use adapters::export::card::{CARD_FILE, Card};
use adapters::serving::Facts;
use datasets::SourceConfig;

use super::run_folder::{RunFolder, RunInfo};
use crate::error::TrainError;
use crate::recipe::{Recipe, is_hub_name};

/// What a run tells of the adapter that it trained.
///
/// # Errors
/// When the run's recipe or its `run.json` cannot be read.
pub fn of_run(run: &RunFolder) -> Result<Card, TrainError> {
    let recipe = Recipe::load(&run.recipe(), &[])?.recipe;
    let sources = recipe.data.train.iter().filter_map(|source| source.hub.as_ref());
    let mut datasets: Vec<String> = sources.map(|hub| hub.dataset.clone()).collect();
    datasets.sort();
    datasets.dedup();
    let training = training(&recipe, &run.info()?);
    Ok(Card { title: run.name(), datasets, training, ..Card::default() })
}

/// Writes a card into an adapter's PEFT folder, in the place of any that is there. Without a title it has the folder's
/// name.
///
/// # Errors
/// When the adapter cannot be read or the card cannot be written.
pub fn write(card: Card, adapter: &Path) -> Result<(), TrainError> {
    let facts = Facts::of_folder(adapter)?;
    let hub_base = facts.config.base_model_name_or_path.clone().filter(|base| is_hub_name(base));
    let title = if card.title.is_empty() { name(adapter) } else { card.title.clone() };
    let text = Card { title, hub_base, ..card }.markdown(&facts);
    Ok(adapters::write_atomic(&adapter.join(CARD_FILE), true, |out| out.write_all(text.as_bytes()))?)
}

/// The folder's own name, also of `.`.
fn name(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    folder.file_name().map_or_else(|| "Adapter".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The settings by which a person would repeat the run.
fn training(recipe: &Recipe, info: &RunInfo) -> Vec<(String, String)> {
    let (train, lora) = (&recipe.train, &recipe.lora);
    let sources: Vec<String> = recipe.data.train.iter().map(source).collect();
    let mut rows = vec![
        ("data", sources.join(", ")),
        ("steps", info.step.to_string()),
        ("conversations in a step", train.global_batch_size.to_string()),
        ("longest example, tokens", recipe.data.max_length.to_string()),
        ("learning rate", format!("{:e}", train.learning_rate)),
        ("LoRA dropout", lora.dropout.to_string()),
        ("seed", train.seed.to_string()),
        ("SHA-256 of the base's weights", format!("`{}`", info.base_digest)),
        ("trained with", format!("greffon {}", info.greffon_version)),
    ];
    if let Some((loss, step)) = info.best {
        rows.insert(2, ("lowest validation loss, nats per token", format!("{loss:.4}, after step {step}")));
    }
    rows.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A source by a name that means something on another machine.
fn source(source: &SourceConfig) -> String {
    let file = source.path.as_deref().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
    match (&source.hub, file) {
        (Some(hub), _) => format!("{}/{}", hub.dataset, hub.file),
        (None, Some(file)) => file,
        (None, None) => "unnamed".to_owned(),
    }
}
