//! The lines of `metrics.jsonl` as MLflow's metrics.
//!
//! A metric is a name, a time, a step and a value, all of which stand in the line: however often a line is read, its rows
//! are the same.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use serde_json::{Value, json};

use crate::error::TrainError;
use crate::track::{ForgettingRecord, Line, METRICS, Record, StepRecord, ValidationRecord};

/// How much of the file is read at once, in bytes.
const PART: u64 = 1 << 20;

/// A metric at a step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) key: String,
    value: f64,
    /// Milliseconds since 1970.
    time: i64,
    pub(super) step: u64,
}

impl Row {
    pub(super) fn json(&self) -> Value {
        json!({ "key": self.key, "value": number(self.value), "timestamp": self.time, "step": self.step })
    }
}

/// A number as MLflow reads it: JSON has no word for what is not finite.
fn number(value: f64) -> Value {
    if value.is_finite() {
        value.into()
    } else if value.is_nan() {
        "NaN".into()
    } else if value > 0.0 {
        "Infinity".into()
    } else {
        "-Infinity".into()
    }
}

/// The rows of a line.
pub(super) fn rows(line: &Line) -> Vec<Row> {
    let (step, metrics) = match &line.record {
        Record::Step(record) => (record.step, of_step(record)),
        Record::Validation(record) => (record.step, of_validation(record)),
        Record::Forgetting(record) => (record.step, of_forgetting(record)),
    };
    let time = line.time.as_millisecond();
    metrics.into_iter().map(|(key, value)| Row { key: name(&key), value, time, step }).collect()
}

fn of_step(record: &StepRecord) -> Vec<(String, f64)> {
    let StepRecord {
        step: _,
        loss,
        replay_loss,
        kl,
        penalty,
        gradient_norm,
        learning_rate,
        tokens,
        supervised_tokens,
        seconds,
        kwh,
        memory,
        cpu,
        ranks,
    } = record;
    let per_second = *tokens as f64 / seconds;
    let metrics = [
        ("train/loss", Some(*loss)),
        ("train/replay_loss", *replay_loss),
        ("train/kl", *kl),
        ("train/penalty", *penalty),
        ("train/gradient_norm", Some(*gradient_norm)),
        ("train/learning_rate", Some(*learning_rate)),
        ("train/tokens", Some(*tokens as f64)),
        ("train/supervised_tokens", Some(*supervised_tokens as f64)),
        ("train/seconds", Some(*seconds)),
        ("train/tokens_per_second", Some(per_second)),
        ("system/kwh", Some(*kwh)),
        ("system/memory_bytes", memory.map(|bytes| bytes as f64)),
        ("system/cpu_share", Some(*cpu)),
        ("system/ranks_idle_share", ranks.as_ref().map(|ranks| ranks.idle)),
        ("system/communication_seconds", ranks.as_ref().map(|ranks| ranks.communication_seconds)),
    ];
    metrics.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?))).collect()
}

fn of_validation(record: &ValidationRecord) -> Vec<(String, f64)> {
    let ValidationRecord { step: _, validation_loss, best: _, seconds } = record;
    vec![("validation/loss".to_owned(), *validation_loss), ("validation/seconds".to_owned(), *seconds)]
}

fn of_forgetting(record: &ForgettingRecord) -> Vec<(String, f64)> {
    let ForgettingRecord { step: _, passed, average_difference, kl, forgetting_seconds } = record;
    let difference = average_difference.map(|value| ("forgetting/average_difference".to_owned(), value));
    let kl = kl.iter().map(|(language, value)| (format!("forgetting/kl/{language}"), *value));
    let passed = ("forgetting/passed".to_owned(), f64::from(u8::from(*passed)));
    let seconds = ("forgetting/seconds".to_owned(), *forgetting_seconds);
    std::iter::once(passed).chain(difference).chain(kl).chain([seconds]).collect()
}

/// A name of the letters that MLflow takes, none longer than it stores.
pub(super) fn name(text: &str) -> String {
    let known = |c: char| if c.is_ascii_alphanumeric() || "_-. /".contains(c) { c } else { '_' };
    text.chars().take(250).map(known).collect()
}

/// The whole lines of a run from a byte of the file on, a part of them, each with the byte that follows it. `None` when
/// the file is shorter than that.
pub(super) fn read(run: &Path, from: u64) -> Result<Option<Vec<(Line, u64)>>, TrainError> {
    let path = run.join(METRICS);
    let failed = |source| TrainError::Read { path: path.clone(), source };
    let mut file = match File::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((from == 0).then(Vec::new)),
        file => file.map_err(failed)?,
    };
    if file.metadata().map_err(failed)?.len() < from {
        return Ok(None);
    }
    file.seek(SeekFrom::Start(from)).map_err(failed)?;
    let mut bytes = Vec::new();
    file.take(PART).read_to_end(&mut bytes).map_err(failed)?;
    let (mut end, mut lines) = (from, Vec::new());
    for text in bytes.split_inclusive(|byte| *byte == b'\n').filter(|text| text.ends_with(b"\n")) {
        end += text.len() as u64;
        let line = serde_json::from_slice(text).map_err(|error| {
            TrainError::Run(format!("{}, the line that ends at byte {end}: {error}", path.display()))
        })?;
        lines.push((line, end));
    }
    Ok(Some(lines))
}

/// The time of the line that ends before a byte of the file; `None` when none does.
pub(super) fn time_before(run: &Path, end: u64) -> Result<Option<jiff::Timestamp>, TrainError> {
    let start = end.saturating_sub(PART);
    let path = run.join(METRICS);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|mut file| {
        file.seek(SeekFrom::Start(start))?;
        file.take(end - start).read_to_end(&mut bytes)
    });
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| TrainError::Read { path, source })?,
    };
    let whole = bytes.len() as u64 == end - start && bytes.ends_with(b"\n");
    let last = bytes.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().filter(|_| whole);
    Ok(last.and_then(|text| serde_json::from_slice::<Line>(text).ok()).map(|line| line.time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_spelled_as_mlflow_reads_it() {
        let spelled = [0.5, f64::NAN, f64::INFINITY, f64::NEG_INFINITY].map(number);
        assert_eq!(spelled, [json!(0.5), json!("NaN"), json!("Infinity"), json!("-Infinity")]);
    }

    #[test]
    fn names_keep_to_the_letters_of_mlflow() {
        assert_eq!(name("forgetting/kl/français [x]"), "forgetting/kl/fran_ais _x_");
        assert_eq!(name(&"x".repeat(300)).len(), 250);
    }

    #[test]
    fn lines_are_read_from_where_the_last_reading_ended() {
        let run = tempfile::tempdir().unwrap();
        assert_eq!(read(run.path(), 0).unwrap(), Some(Vec::new()));
        assert_eq!(read(run.path(), 1).unwrap(), None);
        let line = |step: u64| {
            format!(
                "{{\"time\":\"2026-11-23T10:00:0{step}Z\",\"step\":{step},\"validation_loss\":2.5,\"best\":true,\
                 \"seconds\":0.1}}\n"
            )
        };
        let path = run.path().join(METRICS);
        std::fs::write(&path, line(1) + &line(2) + "{\"time\":").unwrap();
        let lines = read(run.path(), 0).unwrap().unwrap();
        let end = line(1).len() as u64;
        assert_eq!(lines.iter().map(|(_, end)| *end).collect::<Vec<_>>(), [end, 2 * end]);
        assert_eq!(read(run.path(), end).unwrap().unwrap(), lines[1..]);
        assert_eq!(time_before(run.path(), end).unwrap(), Some(lines[0].0.time));
        assert_eq!(time_before(run.path(), 2 * end).unwrap(), Some(lines[1].0.time));
        assert_eq!(time_before(run.path(), end + 3).unwrap(), None);
        std::fs::write(&path, "{}\n").unwrap();
        let error = read(run.path(), 0).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl, the line that ends at byte 3"), "{error}");
    }
}
