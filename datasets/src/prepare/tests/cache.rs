//! What is kept between runs: when it is used and when not, whole and damaged, alone and beside others.

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

#[test]
fn the_second_start_reads_the_cache_and_sees_the_same() {
    let case = Case::new();
    let first = case.prepare();
    let second = case.prepare();
    assert!(!first.from_cache && second.from_cache);
    assert_eq!(case.files(), [second.cache_file.clone().unwrap()]);
    assert_same(&second, &first);
    assert_same(&case.fresh(), &first);
    let mut told = 0;
    prepare(&case.config, &case.tokenizer, 7, &Hub::from_env(), &case.cache(), &mut |_| told += 1).unwrap();
    assert_eq!(told, 0, "nothing is tokenised");
    prepare(
        &DataConfig { cache: false, ..case.config.clone() },
        &case.tokenizer,
        7,
        &Hub::from_env(),
        &case.cache(),
        &mut |progress| {
            told += 1;
            assert!(progress.done_bytes <= progress.total_bytes && progress.conversations > 0);
        },
    )
    .unwrap();
    assert_eq!(told, 2, "one batch for each source");
}

#[test]
fn seed_weight_and_place_do_not_matter_to_the_tokens() {
    let mut case = Case::new();
    let first = case.prepare();
    case.config.train[0].weight = 2.0;
    case.config.packing = false;
    let moved = case.path("moved.jsonl");
    fs::rename(case.path("train.jsonl"), &moved).unwrap();
    case.config.train[0].path = Some(moved.clone());
    let second = case.prepare();
    assert!(second.from_cache);
    assert_eq!(second.fingerprint, first.fingerprint);
    assert_eq!(second.order.len_per_epoch(), 2 * first.order.len_per_epoch());
    assert_eq!(&*second.train.get(0).origin.path, moved, "the place is that of today");
}

#[test]
fn whatever_tokens_follow_from_gives_new_ones() {
    let mut case = Case::new();
    let first = case.prepare();
    let mut changed = |change: &mut dyn FnMut(&mut Case)| {
        change(&mut case);
        let data = case.prepare();
        assert!(!data.from_cache);
        assert_same(&data, &case.fresh());
        assert!(case.prepare().from_cache);
    };
    // The same size and the same time of change: the content alone tells.
    changed(&mut |case| {
        let path = case.path("train.jsonl");
        let time = fs::metadata(&path).unwrap().modified().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("Question 0", "Question 9", 1)).unwrap();
        fs::File::open(&path).unwrap().set_modified(time).unwrap();
    });
    changed(&mut |case| fs::write(case.path("validation.jsonl"), lines(105..109)).unwrap());
    changed(&mut |case| case.config.max_length = 120);
    changed(&mut |case| case.config.max_length = 4096);
    changed(&mut |case| case.config.overlong = Overlong::Truncate);
    changed(&mut |case| case.config.system_prompt = Some("Be brief.".to_owned()));
    changed(&mut |case| case.config.train[0].limit = Some(20));
    changed(&mut |case| case.config.train[0].format = Format::Messages);
    changed(&mut |case| {
        case.config.validation.clear();
        case.config.validation_fraction = 0.25;
    });
    changed(&mut |case| case.config.validation_fraction = 0.5);
    changed(&mut |case| {
        let template = case.path("template.jinja");
        let source = case.tokenizer.template().unwrap().source().replace("<|im_start|>' +", "<|im_start|> ' +");
        assert_ne!(source, case.tokenizer.template().unwrap().source());
        fs::write(&template, source).unwrap();
        case.tokenizer = tokenizer(Some(&template));
    });
    assert_ne!(case.prepare().fingerprint, first.fingerprint);
}

#[test]
fn a_template_that_prints_the_date_has_new_tokens_the_next_day() {
    let mut case = Case::new();
    let template = case.path("template.jinja");
    let source = case.tokenizer.template().unwrap().source().to_owned();
    fs::write(&template, format!("{{{{ strftime_now('%d %b %Y') }}}}\n{source}")).unwrap();
    let mut on = |clock: &str| {
        case.tokenizer = tokenizer(Some(&template)).with_clock(clock).unwrap();
        let data = case.prepare();
        assert_same(&data, &case.fresh());
        (data.from_cache, data.fingerprint)
    };
    let (cached, first) = on("2026-11-22T09:30:00");
    assert!(!cached);
    assert_eq!(on("2026-11-22T21:10:05"), (true, first.clone()), "the same day");
    let (cached, second) = on("2026-11-23T09:30:00");
    assert!(!cached);
    assert_ne!(second, first);
    assert_eq!(on("2026-11-22T09:30:00"), (false, first), "a run of the day before that is resumed");
}

#[test]
fn a_damaged_file_is_made_anew() {
    let case = Case::new();
    let expected = case.prepare();
    let path = expected.cache_file.clone().unwrap();
    let sound = fs::read(&path).unwrap();
    let damaged = |bytes: &[u8]| {
        // A new file each time: the old one is mapped.
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let data = case.prepare();
        assert_same(&data, &expected);
        assert_eq!(fs::read(&path).unwrap(), sound, "the sound file is back");
        data.from_cache
    };
    assert!(damaged(&sound));
    for length in [0, 1, 15, 16, 40, 71, 72, 73, sound.len() / 2, sound.len() - 1] {
        assert!(!damaged(&sound[..length]), "cut to {length}");
    }
    for place in (0..sound.len()).step_by(sound.len() / 97 + 1).chain(sound.len() - 80..sound.len()) {
        let mut bytes = sound.clone();
        bytes[place] ^= 0x81;
        assert!(!damaged(&bytes), "byte {place}");
    }
    assert!(!damaged(&[sound.as_slice(), b"more"].concat()));
}

#[test]
fn a_folder_in_the_place_of_the_file_is_no_harm() {
    let case = Case::new();
    let expected = case.prepare();
    let path = expected.cache_file.clone().unwrap();
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    fs::write(path.join("file"), "in the way").unwrap();
    let data = case.prepare();
    assert_same(&data, &expected);
    assert_eq!((data.from_cache, data.cache_file), (false, None));
}

#[test]
fn nothing_is_kept_when_the_cache_is_off_or_cannot_be_written() {
    let mut case = Case::new();
    let expected = case.fresh();
    assert_eq!(case.files(), Vec::<PathBuf>::new());
    assert_eq!(expected.cache_file, None);
    case.config.cache = true;
    fs::write(case.path("cache"), "a file where the folder should be").unwrap();
    let data = case.prepare();
    assert_same(&data, &expected);
    assert_eq!((data.from_cache, data.cache_file), (false, None));
}

#[test]
fn what_a_killed_run_left_is_ignored_and_later_removed() {
    let case = Case::new();
    let first = case.prepare();
    let half = &fs::read(first.cache_file.as_ref().unwrap()).unwrap()[..1000];
    fs::remove_file(first.cache_file.as_ref().unwrap()).unwrap();
    let (left, old) = (case.path("cache/left.part"), case.path("cache/old.part"));
    fs::write(&left, half).unwrap();
    fs::write(&old, half).unwrap();
    let days_ago = std::time::SystemTime::now() - std::time::Duration::from_hours(48);
    fs::File::open(&old).unwrap().set_modified(days_ago).unwrap();
    assert_same(&case.prepare(), &first);
    assert_eq!(case.files(), [first.cache_file.clone().unwrap(), left], "a run under way may still write to it");
    assert!(case.prepare().from_cache);
}

#[test]
fn the_files_used_last_are_kept() {
    let mut case = Case::new();
    for max_length in 0..20 {
        case.config.max_length = 200 + max_length;
        case.prepare();
    }
    assert_eq!(case.files().len(), 16);
    assert!(case.prepare().from_cache);
    case.config.max_length = 200;
    assert!(!case.prepare().from_cache);
}

#[test]
fn runs_at_the_same_time_each_see_whole_files() {
    let case = Case::new();
    fs::write(case.path("train.jsonl"), lines(0..600)).unwrap();
    let expected = case.fresh();
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let data = case.prepare();
                    let same = data.train.iter().eq(expected.train.iter()) && data.notes == expected.notes;
                    if !same || data.cache_file.is_none() {
                        failures.lock().unwrap().push(data.from_cache);
                    }
                    if let Some(path) = data.cache_file {
                        // Another run clears the cache meanwhile; the map stays.
                        let _ = fs::remove_file(path);
                    }
                    assert!(data.train.iter().eq(expected.train.iter()));
                }
            });
        }
    });
    assert_eq!(failures.into_inner().unwrap(), Vec::<bool>::new());
    assert!(case.files().len() <= 1, "{:?}", case.files());
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_kept() {
    let case = Case::new();
    let path = case.path("train.jsonl");
    fs::write(&path, lines(0..600)).unwrap();
    let told = Mutex::new(0);
    let data = prepare(&case.config, &case.tokenizer, 7, &Hub::from_env(), &case.cache(), &mut |_| {
        *told.lock().unwrap() += 1;
        fs::write(&path, lines(5000..5600)).unwrap();
    })
    .unwrap();
    assert!(*told.lock().unwrap() > 0);
    assert_eq!((data.cache_file, case.files()), (None, Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever bytes stand in the file, with a digest that fits them: an answer, and no panic.
    #[test]
    fn a_hostile_file_is_refused_or_sound(
        at in 0_usize..10_000, bytes in proptest::collection::vec(any::<u8>(), 1..24), cut in 0_usize..64
    ) {
        use sha2::{Digest as _, Sha256};
        let case = Case::new();
        let expected = case.prepare();
        let path = expected.cache_file.clone().unwrap();
        let mut file = fs::read(&path).unwrap();
        file.truncate(file.len() - 32);
        if cut > 32 {
            // The lengths no longer agree.
            let end = file.len() - 24;
            file.drain(end - cut..end);
        }
        let at = at % (file.len() - bytes.len());
        file[at..at + bytes.len()].copy_from_slice(&bytes);
        let digest = Sha256::digest(&file);
        file.extend_from_slice(&digest);
        fs::remove_file(&path).unwrap();
        fs::write(&path, file).unwrap();
        let data = case.prepare();
        for example in data.train.iter().chain(data.validation.iter()) {
            prop_assert!(example.input_ids.len() == example.loss_mask.len() && example.supervised() > 0);
            prop_assert!(example.input_ids.iter().all(|id| (*id as usize) < case.tokenizer.vocab_size()));
        }
        prop_assert_eq!(data.samples(7).count(), data.train.len() + data.validation.len());
    }
}
