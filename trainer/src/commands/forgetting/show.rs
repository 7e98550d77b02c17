//! A comparison as a table in the terminal, and as a report in Markdown.

use std::fmt::Write as _;

use anstream::println;
use comfy_table::{CellAlignment, Table, presets};
use owo_colors::OwoColorize as _;

use crate::eval::tasks::Measure;
use crate::forgetting::Forgetting;
use crate::forgetting::chat::{ChatCounts, ChatDrift};
use crate::forgetting::comparison::{Flip, TaskComparison};
use crate::forgetting::gate::{Check, Outcome, Verdict};

const HEADER: [&str; 8] = ["", "items", "base", "adapter", "difference", "95 % interval", "lost / gained", "p"];

/// Prints a comparison.
pub(in crate::commands) fn print(found: &Forgetting) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(HEADER);
    for row in rows(found) {
        table.add_row(row);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    if let Some(chat) = &found.chat {
        println!("chat format, base / adapter of {} turns: {}", chat.turns, chat_line(chat));
    }
    for line in verdict_lines(&found.verdict) {
        println!("{line}");
    }
    let cached = if found.base_from_cache { ", the base's answers from an earlier time" } else { "" };
    println!("measured in {:.0} s{cached}", found.seconds);
    println!("{}", headline(&found.verdict, true));
}

/// One line that says whether the model passed.
pub(in crate::commands) fn headline(verdict: &Verdict, colours: bool) -> String {
    let beyond: Vec<String> = verdict
        .checks
        .iter()
        .filter(|check| check.outcome == Outcome::Beyond)
        .map(|check| check.subject.to_string())
        .collect();
    let paint = |text: &str, passed: bool| match (colours, passed) {
        (true, true) => text.green().bold().to_string(),
        (true, false) => text.red().bold().to_string(),
        (false, _) => text.to_owned(),
    };
    if !verdict.contaminated.is_empty() {
        let count = verdict.contaminated.len();
        return format!(
            "{} {count} of the questions were trained on, so they tell nothing: {}",
            paint("forgetting gate: refused:", false),
            shortened(&verdict.contaminated)
        );
    }
    if beyond.is_empty() {
        let checked = verdict.checks.iter().filter(|check| check.outcome == Outcome::Within).count();
        return format!("{} {checked} limits kept", paint("forgetting gate: passed:", true));
    }
    let confidence = 100.0 * verdict.confidence;
    format!(
        "{} with {confidence:.0} % confidence: {}",
        paint("forgetting gate: beyond the limits", false),
        beyond.join(", ")
    )
}

fn shortened(names: &[String]) -> String {
    let shown = names.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > 5 { format!("{shown}, …") } else { shown }
}

fn rows(found: &Forgetting) -> Vec<[String; 8]> {
    let mut rows: Vec<[String; 8]> = found.tasks.iter().map(task_row).collect();
    if let Some(average) = found.average {
        let show = |value, sign| figure(Measure::Accuracy, value, sign);
        rows.push([
            "mean of the tasks".to_owned(),
            String::new(),
            show(average.base, false),
            show(average.adapted, false),
            show(average.difference, true),
            interval(Measure::Accuracy, average.interval),
            String::new(),
            String::new(),
        ]);
    }
    for divergence in &found.divergences {
        let lang = divergence.lang.as_deref().unwrap_or("text");
        let (low, high) = divergence.interval;
        rows.push([
            format!("KL to the base, {lang}, nats per token"),
            divergence.texts.to_string(),
            String::new(),
            String::new(),
            format!("{:.4}", divergence.kl),
            format!("{low:.4} to {high:.4}"),
            String::new(),
            String::new(),
        ]);
    }
    rows
}

fn task_row(task: &TaskComparison) -> [String; 8] {
    let unit = match task.measure {
        Measure::Accuracy => "",
        Measure::F1 => ", F1",
        Measure::BitsPerByte => ", bits per byte",
    };
    let (flips, p) = match &task.flips {
        Some(flips) => (format!("{} / {}", flips.lost, flips.gained), format!("{:.3}", flips.p)),
        None => (String::new(), String::new()),
    };
    [
        format!("{}{unit}", task.task),
        task.items.to_string(),
        figure(task.measure, task.base, false),
        figure(task.measure, task.adapted, false),
        figure(task.measure, task.difference, true),
        interval(task.measure, task.interval),
        flips,
        p,
    ]
}

fn figure(measure: Measure, value: f64, sign: bool) -> String {
    match (measure, sign) {
        (Measure::BitsPerByte, false) => format!("{value:.4}"),
        (Measure::BitsPerByte, true) => format!("{value:+.4}"),
        (_, false) => format!("{:.1} %", 100.0 * value),
        (_, true) => format!("{:+.1}", 100.0 * value),
    }
}

fn interval(measure: Measure, (low, high): (f64, f64)) -> String {
    format!("{} to {}", figure(measure, low, true), figure(measure, high, true))
}

fn chat_line(chat: &ChatDrift) -> String {
    let side = |of: fn(&ChatCounts) -> String| format!("{} / {}", of(&chat.base), of(&chat.adapted));
    format!(
        "stopped {}, in the language asked {}, refused {}, empty {}",
        side(|counts| counts.stopped.to_string()),
        side(|counts| format!("{} of {}", counts.in_language, counts.with_language)),
        side(|counts| counts.refused.to_string()),
        side(|counts| counts.empty.to_string()),
    )
}

fn verdict_lines(verdict: &Verdict) -> Vec<String> {
    let line = |check: &Check| match check.outcome {
        Outcome::Within => None,
        Outcome::Beyond => Some(format!("beyond the limit: {check}")),
        Outcome::LeftOut(_) => Some(format!("not checked: {check}")),
    };
    verdict.checks.iter().filter_map(line).collect()
}

/// The report.
pub(in crate::commands) fn markdown(found: &Forgetting) -> String {
    let mut text = format!("# Forgetting\n\n{}\n\n", headline(&found.verdict, false));
    let mut row = |cells: &[String]| {
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    };
    row(&HEADER.map(str::to_owned));
    row(&HEADER.map(|_| "---".to_owned()));
    for cells in &rows(found) {
        row(cells);
    }
    let _ = writeln!(
        text,
        "\nIntervals: paired bootstrap over the items. Lost and gained: answers that turned wrong and right; p: McNemar's \
         exact test. Measured on {} by greffon {}.\n",
        found.date, found.greffon_version
    );
    for line in verdict_lines(&found.verdict) {
        let _ = writeln!(text, "- {line}");
    }
    if let Some(chat) = &found.chat {
        let _ = writeln!(text, "\n## Chat format\n\nBase / adapter, of {} turns: {}.\n", chat.turns, chat_line(chat));
        for change in &chat.examples {
            let _ = writeln!(
                text,
                "- {} {}\n  - base: {}\n  - adapter: {}",
                change.id,
                change.change,
                quoted(&change.base),
                quoted(&change.adapted)
            );
        }
    }
    text.push_str("\n## Answers that changed\n\n");
    for task in &found.tasks {
        let Some(flips) = &task.flips else { continue };
        let mut list = |what: &str, examples: &[Flip]| {
            for flip in examples.iter().filter(|flip| !flip.base.is_empty() || !flip.adapted.is_empty()) {
                let _ = writeln!(
                    text,
                    "- {} {what}\n  - base: {}\n  - adapter: {}",
                    flip.id,
                    quoted(&flip.base),
                    quoted(&flip.adapted)
                );
            }
        };
        list("lost", &flips.lost_examples);
        list("gained", &flips.gained_examples);
    }
    text
}

/// A text on one line, cut where it is long.
fn quoted(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(200).collect();
    let dots = if cut.len() < line.len() { " …" } else { "" };
    format!("`{}{dots}`", cut.replace('`', "'"))
}
