//! `greffon eval`: base against adapter, in one table.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use anstream::println;
use comfy_table::{CellAlignment, Table, presets};
use datasets::{Conversation, Hub, Message};

use super::output;
use super::progress;
use super::subject::{Comparing, run_recipe};
use crate::cli::EvalArgs;
use crate::cluster::Collective;
use crate::device;
use crate::error::TrainError;
use crate::eval::evaluation::{Comparison, EXACT_MATCH, Evaluation, FILE, Group};
use crate::eval::{Findings, Subject, few_shot, probes, rival};
use crate::model::{Decoder, adapter};
use crate::recipe::Recipe;
use crate::track::RunFolder;

pub(super) fn eval(args: &EvalArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    if let (Some(answers), Some(rival)) = (&args.answers, &args.rival) {
        if collective.is_first() {
            show(&compare_files(args, answers, rival)?, args.json)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let comparing = Comparing::open(&args.subject, args.adapter.as_ref(), &args.set)?;
    let given = Given { answers: args.answers.as_deref(), rival: args.rival.as_deref() };
    let Some(found) = evaluate(&comparing, args.limit, given, collective)? else {
        return Ok(ExitCode::SUCCESS);
    };
    show(&found, args.json)?;
    // Last, so that what was found is told where the folder cannot be written.
    let is_own = |run: &&RunFolder| run.adapter() == comparing.adapter && args.set.is_empty() && given.is_none();
    if let Some(run) = comparing.run.as_ref().filter(is_own) {
        // As the run's own recipe asks; another adapter or another question is not the run's.
        found.save(run)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(found: &Evaluation, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(found);
    }
    println!("{}", table(found));
    println!("{} conversations never trained on; intervals: 95 %, paired bootstrap", found.answers.len());
    Ok(())
}

/// Compares the answers of two files, and asks no model.
fn compare_files(args: &EvalArgs, answers: &Path, rival: &Path) -> anyhow::Result<Evaluation> {
    let recipe = if args.subject.is_dir() {
        run_recipe(&RunFolder::open(args.subject.clone())?, &args.set)?.recipe
    } else {
        Recipe::load(&args.subject, &args.set).map_err(TrainError::from)?.recipe
    };
    let conversations = test_conversations(&recipe, args.limit.or(recipe.eval.limit), &progress::hub())?;
    check_groups(&conversations, &recipe.eval.group_by)?;
    let [(of, answers), (against, rival)] = [read(answers, &conversations)?, read(rival, &conversations)?];
    Ok(Evaluation::new(String::new(), [of, against], &conversations, &recipe.eval.group_by, &rival, &answers))
}

/// The name of a file of answers, and how good they are.
fn read(file: &Path, conversations: &[Conversation]) -> Result<(String, Vec<Findings>), TrainError> {
    let answers = rival::read(file, conversations)?;
    Ok((file_name(&file.to_string_lossy()), vec![probes::scored(conversations, answers)]))
}

/// Files of answers instead of models that are asked.
#[derive(Clone, Copy, Default)]
pub(super) struct Given<'a> {
    /// Instead of the adapted model's.
    answers: Option<&'a Path>,
    /// Instead of the base's.
    rival: Option<&'a Path>,
}

impl Given<'_> {
    fn is_none(self) -> bool {
        self.answers.is_none() && self.rival.is_none()
    }
}

/// Asks both models what is not given; on the first rank what was found.
pub(super) fn evaluate(
    comparing: &Comparing,
    limit: Option<usize>,
    given: Given<'_>,
    collective: &dyn Collective,
) -> anyhow::Result<Option<Evaluation>> {
    let recipe = &comparing.recipe;
    let limit = limit.or(recipe.eval.limit);
    let hub = progress::hub();
    let base = comparing.base(&hub)?;
    // Before all that takes time, so that a base without a template is told at once.
    base.tokenizer.template().map_err(TrainError::from)?;
    let conversations = test_conversations(recipe, limit, &hub)?;
    check_groups(&conversations, &recipe.eval.group_by)?;
    let device = device::open_for(&recipe.device, collective)?;
    let (plain, adapted) = comparing.decoders(&base, &device)?;
    // Others' answers have no loss, and that of a longer prompt is another's.
    let answers_alone = !given.is_none() || recipe.eval.num_fewshot > 0;
    let probes = if answers_alone { probes::answers(recipe) } else { probes::all(recipe) };
    let question = |decoder: &Decoder, asked: &[Conversation], what| -> Result<Vec<Findings>, TrainError> {
        let subject = Subject { decoder, tokenizer: &base.tokenizer, device: &device, collective };
        probes
            .iter()
            .map(|probe| {
                let bar = progress::bar(asked.len().div_ceil(collective.ranks()), what);
                let findings = probe.run(&subject, asked, &mut |done| bar.set_position(done as u64));
                bar.finish_and_clear();
                findings
            })
            .collect()
    };
    let (against, plain) = match given.rival {
        Some(file) => read(file, &conversations)?,
        None if recipe.eval.num_fewshot > 0 => {
            let asked = few_shot::with_examples(&conversations, &shown(recipe, &hub)?);
            (format!("base, {} shown", recipe.eval.num_fewshot), question(&plain, &asked, "base")?)
        }
        None => ("base".to_owned(), question(&plain, &conversations, "base")?),
    };
    let (of, adapted) = match given.answers {
        Some(file) => read(file, &conversations)?,
        None => ("adapter".to_owned(), question(&adapted, &conversations, "adapter")?),
    };

    if !collective.is_first() {
        return Ok(None);
    }
    let digest = if given.answers.is_some() { String::new() } else { adapter::digest(&comparing.adapter)? };
    Ok(Some(Evaluation::new(digest, [of, against], &conversations, &recipe.eval.group_by, &plain, &adapted)))
}

/// The test conversations of the recipe; without any, its validation ones.
pub(super) fn test_conversations(
    recipe: &Recipe,
    limit: Option<usize>,
    hub: &Hub,
) -> Result<Vec<Conversation>, TrainError> {
    let sources = recipe.test_sources();
    if sources.is_empty() {
        return Err(TrainError::Run("the recipe names no questions to ask; list files under `eval.test`".to_owned()));
    }
    let mut conversations =
        datasets::load_conversations(sources, recipe.data.system_prompt.as_deref(), recipe.data.screen.as_ref(), hub)?;
    conversations.truncate(limit.unwrap_or(usize::MAX));
    if conversations.is_empty() {
        return Err(TrainError::Run("there is no conversation to evaluate on; raise the limit".to_owned()));
    }
    Ok(conversations)
}

/// The training conversations that the base is shown.
fn shown(recipe: &Recipe, hub: &Hub) -> Result<Vec<Message>, TrainError> {
    let data = &recipe.data;
    let from = datasets::load_conversations(&data.train, None, data.screen.as_ref(), hub)?;
    Ok(few_shot::draw(&from, recipe.eval.num_fewshot, recipe.train.seed))
}

/// Refuses keys that no question has.
fn check_groups(conversations: &[Conversation], group_by: &[String]) -> Result<(), TrainError> {
    for key in group_by {
        if conversations.iter().all(|conversation| !conversation.labels.contains_key(key)) {
            let known: BTreeSet<&str> =
                conversations.iter().flat_map(|conversation| conversation.labels.keys()).map(String::as_str).collect();
            let known = known.into_iter().collect::<Vec<_>>().join(", ");
            return Err(TrainError::Run(format!(
                "eval.group_by: no question has the key {key:?} with a word or a number; they have: {}",
                if known.is_empty() { "none" } else { &known }
            )));
        }
    }
    Ok(())
}

fn table(found: &Evaluation) -> Table {
    let mut table = Table::new();
    let head = ["", "questions", &found.against, &found.of, "difference", "95 % interval"];
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(head);
    let mut push = |name: String, comparison: &Comparison| {
        let show = |value: f64, sign: bool| match (comparison.is_share, sign) {
            (true, false) => format!("{:.1} %", 100.0 * value),
            (true, true) => format!("{:+.1}", 100.0 * value),
            (false, false) => format!("{value:.4}"),
            (false, true) => format!("{value:+.4}"),
        };
        let (low, high) = comparison.interval;
        table.add_row([
            name,
            comparison.items.to_string(),
            show(comparison.base, false),
            show(comparison.adapter, false),
            show(comparison.difference, true),
            format!("{} to {}", show(low, true), show(high, true)),
        ]);
    };
    for comparison in &found.metrics {
        push(comparison.metric.clone(), comparison);
    }
    for Group { by, value, metrics } in &found.groups {
        // A table of every metric of every group would not be read; the JSON has them all.
        if let Some(comparison) = metrics.iter().find(|comparison| comparison.metric == EXACT_MATCH) {
            let name = if by == FILE { file_name(value) } else { format!("{by}: {value}") };
            push(format!("  {name}"), comparison);
        }
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn file_name(path: &str) -> String {
    Path::new(path).file_name().map_or_else(|| path.to_owned(), |name| name.to_string_lossy().into_owned())
}
