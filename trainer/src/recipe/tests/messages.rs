//! Each way in which a recipe can be wrong, and what is said then.

use std::error::Error as _;
use std::fmt::Write as _;
use std::path::Path;

use super::super::{Recipe, RecipeError};
use super::{SMALL, load, refusal};

/// Checks the message for the smallest recipe with something after it, from its sixth line on.
#[track_caller]
fn refused(rest: &str, expected: &str) {
    assert_eq!(refusal(format!("{SMALL}{rest}"), &[]), expected);
}

#[test]
fn a_misspelt_key_gets_its_line_and_a_suggestion() {
    refused(
        "train:\n  learning_rat: 1e-4\n",
        "recipe.yaml:7:3: unknown key `learning_rat` in `train`; did you mean `learning_rate`?\n  \
           7 |   learning_rat: 1e-4\n    \
             |   ^",
    );
    refused(
        "trian:\n  epochs: 1\n",
        "recipe.yaml:6:1: unknown key `trian` at the top level; did you mean `train`?\n  \
           6 | trian:\n    \
             | ^",
    );
}

#[test]
fn a_key_in_the_wrong_section_is_sent_home() {
    refused(
        "train:\n  rank: 8\n",
        "recipe.yaml:7:3: unknown key `rank` in `train`; `rank` belongs in `lora`\n  7 |   rank: 8\n    |   ^",
    );
    refused(
        "train:\n  device: cuda\n",
        "recipe.yaml:7:3: unknown key `device` in `train`; `device` belongs at the top level\n  \
           7 |   device: cuda\n    |   ^",
    );
}

#[test]
fn a_strange_key_gets_the_known_ones() {
    refused(
        "eval:\n  colour: red\n",
        "recipe.yaml:7:3: unknown key `colour` in `eval`; \
         known keys are test, max_new_tokens, batch_size, temperature, limit, group_by, num_fewshot\n  \
           7 |   colour: red\n    |   ^",
    );
    let message = refusal("model: {base: a/b}\ndata: {train: [{pth: x.jsonl}]}\n", &[]);
    assert!(message.starts_with("recipe.yaml:2:17: unknown key `pth` in `data.train[0]`; did you mean `path`?"));
}

#[test]
fn a_number_in_quotes_is_refused_with_the_remedy() {
    refused(
        "train:\n  learning_rate: \"2e-4\"\n",
        "recipe.yaml:7:18: train.learning_rate: expected a number, got the text \"2e-4\"; remove the quotes\n  \
           7 |   learning_rate: \"2e-4\"\n    |                  ^",
    );
    refused(
        "lora:\n  rank: '8'\n",
        "recipe.yaml:7:9: lora.rank: expected a whole number of at least 0, got the text \"8\"; remove the quotes\n  \
           7 |   rank: '8'\n    |         ^",
    );
}

#[test]
fn numbers_are_read_in_every_usual_spelling() {
    for (spelling, value) in
        [("2e-4", 2e-4), ("1e-4", 1e-4), ("2E-4", 2e-4), ("2.0e-4", 2e-4), ("0.0002", 2e-4), ("1", 1.0)]
    {
        let loaded = load(&format!("{SMALL}train:\n  learning_rate: {spelling}\n"), &[]).unwrap();
        assert!((loaded.recipe.train.learning_rate - value).abs() < 1e-18, "{spelling}");
    }
}

#[test]
fn wrong_types_are_named_in_plain_words() {
    let check = |rest: &str, expected: &str| {
        let message = refusal(format!("{SMALL}{rest}"), &[]);
        let first = message.lines().next().unwrap();
        assert_eq!(first.split_once(": ").unwrap().1, expected);
    };
    check("train: {epochs: many}", "train.epochs: expected a number, got the text \"many\"");
    check("train: {epochs: }", "train.epochs: expected a number, got nothing; remove the key to get its default");
    check("train: {max_steps: -1}", "train.max_steps: expected a whole number of at least 0, got the number -1");
    check("train: {max_steps: 1.5}", "train.max_steps: expected a whole number of at least 0, got the number 1.5");
    check(
        "train: {max_steps: 1e3}",
        "train.max_steps: expected a whole number of at least 0, got the number 1000.0; \
         write it without a point or an exponent",
    );
    check(
        "train: {max_steps: 99999999999999999999}",
        "train.max_steps: expected a whole number of at least 0, got the number 1e20",
    );
    check(
        "train: {schedule: cosin}",
        "train.schedule: expected one of cosine, linear, constant, got the text \"cosin\"; did you mean `cosine`?",
    );
    check("train: {schedule: 3}", "train.schedule: expected one of cosine, linear, constant, got the number 3");
    check("train: {betas: [0.9]}", "train.betas: expected a list of 2, got a list of 1");
    check("train: {betas: [0.9, x]}", "train.betas[1]: expected a number, got the text \"x\"");
    check(
        "lora: [8]",
        "lora: expected a section with keys among rank, alpha, dropout, targets, use_rslora, use_dora, train_norms, init, rank_pattern, \
         alpha_pattern, loraplus_lr_ratio, got a list of 1",
    );
    check(
        "lora: {targets: [q_porj]}",
        "lora.targets: unknown module `q_porj`, expected one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, \
         down_proj, embed_tokens, lm_head; did you mean `q_proj`?",
    );
    check(
        "lora: {targets: 3}",
        "lora.targets: expected `all-linear` or a list of module names such as [q_proj, v_proj], got the number 3",
    );
    check(
        "eval: {test: x.jsonl}",
        "eval.test: expected a list, got the text \"x.jsonl\"; \
         put the values in brackets, or each on its own line after a dash",
    );
    check(
        "eval: {test: {path: x.jsonl}}",
        "eval.test: expected a list, got a section with the keys path; \
         begin each entry with a dash",
    );
    check("eval: {test: }", "eval.test: expected a list, got nothing; write [] for an empty one");
    let expected = "expected a number with a unit, such as 2 GiB or 1.5GB, got the text";
    check("train: {memory: 2 gigs}", &format!("train.memory: {expected} \"2 gigs\""));
    check("train: {memory: '2'}", &format!("train.memory: {expected} \"2\""));
    check(
        "train: {activation_checkpointing: blocks}",
        "train.activation_checkpointing: expected one of none, block, auto, got the text \"blocks\"; \
         did you mean `block`?",
    );
    check("kernels: slow", "kernels: expected one of fused, bf16, reference, got the text \"slow\"");
    check("device: 3", "device: expected a text, got the number 3; put it in quotes");
    check("device: {context}", "device: expected a text, got a section with the keys context; put it in quotes");
    let packing = |value: &str| refusal(format!("model: {{base: a/b}}\ndata: {{train: [], packing: {value}}}"), &[]);
    assert!(packing("yes").contains("data.packing: expected true or false, got the text \"yes\"\n"));
    assert!(
        packing("'true'").contains("data.packing: expected true or false, got the text \"true\"; remove the quotes")
    );
}

#[test]
fn a_missing_key_says_what_it_is_for() {
    assert_eq!(
        refusal("model:\n  base: a/b\n", &[]),
        "recipe.yaml: the key `data` is missing: what the model is trained and validated on"
    );
    assert_eq!(
        refusal("model:\ndata:\n  train: []\n", &[]),
        "recipe.yaml:1:6: the key `model.base` is missing: \
         the base model: a Hugging Face folder, a `.gguf` file, or a hub name `owner/name`"
    );
    let hub = "model: {base: a/b}\ndata:\n  train:\n    - hub: {dataset: a/b}\n";
    assert!(refusal(hub, &[]).starts_with("recipe.yaml:4:12: the key `data.train[0].hub.file` is missing: the file"));
}

#[test]
fn a_key_that_stands_twice_is_refused() {
    refused(
        "train:\n  epochs: 1\n  epochs: 2\n",
        "recipe.yaml:8:3: the key `epochs` stands twice in its section, remove one\n  8 |   epochs: 2\n    |   ^",
    );
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    refused("train: [a\n", "recipe.yaml:6:8: not valid YAML: unclosed bracket '['\n  6 | train: [a\n    |        ^");
    let tab = refusal(format!("{SMALL}train:\n\tepochs: 1\n"), &[]);
    assert!(tab.starts_with("recipe.yaml:7:2: not valid YAML: tabs "), "{tab}");
    assert!(tab.contains("; indent with spaces\n"), "{tab}");
    assert!(!tab.contains('\t'), "{tab}");
    refused(
        "---\ndevice: flex\n",
        "recipe.yaml:7:1: a second document starts here, expected one; remove the `---`\n  7 | device: flex\n    | ^",
    );
    refused(
        "train:\n  learning_rate: .nan\n",
        "recipe.yaml:7:18: got the number .nan, expected a finite one\n  7 |   learning_rate: .nan\n    |                  ^",
    );
    assert!(refusal("hello\n", &[]).starts_with(
        "recipe.yaml:1:1: the recipe: expected a section with keys among model, data, lora, train, eval, forgetting, device, \
         kernels, cluster, energy, plan, tracking, output, got the text \"hello\""
    ));
}

#[test]
fn an_empty_recipe_is_refused() {
    for text in ["", "\n\n", "# only a comment\n", "---\n", "\u{feff}\n", "null\n", "~"] {
        assert_eq!(
            refusal(text, &[]),
            "recipe.yaml: the recipe is empty, expected at least `model.base` and `data.train`; \
             `greffon init` writes one",
            "{text:?}"
        );
    }
}

#[test]
fn files_that_are_no_text_are_refused() {
    assert_eq!(
        refusal(b"model:\n  base: caf\xe9\n", &[]),
        "recipe.yaml:2: the line is not valid UTF-8, save the file as UTF-8"
    );
    let folder = tempfile::tempdir().unwrap();
    let message = Recipe::load(folder.path(), &[]).unwrap_err().to_string();
    assert_eq!(message, format!("{}: this is a folder, expected the recipe's file", folder.path().display()));
    std::fs::write(folder.path().join("recipe.yaml"), SMALL).unwrap();
    let message = Recipe::load(folder.path(), &[]).unwrap_err().to_string();
    assert!(message.ends_with(&format!(" such as {}/recipe.yaml", folder.path().display())), "{message}");
    let absent = Recipe::load(&folder.path().join("absent.yaml"), &[]).unwrap_err();
    assert!(absent.to_string().ends_with("absent.yaml: the recipe cannot be read"), "{absent}");
    assert!(absent.source().unwrap().to_string().contains("No such file"), "{absent}");
    assert!(matches!(Recipe::load(Path::new("/dev/zero"), &[]), Err(RecipeError::TooLarge { .. })));
}

#[test]
fn a_recipe_cannot_cost_more_than_a_recipe() {
    let mut bomb = format!("{SMALL}a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        writeln!(bomb, "a{level}: &a{level} [{}]", vec![below; 10].join(", ")).unwrap();
    }
    for text in [bomb, "[".repeat(100_000), "- ".repeat(10_000), "{a: ".repeat(100_000)] {
        let message = refusal(&text, &[]);
        assert!(
            message.contains(
                "too much for a recipe: it is nested too deeply, too long, or its anchors expand to too many values"
            ),
            "{message}"
        );
        assert!(message.len() < 500, "{message}");
    }
    let long = refusal(format!("{SMALL}{}\n", "x: 1\n".repeat(1 << 18)), &[]);
    assert_eq!(long, "recipe.yaml: the file is larger than 1048576 bytes, expected a recipe in YAML");
}

#[test]
fn all_values_out_of_range_are_told_at_once() {
    let text = "\
model: {base: '', revision: ''}
data:
  train:
    - {path: x.jsonl, weight: 0, limit: 0}
    - {}
    - {path: '', hub: {dataset: a/b, file: x}}
  max_length: 1
  validation_fraction: 2
lora: {rank: 0, alpha: -1, dropout: 1}
train:
  epochs: 0
  max_steps: 0
  global_batch_size: 0
  micro_batch_size: 0
  memory: 0 GB
  learning_rate: 5
  warmup_ratio: 1.5
  warmup_steps: 9
  weight_decay: -0.1
  betas: [1, -0.1]
  eps: 0
  max_grad_norm: -1
  eval_every: 0
  save_every: 0
  keep_checkpoints: 0
  early_stopping: 0
eval:
  test: [{path: t.jsonl, weight: -1}]
  max_new_tokens: 0
  batch_size: 0
  temperature: -1
  limit: 0
device: gpu
energy: {country: FR, grams_per_kwh: -1, pue: 0.9, cpu_watts: 0, max_kwh: 0}
plan: {device: {tflops: 0, bandwidth: -1, memory: 0 B}}
tracking:
  mlflow: {url: 'https://me:secret@host/x', experiment: '', tags: {greffon.x: y}, parent_run: a b, alias: v2}
  prometheus: {textfile: /x/greffon.txt}
";
    let expected = "\
recipe.yaml:1:15: model.base: expected a Hugging Face folder, a .gguf file, or a hub name owner/name, got \"\"
recipe.yaml:1:29: model.revision: expected a commit or tag, or null, got \"\"
recipe.yaml:8:24: data.validation_fraction: expected a number in [0, 1), got 2
recipe.yaml:7:15: data.max_length: expected at least 2 tokens: one to read and one to predict, got 1
recipe.yaml:4:31: data.train[0].weight: expected a number above 0 and at most 1000, got 0
recipe.yaml:4:41: data.train[0].limit: expected at least 1, or null for the whole file, got 0
recipe.yaml:5:7: data.train[1]: expected exactly one of them, got neither path nor hub
recipe.yaml:6:7: data.train[2]: expected exactly one of them, got both path and hub
recipe.yaml:9:14: lora.rank: expected a whole number from 1 to 512, got 0
recipe.yaml:9:24: lora.alpha: expected a finite number above 0 (twice the rank is usual), got -1
recipe.yaml:9:37: lora.dropout: expected a number from 0 (off) to below 1, got 1
recipe.yaml:11:11: train.epochs: expected a number above 0 and at most 10000, got 0
recipe.yaml:12:14: train.max_steps: expected at least 1, or null, got 0
recipe.yaml:13:22: train.global_batch_size: expected at least 1, got 0
recipe.yaml:14:21: train.micro_batch_size: expected at least 1, got 0
recipe.yaml:15:11: train.memory: expected more than 0 B, or null, got 0
recipe.yaml:16:18: train.learning_rate: expected a number above 0 and at most 1, got 5
recipe.yaml:17:17: train.warmup_ratio: expected a number from 0 to 1, got 1.5
recipe.yaml:18:17: train.warmup_steps: expected at most train.max_steps, which is 0, got 9
recipe.yaml:19:17: train.weight_decay: expected a number from 0 to 1, got -0.1
recipe.yaml:20:11: train.betas[0]: expected a number from 0 to below 1, got 1
recipe.yaml:20:14: train.betas[1]: expected a number from 0 to below 1, got -0.1
recipe.yaml:21:8: train.eps: expected a number above 0 and at most 0.1, got 0
recipe.yaml:22:18: train.max_grad_norm: expected a finite number of at least 0 (off), got -1
recipe.yaml:23:15: train.eval_every: expected at least 1, or null, got 0
recipe.yaml:24:15: train.save_every: expected at least 1, or null, got 0
recipe.yaml:25:21: train.keep_checkpoints: expected at least 1, got 0
recipe.yaml:26:19: train.early_stopping: expected at least 1, or null, got 0
recipe.yaml:29:19: eval.max_new_tokens: expected at least 1, got 0
recipe.yaml:30:15: eval.batch_size: expected at least 1, got 0
recipe.yaml:31:16: eval.temperature: expected a number from 0 to 10, got -1
recipe.yaml:32:10: eval.limit: expected at least 1, or null, got 0
recipe.yaml:28:34: eval.test[0].weight: expected a number above 0 and at most 1000, got -1
recipe.yaml:34:19: energy.country: expected the three letters of a country, such as FRA, got \"FR\"
recipe.yaml:34:38: energy.grams_per_kwh: expected a number from 0 to 5000, got -1
recipe.yaml:34:47: energy.pue: expected a number from 1 to 10, got 0.9
recipe.yaml:34:63: energy.cpu_watts: expected a number above 0 and at most 10000, got 0
recipe.yaml:34:75: energy.max_kwh: expected a number above 0, got 0
recipe.yaml:35:25: plan.device.tflops: expected a number above 0 and at most 1000000, got 0
recipe.yaml:35:39: plan.device.bandwidth: expected a number above 0 and at most 1000000, got -1
recipe.yaml:35:51: plan.device.memory: expected more than 0 B, got \"0 B\"
recipe.yaml:37:17: tracking.mlflow.url: expected an address without a user's name or password; they go into the environment \
variables MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, got \"https://…@host/x\"
recipe.yaml:37:57: tracking.mlflow.experiment: expected a name of at most 250 bytes, got \"\"
recipe.yaml:37:67: tracking.mlflow.tags: expected keys of letters, digits, spaces and any of _-./: that do not begin with \
greffon., which are the run's own, got \"greffon.x\"
recipe.yaml:37:95: tracking.mlflow.parent_run: expected the id of an MLflow run, got \"a b\"
recipe.yaml:37:107: tracking.mlflow.alias: expected letters, digits, _ and -, neither latest nor a version such as v2, got \
\"v2\"
recipe.yaml:38:26: tracking.prometheus.textfile: expected a file whose name ends in .prom: the collector reads no other, \
got \"/x/greffon.txt\"
recipe.yaml:33:9: device: expected flex, cuda, cuda:N, vulkan, vulkan:N, webgpu or libtorch, got \"gpu\"";
    let got = refusal(text, &[]);
    for (got, expected) in got.lines().zip(expected.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.lines().count(), expected.lines().count());
}

#[test]
fn an_empty_list_of_sources_is_out_of_range() {
    assert_eq!(
        refusal("model: {base: a/b}\ndata: {train: []}\n", &[]),
        "recipe.yaml:2:15: data.train: expected at least one source, got an empty list"
    );
}

#[test]
fn what_is_replayed_must_be_there_and_serve_something() {
    let of = |forgetting: &str| refusal(format!("{SMALL}forgetting: {forgetting}\n"), &[]);
    assert_eq!(
        of("{replay: {sources: []}}"),
        "recipe.yaml:6:32: forgetting.replay.sources: expected at least one source, got 0"
    );
    assert_eq!(
        of("{replay: {sources: [{path: a.jsonl, weight: 0}], weight: 0}}"),
        "recipe.yaml:6:70: forgetting.replay.weight: expected above 0, since without kl_weight the replayed conversations \
         would serve nothing, got 0\n\
         recipe.yaml:6:57: forgetting.replay.sources[0].weight: expected a number above 0 and at most 1000, got 0"
    );
    assert_eq!(
        of("{kl_weight: 1}"),
        "recipe.yaml:6:25: forgetting.kl_weight: expected 0, since there is nothing to measure it on; set \
         forgetting.replay, got 1"
    );
    let text = format!("{SMALL}forgetting: {{replay: {{sources: [{{path: a.jsonl}}], weight: 0}}, kl_weight: 1}}\n");
    load(&text, &[]).unwrap();
}

#[test]
fn early_stopping_needs_validation_data() {
    let text = format!("{SMALL}train: {{early_stopping: 3}}\n");
    assert_eq!(
        refusal(&text, &[]),
        "recipe.yaml:6:25: train.early_stopping: expected null, since there is no validation data; \
         name some under data.validation, or set aside a data.validation_fraction, got 3"
    );
    load(&text, &["data.validation_fraction=0.1"]).unwrap();
    load(&text, &["data.validation.0.path=v.jsonl"]).unwrap();
}

#[test]
fn a_long_or_hostile_line_is_shown_in_part_and_without_controls() {
    let message = refusal(format!("{SMALL}train: {{epochs: {}}}\n", "x".repeat(5000)), &[]);
    assert!(message.len() < 500, "{message}");
    let far = refusal(format!("{SMALL}train: {{seed:{}1, colour: 2}}\n", " ".repeat(5000)), &[]);
    assert!(far.lines().all(|line| line.chars().count() < 400), "{far}");
    assert!(far.contains("colour: 2}"), "{far}");
    let hostile = refusal(format!("{SMALL}\"\\e[31m\": 1\n"), &[]);
    assert!(!hostile.contains('\u{1b}'), "{hostile:?}");
}
