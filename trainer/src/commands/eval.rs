//! `greffon eval`: base against adapter, in one table.

use std::process::ExitCode;

use anstream::println;
use comfy_table::{CellAlignment, Table, presets};
use datasets::{Conversation, Hub};

use super::output;
use super::progress;
use super::subject::Comparing;
use crate::cli::EvalArgs;
use crate::cluster::Collective;
use crate::device;
use crate::error::TrainError;
use crate::eval::evaluation::{Comparison, Evaluation};
use crate::eval::{Findings, Subject, probes};
use crate::model::{Decoder, adapter};
use crate::recipe::Recipe;

pub(super) fn eval(args: &EvalArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    let comparing = Comparing::open(&args.subject, args.adapter.as_ref(), &args.set)?;
    let recipe = &comparing.recipe;
    let limit = args.limit.or(recipe.eval.limit);
    let hub = progress::hub();
    let base = comparing.base(&hub)?;
    // Before all that takes time, so that a base without a template is told at once.
    base.tokenizer.template().map_err(TrainError::from)?;
    let conversations = test_conversations(recipe, limit, &hub)?;
    let device = device::open_for(&recipe.device, collective)?;
    let (plain, adapted) = comparing.decoders(&base, &device)?;
    let question = |decoder: &Decoder, what: &'static str| -> Result<Vec<Findings>, TrainError> {
        let subject = Subject { decoder, tokenizer: &base.tokenizer, device: &device, collective };
        probes::all(recipe)
            .iter()
            .map(|probe| {
                let bar = progress::bar(conversations.len().div_ceil(collective.ranks()), what);
                let findings = probe.run(&subject, &conversations, &mut |done| bar.set_position(done as u64));
                bar.finish_and_clear();
                findings
            })
            .collect()
    };
    let adapted = question(&adapted, "adapter")?;
    let plain = question(&plain, "base")?;

    if !collective.is_first() {
        return Ok(ExitCode::SUCCESS);
    }
    let digest = adapter::digest(&comparing.adapter)?;
    let found = Evaluation::new(digest, &conversations, &plain, &adapted);
    if args.json {
        output::json(&found)?;
    } else {
        println!("{}", table(&found.metrics));
        println!("{} conversations never trained on; intervals: 95 %, paired bootstrap", conversations.len());
    }
    // Last, so that what was found is told where the folder cannot be written.
    if let Some(run) = comparing.run.as_ref().filter(|run| run.adapter() == comparing.adapter && args.set.is_empty()) {
        // As the run's own recipe asks; another adapter or another question is not the run's.
        found.save(run)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The test conversations of the recipe; without any, its validation ones.
fn test_conversations(recipe: &Recipe, limit: Option<usize>, hub: &Hub) -> Result<Vec<Conversation>, TrainError> {
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

fn table(metrics: &[Comparison]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["", "base", "adapter", "difference", "95 % interval"]);
    for comparison in metrics {
        let show = |value: f64, sign: bool| match (comparison.is_share, sign) {
            (true, false) => format!("{:.1} %", 100.0 * value),
            (true, true) => format!("{:+.1}", 100.0 * value),
            (false, false) => format!("{value:.4}"),
            (false, true) => format!("{value:+.4}"),
        };
        let (low, high) = comparison.interval;
        table.add_row([
            comparison.metric.clone(),
            show(comparison.base, false),
            show(comparison.adapter, false),
            show(comparison.difference, true),
            format!("{} to {}", show(low, true), show(high, true)),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
