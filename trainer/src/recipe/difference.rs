//! Where two recipes differ, for a run that is to go on under its own.

use serde_json::Value;

use super::{PlanConfig, Recipe};

/// A value that two recipes do not share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The key, such as `data.train[0].path`.
    pub key: String,
    /// Its value in the first, as JSON; `nothing` where it has none.
    pub first: String,
    /// In the second.
    pub second: String,
}

/// The first key, in the order of a resolved recipe, whose value two recipes do not share. `plan` changes no run and does
/// not count.
///
/// # Panics
/// Never: recipes are plain data.
pub fn first_difference(first: &Recipe, second: &Recipe) -> Option<Difference> {
    let value = |recipe: &Recipe| {
        let recipe = Recipe { plan: PlanConfig::default(), ..recipe.clone() };
        serde_json::to_value(recipe).expect("a recipe is plain data")
    };
    between("", Some(&value(first)), Some(&value(second)))
}

fn between(key: &str, first: Option<&Value>, second: Option<&Value>) -> Option<Difference> {
    match (first, second) {
        (Some(Value::Object(first)), Some(Value::Object(second))) => {
            let only_second = second.keys().filter(|name| !first.contains_key(*name));
            first.keys().chain(only_second).find_map(|name| {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                between(&key, first.get(name), second.get(name))
            })
        }
        (Some(Value::Array(first)), Some(Value::Array(second))) => (0..first.len().max(second.len()))
            .find_map(|index| between(&format!("{key}[{index}]"), first.get(index), second.get(index))),
        _ if first == second => None,
        _ => {
            let told = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
            Some(Difference { key: key.to_owned(), first: told(first), second: told(second) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(set: &[&str]) -> Recipe {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.yaml");
        std::fs::write(&path, "model: {base: owner/name}\ndata: {train: [{path: /a.jsonl}]}\noutput: /run\n").unwrap();
        let set: Vec<String> = set.iter().map(|set| (*set).to_owned()).collect();
        Recipe::load(&path, &set).unwrap().recipe
    }

    #[track_caller]
    fn check(set: &[&str], expected: Option<[&str; 3]>) {
        let difference = first_difference(&recipe(&[]), &recipe(set));
        let difference = difference.map(|found| [found.key, found.first, found.second]);
        assert_eq!(difference, expected.map(|expected| expected.map(str::to_owned)));
    }

    #[test]
    fn the_first_key_that_differs_is_named() {
        check(&[], None);
        check(&["plan.device={tflops: 1.0, bandwidth: 10.0, memory: 8 GB}"], None);
        check(&["train.seed=7", "lora.rank=2"], Some(["lora.rank", "16", "2"]));
        check(&["data.train[0].path=/b.jsonl"], Some(["data.train[0].path", "\"/a.jsonl\"", "\"/b.jsonl\""]));
        let more = first_difference(&recipe(&[]), &recipe(&["data.train[1]={path: /b.jsonl}"])).unwrap();
        assert_eq!((more.key.as_str(), more.first.as_str()), ("data.train[1]", "nothing"));
    }
}
