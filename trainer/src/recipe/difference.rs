//! Where recipes differ: for a run that is to go on under its own, and for runs that are compared.

use serde::Serialize;
use serde_json::{Map, Value};

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

/// A value that several recipes do not share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Differing {
    /// The key, such as `data.train[0].path`.
    pub key: String,
    /// Its value in each, as JSON; `None` where a recipe has none.
    pub values: Vec<Option<String>>,
}

/// The first key, in the order of a resolved recipe, whose value two recipes do not share. `plan` changes no run and does
/// not count.
///
/// # Panics
/// Never: recipes are plain data.
pub fn first_difference(first: &Recipe, second: &Recipe) -> Option<Difference> {
    let Differing { key, values } = differences(&[first, second]).into_iter().next()?;
    let mut values = values.into_iter().map(|value| value.unwrap_or_else(|| "nothing".to_owned()));
    Some(Difference { key, first: values.next()?, second: values.next()? })
}

/// Every key, in the order of a resolved recipe, whose value is not the same in all recipes. `plan` changes no run and
/// does not count.
///
/// # Panics
/// Never: recipes are plain data.
pub fn differences(recipes: &[&Recipe]) -> Vec<Differing> {
    let value = |recipe: &&Recipe| {
        let recipe = Recipe { plan: PlanConfig::default(), ..(*recipe).clone() };
        serde_json::to_value(recipe).expect("a recipe is plain data")
    };
    let values: Vec<Value> = recipes.iter().map(value).collect();
    let mut found = Vec::new();
    among("", &values.iter().map(Some).collect::<Vec<_>>(), &mut found);
    found
}

fn among(key: &str, values: &[Option<&Value>], found: &mut Vec<Differing>) {
    if values.windows(2).all(|pair| pair[0] == pair[1]) {
        return;
    }
    let objects: Option<Vec<&Map<String, Value>>> =
        values.iter().map(|value| value.and_then(Value::as_object)).collect();
    let arrays: Option<Vec<&Vec<Value>>> = values.iter().map(|value| value.and_then(Value::as_array)).collect();
    if let Some(objects) = objects {
        let mut names: Vec<&String> = Vec::new();
        for name in objects.iter().flat_map(|object| object.keys()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        for name in names {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            among(&key, &objects.iter().map(|object| object.get(name)).collect::<Vec<_>>(), found);
        }
    } else if let Some(arrays) = arrays {
        for index in 0..arrays.iter().map(|array| array.len()).max().unwrap_or(0) {
            let of_index: Vec<_> = arrays.iter().map(|array| array.get(index)).collect();
            among(&format!("{key}[{index}]"), &of_index, found);
        }
    } else {
        let values = values.iter().map(|value| value.map(Value::to_string)).collect();
        found.push(Differing { key: key.to_owned(), values });
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

    #[test]
    fn every_key_that_differs_is_told_with_its_value_in_each() {
        let recipes = [recipe(&[]), recipe(&["lora.rank=2", "train.seed=7"]), recipe(&["lora.rank=2"])];
        let found = differences(&recipes.each_ref());
        let told = |key: &str, values: [&str; 3]| Differing {
            key: key.to_owned(),
            values: values.map(|value| Some(value.to_owned())).into(),
        };
        assert_eq!(found, [told("lora.rank", ["16", "2", "2"]), told("train.seed", ["0", "7", "0"])]);
        assert_eq!(differences(&[&recipes[0], &recipes[0]]), []);
    }
}
