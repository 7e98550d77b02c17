//! What counts as a copy, what does not, and that files are looked through to their end.

use std::fmt::Write as _;
use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::probes::parse_items;

fn origin(line: usize) -> Origin {
    Origin { path: Path::new("train.jsonl").into(), line }
}

fn items<const N: usize>(lines: [&str; N]) -> Vec<ProbeItem> {
    parse_items(&lines.join("\n"), Path::new("probes.jsonl")).unwrap()
}

fn text_item(text: &str) -> ProbeItem {
    items([&serde_json::json!({"kind": "ppl", "text": text}).to_string()]).remove(0)
}

/// Whether a training text gives the item away, and by which words.
fn shared(item: &ProbeItem, text: &str) -> Option<String> {
    let mut search = Decontamination::new(std::slice::from_ref(item));
    search.look(text, &origin(1));
    search.found().into_iter().next().map(|found| found.words)
}

const LONG: &str = "The keeper, who had lived alone for years, left the lighthouse in 1978 and never came back.";

#[test]
fn thirteen_words_in_a_row_are_a_copy_and_twelve_are_none() {
    let item = text_item(LONG);
    let thirteen = "had lived alone for years, left the lighthouse in 1978 and never came";
    assert_eq!(shared(&item, &format!("He {thirteen} home.")).as_deref(), Some(thirteen));
    assert_eq!(shared(&item, "He lived alone for years, left the lighthouse in 1978 and never came home."), None);
    assert_eq!(
        shared(&item, LONG).as_deref(),
        Some("The keeper, who had lived alone for years, left the lighthouse in 1978")
    );
    assert_eq!(shared(&item, ""), None);
}

#[test]
fn case_punctuation_and_layout_do_not_hide_a_copy() {
    let item = text_item("À l'été 1802, « ce siècle avait deux ans » : Rome remplaçait Sparte, déjà Napoléon perçait.");
    let copy = "à L’ÉTÉ\n\n1802 -- ce   siècle\tAVAIT deux ans. rome **remplaçait** SPARTE; Déjà";
    assert_eq!(shared(&item, &format!("({copy})")).as_deref(), Some(copy));
    // Accents are part of a word.
    assert_eq!(shared(&item, &copy.replace('è', "e")), None);
}

#[test]
fn short_items_are_compared_whole_and_the_shortest_not_at_all() {
    let eight = text_item("one two three four five six seven eight");
    assert_eq!(shared(&eight, "zero one two three four five six seven eight nine").unwrap().len(), 39);
    assert_eq!(shared(&eight, "two three four five six seven eight nine ten"), None);
    let twelve = text_item("a b c d e f g h i j k l");
    assert!(shared(&twelve, "z a b c d e f g h i j k l").is_some());
    assert_eq!(shared(&twelve, "a b c d e f g h i j k"), None);
    let seven = text_item("one two three four five six seven");
    assert_eq!(shared(&seven, "one two three four five six seven"), None);
    let search = Decontamination::new(&[eight, twelve, seven]);
    assert_eq!((search.skipped(), search.found()), (1, Vec::new()));
}

#[test]
fn each_kind_is_told_by_what_it_asks_and_by_the_right_answer() {
    let items = items([
        r#"{"kind": "mc", "query": "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10", "choices": ["wrong one", "right one"], "gold": 1}"#,
        r#"{"kind": "partial", "contexts": ["b1 b2 b3 b4 x", "b1 b2 b3 b4 y"], "continuation": "b5 b6 b7", "gold": 0}"#,
        r#"{"kind": "pair", "good": "c1 c2 c3 c4 c5 c6 c7 c8", "bad": "c1 c2 c3 c4 c5 c6 c8 c7"}"#,
        r#"{"kind": "cloze", "context": "d1 d2 d3 d4 d5 d6 d7", "target": "d8"}"#,
        r#"{"kind": "gen", "prompt": "e1 e2 e3 e4 e5 e6 e7 e8", "answer": "e9"}"#,
        r#"{"kind": "ifeval", "prompt": "f1 f2 f3 f4 f5 f6 f7 f8", "instruction_id_list": ["punctuation:no_comma"]}"#,
        r#"{"kind": "ppl", "text": "g1 g2 g3 g4 g5 g6 g7 g8"}"#,
    ]);
    let mut search = Decontamination::new(&items);
    for (line, wrong) in [
        "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 wrong one",
        "b1 b2 b3 b4 y b5 b6 b7",
        "c1 c2 c3 c4 c5 c6 c8 c7",
        "d1 d2 d3 d4 d5 d6 d7 d9",
    ]
    .into_iter()
    .enumerate()
    {
        search.look(wrong, &origin(line));
    }
    assert_eq!(search.found(), []);
    for (line, right) in [
        "a1 a2 a3 a4 a5 a6 a7 a8 a9 a10 right one",
        "b1 b2 b3 b4 x b5 b6 b7",
        "c1 c2 c3 c4 c5 c6 c7 c8",
        "d1 d2 d3 d4 d5 d6 d7 d8",
        "e1 e2 e3 e4 e5 e6 e7 e8",
        "f1 f2 f3 f4 f5 f6 f7 f8",
        "g1 g2 g3 g4 g5 g6 g7 g8",
    ]
    .into_iter()
    .enumerate()
    {
        search.look(right, &origin(line + 10));
    }
    let found: Vec<_> = search.found().iter().map(|found| (found.item, found.origin.line)).collect();
    assert_eq!(found, [(0, 10), (1, 11), (2, 12), (3, 13), (4, 14), (5, 15), (6, 16)]);
}

#[test]
fn the_first_place_is_told_and_items_keep_their_order() {
    let other = "one two three four five six seven eight";
    let mut search = Decontamination::new(&[text_item(LONG), text_item("unseen"), text_item(other)]);
    search.look(other, &origin(3));
    search.look(&format!("{LONG} {other}"), &origin(5));
    search.look(LONG, &origin(9));
    let found: Vec<_> = search.found().iter().map(|found| (found.item, found.origin.line)).collect();
    assert_eq!(found, [(0, 5), (2, 3)]);
}

#[test]
fn the_wording_of_a_task_is_not_that_of_an_item() {
    let frame =
        "The following are multiple choice questions with answers about the history of the world as it was taught";
    let asked =
        |i: usize| format!("{frame}: in which year of the reign of king number{i} was the bridge of town{i} built?");
    let items: Vec<_> = (0..=MOST_SHARED).map(|i| text_item(&asked(i))).collect();
    let mut search = Decontamination::new(&items);
    search.look(&format!("{frame}: what is a bridge?"), &origin(1));
    search.look(&asked(4), &origin(2));
    let found: Vec<_> = search.found().iter().map(|found| (found.item, found.origin.line)).collect();
    assert_eq!(found, [(4, 2)]);

    // Items that are the same altogether are still found.
    let same = vec![text_item(LONG); MOST_SHARED + 5];
    let mut search = Decontamination::new(&same);
    search.look(LONG, &origin(1));
    assert_eq!(search.found().len(), same.len());
}

#[test]
fn sources_are_looked_through_to_their_end() {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, asked: &dyn Fn(usize) -> String| {
        let mut lines = String::new();
        for i in 0..1500 {
            let record = serde_json::json!({"prompt": asked(i), "completion": "six seven eight nine"});
            writeln!(lines, "{record}").unwrap();
        }
        fs::write(folder.path().join(name), lines).unwrap();
        SourceConfig::from_path(name)
    };
    // The question stands in the prompt, the answer in the completion.
    let copy =
        |i: usize| if i % 700 == 699 { "One, two, three, four, five?".to_owned() } else { format!("What is {i}?") };
    let mut sources = vec![write("a.jsonl", &|i| format!("Why {i}?")), write("b.jsonl", &copy)];
    let items = [text_item(LONG), text_item("one two three four five six seven eight")];
    let look = |sources: &[SourceConfig]| contaminated(&items, sources, folder.path(), &Hub::from_env());
    let expected = Contaminated {
        item: 1,
        origin: Origin { path: Path::new("b.jsonl").into(), line: 700 },
        words: "One, two, three, four, five?\nsix seven eight".to_owned(),
    };
    assert_eq!(look(&sources).unwrap(), [expected]);
    // What a limit leaves out is not trained on.
    sources[1].limit = Some(699);
    assert_eq!(look(&sources).unwrap(), []);
    sources.push(SourceConfig::from_path("none.jsonl"));
    assert_eq!(look(&sources).unwrap_err().to_string(), "none.jsonl: cannot be read");
}

proptest! {
    /// Rolling agrees with comparing every run of words by itself.
    #[test]
    fn a_text_is_a_hit_exactly_when_it_has_the_words(
        item in prop::collection::vec("[ab]", 8..20),
        text in prop::collection::vec("[ab]", 0..200),
    ) {
        let n = item.len().min(LONGEST);
        let expected = text.windows(n).any(|run| item.windows(n).any(|gram| gram == run));
        let found = shared(&text_item(&item.join(" ")), &text.join(", "));
        prop_assert_eq!(found.is_some(), expected);
        if let Some(found) = found {
            let found: Vec<_> = found.split(", ").map(str::to_owned).collect();
            prop_assert!(item.windows(n).any(|gram| gram == found));
        }
    }

    #[test]
    fn no_text_panics(item in "\\PC{0,200}", text in "\\PC*") {
        if !item.trim().is_empty() {
            shared(&text_item(&item), &text);
        }
    }
}
