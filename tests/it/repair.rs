//! What holds forgetting back during training: replay, the divergence from the base, and the penalties on the adapter.
//!
//! The expected numbers in `forgetting/` were written by `scripts/fixtures/forgetting.py`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use adapters::{AdapterConfig, LoraConfig, LoraPair, PeftAdapter};
use burn::tensor::Device;
use datasets::{Example, Message, Origin, Role};
use serde_json::{Value, from_value, json as value};
use trainer::kernels::Kernels;
use trainer::model::generate::{Sampling, generate};
use trainer::model::{Decoder, adapter};
use trainer::recipe::ForgettingConfig;
use trainer::train::batch::{Layout, MicroBatch, Objective, micro_batches};
use trainer::train::optimizer::{AdamW, AdamWConfig};
use trainer::train::parameters;
use trainer::train::penalty::Penalties;
use trainer::train::step::{StepGradient, StepLosses, StepSettings, gradient};

use crate::support::{
    Tensors, assert_close, assert_gradients, assert_near, base, device, fixture, greffon, ids, json, mask,
    parity_examples, tiny_recipe, write_replayed,
};

const LAYOUT: Layout = Layout { packing: true, share_prefix: false, max_length: 64, micro_batch_size: 2 };
const SETTINGS: StepSettings = StepSettings { seed: 0, step: 0, dropout: 0.0, recomputed_blocks: 0 };

fn replayed() -> Vec<Example> {
    let forgetting = json("forgetting/forgetting.json");
    let rows = forgetting["replayed"].as_array().unwrap().iter().enumerate();
    let origin = |row| Origin { path: Path::new("replayed.json").into(), line: row + 1 };
    let example = |(row, sequence): (usize, &Value)| Example {
        input_ids: ids(&sequence["input_ids"]),
        loss_mask: mask(&sequence["loss_mask"]),
        origin: origin(row),
    };
    rows.map(example).collect()
}

/// A step's micro-batches: the task's, then what is replayed.
fn batches(objective: Objective) -> Vec<MicroBatch> {
    let mut batches = micro_batches(&parity_examples(), LAYOUT);
    let replayed = micro_batches(&replayed(), LAYOUT).into_iter();
    batches.extend(replayed.map(|batch| MicroBatch { objective, ..batch }));
    batches
}

fn step(decoder: &Decoder, batches: &[MicroBatch], device: &Device) -> StepGradient {
    gradient(decoder, batches, SETTINGS, device, &|| false).expect("nothing stops it")
}

fn adapted(kernels: Kernels, device: &Device) -> Decoder {
    let mut decoder = base("tiny-llama").decoder(device).unwrap();
    decoder.kernels = kernels;
    adapter::load(&mut decoder, &fixture("parity/adapter_init"), device).unwrap();
    adapter::require_grad(&mut decoder);
    decoder
}

fn numbers(gradient: burn::tensor::Tensor<1>) -> Vec<f32> {
    gradient.into_data().try_into_vec().unwrap()
}

fn config(config: Value) -> ForgettingConfig {
    from_value(config).unwrap()
}

#[test]
fn losses_and_gradients_of_all_repairs_together_equal_pytorch() {
    let device = device();
    let expected = json("forgetting/forgetting.json");
    let weight = |name: &str| expected["weights"][name].as_f64().unwrap();
    let config = config(value!({
        "l2_weight": weight("l2"),
        "orthogonal": { "adapters": [fixture("forgetting/earlier")], "weight": weight("orthogonal") },
    }));
    let batches = batches(Objective::Replay { weight: weight("replay"), kl_weight: weight("kl") });
    for kernels in [Kernels::Fused, Kernels::Reference] {
        let mut decoder = adapted(kernels, &device);
        let penalties = Penalties::new(&config, &decoder, &device).unwrap();
        let adamw = AdamWConfig { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 };
        let mut optimizer = AdamW::new(adamw, kernels, parameters::count(&decoder), &device);
        let steps = expected["steps"].as_array().unwrap();
        for (index, expected_step) in steps.iter().chain([&expected["after"]]).enumerate() {
            let result = step(&decoder, &batches, &device);
            let flat = parameters::flatten(&decoder);
            let (penalty, gradient) = penalties.add(&flat, result.gradient);
            let losses = [
                ("loss", Some(result.losses.loss)),
                ("replay_loss", result.losses.replay_loss),
                ("kl", result.losses.kl),
                ("penalty", penalty),
            ];
            for (name, got) in losses {
                let what = format!("{name} of step {index}, {kernels:?}");
                assert_near(&what, got.unwrap(), expected_step[name].as_f64().unwrap(), 1e-4);
            }
            if index == steps.len() {
                let expected = Tensors::open("forgetting/gradients.safetensors");
                assert_gradients(&format!("all repairs, {kernels:?}"), &decoder, gradient, &expected, 1e-4);
                break;
            }
            let learning_rate = expected["learning_rate"].as_f64().unwrap();
            let updated = optimizer.step(flat, gradient, 1.0, learning_rate);
            parameters::assign(&mut decoder, &updated);
        }
    }
}

#[test]
fn an_untrained_adapter_diverges_by_exactly_nothing_and_gets_no_gradient_from_it() {
    let device = device();
    for lora in [
        value!({ "rank": 4 }),
        value!({ "rank": 4, "train_norms": true, "dropout": 0.1 }),
        value!({ "rank": 4, "use_dora": true }),
        value!({ "rank": 4, "init": "pissa" }),
    ] {
        let lora_config: LoraConfig = from_value(lora.clone()).unwrap();
        let mut decoder = base("tiny-llama").decoder(&device).unwrap();
        parameters::attach_adapter(&mut decoder, &lora_config, 1, &device).unwrap();
        let without = step(&decoder, &batches(Objective::Replay { weight: 1.0, kl_weight: 0.0 }), &device);
        let with = step(&decoder, &batches(Objective::Replay { weight: 1.0, kl_weight: 3.0 }), &device);
        assert_eq!((without.losses.kl, with.losses.kl), (None, Some(0.0)), "{lora}");
        assert_eq!(with.losses.replay_loss, without.losses.replay_loss, "{lora}");
        assert_eq!(numbers(with.gradient), numbers(without.gradient), "{lora}");
    }
}

#[test]
fn the_base_of_a_divergence_is_the_model_with_its_adapter_off() {
    let device = device();
    let mut decoder = base("tiny-llama").decoder(&device).unwrap();
    let lora: LoraConfig = from_value(value!({ "rank": 4, "init": "pissa" })).unwrap();
    let plain = decoder.clone();
    parameters::attach_adapter(&mut decoder, &lora, 1, &device).unwrap();
    // Training moves the adapter, what was taken out of the weights stays.
    let moved = parameters::flatten(&decoder) * 1.5;
    parameters::assign(&mut decoder, &moved);
    let ids = &parity_examples()[2].input_ids;
    let logits = |decoder: &Decoder| trainer::eval::logits(decoder, ids, &device);
    assert_close("logits of the base", &logits(&decoder.inner().without_adapter()), &logits(&plain), 1e-4);
    let difference = logits(&decoder.inner()).iter().zip(logits(&plain)).any(|(a, b)| (a - b).abs() > 0.1);
    assert!(difference, "the adapter does nothing");
}

#[test]
fn replay_adds_its_own_gradient_and_changes_nothing_else() {
    let device = device();
    let decoder = adapted(Kernels::Fused, &device);
    let task = step(&decoder, &micro_batches(&parity_examples(), LAYOUT), &device);
    let alone = step(&decoder, &micro_batches(&replayed(), LAYOUT), &device);
    let both = step(&decoder, &batches(Objective::Replay { weight: 0.25, kl_weight: 0.0 }), &device);
    assert_eq!(both.losses, StepLosses { replay_loss: Some(alone.losses.loss), ..task.losses });
    assert_eq!((task.losses.replay_loss, task.losses.kl), (None, None));
    let sum = numbers(task.gradient + alone.gradient * 0.25);
    assert_close("gradient with replay", &numbers(both.gradient), &sum, 1e-6);
    let kept = step(&decoder, &batches(Objective::Replay { weight: 0.0, kl_weight: 1.0 }), &device);
    assert_eq!((kept.losses.loss, kept.losses.replay_loss), (task.losses.loss, None));
    assert!(kept.losses.kl.unwrap() > 0.01);
}

/// A PEFT folder with one module.
fn earlier(folder: &Path, module: &str, in_features: usize) -> String {
    let pair = LoraPair {
        rank: 2,
        in_features,
        out_features: 64,
        a: vec![0.5; 2 * in_features],
        b: vec![0.0; 128],
        magnitude: None,
    };
    let target = module.rsplit('.').next().unwrap();
    let lora: LoraConfig = from_value(value!({ "rank": 2, "targets": [target] })).unwrap();
    let config = AdapterConfig::of_files(&lora, "tiny-llama".to_owned(), None);
    let adapter = PeftAdapter { config, pairs: [(module.to_owned(), pair)].into(), norms: [].into() };
    adapter.write(folder, true).unwrap();
    folder.to_str().unwrap().to_owned()
}

#[test]
fn an_earlier_adapter_that_cannot_be_compared_is_refused() {
    let device = device();
    let decoder = adapted(Kernels::Fused, &device);
    let folder = tempfile::tempdir().unwrap();
    for (module, in_features, words) in [
        ("model.layers.0.self_attn.q_proj", 32, ["has 32 inputs in this earlier adapter and 64 in the base", "q_proj"]),
        ("model.layers.7.self_attn.q_proj", 64, ["has no module that is trained", "model.layers.7.self_attn.q_proj"]),
    ] {
        let path = earlier(folder.path(), module, in_features);
        let config = config(value!({ "orthogonal": { "adapters": [path] } }));
        let error = Penalties::new(&config, &decoder, &device).unwrap_err().to_string();
        for word in words.iter().chain([&path.as_str(), &"forgetting.orthogonal.adapters"]) {
            assert!(error.contains(word), "{error}");
        }
    }
}

/// The step lines of a run.
fn steps(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line.get("loss").is_some()).collect()
}

#[test]
fn a_run_replays_its_share_and_records_each_part() {
    let folder = tempfile::tempdir().unwrap();
    let general = folder.path().join("general.jsonl");
    write_replayed(&general);
    let replay = format!("forgetting.replay={{sources: [{{path: {}}}], share: 0.5}}", general.display());
    let always = ["train.max_steps=3", "data.system_prompt=Answer in one word."];
    let repairs = ["forgetting.kl_weight=0.5", "forgetting.l2_weight=0.1"];
    let run = |name: &str, set: &[&str]| {
        let recipe = tiny_recipe(folder.path(), &[&always, set].concat());
        let run = folder.path().join(name);
        let done = greffon(&["train", &recipe, "--set", &format!("output={}", run.display())]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        steps(&run)
    };
    let plain = run("plain", &[]);
    let held = run("held", &[&[replay.as_str()], repairs.as_slice()].concat());
    let keys = ["replay_loss", "kl", "penalty"];
    assert!(plain.iter().all(|step| keys.iter().all(|key| step.get(key).is_none())), "{plain:?}");
    assert!(held.iter().all(|step| keys.iter().all(|key| step[key].is_f64())), "{held:?}");
    // The first step is the same but for what is added: the adapter has not moved yet.
    assert_eq!(plain[0]["loss"], held[0]["loss"]);
    assert_eq!((&held[0]["kl"], &held[0]["penalty"]), (&value!(0.0), &value!(0.0)));
    assert!(held[2]["kl"].as_f64().unwrap() > 0.0 && held[2]["penalty"].as_f64().unwrap() > 0.0);
    let tokens = |step: &Value| step["tokens"].as_u64().unwrap();
    assert!(held.iter().zip(&plain).all(|(held, plain)| tokens(held) > tokens(plain)));
    assert_eq!(plain[0]["supervised_tokens"], held[0]["supervised_tokens"]);
}

#[test]
fn replayed_data_that_changed_cannot_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let general = folder.path().join("general.jsonl");
    write_replayed(&general);
    let replay = format!("forgetting.replay={{sources: [{{path: {}}}]}}", general.display());
    let recipe = tiny_recipe(folder.path(), &["train.max_steps=2", &replay]);
    let run = folder.path().join("run");
    let done = greffon(&["train", &recipe, "--set", &format!("output={}", run.display())]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let text = fs::read_to_string(&general).unwrap().replace("day 3 ", "night 3 ");
    fs::write(&general, text).unwrap();
    let refused = greffon(&["train", "--resume", run.to_str().unwrap()]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(said.contains("its replayed conversations"), "{said}");
}

/// What the base answers to the user's texts, most probable token by most probable token, one at a time; only answers
/// that end and are not empty.
fn answers_of_base(questions: &[String], max_new_tokens: usize) -> BTreeMap<String, String> {
    let (base, device) = (base("tiny-llama"), device());
    let decoder = base.decoder(&device).unwrap();
    let answer = |question: &String| {
        let messages = [Message { role: Role::User, content: question.clone() }];
        let prompt = base.tokenizer.render_prompt(&messages).unwrap();
        let (eos, sampling) = (base.tokenizer.eos_token_ids(), Sampling::greedy(max_new_tokens));
        let generated = generate(&decoder, &[prompt], sampling, eos, &device, |_, _| true).remove(0);
        let text = base.tokenizer.decode(&generated.ids, true).unwrap().trim().to_owned();
        (generated.stopped && !text.is_empty()).then(|| (question.clone(), text))
    };
    questions.iter().filter_map(answer).collect()
}

/// User's text and answer of each line.
fn lines(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["messages"].as_array().unwrap().len(), 2, "no system message: {line}");
        let content = |index: usize| line["messages"][index]["content"].as_str().unwrap().to_owned();
        (content(0), content(1))
    };
    text.lines().map(line).collect()
}

#[test]
fn the_bases_answers_are_replayed_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let general = folder.path().join("general.jsonl");
    write_replayed(&general);
    let replay = |max_new_tokens: usize| {
        let path = general.display();
        format!(
            "forgetting.replay={{sources: [{{path: {path}}}], answers: base, share: 1.0, max_new_tokens: {max_new_tokens}}}"
        )
    };
    let always = ["train.max_steps=10", "data.max_length=256", "data.system_prompt=Answer in one word."];
    let train = |name: &str, replay: &str| {
        let recipe = tiny_recipe(folder.path(), &[always.as_slice(), &[replay]].concat());
        let run = folder.path().join(name);
        (greffon(&["train", &recipe, "--set", &format!("output={}", run.display())]), run)
    };
    let (done, run) = train("run", &replay(100));
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let questions: Vec<String> = lines(&general).into_iter().map(|(question, _)| question).collect();
    let expected = answers_of_base(&questions, 100);
    let kept = lines(&run.join("replay.jsonl"));
    assert!(!expected.is_empty() && expected.len() < questions.len(), "{} answers end", expected.len());
    assert_eq!(kept.into_iter().collect::<BTreeMap<_, _>>(), expected);
    let unfinished = format!("{} of 40 answers of the base were not finished within 100 tokens", 40 - expected.len());
    assert!(said.contains(&unfinished), "{said}");

    // A resumed run reads what is kept, and refuses it when it changed.
    let kept = fs::read_to_string(run.join("replay.jsonl")).unwrap();
    fs::write(&general, "").unwrap();
    let resume = || greffon(&["train", "--resume", run.to_str().unwrap()]);
    assert!(resume().status.success());
    fs::write(run.join("replay.jsonl"), kept.replacen("day 3", "night 3", 1)).unwrap();
    let refused = resume();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && said.contains("its replayed conversations"), "{said}");

    write_replayed(&general);
    let (refused, run) = train("short", &replay(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("no answer of the base is left") && said.contains("raise replay.max_new_tokens"), "{said}");
    assert!(refused.status.code() == Some(2) && !run.exists(), "{said}");
}
