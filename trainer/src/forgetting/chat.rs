//! The drift of the chat format: does the model still end its turn, still answer in the language it is asked in, still
//! answer at all?
//!
//! Log-likelihoods of choices do not see this, and users see it first.

use datasets::probes::instructions::language_of;
use serde::{Deserialize, Serialize};

use super::suite::ChatPrompt;
use crate::cluster::spread;
use crate::error::TrainError;
use crate::eval::tasks::answers;
use crate::eval::{Answer, Subject};

/// The most tokens of an answer; a turn that is not over by then counts as not stopped.
pub const MAX_NEW_TOKENS: usize = 96;
/// Answers written at a time.
pub const BATCH: usize = 20;
/// Of each kind of change, how many are shown.
const EXAMPLES: usize = 3;

/// How a refusal begins, in English and French, in small letters.
const REFUSALS: [&str; 17] = [
    "i cannot",
    "i can't",
    "i can’t",
    "i am unable",
    "i'm unable",
    "i'm sorry",
    "i am sorry",
    "sorry,",
    "as an ai",
    "i don't know",
    "i do not know",
    "je ne peux pas",
    "je ne sais pas",
    "je suis désolé",
    "désolé",
    "en tant qu'ia",
    "information absente",
];

/// An answer to a turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatAnswer {
    /// The turn's name.
    pub id: String,
    /// What was answered.
    pub answer: String,
    /// The model ended its turn.
    pub stopped: bool,
    /// The answer is in the language asked in; none when it is too short to tell.
    pub in_language: Option<bool>,
    /// It begins as refusals do.
    pub refused: bool,
}

/// What the answers of a model are like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatCounts {
    /// Turns that it ended.
    pub stopped: usize,
    /// Answers in the language asked in.
    pub in_language: usize,
    /// Answers long enough to tell their language.
    pub with_language: usize,
    /// Answers that refuse.
    pub refused: usize,
    /// Answers without text.
    pub empty: usize,
}

/// Base against adapted model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatDrift {
    /// How many turns.
    pub turns: usize,
    /// The base's answers.
    pub base: ChatCounts,
    /// The adapted model's.
    pub adapted: ChatCounts,
    /// Some turns in which the adapted model does worse.
    pub examples: Vec<ChatChange>,
}

/// A turn in which the adapted model does worse.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatChange {
    /// The turn's name.
    pub id: String,
    /// What got worse.
    pub change: String,
    /// What the base answered.
    pub base: String,
    /// What the adapted model answers.
    pub adapted: String,
}

/// Has a model answer every turn.
///
/// # Errors
/// When a turn cannot be rendered; whatever `progress` ends the work with.
pub fn ask(
    subject: &Subject<'_>,
    prompts: &[ChatPrompt],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<ChatAnswer>, TrainError> {
    spread(subject.collective, prompts, |prompts| given(subject, prompts, progress))
}

fn given(
    subject: &Subject<'_>,
    prompts: &[ChatPrompt],
    progress: &mut dyn FnMut(usize) -> Result<(), TrainError>,
) -> Result<Vec<ChatAnswer>, TrainError> {
    let mut given = Vec::with_capacity(prompts.len());
    for chunk in prompts.chunks(BATCH) {
        let turns: Vec<&str> = chunk.iter().map(|prompt| prompt.prompt.as_str()).collect();
        for (prompt, Answer { text, stopped }) in chunk.iter().zip(answers(subject, &turns, MAX_NEW_TOKENS)?) {
            let begin = text.to_lowercase();
            given.push(ChatAnswer {
                id: prompt.id.clone(),
                stopped,
                in_language: language_of(&text).map(|language| language == prompt.lang),
                refused: REFUSALS.iter().any(|refusal| begin.starts_with(refusal)),
                answer: text,
            });
        }
        progress(given.len())?;
    }
    Ok(given)
}

/// What an answer may be like.
type Trait = fn(&ChatAnswer) -> bool;

impl ChatDrift {
    /// Puts the answers of both models side by side; `None` where nothing was asked.
    pub fn new(base: &[ChatAnswer], adapted: &[ChatAnswer]) -> Option<Self> {
        let pairs = || base.iter().zip(adapted);
        let changes: [(&str, Trait); 4] = [
            ("does not end its turn", |answer| !answer.stopped),
            ("answers in another language", |answer| answer.in_language == Some(false)),
            ("refuses", |answer| answer.refused),
            ("says nothing", |answer| answer.answer.is_empty()),
        ];
        let worse = changes.into_iter().flat_map(|(change, is_bad)| {
            let worse = pairs().filter(move |(base, adapted)| is_bad(adapted) && !is_bad(base));
            worse.take(EXAMPLES).map(move |(base, adapted)| ChatChange {
                id: base.id.clone(),
                change: change.to_owned(),
                base: base.answer.clone(),
                adapted: adapted.answer.clone(),
            })
        });
        (!base.is_empty()).then(|| Self {
            turns: base.len(),
            base: ChatCounts::of(base),
            adapted: ChatCounts::of(adapted),
            examples: worse.collect(),
        })
    }
}

impl ChatCounts {
    fn of(answers: &[ChatAnswer]) -> Self {
        let count = |is: fn(&ChatAnswer) -> bool| answers.iter().filter(|answer| is(answer)).count();
        Self {
            stopped: count(|answer| answer.stopped),
            in_language: count(|answer| answer.in_language == Some(true)),
            with_language: count(|answer| answer.in_language.is_some()),
            refused: count(|answer| answer.refused),
            empty: count(|answer| answer.answer.is_empty()),
        }
    }
}
