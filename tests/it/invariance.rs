//! Packing and the micro-batch size change no number.

use burn::tensor::Device;
use datasets::{Example, Origin};
use trainer::model::adapter;
use trainer::train::batch::{Layout, micro_batches};
use trainer::train::step::{StepSettings, gradient};

use crate::support::{assert_close, assert_near, base, fixture};

/// Examples of very different length and share of supervised tokens.
fn examples() -> Vec<Example> {
    (0..11_usize)
        .map(|i| {
            let length = 5 + (i * 13) % 44;
            Example {
                input_ids: (0..length).map(|t| u32::try_from(3 + (i * 101 + t * 37) % 377).unwrap()).collect(),
                loss_mask: (0..length).map(|t| t > 0 && (t * (i + 2)) % 3 != 0).collect(),
                origin: Origin { path: std::path::Path::new("made.jsonl").into(), line: i + 1 },
            }
        })
        .collect()
}

#[test]
fn loss_and_gradient_do_not_depend_on_packing_or_micro_batch() {
    let device = Device::flex();
    let mut decoder = base("tiny-llama").decoder(&device).unwrap();
    adapter::load(&mut decoder, &fixture("parity/adapter_init"), &device).unwrap();
    adapter::require_grad(&mut decoder);
    let examples = examples();
    let examples: Vec<&Example> = examples.iter().collect();
    let seed = StepSettings { seed: 0, step: 0, dropout: 0.0, recomputed_blocks: 0 };
    let mut first: Option<(f64, Vec<f32>)> = None;
    for packing in [false, true] {
        for micro_batch_size in [1, 2, 3, 11] {
            let layout = Layout { packing, max_length: 64, micro_batch_size };
            let batches = micro_batches(&examples, layout);
            let result = gradient(&decoder, &batches, seed, &device, &|| false).unwrap();
            let values: Vec<f32> = result.gradient.into_data().try_into_vec().unwrap();
            let name = format!("packing {packing}, micro-batch {micro_batch_size}");
            match &first {
                None => first = Some((result.loss, values)),
                Some((loss, gradient)) => {
                    assert_near(&format!("loss with {name}"), result.loss, *loss, 1e-5);
                    assert_close(&format!("gradient with {name}"), &values, gradient, 1e-5);
                }
            }
        }
    }
}
