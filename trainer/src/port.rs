//! Moving a run to another base: what of its recipe changes with it, and whether the move is worth it.
//!
//! Models are replaced sooner than the uses they serve. What was worked out on one base, data and recipe, is tried on
//! another, and both are asked the same questions.

use std::path::{Path, PathBuf};

use datasets::{Conversation, Hub, LengthStats, Overlong, tokenize_all};
use serde::Serialize;
use serde_json::{Value, json};

use crate::error::TrainError;
use crate::eval::evaluation::{Comparison, EXACT_MATCH, Evaluation};
use crate::eval::probes::scored;
use crate::model::BaseModel;
use crate::recipe::{ModelConfig, Recipe};

/// Conversations by which the lengths of two tokenizers are compared.
const COMPARED: usize = 2000;
/// Lengths are rounded up to a multiple of it.
const STEP: usize = 64;

/// The base that a run is moved to.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its name and revision.
    pub model: ModelConfig,
    /// A Jinja file instead of its own chat template.
    pub chat_template: Option<PathBuf>,
    /// The folder of the new run.
    pub output: PathBuf,
}

/// A value of the recipe that is not as it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its key.
    pub key: &'static str,
    /// What it was.
    pub before: Value,
    /// What it is.
    pub after: Value,
    /// Why.
    pub why: String,
}

/// The recipe for another base, with what was changed. Lengths, which are counted in tokens, follow the tokenizer: as much
/// text goes into them as before.
///
/// # Errors
/// When a base or the data cannot be read, the new one has no chat template, or the run went on from an adapter, which
/// fits its base alone.
pub fn adapt(recipe: &Recipe, to: &Target, hub: &Hub) -> Result<(Recipe, Vec<Change>), TrainError> {
    if let Some(adapter) = &recipe.model.adapter {
        return Err(TrainError::Run(format!(
            "model.adapter: the run went on from {}, which fits its own base alone; move the run that made it first",
            adapter.display()
        )));
    }
    let before = BaseModel::open(&recipe.model, recipe.data.chat_template.as_deref(), hub)?;
    let after = BaseModel::open(&to.model, to.chat_template.as_deref(), hub)?;
    if after.tokenizer.template().is_err() {
        return Err(TrainError::Run(format!(
            "{} has no chat template, so it is not known how its conversations are written; name a Jinja file with \
             --chat-template",
            after.name
        )));
    }
    let conversations = sample(recipe, hub)?;
    let lengths = |base: &BaseModel| -> Result<LengthStats, TrainError> {
        let whole = tokenize_all(&base.tokenizer, &conversations, usize::MAX, Overlong::Drop)?;
        Ok(LengthStats::new(
            whole.examples.iter().map(|e| (e.input_ids.len(), e.loss_mask.iter().filter(|s| **s).count())),
        ))
    };
    let (old, new) = (lengths(&before)?, lengths(&after)?);
    let whole = new.total as f64 / old.total.max(1) as f64;
    let answers = new.supervised as f64 / old.supervised.max(1) as f64;

    let mut moved = recipe.clone();
    let mut changes = Vec::new();
    let mut change = |key, before: Value, after: Value, why: String| {
        if before != after {
            changes.push(Change { key, before, after, why });
        }
    };
    let asked = "asked for".to_owned();
    moved.model = ModelConfig { adapter: None, dtype: recipe.model.dtype, ..to.model.clone() };
    change("model.base", json!(recipe.model.base), json!(moved.model.base), asked.clone());
    change("model.revision", json!(recipe.model.revision), json!(moved.model.revision), asked.clone());
    moved.data.chat_template.clone_from(&to.chat_template);
    let why = if to.chat_template.is_some() { asked.clone() } else { "the base has its own".to_owned() };
    change("data.chat_template", json!(recipe.data.chat_template), json!(moved.data.chat_template), why);
    moved.data.max_length = scaled(recipe.data.max_length, whole, STEP)
        .max(if recipe.data.max_length >= old.max { new.max.next_multiple_of(STEP) } else { 0 })
        .min(after.config.max_position_embeddings);
    let why = format!("the new tokenizer makes {whole:.2} times as many tokens of the same conversations");
    change("data.max_length", json!(recipe.data.max_length), json!(moved.data.max_length), why);
    moved.eval.max_new_tokens = scaled(recipe.eval.max_new_tokens, answers, 1).max(recipe.eval.max_new_tokens);
    let why = format!("and {answers:.2} times as many of their answers");
    change("eval.max_new_tokens", json!(recipe.eval.max_new_tokens), json!(moved.eval.max_new_tokens), why);
    moved.output.clone_from(&to.output);
    change("output", json!(recipe.output), json!(moved.output), asked);
    Ok((moved, changes))
}

/// Training conversations, as the recipe sees them.
fn sample(recipe: &Recipe, hub: &Hub) -> Result<Vec<Conversation>, TrainError> {
    let data = &recipe.data;
    let mut sources = data.train.clone();
    for source in &mut sources {
        source.limit = Some(source.limit.unwrap_or(COMPARED).min(COMPARED));
    }
    Ok(datasets::load_conversations(&sources, data.system_prompt.as_deref(), data.screen.as_ref(), hub)?)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length times a ratio of lengths")]
fn scaled(length: usize, by: f64, step: usize) -> usize {
    ((length as f64 * by).ceil() as usize).next_multiple_of(step)
}

/// Whether to move.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The new run is as good as the old one, or better, and forgot no more than its recipe allows.
    pub moves: bool,
    /// Why, or why not.
    pub reasons: Vec<String>,
}

/// The adapters of both runs on the same questions: `base` of a comparison is the old one.
///
/// # Errors
/// [`TrainError::Run`] when the two were not asked the same questions.
pub fn compare(
    conversations: &[Conversation],
    old: &Evaluation,
    new: &Evaluation,
) -> Result<Vec<Comparison>, TrainError> {
    let answers = |found: &Evaluation| -> Vec<String> { found.answers.iter().map(|a| a.adapter.clone()).collect() };
    let expected = conversations.iter().map(|c| c.messages.last().map_or("", |m| m.content.as_str()));
    for found in [old, new] {
        if !found.answers.iter().map(|answer| answer.expected.as_str()).eq(expected.clone()) {
            return Err(TrainError::Run(
                "the runs were not evaluated on the same questions; run greffon eval on both".to_owned(),
            ));
        }
    }
    let [old, new] = [old, new].map(|found| scored(conversations, answers(found)).scores);
    Ok(old.iter().zip(&new).map(|(old, new)| Comparison::new(old, new)).collect())
}

/// Judges a move: at most `tolerance` of exact match (a share, such as 0.01) may be lost, with 97.5 % confidence, and the
/// forgetting gate must not have refused the new run.
pub fn judge(quality: &[Comparison], tolerance: f64, passed: Option<bool>) -> Verdict {
    let mut reasons = Vec::new();
    let mut moves = true;
    for comparison in quality.iter().filter(|comparison| comparison.metric == EXACT_MATCH) {
        let (low, high) = comparison.interval;
        let is_kept = low >= -tolerance;
        moves &= is_kept;
        let word = match (low > 0.0, is_kept, high < 0.0) {
            (true, _, _) => "better",
            (_, true, _) => "as good",
            (_, _, true) => "worse",
            _ => "perhaps worse: the questions are too few to tell",
        };
        reasons.push(format!(
            "exact match is {word}: {:+.1} points ({:+.1} to {:+.1}), at most {:.1} may be lost",
            100.0 * comparison.difference,
            100.0 * low,
            100.0 * high,
            100.0 * tolerance
        ));
    }
    match passed {
        Some(true) => reasons.push("the new run forgot no more of its base than the recipe allows".to_owned()),
        Some(false) => {
            moves = false;
            reasons.push("the new run forgot more of its base than the recipe allows".to_owned());
        }
        None => reasons.push("what the new run forgot was not measured".to_owned()),
    }
    Verdict { moves, reasons }
}

/// The folder of a run that is moved, beside the old one.
pub fn output(run: &Path, base: &str) -> PathBuf {
    let name = Path::new(base).file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let run = run.to_string_lossy();
    PathBuf::from(format!("{}-on-{name}", run.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quality(difference: f64, interval: (f64, f64)) -> Vec<Comparison> {
        let metric = EXACT_MATCH.to_owned();
        let (base, adapter) = (0.5, 0.5 + difference);
        vec![Comparison {
            metric,
            base,
            adapter,
            difference,
            interval,
            items: 9,
            higher_is_better: true,
            is_share: true,
        }]
    }

    #[test]
    fn a_move_is_judged_by_what_is_sure() {
        let of = |difference, interval, passed| judge(&quality(difference, interval), 0.01, passed);
        let better = of(0.1, (0.05, 0.15), Some(true));
        assert!(better.moves && better.reasons[0].contains("is better: +10.0 points (+5.0 to +15.0)"), "{better:?}");
        let as_good = of(0.0, (-0.01, 0.02), None);
        assert!(as_good.moves && as_good.reasons[0].contains("is as good"), "{as_good:?}");
        assert!(as_good.reasons[1].contains("was not measured"), "{as_good:?}");
        let unsure = of(0.02, (-0.03, 0.07), Some(true));
        assert!(!unsure.moves && unsure.reasons[0].contains("too few to tell"), "{unsure:?}");
        let worse = of(-0.1, (-0.15, -0.05), Some(true));
        assert!(!worse.moves && worse.reasons[0].contains("is worse"), "{worse:?}");
        assert!(!of(0.1, (0.05, 0.15), Some(false)).moves);
    }

    #[test]
    fn a_moved_run_lies_beside_the_old_one() {
        assert_eq!(output(Path::new("runs/a/"), "models/Gemma-3.gguf"), Path::new("runs/a-on-gemma-3"));
        assert_eq!(output(Path::new("runs/a"), "owner/Name"), Path::new("runs/a-on-name"));
    }
}
