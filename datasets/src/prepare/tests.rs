//! The data of a recipe: its order, its counts, its first error, and the same whatever the number of threads.

mod cache;
mod together;

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::store::ExampleRef;
use crate::tokenize::{Example, tokenize_all};
use crate::{Overlong, content_hash, load, sha256_files};

/// A folder with training and validation conversations, and a cache of its own.
struct Case {
    folder: TempDir,
    config: DataConfig,
    tokenizer: ChatTokenizer,
}

/// A conversation as a line; each number gives another.
fn line(number: usize) -> String {
    let words = "to graft is to join two living parts so that they grow as one ".repeat(1 + number % 7);
    let messages = json!([
        {"role": "user", "content": format!("Question {number}: où ? {words}")},
        {"role": "assistant", "content": format!("Réponse {}.", number * number % 1009)},
    ]);
    json!({"messages": messages}).to_string()
}

fn lines(numbers: impl IntoIterator<Item = usize>) -> String {
    numbers.into_iter().map(|number| line(number) + "\n").collect()
}

impl Case {
    /// Forty conversations to train on and six to validate with, of which one is among the forty.
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("train.jsonl"), lines(0..40)).unwrap();
        fs::write(folder.path().join("validation.jsonl"), lines(39..45)).unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = json!({
            "train": [{"path": path("train.jsonl")}], "validation": [{"path": path("validation.jsonl")}]
        });
        let mut config: DataConfig = serde_json::from_value(config).unwrap();
        config.max_length = 140;
        Self { folder, config, tokenizer: tokenizer(None) }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn cache(&self) -> Cache {
        Cache::at(self.path("cache"))
    }

    fn prepare(&self) -> Prepared {
        self.try_prepare().unwrap()
    }

    fn try_prepare(&self) -> Result<Prepared, DataError> {
        prepare(&self.config, &self.tokenizer, 7, &Hub::from_env(), &self.cache(), &mut |_| {})
    }

    /// The data as it is without a cache.
    fn fresh(&self) -> Prepared {
        let config = DataConfig { cache: false, ..self.config.clone() };
        prepare(&config, &self.tokenizer, 7, &Hub::from_env(), &self.cache(), &mut |_| {}).unwrap()
    }

    /// The names of the files in the cache.
    fn files(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path("cache")) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort_unstable();
        files
    }
}

fn tokenizer(template: Option<&Path>) -> ChatTokenizer {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tiny-llama");
    ChatTokenizer::from_folder(&folder, template).unwrap()
}

/// All that a run sees of its data.
#[track_caller]
fn assert_same(got: &Prepared, expected: &Prepared) {
    for (got, expected) in [(&got.train, &expected.train), (&got.validation, &expected.validation)] {
        assert_eq!(got.iter().collect::<Vec<_>>(), expected.iter().collect::<Vec<_>>());
    }
    assert_eq!(got.samples(33).collect::<Vec<_>>(), expected.samples(33).collect::<Vec<_>>());
    assert_eq!((&got.sources, &got.screening), (&expected.sources, &expected.screening));
    assert_eq!(got.notes, expected.notes);
    assert_eq!(got.fingerprint, expected.fingerprint);
    assert_eq!((got.train_counts, got.validation_counts), (expected.train_counts, expected.validation_counts));
    assert_eq!(got.order, expected.order);
    assert_eq!(got.examples_at(33, 20), expected.examples_at(33, 20));
}

fn owned(example: &ExampleRef<'_>) -> Example {
    Example {
        input_ids: example.input_ids.to_vec(),
        loss_mask: example.loss_mask.to_vec(),
        origin: example.origin.clone(),
    }
}

#[test]
fn the_examples_are_those_of_tokenising_the_whole_file() {
    let case = Case::new();
    let data = case.prepare();
    assert!(!data.from_cache);
    let source = &case.config.train[0];
    let conversations = load(source, Path::new("")).unwrap().conversations;
    let whole = tokenize_all(&case.tokenizer, &conversations, 140, Overlong::Drop).unwrap();
    assert!(whole.dropped_overlong > 0 && !whole.examples.is_empty());
    assert_eq!(data.train.iter().map(|example| owned(&example)).collect::<Vec<_>>(), whole.examples);
    let counts = data.train_counts;
    assert_eq!((counts.conversations, counts.examples), (40, whole.examples.len() as u64));
    assert_eq!(counts.dropped_overlong, whole.dropped_overlong as u64);
    assert_eq!(counts.tokens, whole.examples.iter().map(|e| e.input_ids.len() as u64).sum::<u64>());
    assert_eq!(counts.supervised, data.train.iter().map(|e| e.supervised() as u64).sum::<u64>());
    assert_eq!(data.validation_counts.conversations, 6);
    let (train, validation) = (case.path("train.jsonl"), case.path("validation.jsonl"));
    assert_eq!(
        data.notes,
        [
            format!("{}: the records have the format messages; confirm it in the recipe", validation.display()),
            format!("{}: the records have the format messages; confirm it in the recipe", train.display()),
            format!("{} training conversations left out: longer than 140 tokens", counts.dropped_overlong),
            "1 of 6 validation conversations are trained on too".to_owned(),
            format!(
                "{} validation conversations left out: longer than 140 tokens",
                data.validation_counts.dropped_overlong
            ),
        ]
    );
}

#[test]
fn an_error_leaves_nothing_in_the_cache() {
    let case = Case::new();
    fs::write(case.path("train.jsonl"), lines(0..700) + "{\n").unwrap();
    let error = case.try_prepare().unwrap_err().to_string();
    assert!(error.contains("train.jsonl:701: not valid JSON"), "{error}");
    assert_eq!(case.files(), Vec::<PathBuf>::new());
}

#[test]
fn the_first_error_of_the_file_is_told_whatever_kind_it_is() {
    let case = Case::new();
    let unanswered = r#"{"messages": [{"role": "user", "content": "?"}]}"#;
    let mut all: Vec<String> = (0..1200).map(line).collect();
    // Of three errors in one batch, and one in a later batch, the first.
    for (number, bad) in [(700, unanswered), (701, "{"), (690, "[1"), (1100, "{")] {
        bad.clone_into(&mut all[number]);
    }
    fs::write(case.path("train.jsonl"), all.join("\n")).unwrap();
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let error = pool.install(|| case.try_prepare()).unwrap_err().to_string();
        assert!(error.contains("train.jsonl:691: not valid JSON"), "{error}");
    }
    // Tokenising an early conversation fails before reading a later one does.
    let mut all: Vec<String> = (0..1200).map(line).collect();
    all[3] =
        json!({"messages": [{"role": "user", "content": "x ".repeat(500)}, {"role": "assistant", "content": "y"}]})
            .to_string();
    "{".clone_into(&mut all[5]);
    fs::write(case.path("train.jsonl"), all.join("\n")).unwrap();
    let config = DataConfig { overlong: Overlong::Error, ..case.config.clone() };
    let config = DataConfig { max_length: 400, ..config };
    let error = prepare(&config, &case.tokenizer, 7, &Hub::from_env(), &case.cache(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("train.jsonl:4: the conversation has"), "{error}");
}

#[test]
fn the_split_holds_out_by_content_from_the_stream() {
    let mut case = Case::new();
    fs::write(case.path("train.jsonl"), lines(0..1500)).unwrap();
    case.config.validation.clear();
    case.config.validation_fraction = 0.2;
    case.config.max_length = 1000;
    let data = case.prepare();
    assert_eq!(data.train.len() + data.validation.len(), 1500);
    let conversations = load(&case.config.train[0], Path::new("")).unwrap().conversations;
    let held_out: Vec<usize> = conversations
        .iter()
        .filter(|conversation| content_hash(conversation)[0] < 51)
        .map(|conversation| conversation.origin.line)
        .collect();
    let lines: Vec<usize> = data.validation.iter().map(|example| example.origin.line).collect();
    // 0.2 of 256 is 51.2: a first byte below 51 is surely held out, one above it surely not.
    assert!(held_out.iter().all(|line| lines.contains(line)));
    assert!(conversations.iter().all(|c| content_hash(c)[0] <= 51 || !lines.contains(&c.origin.line)));
    assert!(lines.is_sorted());
    assert_same(&case.prepare(), &data);
}

#[test]
fn several_sources_keep_their_order_and_their_starts() {
    let mut case = Case::new();
    fs::write(case.path("second.jsonl"), lines(1000..1010)).unwrap();
    case.config.train.push(SourceConfig { weight: 3.0, ..SourceConfig::from_path(case.path("second.jsonl")) });
    case.config.max_length = 1000;
    let data = case.prepare();
    assert_eq!(data.train.len(), 50);
    assert_eq!(data.order.len_per_epoch(), 40 + 30);
    let epoch = data.examples_at(0, 70);
    let of_second = epoch.iter().filter(|example| example.origin.path.ends_with("second.jsonl")).count();
    assert_eq!(of_second, 30);
    assert_same(&case.prepare(), &data);
}

#[test]
fn positions_are_those_of_the_order_and_keep_no_state() {
    let case = Case::new();
    let data = case.prepare();
    let length = data.order.len_per_epoch();
    let all: Vec<_> = data.order.from_position(0).take(3 * length).map(|(_, index)| data.train.get(index)).collect();
    for position in (0..2 * length).rev().chain([length, 0, 2 * length - 1]) {
        assert_eq!(data.examples_at(position as u64, length), all[position..position + length], "at {position}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// The bytes of the file are the same however many threads there are, and what is read back is what was written.
    #[test]
    fn parallel_equals_serial_and_cached_equals_fresh(
        numbers in proptest::collection::vec(0_usize..3000, 1..900), fraction in 0.0..0.9_f64, threads in 2_usize..6
    ) {
        let mut case = Case::new();
        fs::write(case.path("train.jsonl"), lines(numbers)).unwrap();
        case.config.validation.clear();
        case.config.validation_fraction = fraction;
        case.config.max_length = 4096;
        let on = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| case.prepare())
        };
        let serial = on(1);
        let path = serial.cache_file.clone().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let parallel = on(threads);
        prop_assert!(!parallel.from_cache);
        prop_assert!(fs::read(&path).unwrap() == bytes);
        let cached = on(threads);
        prop_assert!(cached.from_cache);
        assert_same(&cached, &serial);
        assert_same(&case.fresh(), &serial);
    }
}

#[test]
fn near_duplicates_are_left_out_of_the_training_data() {
    let mut case = Case::new();
    let all = case.prepare();
    // Each line again in other letters, after all of them; the validation file keeps its copy.
    let again = lines(0..40).replace("Question", "QUESTION").replace("où ?", "où ??");
    fs::write(case.path("train.jsonl"), lines(0..40) + &again).unwrap();
    case.config.dedup = Some(crate::DedupConfig { threshold: 1.0, ..Default::default() });
    let kept = case.prepare();
    assert_eq!(
        kept.train.iter().map(|example| owned(&example)).collect::<Vec<_>>(),
        all.train.iter().map(|example| owned(&example)).collect::<Vec<_>>()
    );
    assert_eq!((kept.train_counts.conversations, kept.train_counts.near_duplicates), (80, 40));
    assert_eq!(kept.validation_counts, all.validation_counts);
    assert!(kept.notes.contains(&"40 training conversations left out: near-duplicates of others".to_owned()));
    assert_same(&case.prepare(), &kept);
    // Another threshold is other data: it has a key of its own.
    case.config.dedup = None;
    assert_eq!(case.prepare().train_counts.near_duplicates, 0);
    case.config.dedup = Some(crate::DedupConfig { threshold: 7.0, ..Default::default() });
    assert!(case.try_prepare().unwrap_err().to_string().starts_with("dedup.threshold: got 7"));
}

#[test]
fn each_sample_says_what_it_is_and_where_it_comes_from() {
    let mut case = Case::new();
    let long = "to graft is to join ".repeat(60);
    let record = |number: usize, more: Value, answer: &str| {
        let mut record = json!({"messages": [
            {"role": "user", "content": format!("Write to jean.dupont{number}@example.com now")},
            {"role": "assistant", "content": answer}
        ]});
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        record.to_string() + "\n"
    };
    let document = json!({"document": "a.md", "document_sha256": "00ff", "url": "https://example.org/a"});
    let text = [
        record(0, json!({"id": "first", "grounding": document}), "Yes, of course."),
        record(1, json!({}), &long),
        record(2, json!({"id": 7, "provenance": {"parents": ["first"]}}), "No, not at all."),
        record(3, json!({}), "Tomorrow or so."),
    ];
    fs::write(case.path("train.jsonl"), text.concat()).unwrap();
    case.config.screen = Some(serde_json::from_value(json!({"action": "mask", "kinds": ["email"]})).unwrap());
    case.config.train[0].licence = Some("CC0-1.0".to_owned());
    let data = case.prepare();
    assert_same(&case.prepare(), &data);
    assert_same(&case.fresh(), &data);
    let length = data.order.len_per_epoch() as u64;
    assert_eq!(length, 3, "one is too long");
    let samples: Vec<SampleRecord> = data.samples(2 * length).filter(|s| s.split == Split::Train).collect();
    let whole = load(&case.config.train[0], Path::new("")).unwrap().conversations;
    let path = case.path("train.jsonl");
    let of_first = &samples[0];
    assert_eq!((of_first.id.as_str(), of_first.line, of_first.seen, &of_first.source), ("first", 1, 2, &path));
    assert_eq!(
        (of_first.ancestry.document.as_deref(), of_first.ancestry.document_sha256.as_deref()),
        (Some("a.md"), Some("00ff"))
    );
    assert_eq!(of_first.ancestry.url.as_deref(), Some("https://example.org/a"));
    // What was learned is what screening left; the name is that of what stands in the file.
    let mut learned = whole[0].clone();
    learned.messages[0].content = "Write to [EMAIL] now".to_owned();
    assert_eq!(of_first.sha256, crate::hex(&content_hash(&learned)));
    assert_eq!(
        (samples[1].id.as_str(), samples[1].ancestry.parents.as_slice()),
        ("7", ["first".to_owned()].as_slice())
    );
    assert_eq!((samples[2].id.as_str(), samples[2].line), (&crate::hex(&content_hash(&whole[3]))[..16], 4));
    let [train, validation] = data.sources.as_slice() else { panic!("{:?}", data.sources) };
    assert_eq!((train.split, &train.path, train.samples), (Split::Train, &path, 3));
    assert_eq!((train.licence.as_deref(), &train.sha256), (Some("CC0-1.0"), &Some(sha256_files([path]).unwrap())));
    assert_eq!((validation.split, validation.samples), (Split::Validation, data.validation.len() as u64));
    assert_eq!(data.screening.as_ref().unwrap().found.values().sum::<u64>(), 4);
}

#[test]
fn samples_held_out_of_a_training_file_are_counted_there() {
    let mut case = Case::new();
    case.config.validation.clear();
    case.config.validation_fraction = 0.3;
    case.config.max_length = 1000;
    let data = case.prepare();
    let counts: Vec<(Split, u64)> = data.sources.iter().map(|source| (source.split, source.samples)).collect();
    assert_eq!(counts, [(Split::Train, data.train.len() as u64), (Split::Validation, data.validation.len() as u64)]);
    let lines: Vec<usize> = data.validation.iter().map(|example| example.origin.line).collect();
    let held_out = data.samples(1000).filter(|sample| sample.split == Split::Validation);
    assert_eq!(
        held_out.map(|sample| (sample.line, sample.seen)).collect::<Vec<_>>(),
        lines.iter().map(|l| (*l, 0)).collect::<Vec<_>>()
    );
}
