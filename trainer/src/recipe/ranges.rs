//! The ranges of all values, checked together so that one run of `greffon check` tells everything.

use std::fmt;

use adapters::{AdapterError, LoraConfig};
use datasets::{DataConfig, DataError, SourceConfig};

use super::Recipe;
use super::device_name::DeviceName;
use super::error::{Place, Problem, printable};
use crate::kernels::Kernels;

/// Collects what is out of range.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    section: &'static str,
    problems: Vec<Problem>,
}

impl Ranges {
    /// All that is out of range in a recipe, in the order of its sections.
    pub(super) fn problems(recipe: &Recipe) -> Vec<Problem> {
        let Recipe {
            model,
            data,
            lora,
            train,
            eval,
            forgetting,
            output: _,
            device,
            kernels,
            cluster: _,
            energy,
            plan,
            tracking,
        } = recipe;
        let mut ranges = Self { section: "model.", ..Self::default() };
        model.validate(&mut ranges);
        ranges.section = "data.";
        ranges.data(data.clone());
        if let Some(select) = data.select {
            let expected = "the share of the examples to train on, such as 0.5, since train.max_steps does not say how \
                            many are seen";
            let is_known = select.share.is_some() || train.max_steps.is_some();
            ranges.check("select.share", format_args!("null"), expected, is_known);
        }
        ranges.section = "lora.";
        ranges.lora(lora.clone());
        ranges.section = "train.";
        train.validate(&mut ranges);
        if data.validation.is_empty() && data.validation_fraction <= 0.0 {
            let expected = "null, since there is no validation data; name some under data.validation, or set aside a \
                            data.validation_fraction";
            ranges.check_some("early_stopping", train.early_stopping, expected, |patience| patience == 0);
        }
        ranges.section = "eval.";
        eval.validate(&mut ranges);
        ranges.sources(&eval.test, "test");
        ranges.section = "forgetting.";
        forgetting.validate(&mut ranges);
        if let Some(replay) = &forgetting.replay {
            ranges.sources(&replay.sources, "replay.sources");
        }
        ranges.section = "energy.";
        energy.validate(&mut ranges);
        ranges.section = "plan.";
        plan.validate(&mut ranges);
        ranges.section = "tracking.";
        tracking.validate(&mut ranges);
        ranges.section = "";
        ranges.check("device", device, DeviceName::FORMS, device.parse::<DeviceName>().is_ok());
        let expected = format!("fused or reference: on {device} products in bfloat16 are not written yet");
        let is_there = *kernels != Kernels::Bf16 || device.parse() == Ok(DeviceName::Flex);
        ranges.check("kernels", format_args!("bf16"), &expected, is_there);
        ranges.problems
    }

    /// What was noted.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// Notes a value that is not within its range.
    pub(super) fn check(&mut self, key: &str, got: impl fmt::Debug, expected: &str, within: bool) {
        if !within {
            let got = format!("{got:?}");
            self.add(key, got.strip_suffix(".0").unwrap_or(&got), expected.to_owned());
        }
    }

    /// Notes a value that is given and not within its range.
    pub(super) fn check_some<T: Copy + fmt::Debug>(
        &mut self,
        key: &str,
        got: Option<T>,
        expected: &str,
        within: impl Fn(T) -> bool,
    ) {
        if let Some(value) = got {
            self.check(key, value, expected, within(value));
        }
    }

    /// Notes a problem; false when the key is noted already.
    fn add(&mut self, key: &str, got: &str, expected: String) -> bool {
        let key = format!("{}{key}", self.section);
        let got = printable(got);
        let new = self.problems.iter().all(|problem| problem.key != key);
        if new {
            self.problems.push(Problem { place: Place::Program, key, got, expected });
        }
        new
    }

    /// Notes a problem that a crate found by itself.
    pub(super) fn note(&mut self, key: &str, got: &str, expected: String) {
        self.add(key, got, expected);
    }

    /// The crates check their own sections and stop at the first problem. So each one found is mended in this copy,
    /// and the check made again until it finds no more.
    fn lora(&mut self, mut lora: LoraConfig) {
        let sound = LoraConfig::default();
        while let Err(AdapterError::Config { key, value, expected }) = lora.validate()
            && self.add(key, &value, expected.to_owned())
        {
            match key {
                "rank" => lora.rank = sound.rank,
                "alpha" => lora.alpha = sound.alpha,
                "dropout" => lora.dropout = sound.dropout,
                "targets" => lora.targets = sound.targets.clone(),
                "loraplus_lr_ratio" => lora.loraplus_lr_ratio = sound.loraplus_lr_ratio,
                "rank_pattern" => lora.rank_pattern.clear(),
                "alpha_pattern" => lora.alpha_pattern.clear(),
                _ => return,
            }
        }
    }

    /// As [`Self::lora`].
    fn data(&mut self, mut data: DataConfig) {
        while let Err(DataError::Config { key, got, expected }) = data.validate()
            && self.add(&key, &got, expected)
        {
            match key.as_str() {
                "train" => data.train.push(SourceConfig::from_path("-")),
                "validation_fraction" => data.validation_fraction = 0.0,
                "max_length" => data.max_length = 2,
                key if key.starts_with("dedup.") => data.dedup = None,
                source => mend_source(&mut data, source),
            }
        }
    }

    /// Sources of another section follow the rules of the training sources, so they are checked in their place. `key` is
    /// theirs in the section.
    pub(super) fn sources(&mut self, sources: &[SourceConfig], key: &str) {
        if sources.is_empty() {
            return;
        }
        let first = self.problems.len();
        self.data(DataConfig::from_sources(sources.to_vec()));
        for problem in &mut self.problems[first..] {
            problem.key = problem.key.replacen("train", key, 1);
        }
    }
}

/// Mends the value of a source that a key such as `train[0].weight` names, where the key is understood.
fn mend_source(data: &mut DataConfig, key: &str) {
    let parts = key.split_once('[').and_then(|(list, rest)| Some((list, rest.split_once(']')?)));
    let Some((list, (index, field))) = parts else {
        return;
    };
    let sources = if list == "train" { &mut data.train } else { &mut data.validation };
    let Some(source) = index.parse::<usize>().ok().and_then(|index| sources.get_mut(index)) else {
        return;
    };
    match field {
        ".weight" => source.weight = 1.0,
        ".limit" => source.limit = None,
        ".prompt" => source.prompt = None,
        _ => {
            source.path = Some("-".into());
            source.hub = None;
        }
    }
}
