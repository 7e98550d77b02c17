//! Several processes that prepare the data, as threads.

use super::*;
use crate::peers::tests::together;

/// More lines than two batches have, with addresses to mask, a near-duplicate and lines that are too long; a template that
/// prints the date in one conversation of the second batch alone.
fn large() -> Case {
    let mut case = Case::new();
    let mut text = lines(0..1300).replace("Question 900:", "Today, 900:");
    text += &lines(7..8).replace("Question", "QUESTION");
    text += &lines(2000..2100).replace("où ?", "à jean@example.fr ?");
    fs::write(case.path("train.jsonl"), text).unwrap();
    fs::write(case.path("more.jsonl"), lines((4004..4040).step_by(7))).unwrap();
    fs::write(case.path("validation.jsonl"), lines(1290..1890)).unwrap();
    case.config.train.push(crate::SourceConfig::from_path(case.path("more.jsonl")));
    case.config.screen = Some(serde_json::from_value(json!({"action": "mask", "kinds": ["email"]})).unwrap());
    case.config.dedup = Some(crate::DedupConfig { threshold: 1.0, ..Default::default() });
    case.config.overlong = Overlong::Drop;
    let source = case.tokenizer.template().unwrap().source().to_owned();
    let date = "{% if messages[0].content.startswith('Today') %}{{ strftime_now('%d %b %Y') }}{% endif %}";
    fs::write(case.path("template.jinja"), format!("{date}{source}")).unwrap();
    case
}

/// What each of so many processes has; the cache is in the folder that `cache` names for each.
fn by(case: &Case, ranks: usize, cache: impl Fn(usize) -> String + Sync) -> Vec<Result<Prepared, DataError>> {
    let template = Some(case.path("template.jinja")).filter(|path| path.exists());
    together(ranks, |peers| {
        // What a template printed is known to its own process.
        let tokenizer = tokenizer(template.as_deref()).with_clock("2026-11-22T09:30:00").unwrap();
        let cache = Cache::at(case.path(&cache(peers.rank())));
        prepare_together(&case.config, &tokenizer, 7, &Hub::from_env(), &cache, peers, &mut |_| {})
    })
}

fn all(prepared: Vec<Result<Prepared, DataError>>) -> Vec<Prepared> {
    prepared.into_iter().collect::<Result<_, _>>().unwrap()
}

#[test]
fn any_number_of_processes_writes_the_same_bytes() {
    let case = large();
    let alone = all(by(&case, 1, |_| "cache-1".to_owned())).remove(0);
    assert!(alone.train_counts.near_duplicates == 1 && alone.train_counts.dropped_overlong > 1);
    assert_eq!(alone.screening.as_ref().unwrap().found.values().sum::<u64>(), 100);
    let bytes = |data: &Prepared| fs::read(data.cache_file.as_ref().unwrap()).unwrap();
    let expected = bytes(&alone);
    assert!(String::from_utf8_lossy(&expected).contains("22 Nov 2026"), "what was printed is kept");
    for ranks in [2, 3, 5] {
        let prepared = all(by(&case, ranks, |_| format!("cache-{ranks}")));
        assert!(bytes(&prepared[0]) == expected, "{ranks} processes");
        for (rank, data) in prepared.iter().enumerate() {
            assert_same(data, &alone);
            assert_eq!((data.from_cache, &data.cache_file), (rank > 0, &prepared[0].cache_file));
        }
        // And another time from the cache.
        assert!(all(by(&case, ranks, |_| format!("cache-{ranks}"))).iter().all(|data| data.from_cache));
    }
}

#[test]
fn the_first_error_of_the_file_is_told_by_who_met_it() {
    let case = Case::new();
    let broken = "{\"messages\": 7}\n";
    // In the third batch, and in the second.
    let text = lines(0..600) + broken + &lines(0..600) + broken + &lines(0..10);
    fs::write(case.path("train.jsonl"), &text).unwrap();
    let alone = case.try_prepare().unwrap_err().to_string();
    assert!(alone.contains("train.jsonl:601"), "{alone}");
    for ranks in [2, 3, 4] {
        let errors = by(&case, ranks, |_| "cache".to_owned());
        for (rank, error) in errors.into_iter().map(Result::unwrap_err).enumerate() {
            let expected = if rank == 1 { alone.clone() } else { format!("rank 1 of {ranks}: {alone}") };
            assert_eq!(error.to_string(), expected);
        }
    }
    assert_eq!(case.files(), Vec::<PathBuf>::new());
    for text in ["", "{\n"] {
        fs::write(case.path("train.jsonl"), text).unwrap();
        let alone = case.try_prepare().unwrap_err().to_string();
        let first = by(&case, 3, |_| "cache".to_owned()).swap_remove(0).unwrap_err();
        assert_eq!(first.to_string(), alone);
    }
}

#[test]
fn without_a_common_cache_each_has_its_own() {
    let mut case = Case::new();
    let alone = case.fresh();
    fs::write(case.path("no folder"), "in the way").unwrap();
    // A cache that cannot be written.
    for data in all(by(&case, 3, |_| "no folder".to_owned())) {
        assert_same(&data, &alone);
        assert_eq!((data.from_cache, data.cache_file), (false, None));
    }
    // One on each machine: the first one's is made together; then those who have it wait for nobody.
    let own = |rank: usize| format!("cache-{}", rank / 2);
    let made = all(by(&case, 4, own));
    for data in &made {
        assert_same(data, &alone);
    }
    assert_eq!(made.iter().map(|data| data.from_cache).collect::<Vec<_>>()[..2], [false, true]);
    fs::remove_dir_all(case.path("cache-1")).unwrap();
    let found = all(by(&case, 3, own));
    assert_eq!(found.iter().map(|data| data.from_cache).collect::<Vec<_>>(), [true, true, false]);
    // The name is taken when the file is to get it.
    let key = found[0].cache_file.as_ref().unwrap().file_name().unwrap().to_owned();
    fs::create_dir_all(case.path("taken").join(key).join("in the way")).unwrap();
    for data in all(by(&case, 2, |_| "taken".to_owned())) {
        assert_same(&data, &alone);
        assert_eq!((data.from_cache, data.cache_file), (false, None));
    }
    case.config.cache = false;
    for data in all(by(&case, 2, |_| "cache".to_owned())) {
        assert_same(&data, &alone);
    }
}

#[test]
fn processes_with_other_data_are_told() {
    let case = Case::new();
    let errors = together(2, |peers| {
        let config = DataConfig { max_length: 140 + peers.rank(), ..case.config.clone() };
        prepare_together(&config, &case.tokenizer, 7, &Hub::from_env(), &case.cache(), peers, &mut |_| {}).unwrap_err()
    });
    for error in errors {
        assert!(error.to_string().starts_with("rank 1 of 2: its data is not that of rank 0"), "{error}");
    }
}
