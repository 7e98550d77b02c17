//! The whole of the data's way in one call: from a recipe's `data` part to examples in a seeded order.

use std::path::Path;

use crate::config::{DataConfig, SourceConfig};
use crate::conversation::Conversation;
use crate::error::DataError;
use crate::hub::Hub;
use crate::mixture::Order;
use crate::source::{Format, load_with};
use crate::split::{leaks, split};
use crate::tokenize::{Example, Tokenized, tokenize_all};
use crate::tokenizer::ChatTokenizer;

/// The data of a run.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The training examples, source after source.
    pub train: Vec<Example>,
    /// The validation examples; none of them is trained on.
    pub validation: Vec<Example>,
    /// In which order, and how often, the training examples come.
    pub order: Order,
    /// Where each source begins in `train`.
    starts: Vec<usize>,
    /// What happened on the way, a line each.
    pub notes: Vec<String>,
}

impl Prepared {
    /// The examples at `count` positions of the endless order that begins with the first epoch. They follow from the
    /// seed and the position alone.
    pub fn examples_at(&self, position: u64, count: usize) -> Vec<&Example> {
        self.order
            .from_position(position)
            .take(count)
            .map(|(source, index)| &self.train[self.starts[source] + index])
            .collect()
    }
}

/// Reads, splits, renders and tokenises the data of a recipe.
///
/// # Errors
/// [`DataError::Config`] for a value out of its range; the error of the first record, conversation or file, in order,
/// that cannot be used.
pub fn prepare(config: &DataConfig, tokenizer: &ChatTokenizer, seed: u64, hub: &Hub) -> Result<Prepared, DataError> {
    config.validate()?;
    let mut notes = Vec::new();
    let mut held_out = Vec::new();
    for source in &config.validation {
        held_out.extend(read(source, config.system_prompt.as_deref(), hub, &mut notes)?);
    }
    let mut trained: Vec<Conversation> = Vec::new();
    let mut total = Tokenized::default();
    let (mut starts, mut counts) = (Vec::new(), Vec::new());
    for source in &config.train {
        let mut conversations = read(source, config.system_prompt.as_deref(), hub, &mut notes)?;
        if config.validation.is_empty() && config.validation_fraction > 0.0 {
            let (train, validation) = split(conversations, config.validation_fraction);
            conversations = train;
            held_out.extend(validation);
        }
        starts.push(total.examples.len());
        let tokenized = tokenize_all(tokenizer, &conversations, config.max_length, config.overlong)?;
        counts.push(tokenized.examples.len());
        add(&mut total, tokenized);
        trained.extend(conversations);
    }
    describe("training", &total, config.max_length, &mut notes);
    let leaked = leaks(&trained, &held_out).len();
    if leaked > 0 {
        let all = held_out.len();
        tracing::warn!("{leaked} of {all} validation conversations are trained on too: the validation loss is too low");
        notes.push(format!("{leaked} of {all} validation conversations are trained on too"));
    }
    let validation = tokenize_all(tokenizer, &held_out, config.max_length, config.overlong)?;
    describe("validation", &validation, config.max_length, &mut notes);
    let weights: Vec<f64> = config.train.iter().map(|source| source.weight).collect();
    Ok(Prepared {
        order: Order::new(&counts, &weights, seed),
        train: total.examples,
        validation: validation.examples,
        starts,
        notes,
    })
}

/// Reads the conversations of several sources, one after the other, to question a model on them.
///
/// # Errors
/// As [`load_with`].
pub fn load_conversations(
    sources: &[SourceConfig],
    system_prompt: Option<&str>,
    hub: &Hub,
) -> Result<Vec<Conversation>, DataError> {
    let mut all = Vec::new();
    for source in sources {
        all.extend(read(source, system_prompt, hub, &mut Vec::new())?);
    }
    Ok(all)
}

fn read(
    source: &SourceConfig,
    system_prompt: Option<&str>,
    hub: &Hub,
    notes: &mut Vec<String>,
) -> Result<Vec<Conversation>, DataError> {
    // Paths are absolute by now, or meant from the working folder.
    let mut loaded = load_with(source, Path::new(""), hub)?;
    if source.format == Format::Auto {
        let name = loaded.conversations[0].origin.path.display();
        notes.push(format!("{name}: the records have the format {}; confirm it in the recipe", loaded.format));
    }
    if let Some(content) = system_prompt {
        for conversation in &mut loaded.conversations {
            conversation.set_default_system(content);
        }
    }
    Ok(loaded.conversations)
}

fn add(total: &mut Tokenized, part: Tokenized) {
    total.examples.extend(part.examples);
    total.dropped_overlong += part.dropped_overlong;
    total.truncated += part.truncated;
    total.unsupervised_turns += part.unsupervised_turns;
}

fn describe(what: &str, tokenized: &Tokenized, max_length: usize, notes: &mut Vec<String>) {
    let counts = [
        (tokenized.dropped_overlong, format!("{what} conversations left out: longer than {max_length} tokens")),
        (tokenized.truncated, format!("{what} conversations cut to {max_length} tokens")),
        (tokenized.unsupervised_turns, format!("{what} turns not supervised: the template rewrites earlier turns")),
    ];
    for (count, text) in counts {
        if count > 0 {
            tracing::warn!("{count} {text}");
            notes.push(format!("{count} {text}"));
        }
    }
}
