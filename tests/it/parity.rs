//! Logits, gradients, optimizer steps and generation equal PyTorch's and PEFT's.
//!
//! The expected numbers were written by `scripts/make_fixtures.py`.

use burn::tensor::Device;
use trainer::eval::logits;
use trainer::kernels::Kernels;
use trainer::model::generate::{Sampling, generate};
use trainer::model::{Decoder, adapter};
use trainer::recipe::Schedule;
use trainer::train::batch::{Layout, MicroBatch, micro_batches};
use trainer::train::optimizer::{AdamW, AdamWConfig, clip_scale, norm};
use trainer::train::parameters;
use trainer::train::schedule::learning_rate_factor;
use trainer::train::share::StepSize;
use trainer::train::step::{StepGradient, StepSettings, gradient};

use crate::support::{
    Tensors, assert_close, assert_gradients, assert_near, base, device, fixture, ids, json, parity_examples,
};

const TOLERANCE: f32 = 1e-4;

/// Both implementations of the operators must find PyTorch's numbers, each for itself.
const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Reference];

fn decoder(name: &str, kernels: Kernels, device: &Device) -> Decoder {
    let mut decoder = base(name).decoder(device).expect("the fixture loads");
    decoder.kernels = kernels;
    decoder
}

fn decoder_with_adapter(kernels: Kernels, device: &Device) -> Decoder {
    let mut decoder = decoder("tiny-llama", kernels, device);
    adapter::load(&mut decoder, &fixture("parity/adapter_init"), device).expect("the adapter loads");
    adapter::require_grad(&mut decoder);
    decoder
}

fn batches() -> Vec<MicroBatch> {
    let examples = parity_examples();
    let layout = Layout { packing: true, share_prefix: false, max_length: 64, micro_batch_size: 2 };
    micro_batches(&examples, layout)
}

fn step(decoder: &Decoder, device: &Device) -> StepGradient {
    let seed = StepSettings { seed: 0, step: 0, dropout: 0.0, recomputed_blocks: 0 };
    gradient(decoder, &batches(), seed, device, &|| false).expect("nothing stops it")
}

#[test]
fn logits_equal_transformers() {
    let device = device();
    let expected = Tensors::open("parity/logits.safetensors");
    for kernels in KERNELS {
        let plain = decoder("tiny-llama", kernels, &device);
        let adapted = decoder_with_adapter(kernels, &device).inner();
        for (index, example) in parity_examples().iter().enumerate() {
            for (name, decoder) in [("base", &plain), ("adapter", &adapted)] {
                let name = format!("{name}.{index}");
                let got = logits(decoder, &example.input_ids, &device);
                assert_close(&format!("{name} logits, {kernels:?}"), &got, &expected.get(&name), TOLERANCE);
            }
        }
    }
}

#[test]
fn tied_and_sharded_weights_give_the_same_logits_as_transformers() {
    let device = device();
    let expected = Tensors::open("parity/logits.safetensors").get("tied.1");
    for kernels in KERNELS {
        let decoder = decoder("tiny-llama-tied", kernels, &device);
        let got = logits(&decoder, &parity_examples()[1].input_ids, &device);
        assert_close(&format!("tied logits, {kernels:?}"), &got, &expected, TOLERANCE);
    }
}

#[test]
fn a_gguf_base_gives_the_logits_of_its_source() {
    let device = device();
    let expected = Tensors::open("parity/logits.safetensors");
    for kernels in KERNELS {
        let decoder = decoder("tiny-llama.gguf", kernels, &device);
        for (index, example) in parity_examples().iter().enumerate() {
            let got = logits(&decoder, &example.input_ids, &device);
            let name = format!("gguf logits, {kernels:?}");
            assert_close(&name, &got, &expected.get(&format!("base.{index}")), TOLERANCE);
        }
    }
}

#[test]
fn an_adapter_that_is_off_or_zero_is_the_base_bit_for_bit() {
    let device = device();
    let plain = base("tiny-llama").decoder(&device).unwrap();
    let ids = &parity_examples()[2].input_ids;
    let expected = logits(&plain, ids, &device);
    assert_eq!(logits(&decoder_with_adapter(Kernels::Fused, &device).without_adapter(), ids, &device), expected);
    let mut fresh = plain;
    parameters::attach_adapter(&mut fresh, &adapters::LoraConfig::default(), 3, &device).unwrap();
    assert_eq!(logits(&fresh.inner(), ids, &device), expected);
}

#[test]
fn merged_equals_unmerged() {
    let device = device();
    let adapted = decoder_with_adapter(Kernels::Fused, &device).inner();
    let merged = adapted.clone().merged();
    assert_eq!(merged.linears().filter(|(_, linear)| linear.lora.is_some()).count(), 0);
    let ids = &parity_examples()[2].input_ids;
    assert_close("merged logits", &logits(&merged, ids, &device), &logits(&adapted, ids, &device), TOLERANCE);
}

#[test]
fn every_adapter_gradient_equals_peft() {
    KERNELS.into_iter().for_each(gradients_equal_peft);
}

fn gradients_equal_peft(kernels: Kernels) {
    let device = device();
    let decoder = decoder_with_adapter(kernels, &device);
    let result = step(&decoder, &device);
    let parity = json("parity/parity.json");
    assert_near("loss", result.losses.loss, parity["initial"]["loss"].as_f64().unwrap(), 1e-4);
    assert_eq!(StepSize::of(&batches()).supervised as u64, parity["supervised_tokens"].as_u64().unwrap());

    assert!(decoder.linears().all(|(_, linear)| linear.lora.is_some()), "all seven modules are adapted");
    let expected = Tensors::open("parity/gradients.safetensors");
    assert_gradients(&format!("{kernels:?}"), &decoder, result.gradient, &expected, TOLERANCE);
}

#[test]
fn ten_steps_equal_torch_adamw_with_clipping_and_decay() {
    KERNELS.into_iter().for_each(steps_equal_torch);
}

fn steps_equal_torch(kernels: Kernels) {
    let device = device();
    let parity = json("parity/parity.json");
    let settings = &parity["optimizer"];
    let number = |key: &str| settings[key].as_f64().unwrap();
    let config = AdamWConfig {
        betas: [settings["betas"][0].as_f64().unwrap(), settings["betas"][1].as_f64().unwrap()],
        eps: number("eps"),
        weight_decay: number("weight_decay"),
    };
    let mut decoder = decoder_with_adapter(kernels, &device);
    let mut optimizer = AdamW::new(config, decoder.kernels, parameters::count(&decoder), &device);
    let steps = parity["steps"].as_array().unwrap();
    for (index, expected) in steps.iter().enumerate() {
        let result = step(&decoder, &device);
        assert_near(&format!("loss of step {index}"), result.losses.loss, expected["loss"].as_f64().unwrap(), 1e-4);
        let gradient_norm = norm(&result.gradient);
        assert_near(&format!("norm of step {index}"), gradient_norm, expected["grad_norm"].as_f64().unwrap(), 1e-4);
        let factor = learning_rate_factor(Schedule::Cosine, index as u64, 3, steps.len() as u64);
        let learning_rate = number("learning_rate") * factor;
        assert_near("learning rate", learning_rate, expected["learning_rate"].as_f64().unwrap(), 1e-12);
        let scale = clip_scale(gradient_norm, number("max_grad_norm"));
        let updated = optimizer.step(parameters::flatten(&decoder), result.gradient, scale, learning_rate);
        parameters::assign(&mut decoder, &updated);
    }
    let (_, expected) = adapters::read_peft(&fixture("parity/adapter_final")).unwrap();
    for (path, pair) in adapter::to_pairs(&decoder) {
        assert_close(&format!("{path} A"), &pair.a, &expected[&path].a, TOLERANCE);
        assert_close(&format!("{path} B"), &pair.b, &expected[&path].b, TOLERANCE);
    }
}

#[test]
fn greedy_generation_with_a_cache_equals_transformers_without() {
    let device = device();
    let parity = json("parity/parity.json");
    let prompt = ids(&parity["generation"]["prompt_ids"]);
    for kernels in KERNELS {
        let adapted = decoder_with_adapter(kernels, &device).inner();
        for (name, decoder) in [("base", adapted.clone().without_adapter()), ("adapter", adapted)] {
            // Together with other prompts, so that a leak between sequences would show.
            let prompts = [vec![5, 6, 7], prompt.clone(), vec![9; 30]];
            let out = generate(&decoder, &prompts, Sampling::greedy(16), &[], &device, |_, _| true);
            assert_eq!(out[1].ids, ids(&parity["generation"][name]), "{name}, {kernels:?}");
        }
    }
}

#[test]
fn schedules_equal_transformers() {
    let fixture = json("schedules.json");
    let (warmup, total) = (fixture["warmup_steps"].as_u64().unwrap(), fixture["total_steps"].as_u64().unwrap());
    for (name, schedule) in
        [("cosine", Schedule::Cosine), ("linear", Schedule::Linear), ("constant", Schedule::Constant)]
    {
        for (step, expected) in fixture["multipliers"][name].as_array().unwrap().iter().enumerate() {
            let got = learning_rate_factor(schedule, step as u64, warmup, total);
            assert_near(&format!("{name} at {step}"), got, expected.as_f64().unwrap(), 1e-12);
        }
    }
}

#[test]
fn answer_metrics_equal_the_squad_definition() {
    for case in json("squad_metrics.json")["cases"].as_array().unwrap() {
        let prediction = case["prediction"].as_str().unwrap();
        let answers: Vec<String> =
            case["answers"].as_array().unwrap().iter().map(|a| a.as_str().unwrap().to_owned()).collect();
        let (exact, f1) = (case["exact_match"].as_f64().unwrap(), case["f1"].as_f64().unwrap());
        assert_near(
            &format!("exact match of {prediction:?}"),
            datasets::probes::exact_match(prediction, &answers),
            exact,
            0.0,
        );
        assert_near(&format!("F1 of {prediction:?}"), datasets::probes::f1(prediction, &answers), f1, 1e-6);
    }
}
