//! Questions are scored as lm-evaluation-harness scores them with transformers.
//!
//! The expected numbers were written by `scripts/fixtures/probes.py`, with the harness's own requests and model class.

use burn::tensor::Device;
use datasets::probes::{LogLikelihood, ProbeItem, Question, read_items};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use trainer::cluster::Single;
use trainer::eval::Subject;
use trainer::eval::tasks::{ItemScore, Measure, TaskScores, score};
use trainer::forgetting::comparison::Pair;
use trainer::forgetting::gate::Verdict;
use trainer::forgetting::suite::Questions;
use trainer::recipe::{ForgettingConfig, LimitsConfig, SuiteName};

use super::smollm2;
use crate::support::{assert_near, fixture, json};

/// How far the sum over a text may be off, relative to it.
const TEXT: f64 = 5e-6;

fn id_of_text(items: &[ProbeItem], id: &str) -> bool {
    items.iter().any(|item| item.id == id && item.question.text().is_some())
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

#[test]
fn log_likelihoods_and_accuracies_are_those_of_the_harness() {
    let expected = json("probes/expected.json");
    let file = fixture("probes/items.jsonl");
    let items = read_items(&file, &file).expect("the fixture reads");
    let base = smollm2();
    let device = Device::flex();
    let decoder = base.decoder(&device).expect("the weights load");
    let subject = Subject { decoder: &decoder, tokenizer: &base.tokenizer, device: &device, collective: &Single };
    let tasks = score(&subject, &items, &mut |_| Ok(())).expect("every item is scored");

    let scored: Vec<&ItemScore> = tasks.iter().flat_map(|task| &task.items).collect();
    let expected_items = expected["items"].as_array().expect("items");
    assert_eq!(scored.len(), expected_items.len());
    for wanted in expected_items {
        let id = wanted["id"].as_str().expect("a name");
        let got = scored.iter().find(|score| score.id == id).expect("every item is scored");
        for (got, wanted) in got.log_likelihoods.iter().zip(numbers(&wanted["loglikelihoods"])) {
            // The sum over a text of hundreds of tokens differs by more: by about 1e-5 a token.
            let tolerance = if id_of_text(&items, id) { TEXT * wanted.abs() } else { 1e-3 };
            assert_near(id, *got, wanted, tolerance);
        }
        assert_eq!(got.log_likelihoods.len(), numbers(&wanted["loglikelihoods"]).len(), "{id}");
        let right = |key: &str| wanted[key].as_bool().map(|right| f64::from(u8::from(right)));
        if let Some(right) = right("correct_norm").or(right("greedy")).or(right("correct")) {
            assert_near(id, got.value, right, 0.0);
        }
        if let Some(other) = got.other {
            assert_near(id, other, right("correct").expect("a choice"), 0.0);
        }
    }
    for (task, figures) in expected["tasks"].as_object().expect("tasks") {
        let got: &TaskScores = tasks.iter().find(|got| got.task == *task).expect("every task is scored");
        let figure = |key: &str| figures[key].as_f64();
        let wanted = figure("acc_norm").or(figure("acc")).or(figure("bits_per_byte")).expect("a figure");
        let tolerance = if figures.get("bits_per_byte").is_some() { 1e-5 } else { 1e-12 };
        assert_near(task, got.mean(), wanted, tolerance);
        println!("{task}: {:.4}, harness {wanted:.4}", got.mean());
    }
}

#[test]
fn long_texts_are_cut_into_the_windows_of_the_harness() {
    let expected = json("probes/expected.json");
    let file = fixture("probes/items.jsonl");
    let mut items = read_items(&file, &file).expect("the fixture reads");
    items.retain(|item| item.question.text().is_some());
    let base = smollm2();
    let device = Device::flex();
    let mut decoder = base.decoder(&device).expect("the weights load");
    decoder.config.max_position_embeddings =
        usize::try_from(expected["window"].as_u64().expect("a length")).expect("a small length");
    let subject = Subject { decoder: &decoder, tokenizer: &base.tokenizer, device: &device, collective: &Single };
    let tasks = score(&subject, &items, &mut |_| Ok(())).expect("every text is scored");
    for got in tasks.iter().flat_map(|task| &task.items) {
        let wanted = expected["items"].as_array().expect("items").iter().find(|item| item["id"] == got.id.as_str());
        let wanted = wanted.expect("every text is in the fixture")["windowed_loglikelihood"].as_f64().expect("a sum");
        assert_near(&got.id, got.log_likelihoods[0], wanted, TEXT * wanted.abs());
    }
}

/// How likely the model is to give an item's right answer, when it draws its answers.
fn probability(item: &ItemScore, question: &Question) -> f64 {
    let gold = match question {
        Question::LogLikelihood(LogLikelihood::MultipleChoice { gold, .. } | LogLikelihood::Partial { gold, .. }) => {
            *gold
        }
        // The only one, or the first of two.
        _ => 0,
    };
    let sums = &item.log_likelihoods;
    if sums.len() == 1 {
        return sums[0].exp();
    }
    let total: f64 = sums.iter().map(|sum| (sum - sums[gold]).exp()).sum();
    1.0 / total
}

/// The quick suite on an unchanged model which draws its answers instead of taking the most probable ones, judged by
/// limits of no loss at all: whatever stops it is noise.
#[test]
fn an_unchanged_model_that_draws_its_answers_is_stopped_at_most_once_in_twenty() {
    let mut questions = Questions::of(SuiteName::Quick, &[]).expect("the suite is sound");
    questions.items.retain(|item| item.question.text().is_none());
    let base = smollm2();
    let device = Device::flex();
    let decoder = base.decoder(&device).expect("the weights load");
    let subject = Subject { decoder: &decoder, tokenizer: &base.tokenizer, device: &device, collective: &Single };
    let tasks = score(&subject, &questions.items, &mut |_| Ok(())).expect("every item is scored");
    let mut rng = ChaCha8Rng::seed_from_u64(20);
    let mut draw = || -> Vec<TaskScores> {
        let mut drawn = tasks.clone();
        for item in drawn.iter_mut().filter(|task| task.measure == Measure::Accuracy).flat_map(|task| &mut task.items) {
            let asked = questions.items.iter().find(|question| question.id == item.id).expect("every item was asked");
            item.value = f64::from(u8::from(rng.random::<f64>() < probability(item, &asked.question)));
        }
        drawn
    };
    let limits = LimitsConfig { task: Some(0.0), average: Some(0.0), bits_per_byte: None, kl: None };
    let config = ForgettingConfig { limits, ..ForgettingConfig::default() };
    let stopped: Vec<bool> = (0..20)
        .map(|_| {
            let (before, after) = (draw(), draw());
            !Verdict::new(&Pair::all(&before, &after), &[], &config, Vec::new()).passed
        })
        .collect();
    let count = stopped.iter().filter(|stopped| **stopped).count();
    println!("{count} false alarms in 20");
    assert!(count <= 1, "{count} false alarms in 20");
}
