//! The adapter methods against PEFT: logits, every gradient, ten steps.
//!
//! The expected numbers were written by `scripts/fixtures/methods.py`. Plain LoRA is in `parity`.

use std::collections::BTreeMap;
use std::path::Path;

use adapters::export::peft::InitLoraWeights;
use adapters::{AdapterConfig, Initial, LoraConfig, LoraPair, LowRank, PeftAdapter, Targets};
use burn::tensor::Device;
use serde_json::{from_value, json as value};
use trainer::eval::logits;
use trainer::kernels::Kernels;
use trainer::model::{Decoder, adapter};
use trainer::recipe::Schedule;
use trainer::train::batch::{Layout, micro_batches};
use trainer::train::optimizer::{AdamW, AdamWConfig, clip_scale, norm};
use trainer::train::parameters;
use trainer::train::schedule::learning_rate_factor;
use trainer::train::step::{StepGradient, StepSettings, gradient};

use crate::support::{
    Tensors, assert_close, assert_gradients, assert_near, base, device, fixture, json, parity_examples,
};

const METHODS: [&str; 10] = [
    "rslora",
    "patterns",
    "loraplus",
    "pattern-targets",
    "dora",
    "pissa",
    "pissa-rslora",
    "ends",
    "ends-tied",
    "norms",
];
const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Reference];
const TOLERANCE: f32 = 1e-4;

fn each(check: impl Fn(&str, Kernels, &Device)) {
    let device = device();
    for method in METHODS {
        for kernels in KERNELS {
            check(method, kernels, &device);
        }
    }
}

fn base_of(method: &str) -> &'static str {
    if method.ends_with("tied") { "tiny-llama-tied" } else { "tiny-llama" }
}

fn decoder(method: &str, kernels: Kernels, device: &Device) -> Decoder {
    let mut decoder = base(base_of(method)).decoder(device).expect("the fixture loads");
    decoder.kernels = kernels;
    let folder = fixture(&format!("methods/{method}/adapter_init"));
    adapter::load(&mut decoder, &folder, device).expect("the adapter loads");
    if method.starts_with("pissa") {
        // What PEFT started from it had taken out of the base.
        for (_, linear) in decoder.linears_mut() {
            let Some(lora) = linear.lora.take() else { continue };
            let initial = Some(Initial { lora_a: lora.lora_a.clone(), lora_b: lora.lora_b.clone() });
            linear.attach(LowRank { initial, ..lora });
        }
    }
    decoder
}

fn step(decoder: &Decoder, device: &Device) -> StepGradient {
    let layout = Layout { packing: true, share_prefix: false, max_length: 64, micro_batch_size: 2 };
    let settings = StepSettings { seed: 0, step: 0, dropout: 0.0, recomputed_blocks: 0 };
    gradient(decoder, &micro_batches(&parity_examples(), layout), settings, device, &|| false)
        .expect("nothing stops it")
}

#[test]
fn logits_and_gradients_of_every_method_equal_peft() {
    each(|method, kernels, device| {
        let mut decoder = decoder(method, kernels, device);
        let expected = Tensors::open(&format!("methods/{method}/expected.safetensors"));
        for (index, example) in parity_examples().iter().enumerate() {
            let got = logits(&decoder, &example.input_ids, device);
            let name = format!("logits.{index}");
            assert_close(&format!("{method} {name}, {kernels:?}"), &got, &expected.get(&name), TOLERANCE);
        }
        adapter::require_grad(&mut decoder);
        let gradient = step(&decoder, device).gradient;
        assert_gradients(&format!("{method}, {kernels:?}"), &decoder, gradient, &expected, TOLERANCE);
    });
}

#[test]
fn ten_steps_of_every_method_equal_peft() {
    let settings = &json("parity/parity.json")["optimizer"];
    let number = |key: &str| settings[key].as_f64().unwrap();
    let betas = [settings["betas"][0].as_f64().unwrap(), settings["betas"][1].as_f64().unwrap()];
    let config = AdamWConfig { betas, eps: number("eps"), weight_decay: number("weight_decay") };
    let methods = json("methods/methods.json");
    each(|method, kernels, device| {
        let ratio = if method == "loraplus" { methods["loraplus_lr_ratio"].as_f64().unwrap() } else { 1.0 };
        let mut decoder = decoder(method, kernels, device);
        adapter::require_grad(&mut decoder);
        let rates = parameters::learning_rates(&decoder, ratio, device);
        let mut optimizer = AdamW::new(config, kernels, parameters::count(&decoder), device)
            .with_rates(rates)
            .with_spared(parameters::spared(&decoder, ratio, device));
        let losses = methods["methods"][method]["losses"].as_array().unwrap();
        for (index, expected) in losses.iter().enumerate() {
            let result = step(&decoder, device);
            let what = format!("{method}, loss of step {index}, {kernels:?}");
            assert_near(&what, result.losses.loss, expected.as_f64().unwrap(), 1e-4);
            let factor = learning_rate_factor(Schedule::Cosine, index as u64, 3, losses.len() as u64);
            let scale = clip_scale(norm(&result.gradient), number("max_grad_norm"));
            let learning_rate = number("learning_rate") * factor;
            let updated = optimizer.step(parameters::flatten(&decoder), result.gradient, scale, learning_rate);
            parameters::assign(&mut decoder, &updated);
        }
        let expected = PeftAdapter::read(&fixture(&format!("methods/{method}/adapter_final"))).unwrap();
        let norms = adapter::to_norms(&decoder);
        assert_eq!(norms.keys().collect::<Vec<_>>(), expected.norms.keys().collect::<Vec<_>>());
        for (path, norm) in norms {
            assert_close(&format!("{method} {path}, {kernels:?}"), &norm, &expected.norms[&path], TOLERANCE);
        }
        let expected = expected.pairs;
        assert_eq!(expected.len(), decoder.adapters().count());
        for (path, pair) in adapter::to_pairs(&decoder) {
            assert_close(&format!("{method} {path} A, {kernels:?}"), &pair.a, &expected[&path].a, TOLERANCE);
            assert_close(&format!("{method} {path} B, {kernels:?}"), &pair.b, &expected[&path].b, TOLERANCE);
            let length = |pair: &LoraPair| pair.magnitude.clone().unwrap_or_default();
            let what = format!("{method} {path} magnitude, {kernels:?}");
            assert_close(&what, &length(&pair), &length(&expected[&path]), TOLERANCE);
        }
    });
}

#[test]
fn a_recipe_gives_every_module_what_peft_gives_it() {
    let recipes = [
        ("rslora", value!({ "rank": 4, "alpha": 8, "use_rslora": true })),
        (
            "patterns",
            value!({
                "rank": 4, "alpha": 8,
                "rank_pattern": { "q_proj": 2, "layers.1.mlp.down_proj": 7 },
                "alpha_pattern": { "layers.0.self_attn.v_proj": 3, "up_proj": 16 },
            }),
        ),
        (
            "pattern-targets",
            value!({ "rank": 4, "alpha": 8, "targets": r".*\.layers\.[02]\.(self_attn\.[qv]_proj|mlp\.up_proj)" }),
        ),
    ];
    let device = device();
    for (method, lora) in recipes {
        let lora: LoraConfig = from_value(lora).unwrap();
        lora.validate().unwrap();
        let mut own = base("tiny-llama").decoder(&device).unwrap();
        parameters::attach_adapter(&mut own, &lora, 1, &device).unwrap();
        let peft = decoder(method, Kernels::Fused, &device);
        for ((path, own), (_, peft)) in own.linears().zip(peft.linears()) {
            let described = |linear: &adapters::LoraLinear| linear.lora.as_ref().map(|l| (l.rank(), l.scaling));
            assert_eq!(described(own), described(peft), "{method} {path}");
        }
    }
    let lora: LoraConfig = from_value(value!({ "rank": 4, "alpha": 8, "use_dora": true })).unwrap();
    let mut own = base("tiny-llama").decoder(&device).unwrap();
    parameters::attach_adapter(&mut own, &lora, 1, &device).unwrap();
    let (_, peft) = adapters::read_peft(&fixture("methods/dora/adapter_init")).unwrap();
    for (path, pair) in adapter::to_pairs(&own) {
        let length = |pair: &LoraPair| pair.magnitude.clone().unwrap();
        assert_close(&format!("{path}, start"), &length(&pair), &length(&peft[&path]), 1e-5);
    }
    assert!(matches!(
        from_value::<LoraConfig>(value!({ "targets": "all-linear" })).unwrap().targets,
        Targets::AllLinear
    ));
}

/// The methods that start from principal parts, with their recipes.
fn principal() -> [(&'static str, LoraConfig); 2] {
    let [plain, rslora] = [
        value!({ "rank": 4, "alpha": 8, "init": "pissa" }),
        value!({ "rank": 4, "alpha": 8, "init": "pissa", "use_rslora": true, "targets": ["k_proj", "down_proj"] }),
    ];
    [("pissa", from_value(plain).unwrap()), ("pissa-rslora", from_value(rslora).unwrap())]
}

#[test]
fn principal_parts_are_those_that_peft_finds_and_leave_twice_the_rank_at_the_same_scale() {
    let device = device();
    for (method, lora) in principal() {
        let mut own = base("tiny-llama").decoder(&device).unwrap();
        parameters::attach_adapter(&mut own, &lora, 1, &device).unwrap();
        let expected = Tensors::open(&format!("methods/{method}/expected.safetensors"));
        let (peft, _) = adapters::read_peft(&fixture(&format!("methods/{method}/adapter_final"))).unwrap();
        let config = AdapterConfig::of_files(&lora, "tiny-llama", None);
        assert_eq!(config.r, peft.r);
        for (path, linear) in own.linears() {
            let Some(adapter) = &linear.lora else { continue };
            let update: Vec<f32> = adapter.clone().inner().delta().into_data().try_into_vec().unwrap();
            let name = format!("update.base_model.model.{path}");
            assert_close(&format!("{method} {path}, start"), &update, &expected.get(&name), 1e-5);
            assert_near(path.as_str(), config.scaling(&path).unwrap(), peft.scaling(&path).unwrap(), 1e-12);
        }
        // Without a step the model is the base.
        let ids = &parity_examples()[0].input_ids;
        let plain = logits(&base("tiny-llama").decoder(&device).unwrap(), ids, &device);
        assert_close(&format!("{method}, start"), &logits(&own.inner(), ids, &device), &plain, TOLERANCE);
    }
}

#[test]
fn what_started_from_principal_parts_is_a_plain_lora_on_the_base_as_it_was() {
    let device = device();
    let more = value!({ "rank": 3, "init": "pissa", "use_dora": true, "rank_pattern": { "q_proj": 2 } });
    for (method, lora) in principal().into_iter().chain([("pissa-dora", from_value(more).unwrap())]) {
        let plain = base("tiny-llama").decoder(&device).unwrap();
        let mut trained = plain.clone();
        parameters::attach_adapter(&mut trained, &lora, 1, &device).unwrap();
        let mut optimizer = AdamW::new(
            AdamWConfig { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0 },
            Kernels::Fused,
            parameters::count(&trained),
            &device,
        );
        for _ in 0..3 {
            let gradient = step(&trained, &device).gradient;
            let updated = optimizer.step(parameters::flatten(&trained), gradient, 1.0, 2e-2);
            parameters::assign(&mut trained, &updated);
        }
        let folder = tempfile::tempdir().unwrap();
        let config = AdapterConfig::of_files(&lora, "tiny-llama", None);
        adapter::save(&trained, &config, &folder.path().join("adapter"), false).unwrap();
        let mut loaded = plain.clone();
        let config = adapter::load(&mut loaded, &folder.path().join("adapter"), &device).unwrap();
        assert!(matches!(config.init_lora_weights, InitLoraWeights::Default(true)), "no server must know the name");
        let mut resumed = loaded.clone();
        parameters::resume_adapter(&mut resumed, &lora).unwrap();
        let merged = loaded.clone().merged();
        for example in parity_examples() {
            let logits = |decoder: &Decoder| logits(decoder, &example.input_ids, &device);
            let (expected, start) = (logits(&trained.inner()), logits(&plain));
            assert_close(&format!("{method}, loaded"), &logits(&loaded), &expected, TOLERANCE);
            assert_close(&format!("{method}, merged"), &logits(&merged), &expected, TOLERANCE);
            assert_eq!(logits(&resumed), expected, "{method}, resumed");
            assert!(expected.iter().zip(start).any(|(a, b)| (a - b).abs() > 0.1), "{method} learns nothing");
        }
    }
}

#[test]
fn more_principal_parts_than_a_weight_has_are_refused() {
    let device = device();
    let lora: LoraConfig = from_value(value!({ "rank": 33, "init": "pissa" })).unwrap();
    let mut decoder = base("tiny-llama").decoder(&device).unwrap();
    let error = parameters::attach_adapter(&mut decoder, &lora, 1, &device).unwrap_err().to_string();
    assert!(
        error.contains("lora.rank is 33 for model.layers.0.self_attn.k_proj, which is 64 to 32, expected at most"),
        "{error}"
    );
}

#[test]
fn a_start_with_magnitudes_is_the_base_bit_for_bit() {
    let device = device();
    let lora: LoraConfig = from_value(value!({ "rank": 4, "use_dora": true })).unwrap();
    let plain = base("tiny-llama").decoder(&device).unwrap();
    let mut decoder = plain.clone();
    parameters::attach_adapter(&mut decoder, &lora, 1, &device).unwrap();
    let ids = &parity_examples()[1].input_ids;
    assert_eq!(logits(&decoder.inner(), ids, &device), logits(&plain, ids, &device));
}

#[test]
fn every_method_merged_gives_its_logits_and_switched_off_the_base() {
    each(|method, kernels, device| {
        let own = decoder(method, kernels, device);
        let merged = own.clone().merged();
        assert_eq!(merged.adapters().count(), 0);
        for example in parity_examples() {
            let [own, merged] = [&own, &merged].map(|decoder| logits(decoder, &example.input_ids, device));
            assert_close(&format!("{method} merged, {kernels:?}"), &merged, &own, TOLERANCE);
        }
        if !method.starts_with("pissa") {
            let mut plain = base(base_of(method)).decoder(device).unwrap();
            plain.kernels = kernels;
            let ids = &parity_examples()[1].input_ids;
            assert_eq!(logits(&own.without_adapter(), ids, device), logits(&plain, ids, device), "{method}");
        }
    });
}

#[test]
fn every_method_leaves_as_it_came_and_starts_from_a_recipe() {
    let device = device();
    for method in ["dora", "ends", "ends-tied", "norms"] {
        let own = decoder(method, Kernels::Fused, &device);
        let first = fixture(&format!("methods/{method}/adapter_init"));
        let peft = PeftAdapter::read(&first).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("adapter");
        adapter::save(&own, &peft.config, &saved, false).unwrap();
        assert_eq!(PeftAdapter::read(&saved).unwrap(), peft, "{method}");
        let keys = |folder: &Path| {
            let file = adapters::SafetensorsFile::open(folder.join("adapter_model.safetensors")).unwrap();
            file.names().map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(keys(&saved), keys(&first), "{method}");
    }
    let recipes = [
        ("ends", value!({ "rank": 4, "alpha": 8, "targets": ["q_proj", "down_proj", "embed_tokens", "lm_head"] })),
        ("ends-tied", value!({ "rank": 4, "alpha": 8, "targets": "(.*\\.v_proj|.*embed_tokens|lm_head)" })),
        ("norms", value!({ "rank": 4, "alpha": 8, "targets": ["o_proj", "up_proj"], "train_norms": true })),
    ];
    for (method, lora) in recipes {
        let lora: LoraConfig = from_value(lora).unwrap();
        lora.validate().unwrap();
        let plain = base(base_of(method)).decoder(&device).unwrap();
        let mut started = plain.clone();
        parameters::attach_adapter(&mut started, &lora, 1, &device).unwrap();
        let peft = PeftAdapter::read(&fixture(&format!("methods/{method}/adapter_init"))).unwrap();
        let shapes = |pairs: BTreeMap<String, LoraPair>| -> Vec<_> {
            pairs.into_iter().map(|(path, pair)| (path, pair.rank, pair.in_features, pair.out_features)).collect()
        };
        assert_eq!(shapes(adapter::to_pairs(&started)), shapes(peft.pairs), "{method}");
        assert_eq!(adapter::to_norms(&started).keys().collect::<Vec<_>>(), peft.norms.keys().collect::<Vec<_>>());
        let modules = lora.train_norms.then(|| adapter::norm_names(&mut started));
        assert_eq!(modules, peft.config.modules_to_save, "{method}");
        let ids = &parity_examples()[1].input_ids;
        assert_eq!(
            logits(&started.inner(), ids, &device),
            logits(&plain, ids, &device),
            "{method}: the start is the base"
        );
    }
}

#[test]
fn the_norms_of_a_gemma_are_saved_as_its_checkpoint_holds_them() {
    let device = device();
    let base = base("families/gemma3");
    let mut own = base.decoder(&device).unwrap();
    let lora: LoraConfig = from_value(value!({ "rank": 2, "train_norms": true, "targets": ["q_proj"] })).unwrap();
    parameters::attach_adapter(&mut own, &lora, 1, &device).unwrap();
    let checkpoint = Tensors::open("families/gemma3/model.safetensors");
    let norms = adapter::to_norms(&own);
    assert!(norms.len() > 6 && norms.contains_key("model.layers.0.self_attn.q_norm"));
    for (path, norm) in norms {
        assert_close(&path, &norm, &checkpoint.get(&format!("{path}.weight")), 1e-6);
    }
    // Every norm is trained, and a saved one comes back.
    let gradient: Vec<f32> = step(&own, &device).gradient.into_data().try_into_vec().unwrap();
    assert_eq!(gradient.len(), parameters::count(&own));
    let shifted = parameters::flatten(&own) + 0.1;
    parameters::assign(&mut own, &shifted);
    let folder = tempfile::tempdir().unwrap();
    let mut config = AdapterConfig::of_files(&lora, "gemma3", None);
    config.modules_to_save = Some(adapter::norm_names(&mut own));
    adapter::save(&own, &config, &folder.path().join("adapter"), false).unwrap();
    let mut loaded = base.decoder(&device).unwrap();
    adapter::load(&mut loaded, &folder.path().join("adapter"), &device).unwrap();
    let ids = &parity_examples()[1].input_ids;
    assert_close("loaded", &logits(&loaded, ids, &device), &logits(&own.inner(), ids, &device), TOLERANCE);
}
