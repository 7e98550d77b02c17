//! The card of an exported adapter, with what the run folder knows of its training.

use std::path::Path;

use adapters::export::card::{CARD_FILE, Card, Emissions, EvaluationResult};
use adapters::serving::Facts;
use datasets::SourceConfig;

use super::run_folder::{RunFolder, RunInfo};
use crate::energy::EnergyRecord;
use crate::error::TrainError;
use crate::eval::evaluation::{Comparison, Evaluation};
use crate::prove::{ForgettingNote, Manifest};
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
    let info = run.info()?;
    let forgetting = Manifest::read_file(&run.adapter().join(Manifest::NAME))?.forgetting;
    Ok(Card {
        title: run.name(),
        datasets,
        training: training(&recipe, &info),
        results: results(&recipe, run)?,
        emissions: info.energy.as_ref().and_then(emissions),
        limits: forgetting.iter().map(forgotten).collect(),
        energy: info.energy.as_ref().map(energy).unwrap_or_default(),
        ..Card::default()
    })
}

/// What `greffon eval` found, where it was asked.
fn results(recipe: &Recipe, run: &RunFolder) -> Result<Vec<EvaluationResult>, TrainError> {
    let found = Evaluation::read(run)?.map_or_else(Vec::new, |found| found.metrics);
    let sources = recipe.test_sources();
    let dataset = sources.iter().map(source).collect::<Vec<_>>().join(", ");
    let result = |Comparison { metric, base, adapter, .. }| EvaluationResult {
        metric,
        value: adapter,
        base: Some(base),
        dataset: dataset.clone(),
    };
    Ok(found.into_iter().map(result).collect())
}

fn emissions(record: &EnergyRecord) -> Option<Emissions> {
    let (grams, grid) = (record.grams_co2e?, record.grid.as_ref()?);
    Some(Emissions { grams, source: format!("greffon; electricity: {}", grid.source) })
}

fn energy(record: &EnergyRecord) -> Vec<(String, String)> {
    let row = |name: &str, value: String| (name.to_owned(), value);
    let mut rows = vec![
        row("energy", format!("{:.3} Wh", 1e3 * record.kwh)),
        row("how the processor's is known", record.method.cpu.clone()),
        row("how the memory's is known", record.method.memory.clone()),
    ];
    rows.extend(record.grams_co2e.map(|grams| row("emissions", format!("{grams:.3} g CO2e"))));
    rows
}

/// What the adapter lost of its base, in a line.
fn forgotten(note: &ForgettingNote) -> String {
    let measured = format!("What it forgot of its base was measured on {}", note.date);
    let average = note
        .average_difference
        .map_or_else(String::new, |difference| format!("; accuracy over the tasks: {:+.1} points", 100.0 * difference));
    match (note.passed, &note.accepted) {
        (true, _) => format!("{measured}: within the limits of its recipe{average}."),
        (false, Some(reason)) => {
            format!(
                "{measured}: beyond the limits of its recipe ({}){average}. Accepted: {reason}",
                note.beyond.join("; ")
            )
        }
        (false, None) => format!("{measured}: beyond the limits of its recipe ({}){average}.", note.beyond.join("; ")),
    }
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
