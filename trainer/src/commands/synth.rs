//! `greffon synth`.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use anstream::{eprintln, println};
use comfy_table::{CellAlignment, Table, presets};
use datasets::synth::config::SynthConfig;
use datasets::synth::document::words_and_marks;
use datasets::synth::run::{Making, Report, SAMPLES, make};
use datasets::synth::teacher::ask::Progress;
use datasets::synth::teacher::{Endpoint, Price, Teacher};
use indicatif::ProgressBar;

use super::interrupt::on_ctrl_c;
use super::progress;
use crate::cli::SynthArgs;
use crate::error::TrainError;
use crate::recipe::load_synth;
use crate::teacher::LocalTeacher;

/// The exit code of what was stopped with everything kept.
const INTERRUPTED: u8 = 130;

pub(super) fn synth(args: &SynthArgs) -> anyhow::Result<ExitCode> {
    let config = load_synth(&args.recipe, &args.set).map_err(TrainError::from)?;
    let samples = config.output.join(SAMPLES);
    if samples.exists() && !args.force {
        let reason = format!(
            "{}: the set is there already; --force makes it again from the answers that are kept",
            samples.display()
        );
        return Err(TrainError::Run(reason).into());
    }
    let stop = on_ctrl_c("the requests under way")?;
    let (report, _) = match (&config.teacher.endpoint, &config.teacher.local) {
        (Some(endpoint), _) => {
            let key = endpoint.api_key_env.as_ref().and_then(|variable| std::env::var(variable).ok());
            let teacher = Endpoint::new(endpoint, key.filter(|key| !key.is_empty()));
            run(&config, &teacher, endpoint.price, &words_and_marks, &stop)?
        }
        (None, Some(local)) => {
            let teacher = LocalTeacher::open(local, &progress::hub())?;
            run(&config, &teacher, Price::default(), &|text| teacher.count_tokens(text), &stop)?
        }
        (None, None) => unreachable!("the recipe names one of them"),
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        show(&config, &report);
    }
    let stopped = stop.load(Ordering::Relaxed) && !report.finished;
    Ok(if stopped { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS })
}

fn run(
    config: &SynthConfig,
    teacher: &dyn Teacher,
    price: Price,
    count_tokens: &(dyn Fn(&str) -> usize + Sync),
    stop: &AtomicBool,
) -> Result<(Report, Vec<datasets::synth::sample::Sample>), TrainError> {
    let making = Making { teacher, price, count_tokens, stop };
    let mut asking = Bar::default();
    let made = make(config, making, &mut |what, at| asking.show(what, at));
    asking.clear();
    Ok(made?)
}

/// A bar over the requests of a step.
#[derive(Default)]
struct Bar(Option<(String, ProgressBar)>);

impl Bar {
    fn show(&mut self, what: &str, at: Progress) {
        if self.0.as_ref().is_none_or(|(own, _)| own != what) {
            self.clear();
            if !std::io::stderr().is_terminal() {
                eprintln!("asking for {what}: {} requests, {} answered before", at.total, at.done);
            }
            self.0 = Some((what.to_owned(), progress::bar(at.total, "asking the teacher")));
        }
        if let Some((_, bar)) = &self.0 {
            bar.set_position(at.done as u64);
            let tokens = at.spent.prompt_tokens + at.spent.completion_tokens;
            bar.set_message(format!("{what}, {tokens} tokens"));
        }
    }

    fn clear(&mut self) {
        if let Some((_, bar)) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

fn show(config: &SynthConfig, report: &Report) {
    if !report.rejected.0.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["left out", "count", "for instance"]);
        for (reason, found) in &report.rejected.0 {
            let example = found.examples.first().map_or(String::new(), |text| one_line(text));
            table.add_row([reason.clone(), found.count.to_string(), example]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }
    let spent = report.spent;
    println!(
        "{} samples from {} documents; {} requests, {} tokens read, {} written{}",
        report.samples,
        report.documents,
        spent.requests,
        spent.prompt_tokens,
        spent.completion_tokens,
        if report.cost > 0.0 { format!(", cost {:.4}", report.cost) } else { String::new() }
    );
    if let Some(reason) = &report.ended {
        println!("ended early: {reason}; run again with --force, and only what has no answer yet is asked");
    }
    println!("samples: {}", config.output.join(SAMPLES).display());
}

/// A text on one line, cut where it is long.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(70).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}
