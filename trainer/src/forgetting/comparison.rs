//! Base against adapted model on the same items.

use serde::{Deserialize, Serialize};

use crate::eval::statistics::{Paired, mcnemar, resample};
use crate::eval::tasks::{Measure, TaskScores};

/// Of each direction, how many changed answers are shown.
const EXAMPLES: usize = 3;

/// One task before and after.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TaskComparison {
    /// The task.
    pub task: String,
    /// What is measured.
    pub measure: Measure,
    /// How many items.
    pub items: usize,
    /// The value of guessing.
    pub chance: f64,
    /// The base's value.
    pub base: f64,
    /// The adapted model's value.
    pub adapted: f64,
    /// `adapted - base`.
    pub difference: f64,
    /// Its 95 % interval, by the paired bootstrap.
    pub interval: (f64, f64),
    /// The base's value by the kind's other definition: choices by their plain sums, instructions read loosely.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_other: Option<f64>,
    /// The same of the adapted model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adapted_other: Option<f64>,
    /// The answers that changed, where an answer is right or wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flips: Option<Flips>,
}

/// Answers that changed between right and wrong.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flips {
    /// Right before, wrong now.
    pub lost: usize,
    /// Wrong before, right now.
    pub gained: usize,
    /// The probability of as uneven a split by chance: `McNemar`'s exact test.
    pub p: f64,
    /// Some that were lost.
    pub lost_examples: Vec<Flip>,
    /// Some that were gained.
    pub gained_examples: Vec<Flip>,
}

/// An answer that changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// The item.
    pub id: String,
    /// What the base answered.
    pub base: String,
    /// What the adapted model answers.
    pub adapted: String,
}

/// A task's scores by both models.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The base's.
    pub base: &'a TaskScores,
    /// The adapted model's, on the same items.
    pub adapted: &'a TaskScores,
}

impl<'a> Pair<'a> {
    /// The pairs of two scorings of the same questions.
    ///
    /// # Panics
    /// When they are not of the same questions.
    pub fn all(base: &'a [TaskScores], adapted: &'a [TaskScores]) -> Vec<Self> {
        assert_eq!(base.len(), adapted.len(), "both models were asked the same");
        base.iter().zip(adapted).map(|(base, adapted)| Self { base, adapted }).collect()
    }

    /// What was lost on each item, in the task's own unit with worse being positive; for a text relative to the base's
    /// bits.
    pub fn losses(&self) -> Paired {
        let items = self.base.items.iter().zip(&self.adapted.items);
        match self.base.measure {
            Measure::Accuracy | Measure::F1 => {
                items.map(|(base, adapted)| ((base.value - adapted.value) * base.weight, base.weight)).collect()
            }
            Measure::BitsPerByte => items
                .map(|(base, adapted)| ((adapted.value - base.value) * base.weight, base.value * base.weight))
                .collect(),
        }
    }

    /// The two side by side.
    pub fn compare(&self) -> TaskComparison {
        let Self { base, adapted } = self;
        let items = base.items.iter().zip(&adapted.items);
        let differences = items.map(|(base, adapted)| ((adapted.value - base.value) * base.weight, base.weight));
        TaskComparison {
            task: base.task.clone(),
            measure: base.measure,
            items: base.items.len(),
            chance: base.chance,
            base: base.mean(),
            adapted: adapted.mean(),
            difference: adapted.mean() - base.mean(),
            interval: resample(&[differences.collect()]).interval(0.95),
            base_other: base.other_mean(),
            adapted_other: adapted.other_mean(),
            flips: (base.measure == Measure::Accuracy).then(|| self.flips()),
        }
    }

    fn flips(&self) -> Flips {
        let changed = |was: f64| {
            let items = self.base.items.iter().zip(&self.adapted.items);
            let changed = items.filter(move |(base, adapted)| {
                (base.value > 0.5) == (was > 0.5) && (adapted.value > 0.5) != (base.value > 0.5)
            });
            changed.map(|(base, adapted)| Flip {
                id: base.id.clone(),
                base: base.answer.clone(),
                adapted: adapted.answer.clone(),
            })
        };
        let (lost, gained) = (changed(1.0).count(), changed(0.0).count());
        Flips {
            lost,
            gained,
            p: mcnemar(lost, gained),
            lost_examples: changed(1.0).take(EXAMPLES).collect(),
            gained_examples: changed(0.0).take(EXAMPLES).collect(),
        }
    }
}
