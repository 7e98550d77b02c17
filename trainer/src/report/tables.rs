//! The tables and lists of a run's report, as texts in the report's language.

use serde::Serialize;

use super::words::Words;
use super::{Planned, RunReport, Standing};
use crate::energy::{Energy, Stage};
use crate::eval::evaluation::{Comparison, Evaluation};
use crate::eval::tasks::Measure;
use crate::forgetting::Forgetting;
use crate::forgetting::chat::ChatCounts;
use crate::forgetting::gate::{Check, Outcome, Subject};
use crate::language::Language;

/// A table whose first columns are words, the others numbers.
#[derive(Debug, Default, Serialize)]
pub(super) struct Table {
    pub(super) head: Vec<String>,
    /// How many columns are words.
    pub(super) words: usize,
    pub(super) rows: Vec<Row>,
}

/// A row.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) cells: Vec<String>,
    /// How it is marked: `good`, `bad`, `sum`, or not.
    pub(super) mark: &'static str,
}

/// What something is, and its value.
pub(super) type Fact = (String, String);

impl Table {
    pub(super) fn new<const N: usize>(words: usize, head: [&str; N]) -> Self {
        Self { head: head.map(str::to_owned).into(), words, rows: Vec::new() }
    }

    pub(super) fn push(&mut self, mark: &'static str, cells: impl Into<Vec<String>>) {
        self.rows.push(Row { cells: cells.into(), mark });
    }
}

/// Whether a run stands well, and what is to be said of it.
pub(super) fn standing(standing: Standing, words: &Words) -> (&'static str, &'static str, Option<&'static str>) {
    match standing {
        Standing::Finished => ("good", words.finished, None),
        Standing::Running => ("plain", words.running, Some(words.running_told)),
        Standing::Interrupted => ("plain", words.interrupted, Some(words.interrupted_told)),
        Standing::CutOff => ("bad", words.cut_off, Some(words.cut_off_told)),
        Standing::Failed => ("bad", words.failed, Some(words.failed_told)),
    }
}

/// Steps made, of those planned.
pub(super) fn steps(run: &RunReport, lang: Language) -> String {
    let figures = run.figures();
    let made = lang.count(figures.steps);
    figures.planned_steps.map_or(made.clone(), |all| format!("{made} {} {}", lang.words().of_planned, lang.count(all)))
}

/// Who made the run, where, when, and of what.
pub(super) fn facts(run: &RunReport, lang: Language) -> Vec<Fact> {
    let words = lang.words();
    let (figures, info) = (run.figures(), run.info.as_ref());
    let plan = info.and_then(|info| info.plan.as_ref());
    let moment = |text: &String| lang.moment(text);
    let revision = run.recipe.model.revision.as_ref().map(|revision| format!(" @ {revision}")).unwrap_or_default();
    let facts = [
        (words.base, Some(format!("{}{revision}", run.recipe.model.base))),
        (words.base_digest, info.map(|info| info.base_digest.clone())),
        (words.steps, Some(steps(run, lang))),
        (words.started, info.map(|info| moment(&info.started))),
        (words.updated, run.updated().map(|updated| moment(&updated.to_string()))),
        (words.time_in_steps, Some(lang.seconds(figures.seconds))),
        (words.machine, info.map(|info| format!("{}, {} {}", info.host, info.cpus, words.cpus))),
        (words.processes, plan.map(|plan| plan.ranks.to_string())),
        (words.versions, info.map(|info| format!("greffon {}, burn {}", info.greffon_version, info.burn_version))),
        (words.recipe_file, info.map(|info| info.recipe.display().to_string())),
        (words.git, info.map(|info| info.git.clone().unwrap_or_else(|| words.no_git.to_owned()))),
        (words.seed, Some(run.recipe.train.seed.to_string())),
        (words.trained_numbers, plan.map(|plan| lang.count(plan.trainable_parameters as u64))),
        (words.adapted_modules, plan.map(|plan| plan.adapted_modules.to_string())),
        (words.folder, Some(run.folder.path().display().to_string())),
        (words.size, Some(lang.bytes(run.bytes))),
    ];
    facts.into_iter().filter_map(|(what, value)| Some((what.to_owned(), value?))).collect()
}

/// What was planned against what happened; `None` where nothing was planned.
pub(super) fn plan(run: &RunReport, planned: Option<&Planned>, lang: Language) -> Option<Table> {
    let words = lang.words();
    let (figures, plan) = (run.figures(), run.info.as_ref().and_then(|info| info.plan.as_ref()));
    if plan.is_none() && planned.is_none() {
        return None;
    }
    let mut table = Table::new(1, ["", words.predicted, words.measured, words.deviation]);
    let mut row = |what: &str, predicted: Option<f64>, seen: Option<f64>, show: &dyn Fn(f64) -> String| {
        let Some(predicted) = predicted else { return };
        let off = seen.filter(|_| predicted > 0.0).map(|seen| seen / predicted - 1.0);
        let off = off.map(|off| format!("{}\u{a0}%", lang.signed(100.0 * off, 1)));
        table.push("", [what.to_owned(), show(predicted), seen.map(show).unwrap_or_default(), off.unwrap_or_default()]);
    };
    let count = |value: f64| lang.number(value, 0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of memory")]
    let bytes = |value: f64| lang.bytes(value as u64);
    // The recipe's own plan was made with the command's numbers, where both are there.
    let steps = planned.map(|planned| planned.steps).or(figures.planned_steps);
    row(words.steps, steps.map(|steps| steps as f64), Some(figures.steps as f64), &count);
    let trained = planned.map(|planned| planned.trainable_parameters).or(figures.trained_numbers);
    row(words.trained_numbers, trained.map(|n| n as f64), figures.trained_numbers.map(|n| n as f64), &count);
    let peak = planned.map(|planned| planned.peak_bytes).or(plan.map(|plan| plan.checkpointing.memory.total()));
    row(words.peak_memory, peak.map(|bytes| bytes as f64), figures.peak_bytes.map(|bytes| bytes as f64), &bytes);
    let time = planned.map(|planned| &planned.time);
    row(words.training_time, time.map(|time| time.training_seconds), Some(figures.seconds), &|s| lang.seconds(s));
    row(words.tokens_per_second, time.map(|time| time.step.tokens_per_second), figures.tokens_per_second, &count);
    Some(table)
}

/// The energy by stage, and how it is known; `None` where nothing is.
pub(super) fn energy(run: &RunReport, lang: Language) -> Option<(Table, Vec<Fact>)> {
    let words = lang.words();
    let record = run.info.as_ref()?.energy.as_ref()?;
    let total: Energy = record.stages.values().copied().sum();
    let mut table = Table::new(1, [words.stage, words.processor, words.memory, words.card, words.total, words.share]);
    let mut row = |mark, what: &str, energy: Energy| {
        let parts = [energy.cpu, energy.memory, energy.gpu, energy.joules()].map(|joules| lang.kwh(joules / 3.6e6));
        let share = if total.joules() > 0.0 { energy.joules() / total.joules() } else { 0.0 };
        let cells: Vec<String> = [what.to_owned()].into_iter().chain(parts).chain([lang.percent(share, 1)]).collect();
        table.push(mark, cells);
    };
    for (stage, energy) in &record.stages {
        let name = match stage {
            Stage::Data => words.stage_data,
            Stage::Train => words.stage_train,
            Stage::Evaluate => words.stage_evaluate,
            Stage::Export => words.stage_export,
        };
        row("", name, *energy);
    }
    row("sum", words.total, total);
    let emitted = match (record.grams_co2e, &record.grid) {
        (Some(grams), Some(_)) => format!("{}\u{a0}g CO2e", lang.short(grams)),
        _ => words.no_grid.to_owned(),
    };
    let grid = record.grid.as_ref();
    let grid = grid.map(|grid| format!("{}\u{a0}g CO2e/kWh, {}", lang.number(grid.grams_per_kwh, 0), grid.source));
    let facts = [
        (words.pue, Some(lang.number(record.pue, 2))),
        (words.with_pue, Some(lang.kwh(record.kwh))),
        (words.emitted, Some(emitted)),
        (words.grid, grid),
        (words.per_million, record.kwh_per_million_tokens.map(|kwh| lang.kwh(kwh))),
        (words.lamp, Some(lang.seconds(record.lamp_seconds()))),
        (words.car, record.car_kilometres().map(|kilometres| format!("{}\u{a0}km", lang.short(kilometres)))),
        (words.processor, Some(record.method.cpu.clone())),
        (words.memory, Some(record.method.memory.clone())),
        (words.card, record.method.gpu.clone()),
    ];
    let facts = facts.into_iter().filter_map(|(what, value)| Some((what.to_owned(), value?))).collect();
    Some((table, facts))
}

/// An evaluation, metric by metric.
pub(super) fn evaluation(found: &Evaluation, lang: Language) -> Table {
    let words = lang.words();
    let head = [words.metric, words.items, words.of_base, words.of_adapter, words.difference, words.interval];
    let mut table = Table::new(1, head);
    for metric in &found.metrics {
        let Comparison { base, adapter, difference, interval: (low, high), .. } = *metric;
        let (plain, signed) = shown(metric.is_share, lang);
        let better = if metric.higher_is_better { 1.0 } else { -1.0 };
        let mark = match (better * low, better * high) {
            (a, b) if a > 0.0 && b > 0.0 => "good",
            (a, b) if a < 0.0 && b < 0.0 => "bad",
            _ => "",
        };
        let items = lang.count(metric.items as u64);
        let interval = between(&signed(low), &signed(high));
        table.push(mark, [metric.metric.clone(), items, plain(base), plain(adapter), signed(difference), interval]);
    }
    table
}

/// How values and differences are written: a share in per cent and points, else with four decimals.
fn shown(is_share: bool, lang: Language) -> (impl Fn(f64) -> String, impl Fn(f64) -> String) {
    let plain = move |value| if is_share { lang.percent(value, 1) } else { lang.number(value, 4) };
    let signed = move |value| if is_share { lang.signed(100.0 * value, 1) } else { lang.signed(value, 4) };
    (plain, signed)
}

fn between(low: &str, high: &str) -> String {
    format!("{low} … {high}")
}

/// What was asked about forgetting, task by task.
pub(super) fn forgetting(found: &Forgetting, lang: Language) -> Table {
    let words = lang.words();
    let head = [
        words.task,
        words.items,
        words.of_base,
        words.of_adapter,
        words.difference,
        words.interval,
        words.lost_gained,
        words.mcnemar,
    ];
    let mut table = Table::new(1, head);
    for task in &found.tasks {
        let is_share = task.measure != Measure::BitsPerByte;
        let (plain, signed) = shown(is_share, lang);
        let unit = match task.measure {
            Measure::Accuracy => String::new(),
            Measure::F1 => ", F1".to_owned(),
            Measure::BitsPerByte => format!(", {}", words.bits_per_byte),
        };
        let flips = task.flips.as_ref();
        table.push(
            "",
            [
                format!("{}{unit}", task.task),
                lang.count(task.items as u64),
                plain(task.base),
                plain(task.adapted),
                signed(task.difference),
                between(&signed(task.interval.0), &signed(task.interval.1)),
                flips.map(|flips| format!("{} / {}", flips.lost, flips.gained)).unwrap_or_default(),
                flips.map(|flips| lang.number(flips.p, 3)).unwrap_or_default(),
            ],
        );
    }
    let nothing = String::new;
    if let Some(average) = found.average {
        let (plain, signed) = shown(true, lang);
        let (low, high) = average.interval;
        let cells = [plain(average.base), plain(average.adapted), signed(average.difference)];
        let mut all = vec![words.mean_of_tasks.to_owned(), nothing()];
        all.extend(cells);
        all.extend([between(&signed(low), &signed(high)), nothing(), nothing()]);
        table.push("sum", all);
    }
    for divergence in &found.divergences {
        let of = divergence.lang.as_deref().map(|of| format!(", {of}")).unwrap_or_default();
        let (low, high) = divergence.interval;
        let number = |value| lang.number(value, 4);
        let cells = [
            format!("{}{of}, {}", words.kl_to_base, words.kl_unit),
            lang.count(divergence.texts as u64),
            nothing(),
            nothing(),
            number(divergence.kl),
            between(&number(low), &number(high)),
            nothing(),
            nothing(),
        ];
        table.push("", cells);
    }
    table
}

/// The gate's checks.
pub(super) fn gate(found: &Forgetting, lang: Language) -> Table {
    let words = lang.words();
    let mut table = Table::new(1, [words.limit, words.lost, words.at_least, words.allowed, words.outcome]);
    for Check { subject, limit, loss, at_least, outcome } in &found.verdict.checks {
        let name = match subject {
            Subject::Task(task) => task.clone(),
            Subject::Average => words.mean_of_tasks.to_owned(),
            Subject::BitsPerByte(task) => format!("{task}, {}", words.bits_per_byte),
            Subject::Kl(of) => format!("{}, {of}", words.kl_to_base),
        };
        let show = |value: f64| match subject {
            Subject::Task(_) | Subject::Average => format!("{} {}", lang.number(100.0 * value, 1), words.points),
            Subject::BitsPerByte(_) => lang.percent(value, 1),
            Subject::Kl(_) => lang.number(value, 4),
        };
        let (mark, said) = match outcome {
            Outcome::Within => ("good", words.within.to_owned()),
            Outcome::Beyond => ("bad", words.beyond.to_owned()),
            Outcome::LeftOut(reason) => ("", format!("{}: {reason}", words.not_checked)),
        };
        let seen = |value: f64| if mark.is_empty() { String::new() } else { show(value) };
        table.push(mark, [name, seen(*loss), seen(*at_least), show(*limit), said]);
    }
    table
}

/// What became of the chat format; `None` where nobody asked.
pub(super) fn chat(found: &Forgetting, lang: Language) -> Option<Table> {
    let words = lang.words();
    let chat = found.chat.as_ref()?;
    let title = format!("{}, {} {}", words.chat_format, lang.count(chat.turns as u64), words.chat_turns);
    let mut table = Table::new(1, [&title, words.of_base, words.of_adapter]);
    let mut row = |what: &str, of: &dyn Fn(&ChatCounts) -> String| {
        table.push("", [what.to_owned(), of(&chat.base), of(&chat.adapted)]);
    };
    row(words.chat_stopped, &|counts| lang.count(counts.stopped as u64));
    row(words.chat_language, &|counts| format!("{} {} {}", counts.in_language, words.of_planned, counts.with_language));
    row(words.chat_refused, &|counts| lang.count(counts.refused as u64));
    row(words.chat_empty, &|counts| lang.count(counts.empty as u64));
    Some(table)
}
