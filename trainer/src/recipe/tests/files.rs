//! Paths, `check` and `init`.

use std::fs;
use std::path::{Path, PathBuf};

use datasets::Format;

use super::super::init::{init_recipe, recipe_text};
use super::super::{Recipe, RecipeError, schema};
use super::{SMALL, load, load_in};

const COMMIT: &str = "12fd25f77366fa6b3b4b768ec3050bf629380bac";

/// A folder with data for a recipe.
fn folder_with_data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let record = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    fs::write(folder.path().join("x.jsonl"), record.repeat(20)).unwrap();
    fs::write(folder.path().join("v.jsonl"), record).unwrap();
    folder
}

#[test]
fn paths_start_at_the_folder_of_the_recipe() {
    let folder = folder_with_data();
    let text = "\
model: {base: ../models/m.gguf, adapter: ./adapter}
data:
  train: [{path: x.jsonl}, {path: /data/y.jsonl}]
  validation: [{path: ../v.jsonl}]
  chat_template: chat.jinja
eval: {test: [{path: sub/../t.jsonl}]}
output: ../../runs/r
";
    let inside = folder.path().join("a/b");
    fs::create_dir_all(&inside).unwrap();
    let loaded = load_in(&inside, text, &[]).unwrap();
    let root = fs::canonicalize(&inside).unwrap();
    let top = fs::canonicalize(folder.path()).unwrap();
    let recipe = loaded.recipe;
    assert_eq!(loaded.root, root);
    assert_eq!(loaded.path, inside.join("recipe.yaml"));
    assert_eq!(recipe.model.base, top.join("a/models/m.gguf").to_str().unwrap());
    assert_eq!(recipe.model.adapter, Some(root.join("adapter")));
    assert_eq!(recipe.data.train[0].path, Some(root.join("x.jsonl")));
    assert_eq!(recipe.data.train[1].path, Some(PathBuf::from("/data/y.jsonl")));
    assert_eq!(recipe.data.validation[0].path, Some(top.join("a/v.jsonl")));
    assert_eq!(recipe.data.chat_template, Some(root.join("chat.jinja")));
    assert_eq!(recipe.eval.test[0].path, Some(root.join("sub/../t.jsonl")));
    assert_eq!(recipe.output, top.join("runs/r"));
}

#[test]
fn a_base_is_a_path_where_there_is_one_and_else_a_hub_name() {
    let folder = folder_with_data();
    let base = |name: &str| {
        let text = SMALL.replace("owner/name", name);
        load_in(folder.path(), text, &[]).unwrap().recipe.model.base
    };
    assert_eq!(base("owner/name"), "owner/name");
    fs::create_dir_all(folder.path().join("owner/name")).unwrap();
    let root = fs::canonicalize(folder.path()).unwrap();
    assert_eq!(base("owner/name"), root.join("owner/name").to_str().unwrap());
    assert_eq!(base("models/m.gguf"), root.join("models/m.gguf").to_str().unwrap());
    assert_eq!(base("/models/m"), "/models/m");
    assert_eq!(base("name"), root.join("name").to_str().unwrap());
}

#[test]
fn the_output_is_named_after_the_recipe() {
    let folder = folder_with_data();
    let output = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, SMALL).unwrap();
        Recipe::load(&path, &[]).unwrap().recipe.output
    };
    let runs = fs::canonicalize(".").unwrap().join("runs");
    assert_eq!(output("quickstart/recipe.yaml"), runs.join("quickstart"));
    assert_eq!(output("quickstart/french.yaml"), runs.join("french"));
    assert_eq!(output("quickstart/two.parts.yaml"), runs.join("two.parts"));
}

/// The message of `check` without the folder of the recipe.
#[track_caller]
fn file_problems(folder: &Path, text: &str) -> String {
    let error = load_in(folder, text, &[]).unwrap().check().unwrap_err();
    assert!(matches!(error, RecipeError::Files { .. }));
    let root = fs::canonicalize(folder).unwrap();
    error.to_string().replace(&format!("{}/", root.display()), "").replace(&format!("{}/", folder.display()), "")
}

#[test]
fn all_missing_files_are_told_at_once() {
    let folder = folder_with_data();
    fs::create_dir_all(folder.path().join("empty")).unwrap();
    let text = "\
model: {base: m.gguf, adapter: empty}
data:
  train: [{path: absent.jsonl}, {path: empty}, {path: x.jsonl}]
  chat_template: chat.jinja
eval: {test: [{path: ~/t.jsonl}]}
";
    assert_eq!(
        file_problems(folder.path(), text),
        "\
recipe.yaml:1:15: model.base: m.gguf: no such file or folder, expected a Hugging Face folder, a .gguf file, or a hub name \
         owner/name
recipe.yaml:1:32: model.adapter: empty: the folder has no adapter_config.json, expected a PEFT folder
recipe.yaml:4:18: data.chat_template: chat.jinja: no such file, expected a Jinja file
recipe.yaml:3:18: data.train[0].path: absent.jsonl: no such file, expected a file of conversations (.jsonl, .json or \
         .parquet)
recipe.yaml:3:40: data.train[1].path: empty: this is a folder, expected a file of conversations (.jsonl, .json or \
         .parquet)
recipe.yaml:5:22: eval.test[0].path: ~/t.jsonl: no such file, expected a file of conversations (.jsonl, .json or .parquet); \
         `~` is not expanded in a recipe, write the whole path"
    );
}

#[test]
fn a_base_that_is_no_model_is_refused() {
    let folder = folder_with_data();
    let check = |base: &str| file_problems(folder.path(), &SMALL.replace("owner/name", base));
    assert!(
        check("x.jsonl").contains("model.base: x.jsonl: the file's name does not end in .gguf, expected a Hugging")
    );
    fs::create_dir_all(folder.path().join("model")).unwrap();
    assert!(
        check("model").contains("model.base: model: the folder has no config.json, expected a Hugging Face folder")
    );
    fs::write(folder.path().join("model/config.json"), "{}").unwrap();
    load_in(folder.path(), SMALL.replace("owner/name", "model"), &[]).unwrap().check().unwrap();
}

#[test]
fn a_path_that_starts_at_the_current_folder_is_recognised() {
    let folder = folder_with_data();
    let message = file_problems(folder.path(), &SMALL.replace("x.jsonl", "Cargo.toml"));
    assert!(
        message.ends_with("; there is Cargo.toml in the current folder, but paths start at the recipe's folder"),
        "{message}"
    );
}

fn warnings(folder: &Path, text: &str) -> Vec<String> {
    let report = load_in(folder, text, &[]).unwrap().check().unwrap();
    let root = fs::canonicalize(folder).unwrap();
    report.warnings.iter().map(|warning| warning.replace(&format!("{}/", root.display()), "")).collect()
}

#[test]
fn a_sound_recipe_has_no_warning_and_a_summary() {
    let folder = folder_with_data();
    fs::write(folder.path().join("t.jsonl"), "{}\n").unwrap();
    let text = format!(
        "model: {{base: owner/name, revision: {COMMIT}}}\ndata: {{train: [{{path: x.jsonl}}], validation: [{{path: \
         v.jsonl}}]}}\neval: {{test: [{{path: t.jsonl}}]}}\noutput: run\n"
    );
    assert_eq!(warnings(folder.path(), &text), [""; 0]);
    let report = load_in(folder.path(), &text, &[]).unwrap().check().unwrap();
    let root = fs::canonicalize(folder.path()).unwrap();
    let expected = [
        ("base", format!("owner/name at {COMMIT}")),
        ("training data", "1 source, at most 1024 tokens an example".to_owned()),
        ("validation", "1 source".to_owned()),
        ("test", "1 source".to_owned()),
        ("adapter", "rank 16, alpha 32, on q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj".to_owned()),
        ("training", "1 epoch of 16 conversations a step, learning rate 2e-4".to_owned()),
        ("forgetting", "asks the suite quick".to_owned()),
        ("device", "flex".to_owned()),
        ("output", root.join("run").display().to_string()),
    ];
    assert_eq!(report.summary, expected);
}

#[test]
fn what_users_regret_is_warned_about() {
    let folder = folder_with_data();
    fs::create_dir_all(folder.path().join("run")).unwrap();
    fs::write(folder.path().join("run/recipe.yaml"), "").unwrap();
    let text = "\
model: {base: owner/name, revision: v1}
data:
  train: [{path: v.jsonl}]
eval: {test: [{path: v.jsonl}, {hub: {dataset: a/b, file: x.jsonl}}]}
train: {learning_rate: 0.01}
output: run
";
    assert_eq!(
        warnings(folder.path(), text),
        [
            "model.revision: owner/name at v1 can change on the hub; name a commit of 40 hexadecimal digits to pin it",
            "eval.test[1].hub.revision: a/b at main can change on the hub; name a commit of 40 hexadecimal digits to \
             pin it",
            "eval.test[0]: the same file as data.train[0], so its figures say nothing about new questions",
            "data.validation: none, so no loss is measured during the run and the last adapter is the result; \
             set data.validation_fraction to 0.1 to set a tenth aside",
            "data.train: 1 record, fewer than the 16 of train.global_batch_size",
            "train.learning_rate: 1e-2 is far above what LoRA usually takes (1e-5 to 1e-3)",
            "output: run holds a run already",
        ]
    );
    let text = SMALL.replace("owner/name", "m.gguf\n  revision: v1\n  adapter: a") + "lora: {rank: 8}\noutput: new\n";
    fs::write(folder.path().join("m.gguf"), "").unwrap();
    fs::create_dir_all(folder.path().join("a")).unwrap();
    fs::write(folder.path().join("a/adapter_config.json"), "{}").unwrap();
    assert_eq!(
        warnings(folder.path(), &text)[..2],
        [
            "model.revision: without effect, m.gguf is not on the hub",
            "lora: rank, alpha and targets are without effect, those of model.adapter hold",
        ]
    );
}

#[test]
fn the_recipe_of_init_loads_and_has_a_comment_for_each_key() {
    let folder = folder_with_data();
    let text = init_recipe("owner/name", &folder.path().join("x.jsonl")).unwrap();
    let recipe = load_in(folder.path(), &text, &[]).unwrap().recipe;
    assert_eq!(recipe.data.train[0].format, Format::PromptCompletion);
    assert_eq!(recipe.data.train[0].path, Some(folder.path().join("x.jsonl")));
    let mut plain = load(SMALL, &["data.validation_fraction=0.1"]).unwrap().recipe;
    plain.data.train.clone_from(&recipe.data.train);
    plain.output.clone_from(&recipe.output);
    assert_eq!(recipe, plain, "all else is as by default");

    let lines: Vec<_> = text.lines().collect();
    let mut keys = 0;
    for (i, line) in lines.iter().enumerate() {
        let line = line.trim_start().trim_start_matches("- ");
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let above = lines[i - 1].trim_start();
        assert!(above.starts_with("# ") && above.len() > 10, "{line:?} has no comment");
        keys += 1;
    }
    let sections = schema()["properties"].as_object().unwrap().len();
    assert!(keys > 40 + sections, "{keys}");
}

#[test]
fn init_quotes_what_yaml_would_misread() {
    let folder = folder_with_data();
    for base in ["a: b/c", "#x", "null", "no", "1e5", "model's \"best\"", "é/ü", "~/m", "a/b #c", "line\nbreak"] {
        let text = recipe_text(base, Path::new("/d/- x: #1.jsonl"), Format::Messages);
        let recipe = load_in(folder.path(), &text, &[]).map_err(|error| format!("{error}\n{text}")).unwrap().recipe;
        assert!(recipe.model.base.ends_with(base), "{base}");
        assert_eq!(recipe.data.train[0].path.as_deref(), Some(Path::new("/d/- x: #1.jsonl")));
    }
}

#[test]
fn init_refuses_data_that_is_not_there() {
    let error = init_recipe("owner/name", Path::new("absent.jsonl")).unwrap_err().to_string();
    assert!(error.starts_with("absent.jsonl: "), "{error}");
}
