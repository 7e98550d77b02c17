//! `greffon synth`.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anstream::{eprintln, println};
use comfy_table::{CellAlignment, Table, presets};
use datasets::filter::HeldOutQuestions;
use datasets::synth::config::SynthConfig;
use datasets::synth::document::words_and_marks;
use datasets::synth::run::{CARD, Making, Report, SAMPLES, make};
use datasets::synth::select::Scorer;
use datasets::synth::teacher::ask::{Early, Progress};
use datasets::synth::teacher::{Endpoint, Price};
use indicatif::ProgressBar;
use serde::Serialize;

use super::interrupt::{interrupted_code, on_stop};
use super::output;
use super::progress;
use crate::cli::SynthArgs;
use crate::cluster::{Collective, from_first};
use crate::energy::{Account, EnergyRecord, Method, Stage};
use crate::error::TrainError;
use crate::forgetting::suite::Questions;
use crate::recipe::{EnergyConfig, load_synth};
use crate::teacher::{DEVICE, Learner, open_both};

pub(super) fn synth(args: &SynthArgs, collective: &dyn Collective) -> anyhow::Result<ExitCode> {
    let config = load_synth(&args.recipe, &args.set).map_err(TrainError::from)?;
    let samples = config.output.join(SAMPLES);
    // The others could find the samples that the first one writes.
    from_first(collective, || {
        if samples.exists() && !args.force {
            return Err(TrainError::Run(format!(
                "{}: the set is there already; --force makes it again from the answers that are kept",
                samples.display()
            )));
        }
        Ok(())
    })?;
    let interrupted = interrupted_code()?;
    let mut account = Account::start(&EnergyConfig::default(), DEVICE, collective);
    let hub = progress::hub();
    let held_out = HeldOutQuestions::new(&Questions::every_item()?, &config.held_out).map_err(TrainError::from)?;
    let local = config.teacher.as_ref().and_then(|teacher| teacher.local.as_ref());
    let model = config.difficulty.as_ref().map(|difficulty| &difficulty.model);
    let [local, learner] = open_both(local, model, &hub)?;
    let stop = on_stop(Some("the requests under way"))?;
    let learner = learner.as_deref().map(|model| Learner { model, collective });
    let making = Making {
        teacher: None,
        price: Price::default(),
        count_tokens: &words_and_marks,
        scorer: learner.as_ref().map(|learner| learner as &dyn Scorer),
        hub: &hub,
        stop: &stop,
        peers: &collective,
    };
    let endpoint = config.teacher.as_ref().and_then(|teacher| teacher.endpoint.as_ref());
    let report = match (endpoint, local.as_deref()) {
        (Some(endpoint), _) => {
            let key = endpoint.api_key_env.as_ref().and_then(|variable| std::env::var(variable).ok());
            let endpoint = endpoint.shared(collective.rank(), collective.ranks());
            let teacher = Endpoint::new(&endpoint, key.filter(|key| !key.is_empty()));
            run(&config, Making { teacher: Some(&teacher), price: endpoint.price, ..making }, held_out)?
        }
        (None, Some(teacher)) => {
            let count_tokens = |text: &str| teacher.count_tokens(text);
            run(&config, Making { teacher: Some(teacher), count_tokens: &count_tokens, ..making }, held_out)?
        }
        // Recipes whose steps ask somebody name a teacher.
        (None, None) => run(&config, making, held_out)?,
    };
    account.book(Stage::Data, collective)?;
    let energy = Taken::new(&account, &report);
    if collective.is_first() {
        if args.json {
            output::json(&Told { report: &report, energy: &energy })?;
        } else {
            show(&config, &report);
            println!("{}", energy.in_words(endpoint.is_some()));
        }
    }
    let is_stopped = report.ended == Some(Early::Stopped);
    Ok(if is_stopped { ExitCode::from(interrupted) } else { ExitCode::SUCCESS })
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    report: &'a Report,
    energy: &'a Taken,
}

/// What making the set took here.
#[derive(Serialize)]
struct Taken {
    kwh: f64,
    /// For each sample that was kept; `None` where none was.
    kwh_per_sample: Option<f64>,
    method: Method,
}

impl Taken {
    fn new(account: &Account, report: &Report) -> Self {
        let EnergyRecord { kwh, method, .. } = account.record(&EnergyConfig::default(), 0);
        Self { kwh, kwh_per_sample: (report.samples > 0).then(|| kwh / report.samples as f64), method }
    }

    fn in_words(&self, is_teacher_elsewhere: bool) -> String {
        let each = self.kwh_per_sample.map_or_else(String::new, |kwh| format!(", {:.4} Wh for each sample", 1e3 * kwh));
        let elsewhere =
            if is_teacher_elsewhere { "; what the teacher takes behind its endpoint is not in it" } else { "" };
        format!("energy: {:.3} Wh{each}; the processor's {}{elsewhere}", 1e3 * self.kwh, self.method.cpu)
    }
}

fn run(config: &SynthConfig, making: Making<'_>, held_out: HeldOutQuestions) -> Result<Report, TrainError> {
    let is_first = making.peers.rank() == 0;
    let mut asking = Bar::default();
    let made = make(config, making, held_out, &mut |what, at| {
        if is_first {
            asking.show(what, at);
        }
    });
    asking.clear();
    Ok(made?.0)
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
    let filters = report.filters.filters.iter().filter(|filter| filter.rejected > 0).map(|filter| {
        let example = filter.examples.first().map_or("", |example| example.reason.as_str());
        (filter.filter.name().to_owned(), filter.rejected, example)
    });
    let others = report.left_out.0.iter().map(|(reason, found)| {
        let example = found.examples.first().map_or("", String::as_str);
        (reason.clone(), found.count, example)
    });
    let rows: Vec<(String, usize, &str)> = filters.chain(others).collect();
    if !rows.is_empty() {
        let mut table = Table::new();
        table.load_style(presets::UTF8_HORIZONTAL_ONLY).set_header(["left out", "count", "for instance"]);
        for (reason, count, example) in rows {
            table.add_row([reason, count.to_string(), one_line(example)]);
        }
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        println!("{table}");
    }
    let spent = report.spent;
    println!(
        "{} samples of {} made, from {} documents and {} seeds; {} requests, {} tokens read, {} written{}",
        report.samples,
        report.made.values().sum::<usize>(),
        report.documents,
        report.seeds,
        spent.requests,
        spent.prompt_tokens,
        spent.completion_tokens,
        if report.cost > 0.0 { format!(", cost {:.4}", report.cost) } else { String::new() }
    );
    if let Some(reason) = &report.ended {
        println!("ended early: {reason}; run again with --force, and only what has no answer yet is asked");
    }
    println!("samples: {}", config.output.join(SAMPLES).display());
    println!("data card: {}", config.output.join(CARD).display());
}

/// A text on one line, cut where it is long.
fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut: String = line.chars().take(70).collect();
    if cut.len() < line.len() { format!("{cut}…") } else { cut }
}
