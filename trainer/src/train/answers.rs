//! The answers that the base gives to the questions which are replayed: what it does is then held on to, whoever wrote
//! the questions.
//!
//! They are generated once, before the first step, and kept in the run folder, where a resumed run finds them.
//!
//! Source: Huang et al. 2024, <https://arxiv.org/abs/2403.01244> (self-synthesized rehearsal).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use datasets::{Conversation, Format, Hub, Lineage, Message, Order, Role, SourceConfig};
use serde::Serialize;
use serde_json::{Map, Value};

use super::replay::{data_config, in_replay};
use crate::cluster::spread;
use crate::error::TrainError;
use crate::eval::{Answer, Subject};
use crate::model::generate::Sampling;
use crate::recipe::{Recipe, ReplayConfig};

/// The conversations with the base's answers, one JSON object a line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// The lines, in the form `messages`.
    pub lines: String,
    /// Conversations answered.
    pub count: usize,
    /// Questions left out since the answer had no end within `replay.max_new_tokens`.
    pub unfinished: usize,
    /// Questions left out since the answer was empty.
    pub empty: usize,
    /// Questions left out since they leave no room for an answer in `data.max_length`.
    pub too_long: usize,
}

/// One line.
#[derive(Serialize)]
struct Line<'a> {
    messages: &'a [Message],
    /// What it was made after.
    #[serde(flatten)]
    origin: Map<String, Value>,
}

/// A conversation up to its last question.
struct Question {
    messages: Vec<Message>,
    /// That of the whole conversation.
    lineage: Lineage,
}

/// Asks the base the last question of each replayed conversation, most probable token by most probable token.
///
/// At most `most` conversations are asked, the first in the shuffled order of an epoch: more are never drawn. What
/// follows the last question is dropped. An answer that is cut off at `replay.max_new_tokens` is left out: learned, it
/// would teach the model to stop in the middle of a sentence. `progress` is told how many of how many are done.
///
/// # Errors
/// When a source cannot be read or a conversation not be rendered; [`TrainError::StoppedBeforeStart`] after `stop`;
/// [`TrainError::Run`] when no answer is left.
pub fn answer(
    recipe: &Recipe,
    config: &ReplayConfig,
    most: usize,
    base: &Subject<'_>,
    hub: &Hub,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Answered, TrainError> {
    let questions = questions(recipe, config, most, hub)?;
    let prompts = questions
        .iter()
        .map(|question| Ok::<_, TrainError>((question, prompt(question, base, recipe.data.max_length)?)))
        .collect::<Result<Vec<_>, _>>()?;
    let asked: Vec<(&Question, Vec<u32>)> =
        prompts.into_iter().filter_map(|(question, prompt)| Some((question, prompt?))).collect();
    let answers = spread(base.collective, &asked, |asked| {
        let mut answers = Vec::with_capacity(asked.len());
        for chunk in asked.chunks(recipe.eval.batch_size) {
            if stop.load(Ordering::Relaxed) {
                return Err(TrainError::StoppedBeforeStart);
            }
            progress(answers.len(), asked.len());
            let prompts: Vec<Vec<u32>> = chunk.iter().map(|(_, prompt)| prompt.clone()).collect();
            answers.extend(base.answers(&prompts, Sampling::greedy(config.max_new_tokens))?);
        }
        progress(answers.len(), asked.len());
        Ok(answers)
    })?;
    let mut answered = Answered { too_long: questions.len() - asked.len(), ..Answered::default() };
    asked.iter().zip(answers).for_each(|((question, _), answer)| answered.add(question, answer));
    let Answered { count, unfinished, empty, too_long, .. } = answered;
    let left_out = format!(
        "{unfinished} of {} answers of the base were not finished within {} tokens, {empty} were empty, and {too_long} \
         questions were too long for data.max_length",
        questions.len(),
        config.max_new_tokens
    );
    if count == 0 {
        return Err(TrainError::Run(format!(
            "forgetting.replay: no answer of the base is left: {left_out}; raise replay.max_new_tokens, or set \
             replay.answers to own"
        )));
    }
    if count < questions.len() {
        tracing::warn!("{left_out}; they are not replayed");
    }
    Ok(answered)
}

/// The conversations up to their last question, in the order in which they are asked.
fn questions(recipe: &Recipe, config: &ReplayConfig, most: usize, hub: &Hub) -> Result<Vec<Question>, TrainError> {
    data_config(recipe, config.sources.clone()).validate().map_err(in_replay)?;
    let load = |source: &SourceConfig| datasets::load_with(source, Path::new(""), hub);
    let sources = config.sources.iter().map(load).collect::<Result<Vec<_>, _>>().map_err(in_replay)?;
    let counts: Vec<usize> = sources.iter().map(|source| source.conversations.len()).collect();
    let weights: Vec<f64> = config.sources.iter().map(|source| source.weight).collect();
    let asked = Order::new(&counts, &weights, recipe.train.seed).epoch(0).into_iter().take(most);
    Ok(asked.map(|(source, index)| question(&sources[source].conversations[index])).collect())
}

/// What precedes the last answer.
fn question(conversation: &Conversation) -> Question {
    let messages = &conversation.messages;
    let answer = messages.iter().rposition(|message| message.role == Role::Assistant);
    let lineage = conversation.lineage.clone().named(messages);
    Question { messages: messages[..answer.unwrap_or(messages.len())].to_vec(), lineage }
}

/// A question as tokens; `None` where it leaves no room for an answer.
fn prompt(question: &Question, base: &Subject<'_>, max_length: usize) -> Result<Option<Vec<u32>>, TrainError> {
    let prompt = base.tokenizer.render_prompt(&question.messages)?;
    let is_asked = !question.messages.is_empty() && !prompt.is_empty() && prompt.len() < max_length;
    Ok(is_asked.then_some(prompt))
}

impl Answered {
    /// Takes an answer up, or counts why not.
    fn add(&mut self, question: &Question, Answer { text, stopped }: Answer) {
        if !stopped {
            self.unfinished += 1;
        } else if text.is_empty() {
            self.empty += 1;
        } else {
            let mut messages = question.messages.clone();
            messages.push(Message { role: Role::Assistant, content: text });
            let line = Line { messages: &messages, origin: question.lineage.of_child() };
            self.lines += &serde_json::to_string(&line).expect("messages are plain text");
            self.lines.push('\n');
            self.count += 1;
        }
    }

    /// Keeps them in a file, written as a whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), TrainError> {
        Ok(adapters::write_atomic(path, true, |out| out.write_all(self.lines.as_bytes()))?)
    }

    /// Hands them to `read` in a file that is gone afterwards.
    ///
    /// # Errors
    /// When it cannot be written, and whatever `read` gives.
    pub fn in_a_file<T>(&self, read: impl FnOnce(SourceConfig) -> Result<T, TrainError>) -> Result<T, TrainError> {
        let failed = |source| TrainError::Write { path: std::env::temp_dir(), source };
        let folder = tempfile::Builder::new().prefix("greffon-").tempdir().map_err(failed)?;
        let path = folder.path().join("replay.jsonl");
        self.save(&path)?;
        read(source(&path))
    }
}

/// Kept answers as a source of conversations.
pub fn source(path: &Path) -> SourceConfig {
    SourceConfig { format: Format::Messages, ..SourceConfig::from_path(path) }
}
