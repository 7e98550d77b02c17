//! The `greffon` command as a person and a script meet it: help, output, pipes, and what each verb makes.

use std::path::{Path, PathBuf};
use std::process::Output;

use adapters::export::gguf_lora::read_gguf_lora;
use burn::tensor::Device;
use clap::{CommandFactory as _, Parser as _};
use serde_json::Value;
use tempfile::TempDir;
use trainer::cli::Cli;
use trainer::eval::logits;
use trainer::model::{BaseModel, adapter};

use crate::support::{assert_close, base, fixture, greffon, greffon_command, parity_examples, prepared, tiny_recipe};

/// A folder with a recipe and the run that was made from it.
struct Trained {
    folder: TempDir,
    recipe: String,
    said: Output,
}

impl Trained {
    fn new(set: &[&str], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let test = format!("eval.test=[{{path: {}}}]", folder.path().join("train.jsonl").display());
        let mut values = vec!["train.max_steps=6", "eval.max_new_tokens=4", "eval.limit=5", &test];
        values.extend(set);
        let recipe = tiny_recipe(folder.path(), &values);
        let mut all = vec!["train", &recipe];
        all.extend(arguments);
        let said = done(&all);
        Self { folder, recipe, said }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self) -> String {
        text(&self.path("run"))
    }
}

fn text(path: &Path) -> String {
    path.to_str().expect("plain path").to_owned()
}

/// Runs the program, which must succeed.
#[track_caller]
fn done(arguments: &[&str]) -> Output {
    let out = greffon(arguments);
    assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

fn stdout(out: &Output) -> String {
    String::from_utf8(out.stdout.clone()).expect("UTF-8")
}

/// The command lines of all verbs, `[]` for the program itself.
fn verbs(command: &clap::Command, path: &[String]) -> Vec<Vec<String>> {
    let mut all = vec![path.to_vec()];
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        let path: Vec<String> = path.iter().cloned().chain([verb.get_name().to_owned()]).collect();
        all.extend(verbs(verb, &path));
    }
    all
}

/// A line of a shell as its words, without a redirection.
fn words(line: &str) -> Vec<String> {
    let line = line.split(" > ").next().expect("split gives at least one");
    let mut words = Vec::new();
    for (index, part) in line.split('"').enumerate() {
        if index % 2 == 0 {
            words.extend(part.split_whitespace().map(str::to_owned));
        } else {
            words.push(part.to_owned());
        }
    }
    words
}

#[test]
fn every_verb_has_help_with_an_example_that_the_program_understands() {
    let all = verbs(&Cli::command(), &[]);
    assert!(all.len() > 10, "{all:?}");
    for path in all {
        let mut arguments: Vec<&str> = path.iter().map(String::as_str).collect();
        arguments.push("--help");
        let help = stdout(&done(&arguments));
        let (_, examples) = help.split_once("Example").unwrap_or_else(|| panic!("no example: {help}"));
        let examples = examples.replace("\\\n", "");
        let lines: Vec<&str> = examples.lines().map(str::trim).filter(|line| line.starts_with("greffon ")).collect();
        assert!(!lines.is_empty(), "no example: {help}");
        for line in lines {
            let words = words(line);
            assert_eq!(words[1..=path.len()], path[..], "an example of another verb: {line}");
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{line}: {error}");
            }
        }
    }
}

#[test]
fn train_and_eval_print_json_and_nothing_else() {
    let trained = Trained::new(&[], &["--json"]);
    let outcome: Value = serde_json::from_slice(&trained.said.stdout).expect("one JSON value");
    assert_eq!(outcome["steps"], 6);
    assert_eq!(outcome["run"], trained.run());
    assert!(outcome["validation_loss"].as_f64().is_some_and(|loss| loss > 0.0), "{outcome}");

    let found: Value =
        serde_json::from_slice(&done(&["eval", &trained.run(), "--json"]).stdout).expect("one JSON value");
    let metrics = found["metrics"].as_array().expect("metrics");
    for name in ["exact match", "F1", "loss"] {
        let metric = metrics.iter().find(|m| m["metric"].as_str().is_some_and(|metric| metric.contains(name)));
        let metric = metric.unwrap_or_else(|| panic!("no {name} in {found}"));
        assert_eq!(metric["items"], 5);
        let number = |key: &str| metric[key].as_f64().expect("a number");
        assert!((number("adapter") - number("base") - number("difference")).abs() < 1e-12, "{metric}");
    }
    let answers = found["answers"].as_array().expect("answers");
    assert_eq!(answers.len(), 5);
    assert_eq!(answers[0]["expected"], "red");
}

#[test]
fn training_stops_early_when_validation_no_longer_gains_and_keeps_the_best() {
    // Steps too small to move a float32: every validation equals the first.
    let still = ["train.max_steps=40", "train.learning_rate=1e-30", "train.eval_every=2", "train.early_stopping=2"];
    let trained = Trained::new(&still, &["--json"]);
    let outcome: Value = serde_json::from_slice(&trained.said.stdout).expect("one JSON value");
    assert_eq!(outcome["stopped_early"], true);
    assert_eq!((&outcome["steps"], &outcome["best_step"]), (&Value::from(6), &Value::from(2)));
    let (_, best) = adapters::read_peft(&trained.path("run/checkpoints/best")).expect("the best adapter");
    let (_, result) = adapters::read_peft(&trained.path("run/adapter")).expect("the result");
    assert_eq!(best, result);
}

#[test]
fn an_epoch_ends_with_its_last_example_and_the_newest_checkpoints_are_kept() {
    // 24 conversations, a fifth held out by content, 5 a step, two epochs.
    let trained = Trained::new(&["train.max_steps=null", "train.epochs=2.0", "train.save_every=1"], &["--json"]);
    let outcome: Value = serde_json::from_slice(&trained.said.stdout).expect("one JSON value");
    let lines = std::fs::read_to_string(trained.path("run/log.txt")).expect("the log");
    let plan = lines.lines().find_map(|line| line.split_once("started: ")).expect("the plan is logged").1;
    let plan: Value = serde_json::from_str(plan).expect("the plan is JSON");
    let examples = plan["train_examples"].as_u64().expect("a count");
    assert_eq!(outcome["steps"], (2 * examples).div_ceil(5));
    let once = Trained::new(&["train.max_steps=null", "train.epochs=1.0"], &["--json"]);
    let once: Value = serde_json::from_slice(&once.said.stdout).expect("one JSON value");
    assert_eq!(outcome["tokens"].as_u64(), once["tokens"].as_u64().map(|tokens| 2 * tokens), "each example twice");
    let kept = std::fs::read_dir(trained.path("run/checkpoints")).expect("checkpoints").count();
    assert_eq!(kept, 3, "the best and the newest two");
}

#[test]
fn without_a_terminal_there_is_no_bar_and_no_colour() {
    let trained = Trained::new(&[], &[]);
    let eval = done(&["eval", &trained.run()]);
    let preview = done(&["data", "preview", &trained.recipe]);
    for out in [&trained.said, &eval, &preview] {
        for stream in [&out.stdout, &out.stderr] {
            let text = String::from_utf8_lossy(stream);
            assert!(!text.contains(['\r', '\u{1b}', '━']), "{text:?}");
        }
    }
    // The steps are told in plain lines instead.
    let said = String::from_utf8_lossy(&trained.said.stderr);
    assert!(said.contains("step 6/6  loss "), "{said}");
    assert!(stdout(&eval).contains("95 %, paired bootstrap"));
}

#[test]
fn a_closed_pipe_ends_every_verb_quietly() {
    let trained = Trained::new(&[], &[]);
    let (run, data) = (trained.run(), text(&trained.path("train.jsonl")));
    let base = text(&fixture("tiny-llama"));
    let (exported, merged) = (text(&trained.path("exported")), text(&trained.path("merged")));
    let adapter = format!("{run}/adapter");
    for arguments in [
        &["--help"][..],
        &["schema"],
        &["init", "--model", "owner/name", "--data", &data],
        &["check", &trained.recipe],
        &["data", "preview", &trained.recipe],
        &["train", &trained.recipe, "--force"],
        &["eval", &run, "--json"],
        &["generate", "--run", &run, "--max-new-tokens", "4", "hello"],
        &["export", &run, "--to", &exported],
        &["merge", "--model", &base, "--adapter", &adapter, "--to", &merged],
    ] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let out = greffon_command(arguments).stdout(writer).output().expect("greffon starts");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!said.contains("panicked") && !said.contains("error"), "{arguments:?}: {said}");
        assert_eq!(out.status.code(), Some(0), "{arguments:?}: {said}");
    }
}

#[test]
fn preview_shows_the_supervised_text_and_the_lengths() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &["data.validation_fraction=0.0"]);
    let shown = stdout(&done(&["data", "preview", &recipe, "--count", "2"]));
    let place = |line: usize| format!("{}:{line}\n", folder.path().join("train.jsonl").display());
    assert!(shown.contains(&place(1)) && shown.contains(&place(2)) && !shown.contains(&place(3)), "{shown}");
    assert!(shown.contains("<|im_start|>user\nWhich colour is number 0?<|im_end|>\n"), "{shown}");
    assert!(shown.contains("<|im_start|>assistant\n«red<|im_end|>»\n"), "{shown}");
    assert!(shown.contains("supervised tokens are between « and »"), "{shown}");
    // The figures are those of the tokenizer.
    let line = shown.lines().find(|line| line.trim_start().starts_with("train ")).expect("a line of the table");
    let figures: Vec<&str> = line.split_whitespace().collect();
    let recipe = trainer::recipe::Recipe::load(Path::new(&recipe), &[]).expect("a sound recipe").recipe;
    let tokenizer = base("tiny-llama").tokenizer;
    let data = prepared(&recipe.data, &tokenizer);
    let tokens: usize = data.train.iter().map(|example| example.input_ids.len()).sum();
    let longest = data.train.iter().map(|example| example.input_ids.len()).max().expect("examples");
    let supervised = data.train.iter().flat_map(|example| example.loss_mask).filter(|learn| **learn).count();
    assert_eq!(figures[1], "24", "{shown}");
    assert_eq!(figures[6], longest.to_string(), "{shown}");
    assert_eq!(figures[7..], [supervised.to_string(), "of".to_owned(), tokens.to_string()], "{shown}");
}

#[test]
fn generation_follows_from_the_seed() {
    let model = text(&fixture("tiny-llama"));
    let generate = |seed: &str, temperature: &str| {
        let sampling = ["--seed", seed, "--temperature", temperature, "--max-new-tokens", "24"];
        let mut arguments = vec!["generate", "--model", &model];
        arguments.extend(sampling);
        arguments.push("Which colour is number 3?");
        done(&arguments).stdout
    };
    let first = generate("7", "1.0");
    assert!(first.len() > 4, "an answer: {first:?}");
    assert_eq!(generate("7", "1.0"), first);
    assert_ne!(generate("8", "1.0"), first);
    assert_eq!(generate("7", "0.0"), generate("8", "0.0"));
}

#[test]
fn a_merged_folder_opens_and_has_the_logits_of_base_and_adapter() {
    let trained = Trained::new(&["train.max_steps=12"], &[]);
    let device = Device::flex();
    for name in ["tiny-llama", "tiny-llama.gguf"] {
        let merged = trained.path(&format!("merged-{name}"));
        let adapter = trained.path("run/adapter");
        let (from, to) = (text(&fixture(name)), text(&merged));
        done(&["merge", "--model", &from, "--adapter", &text(&adapter), "--to", &to]);

        let plain = base(name).decoder(&device).unwrap();
        let mut adapted = plain.clone();
        adapter::load(&mut adapted, &adapter, &device).unwrap();
        // An absolute path stands for itself.
        let merged = base(&to);
        let ids = &parity_examples()[1].input_ids;
        let expected = logits(&adapted, ids, &device);
        assert_close("merged logits", &logits(&merged.decoder(&device).unwrap(), ids, &device), &expected, 1e-4);
        let moved = logits(&plain, ids, &device).iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(moved > 0.1, "the adapter does nothing: {moved}");
        // The tokenizer and its template come along.
        let conversation = [datasets::Message { role: datasets::Role::User, content: "Où ? 東".to_owned() }];
        let prompt = |model: &BaseModel| model.tokenizer.render_prompt(&conversation).expect("it renders");
        assert_eq!(prompt(&merged), prompt(&base(name)));
    }
}

#[test]
fn an_export_reads_back_equal() {
    let trained = Trained::new(&["train.save_every=3", "train.learning_rate=0.5"], &[]);
    for (which, own) in [("best", "run/adapter"), ("last", "run/checkpoints/step-00000006/adapter")] {
        let to = trained.path(which);
        done(&["export", &trained.run(), "--checkpoint", which, "--to", &text(&to)]);
        let exported = adapters::read_peft(&to).expect("a PEFT folder");
        assert!(exported == adapters::read_peft(&trained.path(own)).expect("the run's own"), "{which} differs");
        assert_eq!(exported.1.len(), 21, "seven modules in three layers");
    }
}

#[test]
fn training_goes_on_from_a_peft_folder() {
    let folder = fixture("parity/adapter_final");
    let adapter = format!("model.adapter={}", folder.display());
    // A step so small that the adapter stays what it was, under a recipe that names another rank.
    let set = ["train.max_steps=1", "train.learning_rate=1e-12", "train.warmup_steps=0", "lora.rank=2", &adapter];
    let trained = Trained::new(&set, &[]);
    let (config, pairs) = adapters::read_peft(&trained.path("run/adapter")).expect("the result");
    let (expected_config, expected) = adapters::read_peft(&folder).expect("the fixture");
    assert_eq!((config.r, config.lora_alpha), (expected_config.r, expected_config.lora_alpha));
    assert_eq!(pairs.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (module, pair) in &pairs {
        assert_close(&format!("{module} A"), &pair.a, &expected[module].a, 1e-6);
        assert_close(&format!("{module} B"), &pair.b, &expected[module].b, 1e-6);
    }
    // And a step of the usual size moves it.
    let set = ["train.max_steps=1", "train.learning_rate=1e-2", "train.warmup_steps=0", &adapter];
    let moved = adapters::read_peft(&Trained::new(&set, &[]).path("run/adapter")).expect("the result").1;
    assert!(moved.iter().all(|(module, pair)| pair.b != expected[module].b), "every module is trained");
}

#[test]
fn an_adapter_goes_into_a_gguf_file_and_back() {
    let trained = Trained::new(&[], &[]);
    let (gguf, peft) = (trained.path("adapter.gguf"), trained.path("run/adapter"));
    done(&["export", &trained.run(), "--as", "gguf-lora", "--to", &text(&gguf)]);
    let (config, pairs) = read_gguf_lora(&gguf, &base("tiny-llama").gguf(), "tiny-llama").expect("it was written");
    let (own_config, own) = adapters::read_peft(&peft).expect("the run has an adapter");
    assert!(pairs == own, "the matrices are not what was trained");
    for module in own.keys() {
        let scaling = |config: &adapters::AdapterConfig| config.scaling(module).expect("a scale");
        assert!((scaling(&config) - scaling(&own_config)).abs() < 1e-12, "{module}");
    }
    let again = greffon(&["export", &trained.run(), "--as", "gguf-lora", "--to", &text(&gguf)]);
    assert_eq!(again.status.code(), Some(2), "nothing is replaced without --force");
}

/// A run of a method that GGUF has no form for generates and merges, and is refused by the servers with these reasons.
fn merges_and_is_refused(set: &[&str], in_gguf: &str, verdicts: &[(&str, &str)]) {
    let trained = Trained::new(set, &[]);
    let (gguf, merged, adapter) = (trained.path("adapter.gguf"), trained.path("merged"), trained.path("run/adapter"));
    assert!(!done(&["generate", "--run", &trained.run(), "--max-new-tokens", "8", "Which colour?"]).stdout.is_empty());
    done(&["eval", &trained.run()]);
    done(&["merge", "--model", &text(&fixture("tiny-llama")), "--adapter", &text(&adapter), "--to", &text(&merged)]);
    let (device, ids) = (Device::flex(), &parity_examples()[1].input_ids);
    let plain = base("tiny-llama").decoder(&device).unwrap();
    let mut adapted = plain.clone();
    adapter::load(&mut adapted, &adapter, &device).unwrap();
    let merged = base(&text(&merged)).decoder(&device).unwrap();
    let expected = logits(&adapted, ids, &device);
    assert_close("merged", &logits(&merged, ids, &device), &expected, 1e-4);
    assert_ne!(logits(&plain, ids, &device), expected, "the adapter does nothing");
    // As a PEFT folder it leaves whole.
    let copy = trained.path("copy");
    done(&["export", &trained.run(), "--to", &text(&copy)]);
    assert_eq!(adapters::PeftAdapter::read(&copy).unwrap(), adapters::PeftAdapter::read(&adapter).unwrap());

    let refused = greffon(&["export", &trained.run(), "--as", "gguf-lora", "--to", &text(&gguf)]);
    assert_eq!(refused.status.code(), Some(2), "{in_gguf}");
    assert!(!gguf.exists());
    let said = String::from_utf8_lossy(&refused.stderr).replace('\n', " ");
    assert!(said.contains(in_gguf) && said.contains("greffon merge"), "{said}");
    for (server, verdict) in verdicts {
        let said = stdout(&greffon(&["verify", &text(&adapter), "--for", server]));
        assert!(said.contains(verdict), "{server}: {said}");
    }
    done(&["verify", &text(&adapter), "--for", "peft"]);
}

#[test]
fn a_run_with_magnitudes_merges_and_is_refused_where_there_is_no_form_for_it() {
    let refuses = "refuses: it is a DoRA adapter";
    let verdicts = ["vllm", "llama.cpp", "mistral.rs", "lorax"].map(|server| (server, refuses));
    merges_and_is_refused(&["lora.use_dora=true"], "has a magnitude (DoRA), which GGUF has no form for", &verdicts);
}

#[test]
fn a_run_with_embedding_and_head_merges_and_is_refused_where_there_is_no_form_for_it() {
    let verdicts = [
        ("vllm", "loads with a base of the Llama or Mistral family"),
        ("llama.cpp", "refuses: GGUF has no form for"),
        ("mistral.rs", "refuses: it adapts lm_head"),
        ("lorax", "refuses: it skips"),
    ];
    let set = ["lora.targets=[v_proj, embed_tokens, lm_head]"];
    merges_and_is_refused(&set, "is outside the blocks, for which no GGUF adapter is written", &verdicts);
}

#[test]
fn a_run_with_norms_merges_and_is_refused_where_there_is_no_form_for_it() {
    let refuses = "refuses: it holds whole weights beside the adapter: input_layernorm";
    let verdicts = ["vllm", "llama.cpp", "mistral.rs", "lorax"].map(|server| (server, refuses));
    let set = ["lora.train_norms=true", "lora.targets=[v_proj]"];
    merges_and_is_refused(&set, "the adapter has norms of its own, such as model.layers.0.input_layernorm", &verdicts);
}

#[test]
fn verify_says_by_its_exit_code_whether_every_server_loads_an_adapter() {
    let trained = Trained::new(&[], &[]);
    let folder = trained.path("run/adapter");
    let said = stdout(&done(&["verify", &text(&folder)]));
    assert!(["vllm", "llama.cpp", "mistral.rs", "lorax", "peft"].iter().all(|name| said.contains(name)), "{said}");

    let path = folder.join("adapter_config.json");
    let config = std::fs::read_to_string(&path).expect("a configuration");
    let changed = config.replace("\"alpha_pattern\": {}", "\"alpha_pattern\": {\"q_proj\": 1}");
    assert_ne!(changed, config);
    std::fs::write(&path, changed).expect("room for a small file");
    let refused = greffon(&["verify", &text(&folder), "--for", "vllm,peft", "--json"]);
    assert_eq!(refused.status.code(), Some(3));
    let said: Value = serde_json::from_slice(&refused.stdout).expect("JSON and nothing else");
    let verdicts: Vec<&str> =
        said["servers"].as_array().expect("a list").iter().filter_map(|s| s["result"]["verdict"].as_str()).collect();
    assert_eq!(verdicts, ["refuses", "loads"]);
    let unknown = greffon(&["verify", &text(&folder), "--for", "ollama"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("expected some of vllm, llama.cpp"));
}

#[test]
fn processes_that_were_started_together_and_cannot_be_joined_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let recipe = tiny_recipe(folder.path(), &[]);
    // As `mpirun` would set them; there is none, so that neither a build with MPI nor one without can join two.
    let out = greffon_command(&["train", &recipe])
        .envs([("OMPI_COMM_WORLD_RANK", "0"), ("OMPI_COMM_WORLD_SIZE", "2")])
        .output()
        .expect("greffon starts");
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("rank 0 of 2: "), "{said}");
    assert!(!folder.path().join("run").exists(), "no run was started");
}
