//! `--set`: what it can do, and what is said when it cannot.

use adapters::{TargetModule, Targets};

use super::{SMALL, load, refusal};

#[test]
fn values_are_laid_over_the_recipe_in_their_order() {
    let text = format!("{SMALL}train: {{learning_rate: 1e-3}}\n");
    let set = [
        "train.learning_rate=3e-4",
        "train.learning_rate=1e-4",
        "lora.targets=[q_proj,v_proj]",
        "train.betas=[0.8, 0.9]",
        "data.system_prompt=\"Answer: yes\"",
        "eval={max_new_tokens: 5, batch_size: 2}",
        "eval.batch_size=3",
        "train.eval_every=",
        "data.train.0.limit=7",
        "data.train[0].weight=0.5",
        "device=cuda:1",
    ];
    let loaded = load(&text, &set).unwrap();
    let recipe = &loaded.recipe;
    assert!((recipe.train.learning_rate - 1e-4).abs() < 1e-18);
    assert_eq!(recipe.lora.targets, Targets::Modules(vec![TargetModule::QProj, TargetModule::VProj]));
    assert!((recipe.train.betas[0] - 0.8).abs() < 1e-18);
    assert_eq!(recipe.data.system_prompt.as_deref(), Some("Answer: yes"));
    assert_eq!((recipe.eval.max_new_tokens, recipe.eval.batch_size), (5, 3));
    assert_eq!(recipe.train.eval_every, None);
    assert_eq!(recipe.data.train[0].limit, Some(7));
    assert!((recipe.data.train[0].weight - 0.5).abs() < 1e-18);
    assert_eq!(recipe.device, "cuda:1");
    assert!(recipe.resolved_yaml().contains("learning_rate: 0.0001\n"));
    assert_eq!(loaded.text, text);
}

#[test]
fn an_override_can_complete_a_recipe() {
    let loaded = load("train: {epochs: 2}\n", &["model.base=a/b", "data.train.0.path=/data/x.jsonl"]).unwrap();
    assert_eq!(loaded.recipe.model.base, "a/b");
    assert_eq!(loaded.recipe.data.train[0].path.as_deref(), Some("/data/x.jsonl".as_ref()));
    let loaded = load(SMALL, &["data.train.1.path=/data/y.jsonl"]).unwrap();
    assert_eq!(loaded.recipe.data.train.len(), 2);
}

#[test]
fn paths_of_an_override_start_at_the_current_folder() {
    let loaded = load(SMALL, &["data.validation.0.path=v.jsonl", "output=out/x", "model.base=./m.gguf"]).unwrap();
    let current = std::fs::canonicalize(".").unwrap();
    assert_eq!(loaded.recipe.data.validation[0].path, Some(current.join("v.jsonl")));
    assert_eq!(loaded.recipe.data.train[0].path, Some(loaded.root.join("x.jsonl")));
    assert_eq!(loaded.recipe.output, current.join("out/x"));
    assert_eq!(loaded.recipe.model.base, current.join("m.gguf").to_str().unwrap());
}

#[track_caller]
fn refused(set: &str, expected: &str) {
    assert_eq!(refusal(SMALL, &[set]), format!("--set {set}: {expected}"));
}

#[test]
fn an_unknown_key_gets_a_suggestion() {
    refused("train.learning_rat=1", "unknown key `learning_rat` in `train`; did you mean `learning_rate`?");
    refused("trian.epochs=1", "unknown key `trian` at the top level; did you mean `train`?");
    refused("rank=8", "unknown key `rank` at the top level; `rank` belongs in `lora`");
}

#[test]
fn a_wrong_value_is_refused_as_in_the_file() {
    refused("train.learning_rate=abc", "train.learning_rate: expected a number, got the text \"abc\"");
    refused("train.learning_rate=9", "train.learning_rate: expected a number above 0 and at most 1, got 9");
    refused(
        "lora.rank=\"8\"",
        "lora.rank: expected a whole number of at least 0, got the text \"8\"; remove the quotes",
    );
    refused("model.base=", "model.base: expected a text, got nothing");
    refused(
        "data.train.0.prompt={context}",
        "data.train[0].prompt: expected a text, got a section with the keys context; put it in quotes",
    );
}

#[test]
fn what_is_no_override_is_refused() {
    refused("train.epochs", "expected KEY=VALUE, for example --set train.learning_rate=1e-4");
    let no_key = "is no key, expected one such as train.learning_rate or data.train[0].path";
    refused("=1", &format!("`` {no_key}"));
    refused("train..epochs=1", &format!("`train..epochs` {no_key}"));
    refused("data.train[x].path=1", &format!("`data.train[x].path` {no_key}"));
    refused("data.train[0.path=1", &format!("`data.train[0.path` {no_key}"));
    refused(
        "lora.targets=[q_proj",
        "the value is not valid YAML: unclosed bracket '['; \
         put a text with special characters in quotes: --set 'KEY=\"...\"'",
    );
    refused("lora={rank: 1, rank: 2}", "the key `rank` stands twice in the value, remove one");
}

#[test]
fn a_way_that_is_not_there_is_refused() {
    refused(
        "data.train.5.path=y.jsonl",
        "`data.train` holds 1, expected an index from 0 to 1; the last one adds an entry",
    );
    refused(
        "data.train.first=1",
        "`data.train` is a list, expected an index from 0 to 0 instead of `first`, as in data.train[0]",
    );
    refused("model.base.x=1", "`model.base` is the text \"owner/name\", it has no key `x`");
    refused("model[0]=1", "`model` is a section with the keys base, it has no entry 0");
    refused(
        "train.betas[1]=0.5",
        "`train.betas` is not written in the recipe, set it as a whole: --set train.betas=[...]",
    );
    refused(
        "data.train.99999999999.path=y",
        "`data.train` holds 1, expected an index from 0 to 1; the last one adds an entry",
    );
}
