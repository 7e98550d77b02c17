//! The adapter methods against PEFT: logits, every gradient, ten steps.
//!
//! The expected numbers were written by `scripts/fixtures/methods.py`. Plain LoRA is in `parity`.

use adapters::{LoraConfig, Targets};
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

const METHODS: [&str; 4] = ["rslora", "patterns", "loraplus", "pattern-targets"];
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

fn decoder(method: &str, kernels: Kernels, device: &Device) -> Decoder {
    let mut decoder = base("tiny-llama").decoder(device).expect("the fixture loads");
    decoder.kernels = kernels;
    let folder = fixture(&format!("methods/{method}/adapter_init"));
    adapter::load(&mut decoder, &folder, device).expect("the adapter loads");
    decoder
}

fn step(decoder: &Decoder, device: &Device) -> StepGradient {
    let layout = Layout { packing: true, max_length: 64, micro_batch_size: 2 };
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
        let mut optimizer = AdamW::new(config, kernels, parameters::count(&decoder), device).with_rates(rates);
        let losses = methods["methods"][method]["losses"].as_array().unwrap();
        for (index, expected) in losses.iter().enumerate() {
            let result = step(&decoder, device);
            let what = format!("{method}, loss of step {index}, {kernels:?}");
            assert_near(&what, result.loss, expected.as_f64().unwrap(), 1e-4);
            let factor = learning_rate_factor(Schedule::Cosine, index as u64, 3, losses.len() as u64);
            let scale = clip_scale(norm(&result.gradient), number("max_grad_norm"));
            let learning_rate = number("learning_rate") * factor;
            let updated = optimizer.step(parameters::flatten(&decoder), result.gradient, scale, learning_rate);
            parameters::assign(&mut decoder, &updated);
        }
        let (_, expected) = adapters::read_peft(&fixture(&format!("methods/{method}/adapter_final"))).unwrap();
        for (path, pair) in adapter::to_pairs(&decoder) {
            assert_close(&format!("{method} {path} A, {kernels:?}"), &pair.a, &expected[&path].a, TOLERANCE);
            assert_close(&format!("{method} {path} B, {kernels:?}"), &pair.b, &expected[&path].b, TOLERANCE);
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
    assert!(matches!(
        from_value::<LoraConfig>(value!({ "targets": "all-linear" })).unwrap().targets,
        Targets::AllLinear
    ));
}
