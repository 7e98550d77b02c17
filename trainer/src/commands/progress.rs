//! Bars on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anstream::eprintln;
use datasets::Hub;
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::TrainError;
use crate::forgetting::Asked;
use crate::plan::Checkpointing;
use crate::track::{ForgettingRecord, Plan, StepRecord, Tracker, ValidationRecord};

/// A bar over a known number of things; silent when standard error is not a terminal.
pub(super) fn bar(length: usize, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:<28} {bar:30} {pos}/{len}  {per_sec}  {eta} left")
        .expect("the template is a constant")
        .progress_chars("━━ ");
    ProgressBar::new(length as u64).with_style(style).with_message(what)
}

/// A bar over a known number of bytes; silent when standard error is not a terminal.
pub(super) fn bytes(length: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg:<28} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left")
        .expect("the template is a constant")
        .progress_chars("━━ ");
    ProgressBar::new(length).with_style(style).with_message(what)
}

/// What is done while a model is asked.
pub(super) fn questioning(model: Asked) -> &'static str {
    match model {
        Asked::Base => "questioning the base",
        Asked::Adapter => "questioning the adapter",
        Asked::Difference => "comparing on general text",
    }
}

/// A bar over the questions that a model is asked, or what else it does; one line when standard error is not a terminal.
#[derive(Default)]
pub(super) struct Questioning(Option<(&'static str, ProgressBar)>);

impl Questioning {
    pub(super) fn show(&mut self, at: crate::forgetting::Progress) {
        self.show_as(questioning(at.model), at.done, at.total);
    }

    fn show_as(&mut self, what: &'static str, done: usize, total: usize) {
        if self.0.as_ref().is_none_or(|(before, _)| *before != what) {
            self.clear();
            if !std::io::stderr().is_terminal() {
                eprintln!("{what}: {total} items");
            }
            self.0 = Some((what, bar(total, what)));
        }
        if let Some((_, bar)) = &self.0 {
            bar.set_position(done as u64);
        }
    }

    pub(super) fn clear(&mut self) {
        if let Some((_, bar)) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// The hub of this machine, with a bar over what it downloads; silent when standard error is not a terminal.
pub(super) fn hub() -> Hub {
    let hub = Hub::from_env();
    if !std::io::stderr().is_terminal() {
        return hub;
    }
    let style = ProgressStyle::with_template("{msg:<28} {bar:30} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left")
        .expect("the template is a constant")
        .progress_chars("━━ ");
    let bar = ProgressBar::new(0).with_style(style);
    hub.with_progress(move |progress| {
        bar.set_message(progress.file.to_owned());
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
    })
}

/// A bar over the data that is tokenised; silent when standard error is not a terminal.
#[derive(Default)]
pub(super) struct Tokenising(Option<ProgressBar>);

impl Tokenising {
    pub(super) fn show(&mut self, progress: &datasets::Progress) {
        let bar = self.0.get_or_insert_with(|| {
            if !std::io::stderr().is_terminal() {
                return ProgressBar::hidden();
            }
            let style = ProgressStyle::with_template("tokenising {bar:30} {bytes}/{total_bytes}  {msg}  {eta} left")
                .expect("the template is a constant")
                .progress_chars("━━ ");
            ProgressBar::new(progress.total_bytes).with_style(style)
        });
        bar.set_position(progress.done_bytes);
        let rate = progress.tokens as f64 / bar.elapsed().as_secs_f64().max(1e-3);
        bar.set_message(format!("{} conversations  {rate:.0} tokens/s", progress.conversations));
    }

    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}

/// Follows a training run.
pub(super) struct TrainProgress {
    tokenising: Tokenising,
    questioning: Questioning,
    bar: ProgressBar,
    terminal: bool,
    total_steps: u64,
    tokens: usize,
    seconds: f64,
    last_line: Option<Instant>,
}

impl TrainProgress {
    pub(super) fn new() -> Self {
        Self {
            tokenising: Tokenising::default(),
            questioning: Questioning::default(),
            bar: ProgressBar::hidden(),
            terminal: std::io::stderr().is_terminal(),
            total_steps: 0,
            tokens: 0,
            seconds: 0.0,
            last_line: None,
        }
    }
}

impl Tracker for TrainProgress {
    fn preparing(&mut self, progress: &datasets::Progress) {
        self.tokenising.show(progress);
    }

    fn getting_ready(&mut self, what: &'static str, done: usize, total: usize) {
        self.tokenising.clear();
        self.questioning.show_as(what, done, total);
    }

    fn started(&mut self, plan: &Plan) -> Result<(), TrainError> {
        self.tokenising.clear();
        self.questioning.clear();
        self.total_steps = plan.total_steps;
        eprintln!(
            "{} training and {} validation examples, {} steps, {} trainable parameters in {} modules",
            plan.train_examples,
            plan.validation_examples,
            plan.total_steps,
            plan.trainable_parameters,
            plan.adapted_modules
        );
        let Checkpointing { recomputed_blocks, blocks, memory, .. } = plan.checkpointing;
        eprintln!(
            "about {} of memory at its peak; {recomputed_blocks} of {blocks} blocks computed again",
            crate::plan::bytes(memory.total())
        );
        if plan.first_step > 0 {
            eprintln!("resuming after step {}", plan.first_step);
        }
        if self.terminal {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}")
                .expect("the template is a constant")
                .progress_chars("━━ ");
            self.bar = ProgressBar::new(plan.total_steps).with_style(style).with_position(plan.first_step);
            self.bar.enable_steady_tick(Duration::from_millis(500));
        }
        Ok(())
    }

    fn step(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        self.tokens += record.tokens;
        self.seconds += record.seconds;
        let rate = self.tokens as f64 / self.seconds;
        let left = self.total_steps.saturating_sub(record.step) as f64 * record.seconds;
        let left = indicatif::HumanDuration(Duration::from_secs_f64(left));
        let line = format!("loss {:.4}  {rate:.0} tokens/s  {left} left", record.loss);
        if self.terminal {
            self.bar.set_position(record.step);
            self.bar.set_message(line);
        } else if self.last_line.is_none_or(|t| t.elapsed() > Duration::from_secs(30))
            || record.step == self.total_steps
        {
            self.last_line = Some(Instant::now());
            eprintln!("step {}/{}  {line}", record.step, self.total_steps);
        }
        Ok(())
    }

    fn validation(&mut self, record: &ValidationRecord) -> Result<(), TrainError> {
        let best = if record.best { ", the lowest so far" } else { "" };
        let line = format!("step {}  validation loss {:.4}{best}", record.step, record.validation_loss);
        if self.terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
        Ok(())
    }

    fn questioning(&mut self, progress: &crate::forgetting::Progress) {
        self.questioning.show(*progress);
    }

    fn forgetting(&mut self, record: &ForgettingRecord) -> Result<(), TrainError> {
        self.questioning.clear();
        let average = record.average_difference.map(|d| format!(", mean of the tasks {:+.1} points", 100.0 * d));
        let kl: Vec<String> = record.kl.iter().map(|(lang, kl)| format!(", KL {lang} {kl:.3}")).collect();
        let kl = kl.concat();
        let verdict = if record.passed { "within the limits" } else { "beyond the limits" };
        let line = format!("step {}  forgetting: {verdict}{}{kl}", record.step, average.unwrap_or_default());
        if self.terminal {
            self.bar.println(line);
        } else {
            eprintln!("{line}");
        }
        Ok(())
    }

    fn note(&mut self, _text: &str) {}
}
