//! The page: what a run's sections hold, put into the template, which escapes it.

use datasets::probes::exact_match;
use datasets::{Counts, Split};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};
use serde::Serialize;

use super::compare::Compared;
use super::plots::{self, Figure};
use super::tables::{self, Fact, Table};
use super::words::Words;
use super::{Planned, RunReport, distinct_names};
use crate::error::TrainError;
use crate::eval::evaluation::EXACT_MATCH;
use crate::forgetting::comparison::Flip;
use crate::language::Language;
use crate::provenance::{Data, RunData};
use crate::track::DataCounts;

/// Answers of an evaluation that are shown.
const ANSWERS: usize = 12;
/// Characters of a text that are shown; what is longer is cut.
const LONGEST: usize = 1200;
/// What was told of the data, and names of adapters: how many lines are shown.
const LINES: usize = 40;

/// A run's part of the page.
#[derive(Serialize)]
struct Section {
    id: String,
    name: String,
    mark: &'static str,
    status: &'static str,
    told: Option<&'static str>,
    reason: Option<String>,
    is_torn: bool,
    tiles: Vec<Tile>,
    facts: Vec<Fact>,
    plots: Vec<Figure>,
    plan: Option<Table>,
    energy: Option<(Table, Vec<Fact>)>,
    evaluation: Option<Measured>,
    forgetting: Option<Forgot>,
    answers: Vec<Shown>,
    answers_of: String,
    changed: Vec<Shown>,
    data: Vec<Source>,
    counted: Option<Table>,
    notes: Vec<String>,
    unrecorded: Vec<String>,
    recipe: String,
}

/// A figure that comes first.
#[derive(Serialize)]
struct Tile {
    what: &'static str,
    value: String,
    note: String,
}

/// A table with when it was measured, and whether that still holds.
#[derive(Serialize)]
struct Measured {
    table: Table,
    date: String,
    is_stale: bool,
}

/// What was forgotten.
#[derive(Serialize)]
struct Forgot {
    tasks: Measured,
    gate: Table,
    chat: Option<Table>,
    passed: bool,
    confidence: String,
    contaminated: usize,
}

/// An answer of both models.
#[derive(Serialize)]
struct Shown {
    mark: &'static str,
    title: String,
    question: String,
    expected: String,
    base: String,
    adapter: String,
}

/// What one run learned from: the run itself, or one that it goes on from.
#[derive(Serialize)]
struct Source {
    title: String,
    table: Table,
    facts: Vec<Fact>,
}

/// The page of one run, or of several after their comparison. `planned` is of the first.
///
/// # Errors
/// [`TrainError::Run`] when a plot cannot be drawn; [`TrainError::Read`] when an adapter cannot be read.
///
/// # Panics
/// Never: the template is the program's own, and the tests render it.
pub fn page(runs: &[RunReport], planned: Option<&Planned>, lang: Language) -> Result<String, TrainError> {
    let words = lang.words();
    let names = distinct_names(runs);
    let mut sections = Vec::new();
    for (index, (run, name)) in runs.iter().zip(&names).enumerate() {
        sections.push(section(index, name, run, planned.filter(|_| index == 0), lang)?);
    }
    let compared = (runs.len() > 1).then(|| Compared::new(runs));
    let comparison =
        compared.as_ref().map(|compared| (compared.figures_table(runs, lang), compared.recipe_table(lang)));
    let losses = if runs.len() > 1 { plots::of_runs(runs, lang)? } else { Vec::new() };
    let title = if runs.len() > 1 { words.comparison.to_owned() } else { format!("{} – {}", names[0], words.report) };
    let now = lang.moment(&jiff::Timestamp::now().to_string());
    let made = format!("{} {}, {now}", words.made, env!("CARGO_PKG_VERSION"));
    let style = format!("{}{}", include_str!("page.css"), plots::style());
    let values = context! {
        w => Serde(words), title, style, made, sections => Serde(sections), comparison => Serde(comparison),
        losses => Serde(losses),
    };
    let rendered = environment().get_template("page").and_then(|page| page.render(values));
    Ok(rendered.expect("the program's own template with all its values"))
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the usual delimiters"));
    environment.add_template("page", include_str!("page.html.jinja")).expect("the program's own template");
    environment
}

fn section(
    index: usize,
    name: &str,
    run: &RunReport,
    planned: Option<&Planned>,
    lang: Language,
) -> Result<Section, TrainError> {
    let words = lang.words();
    let (mark, status, told) = tables::standing(run.standing, words);
    let digest = run.adapter_digest()?;
    let is_stale = |of: Option<&String>| of.zip(digest.as_ref()).is_some_and(|(of, now)| of != now);
    let evaluation = run.evaluation.as_ref().map(|found| Measured {
        table: tables::evaluation(found, lang),
        date: lang.moment(&found.date),
        is_stale: is_stale(Some(&found.adapter_digest)),
    });
    let forgetting = run.forgetting.as_ref().map(|found| Forgot {
        tasks: Measured {
            table: tables::forgetting(found, lang),
            date: lang.moment(&found.date),
            is_stale: is_stale(found.adapter_digest.as_ref()),
        },
        gate: tables::gate(found, lang),
        chat: tables::chat(found, lang),
        passed: found.verdict.passed,
        confidence: lang.percent(found.verdict.confidence, 0),
        contaminated: found.verdict.contaminated.len(),
    });
    let info = run.info.as_ref();
    let counts = info.and_then(|info| info.data.as_ref());
    let Data { runs: learned, unknown } = run.data.clone().unwrap_or_default();
    Ok(Section {
        id: format!("run-{}", index + 1),
        name: name.to_owned(),
        mark,
        status,
        told,
        reason: info.and_then(|info| info.reason.clone()),
        is_torn: run.is_torn,
        tiles: tiles(run, lang),
        facts: tables::facts(run, lang),
        plots: plots::of_run(run, lang)?,
        plan: tables::plan(run, planned, lang),
        energy: tables::energy(run, lang),
        evaluation,
        forgetting,
        answers: answers(run),
        answers_of: lang.count(run.evaluation.as_ref().map_or(0, |found| found.answers.len() as u64)),
        changed: changed(run, words),
        data: learned.iter().map(|run| source(run, lang)).collect(),
        counted: counts.map(|counts| counted(counts, lang)),
        notes: counts.map(|counts| first(&counts.notes)).unwrap_or_default(),
        unrecorded: first(&unknown),
        recipe: run.recipe_text.clone(),
    })
}

/// The figures that come first.
fn tiles(run: &RunReport, lang: Language) -> Vec<Tile> {
    let (words, figures) = (lang.words(), run.figures());
    let step = |step: u64| format!("{} {}", words.at_step, lang.count(step));
    let validated = figures
        .validation_loss
        .map(|loss| (words.best_loss, lang.number(loss, 4), figures.best_step.map(step).unwrap_or_default()));
    let trained =
        || figures.training_loss.map(|loss| (words.last_loss, lang.number(loss, 4), words.smoothed.to_owned()));
    let energy = figures.kwh.map(|kwh| {
        let emitted = figures.grams_co2e.map(|grams| format!("{}\u{a0}g CO2e", lang.short(grams)));
        (words.energy, lang.kwh(kwh), emitted.unwrap_or_default())
    });
    let memory = run.info.as_ref().and_then(|info| info.plan.as_ref()).map(|plan| plan.checkpointing.memory.total());
    let peak = figures.peak_bytes.map(|bytes| {
        let of_plan = memory.map(|bytes| format!("{} {}", words.predicted_peak, lang.bytes(bytes)));
        (words.peak_memory, lang.bytes(bytes), of_plan.unwrap_or_default())
    });
    let speed = figures.tokens_per_second.map(|speed| (words.tokens_per_second, lang.number(speed, 0), String::new()));
    let exact = run.evaluation.as_ref().and_then(|found| {
        let metric = found.metrics.iter().find(|metric| metric.metric == EXACT_MATCH)?;
        let base = format!("{} {}", words.of_base.to_lowercase(), lang.percent(metric.base, 1));
        Some((words.exact_match, lang.percent(metric.adapter, 1), base))
    });
    let gate = run.forgetting.as_ref().map(|found| {
        let average =
            found.average.map(|average| format!("{} {}", lang.signed(100.0 * average.difference, 1), words.points));
        let said = if found.verdict.passed { words.passed } else { words.refused };
        (words.forgetting, said.to_owned(), average.unwrap_or_default())
    });
    let all = [validated.or_else(trained), exact, gate, speed, peak, energy];
    all.into_iter().flatten().map(|(what, value, note)| Tile { what, value, note }).collect()
}

/// Answers of the evaluation, spread over all of them.
fn answers(run: &RunReport) -> Vec<Shown> {
    let Some(found) = &run.evaluation else { return Vec::new() };
    let every = found.answers.len().div_ceil(ANSWERS).max(1);
    let shown = found.answers.iter().step_by(every).map(|answer| {
        let is_right = exact_match(&answer.adapter, std::slice::from_ref(&answer.expected)) > 0.5;
        Shown {
            mark: if is_right { "good" } else { "" },
            title: answer.origin.clone(),
            question: cut(&answer.question),
            expected: cut(&answer.expected),
            base: cut(&answer.base),
            adapter: cut(&answer.adapter),
        }
    });
    shown.collect()
}

/// Answers that the measurement of forgetting found changed.
fn changed(run: &RunReport, words: &Words) -> Vec<Shown> {
    let Some(found) = &run.forgetting else { return Vec::new() };
    let shown = |flip: &Flip, mark, what: &str| Shown {
        mark,
        title: format!("{}, {what}", flip.id),
        question: String::new(),
        expected: String::new(),
        base: cut(&flip.base),
        adapter: cut(&flip.adapted),
    };
    let flips = found.tasks.iter().filter_map(|task| task.flips.as_ref());
    let changed = flips.flat_map(|flips| {
        let lost = flips.lost_examples.iter().map(|flip| shown(flip, "bad", words.lost_answer));
        lost.chain(flips.gained_examples.iter().map(|flip| shown(flip, "good", words.gained)))
    });
    let mut changed: Vec<Shown> = changed.filter(|flip| !(flip.base.is_empty() && flip.adapter.is_empty())).collect();
    let chat = found.chat.iter().flat_map(|chat| &chat.examples);
    changed.extend(chat.map(|change| Shown {
        mark: "bad",
        title: format!("{}, {}", change.id, change.change),
        question: String::new(),
        expected: String::new(),
        base: cut(&change.base),
        adapter: cut(&change.adapted),
    }));
    changed
}

/// What a run learned from, source by source.
fn source(run: &RunData, lang: Language) -> Source {
    let words = lang.words();
    let mut table = Table::new(4, [words.source, words.used_for, words.licence, "SHA-256", words.samples]);
    for source in &run.sources {
        let split = match source.split {
            Split::Train => words.split_train,
            Split::Validation => words.split_validation,
            Split::Replay => words.split_replay,
        };
        let cells = [
            source.path.display().to_string(),
            split.to_owned(),
            source.licence.clone().unwrap_or_else(|| words.unknown.to_owned()),
            source.sha256.clone().unwrap_or_else(|| words.unknown.to_owned()),
            lang.count(source.samples),
        ];
        table.push("", cells);
    }
    let screening = run.screening.as_ref().map(|screening| {
        let found: Vec<String> =
            screening.found.iter().map(|(kind, count)| format!("{} {kind}", lang.count(*count))).collect();
        let found = if found.is_empty() { words.found_nothing.to_owned() } else { found.join(", ") };
        format!("{}: {found}", screening.action.name())
    });
    let learned =
        format!("{} {} {}", lang.count(run.samples.learned), words.of_planned, lang.count(run.samples.samples));
    let mut facts = vec![(words.learned.to_owned(), learned)];
    facts.extend(screening.map(|screening| (words.screening.to_owned(), screening)));
    facts.push((words.record_digest.to_owned(), run.samples.sha256.clone()));
    Source { title: format!("{} {}", words.of_run, run.run), table, facts }
}

/// One of the counts.
type CountOf = fn(&Counts) -> u64;

/// What was counted over the data, and what of it was left out.
fn counted(counts: &DataCounts, lang: Language) -> Table {
    let words = lang.words();
    let mut table = Table::new(1, [words.counted, words.split_train, words.split_validation]);
    let rows: [(&str, CountOf); 8] = [
        (words.conversations, |counts| counts.conversations),
        (words.near_duplicates, |counts| counts.near_duplicates),
        (words.overlong, |counts| counts.dropped_overlong),
        (words.truncated, |counts| counts.truncated),
        (words.unsupervised, |counts| counts.unsupervised_turns),
        (words.examples_made, |counts| counts.examples),
        (words.tokens, |counts| counts.tokens),
        (words.supervised, |counts| counts.supervised),
    ];
    for (what, of) in rows {
        table.push("", [what.to_owned(), lang.count(of(&counts.train)), lang.count(of(&counts.validation))]);
    }
    table
}

/// The first lines of a list, and how many there are more.
fn first(lines: &[String]) -> Vec<String> {
    let mut shown: Vec<String> = lines.iter().take(LINES).map(|line| cut(line)).collect();
    if let Some(more) = lines.len().checked_sub(LINES).filter(|more| *more > 0) {
        shown.push(format!("… +{more}"));
    }
    shown
}

/// A text without what is beyond the longest that is shown.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_at_a_character() {
        assert_eq!(cut("é"), "é");
        let long = "é".repeat(LONGEST + 1);
        assert_eq!(cut(&long), format!("{} …", "é".repeat(LONGEST)));
        let lines: Vec<String> = (0..LINES + 2).map(|line| line.to_string()).collect();
        assert_eq!(first(&lines).last().map(String::as_str), Some("… +2"));
    }
}
