//! Packing, the micro-batch size and the number of ranks change no number.

use std::path::Path;

use burn::tensor::Device;
use datasets::{Example, ExampleRef, Origin};
use trainer::kernels::Kernels;
use trainer::model::adapter;
use trainer::model::generate::{Sampling, generate};
use trainer::train::batch::{Layout, MicroBatch, Objective, micro_batches};
use trainer::train::parameters;
use trainer::train::share::Division;
use trainer::train::step::{StepSettings, gradient, gradient_parts};

use crate::support::{assert_close, assert_near, base, fixture};

/// Examples of very different length and share of supervised tokens.
fn examples() -> Vec<Example> {
    (0..11_usize)
        .map(|i| {
            let length = 5 + (i * 13) % 44;
            Example {
                input_ids: (0..length).map(|t| u32::try_from(3 + (i * 101 + t * 37) % 377).unwrap()).collect(),
                loss_mask: (0..length).map(|t| t > 0 && (t * (i + 2)) % 3 != 0).collect(),
                origin: Origin { path: Path::new("made.jsonl").into(), line: i + 1 },
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
    let (task, replayed) = examples.split_at(7);
    let objective = Objective::Replay { weight: 0.5, kl_weight: 2.0 };
    let mut first: Option<([f64; 3], Vec<f32>)> = None;
    for packing in [false, true] {
        for micro_batch_size in [1, 2, 3, 11] {
            let layout = Layout { packing, share_prefix: false, max_length: 64, micro_batch_size };
            let mut batches = micro_batches(task.iter().copied(), layout);
            let replayed = micro_batches(replayed.iter().copied(), layout).into_iter();
            batches.extend(replayed.map(|batch| MicroBatch { objective, ..batch }));
            let result = gradient(&decoder, &batches, seed, &device, &|| false).unwrap();
            let losses = [result.losses.loss, result.losses.replay_loss.unwrap(), result.losses.kl.unwrap()];
            let values: Vec<f32> = result.gradient.into_data().try_into_vec().unwrap();
            let name = format!("packing {packing}, micro-batch {micro_batch_size}");
            match &first {
                None => first = Some((losses, values)),
                Some((expected, gradient)) => {
                    for (loss, expected) in losses.into_iter().zip(*expected) {
                        assert_near(&format!("loss with {name}"), loss, expected, 1e-5);
                    }
                    assert_close(&format!("gradient with {name}"), &values, gradient, 1e-5);
                }
            }
        }
    }
}

/// Questions about three texts, some with the same beginning of their answers too.
fn questions() -> Vec<Example> {
    let text = |text: usize| (0..9 + 3 * text).map(move |t| u32::try_from(3 + (text * 53 + t * 29) % 377).unwrap());
    let own = |i: usize| (0..3 + i % 4).map(move |t| u32::try_from(3 + (i / 5 * 41 + t * 17) % 377).unwrap());
    (0..11_usize)
        .map(|i| {
            let input_ids: Vec<u32> = text(i % 3).chain(own(i)).collect();
            let answer = input_ids.len() - 2;
            let loss_mask = (0..input_ids.len()).map(|t| t >= answer).collect();
            Example { input_ids, loss_mask, origin: Origin { path: Path::new("made.jsonl").into(), line: i + 1 } }
        })
        .collect()
}

#[test]
fn what_examples_begin_with_in_common_is_computed_once_for_the_same_loss_and_gradient() {
    let device = Device::flex();
    let mut decoder = base("tiny-llama").decoder(&device).unwrap();
    adapter::load(&mut decoder, &fixture("parity/adapter_init"), &device).unwrap();
    adapter::require_grad(&mut decoder);
    let questions = questions();
    let of = |kernels: Kernels, share_prefix: bool, max_length: usize, recomputed_blocks: usize| {
        let layout = Layout { packing: true, share_prefix, max_length, micro_batch_size: 2 };
        let batches = micro_batches(&questions, layout);
        let tokens: usize = batches.iter().map(|batch| batch.input_ids.len()).sum();
        let settings = StepSettings { seed: 0, step: 0, dropout: 0.0, recomputed_blocks };
        let decoder = decoder.clone().with_kernels(kernels);
        let result = gradient(&decoder, &batches, settings, &device, &|| false).unwrap();
        let values: Vec<f32> = result.gradient.into_data().try_into_vec().unwrap();
        (tokens, result.losses.loss, values)
    };
    let (all, loss, values) = of(Kernels::Fused, false, 64, 0);
    for kernels in [Kernels::Fused, Kernels::Reference] {
        // Into rows of 24 tokens only some of a family go.
        for (max_length, recomputed_blocks) in [(64, 0), (64, 1), (24, 0)] {
            let (tokens, shared_loss, shared) = of(kernels, true, max_length, recomputed_blocks);
            assert!(tokens < all * 3 / 4, "{tokens} of {all} tokens were computed");
            let name = format!("{kernels:?}, rows of {max_length}, {recomputed_blocks} blocks computed again");
            assert_near(&format!("loss with {name}"), shared_loss, loss, 1e-5);
            assert_close(&format!("gradient with {name}"), &shared, &values, 1e-5);
        }
    }
    // Numbers of three digits: another order of a sum may round the next product's side to its neighbour.
    for share_prefix in [false, true] {
        let (_, rounded_loss, rounded) = of(Kernels::Bf16, share_prefix, 64, 0);
        assert_near("loss in bfloat16", rounded_loss, loss, 1e-2);
        assert_close("gradient in bfloat16", &rounded, &values, 2e-2);
    }
}

#[test]
fn the_shares_of_any_number_of_ranks_add_up_to_the_step() {
    let device = Device::flex();
    let mut decoder = base("tiny-llama").decoder(&device).unwrap();
    adapter::load(&mut decoder, &fixture("parity/adapter_init"), &device).unwrap();
    adapter::require_grad(&mut decoder);
    let examples = examples();
    let examples: Vec<ExampleRef<'_>> = examples.iter().map(Into::into).collect();
    let (task, replayed) = examples.split_at(7);
    let replayed = Some((replayed, Objective::Replay { weight: 0.5, kl_weight: 2.0 }));
    for dropout in [0.0, 0.3] {
        let settings = StepSettings { seed: 5, step: 2, dropout, recomputed_blocks: 0 };
        let mut whole: Option<([f64; 3], Vec<f32>)> = None;
        for ranks in [1, 2, 3, 13] {
            for packing in [false, true] {
                let layout = Layout { packing, share_prefix: packing, max_length: 64, micro_batch_size: 2 };
                let (mut losses, mut sum) = ([0.0; 3], Vec::new());
                for rank in 0..ranks {
                    let share = Division::new(task, replayed, ranks, layout).share(rank);
                    let mut parts = Vec::new();
                    let mut hand_out = |part| parts.push(part);
                    let own = gradient_parts(&decoder, &share, settings, &device, &|| false, &mut hand_out).unwrap();
                    let own = [own.loss, own.replay_loss.unwrap_or(0.0), own.kl.unwrap_or(0.0)];
                    losses.iter_mut().zip(own).for_each(|(sum, own)| *sum += own);
                    let lengths: Vec<usize> = parts.iter().map(|part| part.dims()[0]).collect();
                    assert_eq!(lengths, parameters::parts(&decoder));
                    let values: Vec<f32> = parameters::join(parts).into_data().try_into_vec().unwrap();
                    sum.resize(values.len(), 0.0);
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
                }
                let name = format!("{ranks} ranks, packing {packing}, dropout {dropout}");
                let (expected, gradient) = whole.get_or_insert_with(|| (losses, sum.clone()));
                for (loss, expected) in losses.into_iter().zip(*expected) {
                    assert_near(&format!("loss with {name}"), loss, expected, 1e-5);
                }
                assert_close(&format!("gradient with {name}"), &sum, gradient, 1e-5);
            }
        }
    }
}

#[test]
fn blocks_that_are_computed_again_give_the_same_bits() {
    let device = Device::flex();
    let mut decoder = base("tiny-llama").decoder(&device).unwrap();
    adapter::load(&mut decoder, &fixture("parity/adapter_init"), &device).unwrap();
    adapter::require_grad(&mut decoder);
    let examples = examples();
    let batches =
        micro_batches(&examples, Layout { packing: true, share_prefix: false, max_length: 64, micro_batch_size: 2 });
    let of = |kernels: Kernels, dropout: f64, recomputed_blocks: usize| {
        let settings = StepSettings { seed: 7, step: 3, dropout, recomputed_blocks };
        let decoder = decoder.clone().with_kernels(kernels);
        let result = gradient(&decoder, &batches, settings, &device, &|| false).unwrap();
        let values: Vec<f32> = result.gradient.into_data().try_into_vec().unwrap();
        (result.losses.loss, values)
    };
    for dropout in [0.0, 0.3] {
        let (loss, values) = of(Kernels::Fused, dropout, 0);
        assert!(values.iter().any(|value| *value != 0.0));
        for blocks in [1, 2, 3, 9] {
            let again = of(Kernels::Fused, dropout, blocks);
            let bits = |values: &[f32]| -> Vec<u32> { values.iter().map(|value| value.to_bits()).collect() };
            let same = again.0.to_bits() == loss.to_bits() && bits(&again.1) == bits(&values);
            assert!(same, "{blocks} blocks, dropout {dropout}");
        }
        // Some ordinary operators round otherwise within autodiff than outside it.
        let (loss, values) = of(Kernels::Reference, dropout, 0);
        let again = of(Kernels::Reference, dropout, 2);
        assert_near("loss of the reference", again.0, loss, 1e-6);
        assert_close("gradient of the reference", &again.1, &values, 1e-6);
    }
}

#[test]
fn prompts_that_begin_alike_are_continued_as_each_alone() {
    let device = Device::flex();
    let prompts: Vec<Vec<u32>> = questions().into_iter().map(|example| example.input_ids).collect();
    // Full attention, and one with windows and scaled embeddings.
    for name in ["tiny-llama", "families/gemma3"] {
        for kernels in [Kernels::Fused, Kernels::Reference] {
            let mut decoder = base(name).decoder(&device).unwrap();
            decoder.kernels = kernels;
            let continued =
                |prompts: &[Vec<u32>]| generate(&decoder, prompts, Sampling::greedy(12), &[], &device, |_, _| true);
            let together = continued(&prompts);
            for (prompt, together) in prompts.iter().zip(together) {
                assert_eq!(continued(std::slice::from_ref(prompt)), [together], "{name}, {kernels:?}, {prompt:?}");
            }
        }
    }
}
