//! What is found equals what comparing all pairs finds; the order of texts, threads and batches changes nothing.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn documents<T: AsRef<str>>(texts: &[T]) -> Vec<DedupText> {
    texts.iter().map(|text| DedupText::document(text.as_ref())).collect()
}

fn groups_with(config: &DedupConfig, texts: &[DedupText]) -> Vec<Vec<usize>> {
    let mut search = NearDuplicates::new(config, 1).unwrap();
    search.extend(texts);
    search.groups().groups()
}

fn groups<T: AsRef<str>>(texts: &[T]) -> Vec<Vec<usize>> {
    groups_with(&DedupConfig::default(), &documents(texts))
}

/// Numbers that follow from a seed.
fn draw(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    usize::try_from(shingle::mix(*state) >> 33).unwrap()
}

/// Texts of which each second one is an edit of the one before, from none of the words to all of them.
fn edited(count: usize, seed: u64) -> Vec<String> {
    let mut state = seed;
    let mut texts = Vec::new();
    while texts.len() < count {
        let length = 20 + draw(&mut state) % 100;
        let mut words: Vec<String> = (0..length).map(|_| format!("w{}", draw(&mut state) % 3000)).collect();
        texts.push(words.join(" "));
        for _ in 0..draw(&mut state) % (length / 4) {
            let at = draw(&mut state) % words.len();
            words[at] = format!("v{}", draw(&mut state) % 3000);
        }
        texts.push(words.join(" "));
    }
    texts
}

/// The runs of three words of a text.
fn runs(text: &str) -> HashSet<Vec<&str>> {
    let words: Vec<&str> = text.split(' ').collect();
    words.windows(3).map(<[&str]>::to_vec).collect()
}

/// The Jaccard similarity by its definition.
fn exact(a: &HashSet<Vec<&str>>, b: &HashSet<Vec<&str>>) -> f64 {
    let both = a.intersection(b).count();
    both as f64 / (a.len() + b.len() - both) as f64
}

#[test]
#[expect(clippy::float_cmp, reason = "quotients of small numbers")]
fn the_pairs_are_those_of_comparing_all() {
    let texts = edited(600, 7);
    let sets: Vec<_> = texts.iter().map(|text| runs(text)).collect();
    let mut expected = HashSet::new();
    for i in 0..texts.len() {
        for j in i + 1..texts.len() {
            if exact(&sets[i], &sets[j]) >= 0.8 {
                expected.insert((i, j));
            }
        }
    }
    assert!(expected.len() > 50, "{}", expected.len());
    let mut search = NearDuplicates::new(&DedupConfig::default(), 1).unwrap();
    search.extend(&documents(&texts));
    let found: HashSet<(usize, usize)> = search.pairs().iter().map(|pair| (pair.first, pair.second)).collect();
    assert!(found.is_subset(&expected), "every pair is compared exactly");
    // Equal sets are one set; they are in groups, and not among the pairs.
    let equal = expected.iter().filter(|(i, j)| exact(&sets[*i], &sets[*j]) == 1.0).count();
    assert!(found.len() + equal >= expected.len() * 98 / 100, "{} + {equal} of {}", found.len(), expected.len());
    let by_groups: HashSet<usize> =
        search.groups().groups().into_iter().flat_map(|group| group.into_iter().skip(1)).collect();
    assert!(expected.iter().filter(|(_, later)| by_groups.contains(later)).count() >= expected.len() * 98 / 100);
}

#[test]
fn case_punctuation_and_white_space_do_not_count_and_accents_do() {
    let texts = [
        "À l'été 1802, « ce siècle avait deux ans ».",
        "  à L’ÉTÉ\n1802 ce siècle -- avait deux ANS",
        "A l'ete 1802, ce siecle avait deux ans.",
    ];
    assert_eq!(groups(&texts), [[0, 1]]);
}

#[test]
fn the_first_of_a_chain_is_kept() {
    // Each shares 18 of 20 to 22 runs of three words with the next.
    let words: Vec<String> = (0..26).map(|n| format!("w{n}")).collect();
    let text = |from: usize| words[from..from + 22].join(" ");
    let mut search = NearDuplicates::new(&DedupConfig::default(), 3).unwrap();
    search.extend(&documents(&["something else entirely is said here", &text(0), &text(2), &text(4), &text(2)]));
    let groups = search.groups();
    assert_eq!(groups.groups(), [[1, 2, 3, 4]]);
    assert_eq!((groups.kept(), groups.kept_for(4), groups.is_kept(1), groups.is_kept(3)), (2, 1, true, false));
}

#[test]
fn empty_and_short_texts() {
    let texts = ["", "…", "Oui.", "oui", "Non.", "Paris est", "paris EST !", ""];
    assert_eq!(groups(&texts), [vec![2, 3], vec![5, 6]]);
    let mut search = NearDuplicates::new(&DedupConfig::default(), 1).unwrap();
    assert!(search.is_empty());
    search.extend(&documents(&texts));
    assert_eq!((search.len(), search.groups().empty()), (8, 3));
    assert_eq!(groups::<&str>(&[]), Vec::<Vec<usize>>::new());
}

#[test]
fn a_text_of_ten_megabytes_is_compared_in_little_memory() {
    let mut state = 5;
    let mut long: Vec<String> = (0..1_600_000).map(|_| format!("w{}", draw(&mut state) % 90_000)).collect();
    let first = long.join(" ");
    assert!(first.len() > 10_000_000);
    for at in (0..long.len()).step_by(100) {
        "changed".clone_into(&mut long[at]);
    }
    let mut search = NearDuplicates::new(&DedupConfig::default(), 1).unwrap();
    search.extend(&documents(&[first, long.join(" "), long[..long.len() / 2].join(" ")]));
    assert!(search.state_bytes() < 3 * (4 * NearDuplicates::MOST_SHINGLES + 200), "{}", search.state_bytes());
    assert_eq!(search.groups().groups(), [[0, 1]]);
}

#[test]
fn both_parts_must_be_alike() {
    let passage = "le phare se dresse au bout de la jetée et plus personne n y habite depuis des années ".repeat(4);
    let sample =
        |question: &str, answer: &str| DedupText { prompt: format!("{passage}{question}"), answer: answer.to_owned() };
    let texts = [
        sample("Où se dresse le phare ?", "au bout de la jetée"),
        sample("Qui habite le phare ?", "plus personne"),
        sample("où se dresse donc le phare ?", "Au bout de la jetée."),
    ];
    assert_eq!(groups_with(&DedupConfig::default(), &texts), [[0, 2]]);
    let message = |role, content: &str| Message { role, content: content.to_owned() };
    let messages = [
        message(Role::System, "Réponds."),
        message(Role::User, "Qui ?"),
        message(Role::Assistant, "Personne."),
        message(Role::User, "Où ?"),
        message(Role::Assistant, "Là."),
    ];
    let parts = |compare| {
        let DedupText { prompt, answer } = DedupText::conversation(&messages, compare);
        (prompt, answer)
    };
    assert_eq!(parts(Compare::Both), ("Qui ?\nOù ?".to_owned(), "Personne.\nLà.".to_owned()));
    assert_eq!(parts(Compare::Prompt), ("Qui ?\nOù ?".to_owned(), String::new()));
    assert_eq!(parts(Compare::Answer), (String::new(), "Personne.\nLà.".to_owned()));
}

#[test]
fn characters_suit_texts_without_spaces() {
    let config = DedupConfig { shingle: Shingle::Characters, ..DedupConfig::default() };
    let texts = documents(&[
        "灯塔矗立在防波堤的尽头，多年来没有人住在那里。",
        "灯塔矗立在防波堤的尽头，多年来没有人住在那里了。",
        "今天的天气非常好，我们一起去公园散步吧。",
    ]);
    assert_eq!(groups_with(&config, &texts), [[0, 1]]);
}

/// A bucket of a hundred thousand texts of one template takes no quadratic time, and equal texts little memory.
#[test]
fn many_equal_texts_cost_little() {
    let texts: Vec<String> = (0..200_000).map(|i| format!("the same words again and again {}", i % 2)).collect();
    let mut search = NearDuplicates::new(&DedupConfig::default(), 1).unwrap();
    search.extend(&documents(&texts));
    assert!(search.state_bytes() < 200_000 * 4 + 1000, "{}", search.state_bytes());
    let groups = search.groups();
    assert_eq!(groups.kept(), 2);
}

#[test]
fn values_out_of_range_are_refused() {
    let refused = |config: DedupConfig| NearDuplicates::new(&config, 1).unwrap_err().to_string();
    let with = |threshold| DedupConfig { threshold, ..DedupConfig::default() };
    assert_eq!(refused(with(1.5)), "dedup.threshold: got 1.5, expected a number from 0.2 to 1");
    assert!(refused(with(0.1)).starts_with("dedup.threshold: got 0.1"));
    assert!(refused(with(f64::NAN)).starts_with("dedup.threshold: got NaN"));
    let size = |size| DedupConfig { size, ..DedupConfig::default() };
    assert_eq!(refused(size(0)), "dedup.size: got 0, expected a number from 1 to 16");
    assert!(refused(size(17)).starts_with("dedup.size: got 17"));
    let texts = edited(40, 1);
    for config in [with(0.2), with(1.0), size(1), size(16)] {
        assert!(!groups_with(&config, &documents(&[&texts[0], &texts[0]])).is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Batches and threads change nothing, any text is taken, and a group's first is its smallest.
    #[test]
    fn the_groups_follow_from_the_texts(texts in prop::collection::vec("[a-d ]{0,12}|\\PC{0,20}", 0..60), cut in 0usize..60) {
        let texts = documents(&texts);
        let whole = {
            let mut search = NearDuplicates::new(&DedupConfig::default(), 9).unwrap();
            search.extend(&texts);
            search.groups()
        };
        let (before, after) = texts.split_at(cut.min(texts.len()));
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let parts = pool.install(|| {
            let mut search = NearDuplicates::new(&DedupConfig::default(), 9).unwrap();
            search.extend(before);
            search.extend(after);
            search.groups()
        });
        prop_assert_eq!(&whole, &parts);
        for (text, compared) in texts.iter().enumerate() {
            prop_assert!(whole.kept_for(text) <= text);
            // What is equal is in one group, unless there is nothing to compare.
            let same = texts.iter().position(|other| other == compared).unwrap();
            if compared.prompt.chars().any(char::is_alphanumeric) {
                prop_assert_eq!(whole.kept_for(text), whole.kept_for(same));
            }
        }
    }
}
