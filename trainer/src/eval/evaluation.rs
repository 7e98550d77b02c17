//! What an evaluation found: base against adapter on the same questions, `eval.json` in a run folder.

use std::collections::BTreeMap;

use datasets::{Conversation, Role};
use serde::{Deserialize, Serialize};

use super::statistics::resample;
use super::{Findings, Score};
use crate::error::TrainError;
use crate::track::RunFolder;

/// Base against adapter, or what stands in the base's place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Version of greffon.
    pub greffon_version: String,
    /// When, UTC.
    pub date: String,
    /// SHA-256 of the adapter's two files; empty where its answers were given.
    pub adapter_digest: String,
    /// What is compared.
    #[serde(default = "adapter")]
    pub of: String,
    /// What it is compared with.
    #[serde(default = "base")]
    pub against: String,
    /// Metric by metric.
    pub metrics: Vec<Comparison>,
    /// The same for questions that have something in common.
    #[serde(default)]
    pub groups: Vec<Group>,
    /// Question by question.
    pub answers: Vec<Answered>,
}

fn adapter() -> String {
    "adapter".to_owned()
}

fn base() -> String {
    "base".to_owned()
}

/// Base and adapter on some of the questions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// What they have in common: a key of their records, or [`FILE`].
    pub by: String,
    /// Its value; empty where a record does not have the key.
    pub value: String,
    /// Metric by metric.
    pub metrics: Vec<Comparison>,
}

/// Groups of questions by the file that they are from.
pub const FILE: &str = "file";

/// Base and adapter on one metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The metric's name, such as `exact match`.
    pub metric: String,
    /// The base's value.
    pub base: f64,
    /// The adapter's.
    pub adapter: f64,
    /// `adapter - base`.
    pub difference: f64,
    /// Its 95 % interval, by the paired bootstrap.
    pub interval: (f64, f64),
    /// How many questions.
    pub items: usize,
    /// A larger value is better.
    pub higher_is_better: bool,
    /// A share in 0 to 1, shown in per cent.
    pub is_share: bool,
}

/// One question with both answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Where the question was read, such as `test.jsonl:12`.
    pub origin: String,
    /// The last question; empty where nobody asks one.
    pub question: String,
    /// The answer of the data.
    pub expected: String,
    /// What the base answers.
    pub base: String,
    /// What the adapter answers.
    pub adapter: String,
}

/// The metric by which answers are the expected ones, word by word.
pub const EXACT_MATCH: &str = "exact match";

impl Evaluation {
    /// Puts what both models gave side by side; the two names say what gave the second and the first.
    pub fn new(
        adapter_digest: String,
        [of, against]: [String; 2],
        conversations: &[Conversation],
        group_by: &[String],
        base: &[Findings],
        adapted: &[Findings],
    ) -> Self {
        let scores = |findings: &[Findings]| -> Vec<Score> { findings.iter().flat_map(|f| f.scores.clone()).collect() };
        let pairs: Vec<(Score, Score)> = scores(base).into_iter().zip(scores(adapted)).collect();
        let group = |(by, value, some): (String, String, Vec<usize>)| {
            let of_some =
                |(base, adapted): &(Score, Score)| Comparison::new(&base.of_some(&some), &adapted.of_some(&some));
            Group { by, value, metrics: pairs.iter().map(of_some).collect() }
        };
        Self {
            greffon_version: env!("CARGO_PKG_VERSION").to_owned(),
            date: jiff::Timestamp::now().to_string(),
            adapter_digest,
            of,
            against,
            metrics: pairs.iter().map(|(base, adapted)| Comparison::new(base, adapted)).collect(),
            groups: groups(conversations, group_by).into_iter().map(group).collect(),
            answers: answers(conversations, base, adapted),
        }
    }

    /// What a run folder keeps; `None` where nobody asked.
    ///
    /// # Errors
    /// When the file cannot be read, or is not of this form.
    pub fn read(folder: &RunFolder) -> Result<Option<Self>, TrainError> {
        folder.json(&folder.evaluation())
    }

    /// Keeps it in a run folder.
    ///
    /// # Errors
    /// When the file cannot be written; the one before stays.
    pub fn save(&self, folder: &RunFolder) -> Result<(), TrainError> {
        let path = folder.evaluation();
        let failed = |error: serde_json::Error| TrainError::Write { path: path.clone(), source: error.into() };
        let text = serde_json::to_string_pretty(self).map_err(failed)? + "\n";
        Ok(adapters::write_atomic(&path, true, |out| out.write_all(text.as_bytes()))?)
    }

    /// The share of answers that are the expected ones, 0 to 1.
    pub fn exact_match(&self) -> Option<f64> {
        self.metrics.iter().find(|metric| metric.metric == EXACT_MATCH).map(|metric| metric.adapter)
    }
}

impl Comparison {
    /// Two models on the same items.
    pub fn new(base: &Score, adapted: &Score) -> Self {
        let items = base.items.iter().zip(&adapted.items).zip(&base.weights);
        let differences = items.map(|((base, adapted), weight)| ((adapted - base) * weight, *weight));
        Self {
            metric: base.metric.to_owned(),
            base: base.mean(),
            adapter: adapted.mean(),
            difference: adapted.mean() - base.mean(),
            interval: resample(&[differences.collect()]).interval(0.95),
            items: base.items.len(),
            higher_is_better: base.higher_is_better,
            is_share: base.is_share,
        }
    }
}

/// The questions of each value of each key, where there is more than one: by file, then by the keys in their order.
fn groups(conversations: &[Conversation], group_by: &[String]) -> Vec<(String, String, Vec<usize>)> {
    let file = |conversation: &Conversation| conversation.origin.path.to_string_lossy().into_owned();
    let label = |conversation: &Conversation, key: &String| conversation.labels.get(key).cloned().unwrap_or_default();
    let by_file: Vec<String> = conversations.iter().map(file).collect();
    let by_label = group_by.iter().map(|key| (key.clone(), conversations.iter().map(|c| label(c, key)).collect()));
    let mut found = Vec::new();
    for (by, values) in [(FILE.to_owned(), by_file)].into_iter().chain(by_label) {
        let mut of_value: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
        for (index, value) in values.iter().enumerate() {
            of_value.entry(value).or_default().push(index);
        }
        if of_value.len() > 1 {
            let mut of_value: Vec<(&String, Vec<usize>)> = of_value.into_iter().collect();
            // 10 comes after 9; what is no number stays in the order of its letters.
            of_value.sort_by_key(|(value, _)| value.parse::<i64>().unwrap_or(i64::MAX));
            found.extend(of_value.into_iter().map(|(value, some)| (by.clone(), value.clone(), some)));
        }
    }
    found
}

fn answers(conversations: &[Conversation], base: &[Findings], adapted: &[Findings]) -> Vec<Answered> {
    let all = |findings: &[Findings]| -> Vec<String> { findings.iter().flat_map(|f| f.answers.clone()).collect() };
    let question = |conversation: &Conversation| {
        let asked = conversation.messages.iter().rev().find(|message| message.role == Role::User);
        asked.map(|message| message.content.clone()).unwrap_or_default()
    };
    conversations
        .iter()
        .zip(all(base).into_iter().zip(all(adapted)))
        .map(|(conversation, (base, adapter))| Answered {
            origin: conversation.origin.to_string(),
            question: question(conversation),
            expected: conversation.messages.last().map(|m| m.content.clone()).unwrap_or_default(),
            base,
            adapter,
        })
        .collect()
}
