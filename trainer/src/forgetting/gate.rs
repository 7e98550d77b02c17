//! The gate: whether more was lost than a recipe allows, with the confidence that it asks.
//!
//! A limit is passed when the loss is beyond it with confidence; so what is too small to be told from noise does not stop
//! a run, and the gate of an unchanged model opens as often as its confidence says. The confidence holds for all limits
//! together: each is checked at `1 - (1 - confidence) / limits` (Bonferroni).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::comparison::Pair;
use super::divergence::{TextDivergence, by_language, paired};
use crate::eval::statistics::{Paired, items_needed, resample, share_at_least};
use crate::eval::tasks::Measure;
use crate::recipe::{ForgettingConfig, LimitsConfig};

/// What a limit is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The accuracy of a task.
    Task(String),
    /// The mean accuracy over the tasks.
    Average,
    /// The bits per byte of a text, relative to the base's.
    BitsPerByte(String),
    /// The divergence from the base on the texts of a language.
    Kl(String),
}

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Not beyond the limit with confidence.
    Within,
    /// Beyond it.
    Beyond,
    /// Not checked, and why.
    LeftOut(String),
}

/// One limit and what was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// What is limited.
    pub subject: Subject,
    /// The most that may be lost.
    pub limit: f64,
    /// What was lost.
    pub loss: f64,
    /// What was lost at least, with the check's confidence.
    pub at_least: f64,
    /// How it ended.
    pub outcome: Outcome,
}

/// What the gate says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Whether the model may pass.
    pub passed: bool,
    /// Over all checks together.
    pub confidence: f64,
    /// The checks.
    pub checks: Vec<Check>,
    /// Items that the training data holds, by name; a suite that was trained on says nothing of forgetting.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contaminated: Vec<String>,
}

/// What is to be checked, before the confidence of a single check is known.
struct Candidate {
    subject: Subject,
    limit: f64,
    tasks: Vec<Paired>,
    left_out: Option<String>,
}

impl Verdict {
    /// Checks every limit of a recipe.
    pub fn new(
        pairs: &[Pair<'_>],
        texts: &[TextDivergence],
        config: &ForgettingConfig,
        contaminated: Vec<String>,
    ) -> Self {
        let LimitsConfig { task, average, bits_per_byte, kl } = config.limits;
        let accuracies: Vec<&Pair<'_>> =
            pairs.iter().filter(|pair| pair.base.measure != Measure::BitsPerByte).collect();
        // Every limit that is set counts, whether or not it can be checked in the end.
        let texts_of = by_language(texts);
        let count = task.map_or(0, |_| accuracies.len())
            + usize::from(average.is_some())
            + bits_per_byte.map_or(0, |_| pairs.len() - accuracies.len())
            + kl.map_or(0, |_| texts_of.len());
        let single = 1.0 - (1.0 - config.confidence) / count.max(1) as f64;

        let mut candidates = Vec::new();
        if let Some(limit) = task {
            candidates.extend(accuracies.iter().map(|pair| Candidate {
                subject: Subject::Task(pair.base.task.clone()),
                limit,
                tasks: vec![pair.losses()],
                left_out: at_chance(pair).or_else(|| too_few(pair, limit, single)),
            }));
        }
        if let Some(limit) = average {
            let tasks: Vec<Paired> = averaged(pairs).iter().map(|pair| pair.losses()).collect();
            let left_out = tasks.is_empty().then(|| "the base is at chance on every task".to_owned());
            candidates.push(Candidate { subject: Subject::Average, limit, tasks, left_out });
        }
        if let Some(limit) = bits_per_byte {
            let texts = pairs.iter().filter(|pair| pair.base.measure == Measure::BitsPerByte);
            candidates.extend(texts.map(|pair| Candidate {
                subject: Subject::BitsPerByte(pair.base.task.clone()),
                limit,
                tasks: vec![pair.losses()],
                left_out: None,
            }));
        }
        if let Some(limit) = kl {
            candidates.extend(texts_of.iter().map(|(lang, texts)| Candidate {
                subject: Subject::Kl(lang.unwrap_or("text").to_owned()),
                limit,
                tasks: vec![paired(texts)],
                left_out: None,
            }));
        }
        let checks: Vec<Check> = candidates.into_iter().map(|candidate| candidate.check(single)).collect();
        let passed = contaminated.is_empty() && checks.iter().all(|check| check.outcome != Outcome::Beyond);
        Self { passed, confidence: config.confidence, checks, contaminated }
    }
}

impl Verdict {
    /// The limits that were passed, each with what was lost; the questions that were trained on.
    pub fn beyond(&self) -> Vec<String> {
        let checks = self.checks.iter().filter(|check| check.outcome == Outcome::Beyond).map(Check::to_string);
        let trained = (!self.contaminated.is_empty())
            .then(|| format!("{} of the questions were trained on, so they tell nothing", self.contaminated.len()));
        trained.into_iter().chain(checks).collect()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Task(task) => f.write_str(task),
            Self::Average => f.write_str("mean of the tasks"),
            Self::BitsPerByte(task) => write!(f, "bits per byte of {task}"),
            Self::Kl(lang) => write!(f, "KL to the base, {lang}"),
        }
    }
}

impl Subject {
    /// A loss in the subject's unit.
    fn loss(&self, value: f64) -> String {
        match self {
            Self::Task(_) | Self::Average => format!("{:.1} points", 100.0 * value),
            Self::BitsPerByte(_) => format!("{:.1} %", 100.0 * value),
            Self::Kl(_) => format!("{value:.4} nats per token"),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subject, limit, loss, at_least, outcome } = self;
        if let Outcome::LeftOut(reason) = outcome {
            return write!(f, "{subject}: {reason}");
        }
        let [loss, at_least, limit] = [*loss, *at_least, *limit].map(|value| subject.loss(value));
        write!(f, "{subject}: lost {loss}, at least {at_least}, allowed {limit}")
    }
}

impl Candidate {
    fn check(self, confidence: f64) -> Check {
        let Self { subject, limit, tasks, left_out } = self;
        let mean = |task: &Paired| {
            let (above, below) = task.iter().fold((0.0, 0.0), |(a, b), (above, below)| (a + above, b + below));
            above / below
        };
        let loss = tasks.iter().map(mean).sum::<f64>() / tasks.len().max(1) as f64;
        let at_least = if tasks.is_empty() { 0.0 } else { resample(&tasks).at_least(confidence) };
        let outcome = match left_out {
            Some(reason) => Outcome::LeftOut(reason),
            None if at_least > limit => Outcome::Beyond,
            None => Outcome::Within,
        };
        Check { subject, limit, loss, at_least, outcome }
    }
}

/// The tasks that the mean is over: those whose answers are right or wrong and on which the base is above chance.
pub(super) fn averaged<'p, 'a>(pairs: &'p [Pair<'a>]) -> Vec<&'p Pair<'a>> {
    let accuracies = pairs.iter().filter(|pair| pair.base.measure != Measure::BitsPerByte);
    accuracies.filter(|pair| at_chance(pair).is_none()).collect()
}

/// Why a task says nothing: the base itself may be guessing.
fn at_chance(pair: &Pair<'_>) -> Option<String> {
    let (base, count) = (pair.base.mean(), pair.base.items.len());
    (share_at_least(base, count) <= pair.base.chance).then(|| {
        format!(
            "the base is at chance: {:.1} % right where guessing gives {:.1} %",
            100.0 * base,
            100.0 * pair.base.chance
        )
    })
}

/// Why a limit cannot be checked: even the loss of the whole ability would not be told from noise.
fn too_few(pair: &Pair<'_>, limit: f64, confidence: f64) -> Option<String> {
    let (base, count) = (pair.base.mean(), pair.base.items.len());
    match items_needed(base, pair.base.chance, limit, confidence) {
        None => Some(format!(
            "the limit allows the loss of the whole ability: {:.1} points above chance",
            100.0 * (base - pair.base.chance)
        )),
        Some(needed) if needed > count => {
            Some(format!("{count} items are too few for a limit of {:.1} points: {needed} are needed", 100.0 * limit))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::eval::tasks::{ItemScore, TaskScores};

    fn task(name: &str, chance: f64, right: impl IntoIterator<Item = bool>) -> TaskScores {
        let items = right.into_iter().enumerate().map(|(index, right)| ItemScore {
            id: format!("{name}-{index}"),
            value: f64::from(u8::from(right)),
            weight: 1.0,
            other: None,
            answer: String::new(),
            log_likelihoods: Vec::new(),
        });
        TaskScores { task: name.to_owned(), measure: Measure::Accuracy, chance, items: items.collect() }
    }

    fn limits(task: Option<f64>, average: Option<f64>) -> ForgettingConfig {
        let limits = LimitsConfig { task, average, bits_per_byte: None, kl: None };
        ForgettingConfig { limits, ..ForgettingConfig::default() }
    }

    fn verdict(base: &[TaskScores], adapted: &[TaskScores], config: &ForgettingConfig) -> Verdict {
        Verdict::new(&Pair::all(base, adapted), &[], config, Vec::new())
    }

    /// Six tasks of an unchanged model whose answers are drawn anew each time, judged by a limit of no loss at all.
    #[test]
    fn an_unchanged_model_is_stopped_at_most_once_in_twenty_by_the_noise_of_its_answers() {
        let config = limits(Some(0.0), Some(0.0));
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        // How sure the model is of each item.
        let sure: Vec<Vec<f64>> = (0..6)
            .map(|_| (0..200).map(|_| f64::midpoint(0.3, 2.0 * rng.random::<f64>()).min(0.98)).collect())
            .collect();
        let mut answers = || -> Vec<TaskScores> {
            let names = ["a", "b", "c", "d", "e", "f"];
            let tasks = names.iter().zip(&sure);
            tasks.map(|(name, sure)| task(name, 0.25, sure.iter().map(|p| rng.random::<f64>() < *p))).collect()
        };
        let stopped = (0..20).filter(|_| !verdict(&answers(), &answers(), &config).passed).count();
        assert!(stopped <= 1, "{stopped} false alarms in 20");
    }

    #[test]
    fn what_is_lost_with_confidence_is_stopped_and_named() {
        let base = [task("known", 0.25, (0..200).map(|i| i % 5 != 0))];
        let adapted = [task("known", 0.25, (0..200).map(|i| i % 5 > 2))];
        let found = verdict(&base, &adapted, &limits(Some(0.1), Some(0.05)));
        assert!(!found.passed);
        assert_eq!(found.beyond().len(), 2, "{:?}", found.beyond());
        assert!(found.beyond()[0].starts_with("known: lost 40.0 points, at least "), "{:?}", found.beyond());
        // The same loss seen on a few items only is no more than a sign of it.
        let few = |tasks: &[TaskScores; 1]| [TaskScores { items: tasks[0].items[..5].to_vec(), ..tasks[0].clone() }];
        assert!(verdict(&few(&base), &few(&adapted), &limits(Some(0.1), Some(0.05))).passed);
    }

    #[test]
    fn an_identical_model_loses_nothing() {
        let base = [task("known", 0.25, (0..50).map(|i| i % 3 == 0))];
        let found = verdict(&base, &base, &limits(Some(0.0), Some(0.0)));
        assert!(found.passed);
        assert!(found.checks.iter().all(|check| check.loss.abs() + check.at_least.abs() < 1e-300));
    }

    fn reason(found: &Verdict, index: usize) -> &str {
        match &found.checks[index].outcome {
            Outcome::LeftOut(reason) => reason,
            outcome => panic!("{outcome:?}"),
        }
    }

    #[test]
    fn a_base_at_chance_says_nothing_and_is_left_out() {
        let base = [task("guessed", 0.25, (0..200).map(|i| i % 4 == 0))];
        let adapted = [task("guessed", 0.25, (0..200).map(|_| false))];
        let found = verdict(&base, &adapted, &limits(Some(0.1), Some(0.05)));
        assert!(found.passed);
        assert_eq!(reason(&found, 0), "the base is at chance: 25.0 % right where guessing gives 25.0 %");
        assert_eq!(reason(&found, 1), "the base is at chance on every task");
    }

    #[test]
    fn too_few_items_are_told_with_how_many_are_needed() {
        let base = [task("short", 0.5, (0..40).map(|i| i % 5 != 0))];
        let found = verdict(&base, &base, &limits(Some(0.1), None));
        assert_eq!(reason(&found, 0), "40 items are too few for a limit of 10.0 points: 64 are needed");
        let found = verdict(&base, &base, &limits(Some(0.4), None));
        assert_eq!(reason(&found, 0), "the limit allows the loss of the whole ability: 30.0 points above chance");
    }

    #[test]
    fn a_suite_that_was_trained_on_does_not_pass() {
        let base = [task("known", 0.25, (0..50).map(|i| i % 3 == 0))];
        let trained = vec!["known-3".to_owned()];
        let found = Verdict::new(&Pair::all(&base, &base), &[], &limits(Some(0.1), None), trained);
        assert!(!found.passed);
        assert_eq!(found.beyond(), ["1 of the questions were trained on, so they tell nothing"]);
    }
}
