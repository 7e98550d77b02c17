//! A file for Prometheus, which the textfile collector of `node_exporter` reads on the machine of the first rank.
//!
//! Counters begin anew when a run is resumed, as those of any program that is started again.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{ForgettingRecord, Plan, StepRecord, Tracker, ValidationRecord};
use crate::energy::JOULES_PER_KWH;
use crate::error::TrainError;

/// The time from one writing of the file to the next. Collectors come every 15 s, and each writing waits for the disk.
const EVERY: Duration = Duration::from_secs(5);

/// Writes the figures of the last step, validation and measurement.
pub(super) struct Prometheus {
    path: PathBuf,
    /// The value of the label `run`.
    run: String,
    figures: Figures,
    written: Option<Instant>,
    /// A failure is told once.
    is_told: bool,
}

/// What is shown.
#[derive(Default)]
struct Figures {
    is_running: bool,
    total_steps: u64,
    tokens: u64,
    step: Option<StepRecord>,
    validation: Option<f64>,
    forgetting: Option<bool>,
}

impl Prometheus {
    pub(super) fn new(path: PathBuf, run: String) -> Self {
        Self { path, run, figures: Figures::default(), written: None, is_told: false }
    }

    /// Writes the file, unless it was written a moment ago. A run never ends because of it.
    fn write(&mut self, now: bool) {
        if !now && self.written.is_some_and(|written| written.elapsed() < EVERY) {
            return;
        }
        let text = self.figures.text(&self.run, jiff::Timestamp::now());
        self.written = Some(Instant::now());
        if let Err(error) = adapters::write_atomic(&self.path, true, |out| out.write_all(text.as_bytes()))
            && !std::mem::replace(&mut self.is_told, true)
        {
            tracing::warn!(
                "tracking.prometheus: {}; the run goes on without it",
                TrainError::from(error).with_causes()
            );
        }
    }
}

impl Tracker for Prometheus {
    fn started(&mut self, plan: &Plan) -> Result<(), TrainError> {
        (self.figures.is_running, self.figures.total_steps) = (true, plan.total_steps);
        self.write(true);
        Ok(())
    }

    fn step(&mut self, record: &StepRecord) -> Result<(), TrainError> {
        self.figures.tokens += record.tokens as u64;
        self.figures.step = Some(record.clone());
        self.write(false);
        Ok(())
    }

    fn validation(&mut self, record: &ValidationRecord) -> Result<(), TrainError> {
        self.figures.validation = Some(record.validation_loss);
        self.write(false);
        Ok(())
    }

    fn forgetting(&mut self, record: &ForgettingRecord) -> Result<(), TrainError> {
        self.figures.forgetting = Some(record.passed);
        self.write(false);
        Ok(())
    }

    fn note(&mut self, _text: &str) {}
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.figures.is_running = false;
        self.write(true);
    }
}

impl Figures {
    /// The file's text, in Prometheus' text format: a help, a type and a value each.
    fn text(&self, run: &str, now: jiff::Timestamp) -> String {
        let mut text = String::new();
        let run = run.replace('\\', r"\\").replace('"', "\\\"").replace('\n', "\\n");
        let mut add = |name: &str, kind: &str, help: &str, value: Option<f64>| {
            if let Some(value) = value {
                let (name, value) = (format!("greffon_{name}"), number(value));
                // Writing to a text does not fail.
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name}{{run=\"{run}\"}} {value}");
            }
        };
        let flag = |value: bool| f64::from(u8::from(value));
        let step = self.step.as_ref();
        let of_step = |figure: fn(&StepRecord) -> f64| step.map(figure);
        add("running", "gauge", "Whether the run is under way.", Some(flag(self.is_running)));
        add("total_steps", "gauge", "Optimizer steps of the whole run.", Some(self.total_steps as f64));
        add("step", "gauge", "Optimizer steps made.", of_step(|step| step.step as f64));
        add("loss", "gauge", "Mean loss of the step, in nats per supervised token.", of_step(|step| step.loss));
        add("gradient_norm", "gauge", "Norm of the gradient before clipping.", of_step(|step| step.gradient_norm));
        add("learning_rate", "gauge", "Learning rate of the step.", of_step(|step| step.learning_rate));
        add("step_seconds", "gauge", "Seconds of the step.", of_step(|step| step.seconds));
        let tokens = step.map(|_| self.tokens as f64);
        add("tokens_total", "counter", "Tokens trained on since the run was started or resumed.", tokens);
        let joules = step.map(|step| step.kwh * JOULES_PER_KWH);
        add("energy_joules", "gauge", "Energy that the run has taken, of all ranks.", joules);
        let memory = step.and_then(|step| step.memory).map(|bytes| bytes as f64);
        add("memory_bytes", "gauge", "Memory of the first rank's process.", memory);
        let cpu = step.map(|step| step.cpu);
        add("cpu_ratio", "gauge", "Share of the machine's hardware threads at work for the process.", cpu);
        add("validation_loss", "gauge", "Validation loss, in nats per supervised token.", self.validation);
        add(
            "forgetting_passed",
            "gauge",
            "Whether the forgetting gate lets the model pass.",
            self.forgetting.map(flag),
        );
        let time = now.as_millisecond() as f64 / 1e3;
        add("last_update_timestamp_seconds", "gauge", "When this was written, seconds since 1970.", Some(time));
        text
    }
}

/// A number as Prometheus reads it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(step: u64) -> StepRecord {
        let line = format!(
            "{{\"step\": {step}, \"loss\": 2.5, \"gradient_norm\": 1.0, \"learning_rate\": 1e-4, \"tokens\": 100, \
             \"supervised_tokens\": 50, \"seconds\": 0.5, \"kwh\": 0.5, \"memory\": 1048576, \"cpu\": 0.5}}"
        );
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn the_file_is_written_at_once_then_seldom_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("greffon.prom");
        let read = || std::fs::read_to_string(&path).unwrap();
        let mut prometheus = Prometheus::new(path.clone(), "a \"run\"\\".to_owned());
        prometheus.write(false);
        prometheus.step(&step(1)).unwrap();
        assert!(!read().contains("greffon_loss"), "it was written a moment ago");
        prometheus.step(&step(2)).unwrap();
        drop(prometheus);
        let text = read();
        for line in [
            "# TYPE greffon_tokens_total counter\ngreffon_tokens_total{run=\"a \\\"run\\\"\\\\\"} 200\n",
            "# HELP greffon_loss Mean loss of the step, in nats per supervised token.\n# TYPE greffon_loss gauge\n",
            "greffon_loss{run=\"a \\\"run\\\"\\\\\"} 2.5\n",
            "greffon_step{run=\"a \\\"run\\\"\\\\\"} 2\n",
            "greffon_energy_joules{run=\"a \\\"run\\\"\\\\\"} 1800000\n",
            "greffon_running{run=\"a \\\"run\\\"\\\\\"} 0\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("forgetting_passed"), "{text}");
    }

    #[test]
    fn a_file_that_cannot_be_written_ends_no_run() {
        let mut prometheus = Prometheus::new("/proc/no/such.prom".into(), "run".to_owned());
        prometheus.step(&step(1)).unwrap();
    }
}
