//! PEFT loads what we export, and finds the trainer's log-probabilities.

use std::path::Path;
use std::process::Command;

use burn::tensor::Device;
use serde_json::{Value, json};
use trainer::eval::log_probs;
use trainer::model::adapter;

use super::{export, prompts, smollm2, trained, variable};

/// Log-probabilities of sequences by PEFT, with an adapter or without.
fn peft_log_probs(base: &Path, adapter: Option<&Path>, sequences: &[Vec<u32>], folder: &Path) -> Vec<Vec<f32>> {
    let input = folder.join("sequences.json");
    let rows: Vec<Value> = sequences.iter().map(|s| json!({ "input_ids": s })).collect();
    std::fs::write(&input, serde_json::to_vec(&rows).unwrap()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/real/peft_logprobs.py");
    let mut command = Command::new(variable("GREFFON_PEER_PYTHON"));
    command.arg(script).arg("--base").arg(base).arg("--sequences").arg(&input);
    if let Some(adapter) = adapter {
        command.arg("--adapter").arg(adapter);
    }
    let out = command.output().expect("the peer's Python starts");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let said: Value = serde_json::from_slice(&out.stdout).expect("the script prints JSON");
    assert_eq!(said["adapter"], adapter.is_some());
    #[expect(clippy::cast_possible_truncation, reason = "they were computed in f32")]
    let value = |v: &Value| v.as_f64().unwrap() as f32;
    let sequences = said["sequences"].as_array().unwrap();
    sequences
        .iter()
        .map(|s| {
            let values = s["logprobs"].as_array().unwrap();
            values.iter().map(value).collect()
        })
        .collect()
}

/// The largest difference, relative to the expected value where that is above 1.
fn relative_difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    got.iter().zip(expected).map(|(g, e)| (g - e).abs() / e.abs().max(1.0)).fold(0.0, f32::max)
}

#[test]
fn peft_loads_the_exported_adapter_and_finds_the_trainers_log_probabilities() {
    let folder = tempfile::tempdir().unwrap();
    let model = variable("GREFFON_SMOLLM2");
    let exported = folder.path().join("adapter");
    export(&trained(folder.path()), &exported, &[]);

    let device = Device::flex();
    let base = smollm2();
    let mut decoder = base.decoder(&device).unwrap();
    let sequences = prompts();
    let plain: Vec<Vec<f32>> = sequences.iter().map(|s| log_probs(&decoder, s, &device)).collect();
    adapter::load(&mut decoder, &exported, &device).unwrap();
    let adapted: Vec<Vec<f32>> = sequences.iter().map(|s| log_probs(&decoder, s, &device)).collect();

    let (mut worst, mut moved) = (0.0_f32, 0.0_f32);
    let expected = peft_log_probs(&model, Some(&exported), &sequences, folder.path());
    let expected_plain = peft_log_probs(&model, None, &sequences, folder.path());
    for i in 0..sequences.len() {
        worst = worst.max(relative_difference(&adapted[i], &expected[i]));
        worst = worst.max(relative_difference(&plain[i], &expected_plain[i]));
        moved = moved.max(relative_difference(&adapted[i], &plain[i]));
    }
    println!("largest relative difference to PEFT {worst:e}; the adapter moved log-probabilities by up to {moved:e}");
    assert!(moved > 1e-2, "the adapter does nothing: {moved:e}");
    assert!(worst <= 1e-4, "off by {worst:e}");
}
