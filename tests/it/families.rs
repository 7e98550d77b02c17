//! Each family of decoders against transformers and PEFT: logits, every adapter gradient, generation with a cache.
//!
//! The expected numbers were written by `scripts/fixtures/families.py`. Plain Llama is in `parity`.

use burn::tensor::Device;
use trainer::eval::logits;
use trainer::kernels::Kernels;
use trainer::model::generate::{Sampling, generate};
use trainer::model::{Decoder, adapter};
use trainer::train::batch::{Layout, micro_batches};
use trainer::train::step::{StepSettings, gradient};

use crate::support::{Tensors, assert_close, assert_gradients, base, device, fixture, ids, json, parity_examples};

pub(crate) const FAMILIES: [&str; 5] = ["llama3", "mistral", "qwen2", "qwen3", "gemma3"];
const KERNELS: [Kernels; 2] = [Kernels::Fused, Kernels::Reference];
const TOLERANCE: f32 = 1e-4;

fn decoder(family: &str, kernels: Kernels, device: &Device) -> Decoder {
    let mut decoder = base(&format!("families/{family}")).decoder(device).expect("the fixture loads");
    decoder.kernels = kernels;
    decoder
}

fn adapted(family: &str, kernels: Kernels, device: &Device) -> Decoder {
    let mut decoder = decoder(family, kernels, device);
    adapter::load(&mut decoder, &fixture(&format!("families/{family}-adapter")), device).expect("the adapter loads");
    decoder
}

fn each(check: impl Fn(&str, Kernels, &Device)) {
    let device = device();
    for family in FAMILIES {
        for kernels in KERNELS {
            check(family, kernels, &device);
        }
    }
}

#[test]
fn logits_of_every_family_equal_transformers() {
    each(|family, kernels, device| {
        let expected = Tensors::open(&format!("families/{family}.safetensors"));
        for (name, decoder) in
            [("base", decoder(family, kernels, device)), ("adapter", adapted(family, kernels, device))]
        {
            for (index, example) in parity_examples().iter().enumerate() {
                let got = logits(&decoder, &example.input_ids, device);
                let what = format!("{family} {name}.{index}, {kernels:?}");
                assert_close(&what, &got, &expected.get(&format!("{name}.{index}")), TOLERANCE);
            }
        }
    });
}

#[test]
fn adapter_gradients_of_every_family_equal_peft() {
    each(|family, kernels, device| {
        let mut decoder = adapted(family, kernels, device);
        adapter::require_grad(&mut decoder);
        let layout = Layout { packing: true, share_prefix: false, max_length: 64, micro_batch_size: 2 };
        let settings = StepSettings { seed: 0, step: 0, dropout: 0.0, recomputed_blocks: 1 };
        let batches = micro_batches(&parity_examples(), layout);
        let result = gradient(&decoder, &batches, settings, device, &|| false).expect("nothing stops it");
        assert!(decoder.linears().all(|(_, linear)| linear.lora.is_some()), "all seven modules are adapted");
        let expected = Tensors::open(&format!("families/{family}.safetensors"));
        assert_gradients(&format!("{family}, {kernels:?}"), &decoder, result.gradient, &expected, TOLERANCE);
    });
}

#[test]
fn generation_of_every_family_equals_transformers() {
    let fixture = json("families/families.json");
    let prompt = ids(&fixture["prompt_ids"]);
    each(|family, kernels, device| {
        for (name, decoder) in
            [("base", decoder(family, kernels, device)), ("adapter", adapted(family, kernels, device))]
        {
            // Together with other prompts, so that a leak between sequences would show.
            let prompts = [vec![5, 6, 7], prompt.clone(), vec![9; 30]];
            let out = generate(&decoder, &prompts, Sampling::greedy(16), &[], device, |_, _| true);
            assert_eq!(out[1].ids, ids(&fixture["generation"][family][name]), "{family} {name}, {kernels:?}");
        }
    });
}
