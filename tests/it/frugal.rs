//! `greffon frugal`: the cheapest recipe that is as good.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;
use trainer::recipe::Recipe;

use crate::support::{greffon, tiny_recipe};

struct Search {
    folder: TempDir,
    recipe: String,
}

impl Search {
    fn new(set: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let validation = format!("data.validation=[{{path: {}}}]", folder.path().join("train.jsonl").display());
        let mut values = vec!["train.max_steps=8", "eval.max_new_tokens=4", "data.validation_fraction=0", &validation];
        values.extend(set);
        let recipe = tiny_recipe(folder.path(), &values);
        Self { folder, recipe }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its exit code, what it found and what it said.
    fn run(&self, arguments: &[&str]) -> (Option<i32>, Value, String) {
        let to = self.path("search");
        let to = to.to_str().expect("UTF-8");
        let out = greffon(&[&["frugal", &self.recipe, "--to", to, "--json"], arguments].concat());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code(), serde_json::from_slice(&out.stdout).unwrap_or_default(), said)
    }
}

fn runs(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).expect("the search's folder");
    entries.filter(|entry| entry.as_ref().expect("an entry").path().join("adapter").is_dir()).count()
}

#[test]
fn what_is_as_good_in_less_time_is_recommended_with_a_recipe_that_loads() {
    // Any answers are good enough, and so is any loss: steps too small to move a number.
    let search = Search::new(&["train.learning_rate=1e-30"]);
    let arguments = ["--tolerance", "100", "--parts", "0.25,0.5", "--arm", "short: train.weight_decay=0.1"];
    let (code, found, said) = search.run(&arguments);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(found["full"]["steps"], 8);
    assert_eq!(found["full"]["part"], 1.0);
    let best = &found["tried"][usize::try_from(found["recommended"].as_u64().expect("a place")).expect("small")];
    assert_eq!(best["part"], 0.25);
    assert!(best["exact_match"].is_number(), "{best}");
    let names: Vec<&str> =
        found["tried"].as_array().expect("trials").iter().map(|t| t["name"].as_str().expect("a name")).collect();
    assert!(names.iter().any(|name| name.starts_with("beginnings shared")), "{names:?}");
    for name in ["short", "half the batch", "upper half of the blocks", "PiSSA", "LoRA+"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let recommended = Recipe::load(&search.path("search/recommended.yaml"), &[]).expect("it loads").recipe;
    assert_eq!(recommended.train.max_steps, best["steps"].as_u64());
    assert!(std::fs::read_to_string(search.path("search/frontier.svg")).expect("a plot").contains("<svg"));
    assert!(search.path("search/frugal.json").is_file());

    // Again: everything is there, however fast the machine seems now.
    assert!(search.path("search/rates.json").is_file());
    let made = runs(&search.path("search"));
    assert_eq!(made, 1 + names.len());
    let (code, again, _) = search.run(&arguments);
    assert_eq!((code, &again["tried"]), (Some(0), &found["tried"]));
    assert_eq!(runs(&search.path("search")), made);
}

#[test]
fn a_budget_and_what_is_never_good_enough_end_with_exit_code_3() {
    let search = Search::new(&[]);
    let (code, found, said) = search.run(&["--max-kwh", "1e-12"]);
    assert_eq!((code, &found["recommended"]), (Some(3), &Value::Null), "{said}");
    assert_eq!((&found["is_out_of_budget"], found["tried"].as_array().map(Vec::len)), (&Value::from(true), Some(0)));
    assert!(!search.path("search/recommended.yaml").exists());
}

#[test]
fn wrong_questions_are_refused_before_anything_is_trained() {
    let search = Search::new(&[]);
    for (arguments, expected) in [
        (&["--parts", "0.5,0.25"][..], "each larger than the one before"),
        (&["--parts", "1.5"], "numbers between 0 and 1"),
        (&["--tolerance", "101"], "points from 0 to 100"),
        (&["--arm", "no values"], "expected NAME: KEY=VALUE"),
        (&["--arm", "a: lora.rnak=4"], "rank"),
    ] {
        let (code, _, said) = search.run(arguments);
        assert!(code != Some(0) && said.contains(expected), "{arguments:?}: {said}");
        assert!(!search.path("search/full").exists());
    }
    let without = Search::new(&["data.validation=[]", "data.validation_fraction=0.2"]);
    let (code, _, said) = without.run(&[]);
    assert!(code != Some(0) && said.contains("list some under data.validation"), "{said}");
}
