//! The same seed gives the same bytes, whatever the number of threads.

use std::fs;
use std::path::Path;

use crate::support::{greffon_command, tiny_recipe};

/// Everything that a run computes: the adapter, and each step's loss and gradient norm.
fn result(run: &Path) -> (Vec<u8>, Vec<(String, String)>) {
    let adapter = fs::read(run.join("adapter/adapter_model.safetensors")).unwrap();
    let metrics = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = metrics.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    (adapter, lines.map(|line| (line["loss"].to_string(), line["gradient_norm"].to_string())).collect())
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    for settings in [&["lora.dropout=0"][..], &["lora.dropout=0.1", "data.packing=false"], &["kernels=bf16"]] {
        let folder = tempfile::tempdir().unwrap();
        let recipe = tiny_recipe(folder.path(), &[&["train.max_steps=6"][..], settings].concat());
        let mut first = None;
        for threads in ["1", "2", "5"] {
            let run = folder.path().join(threads);
            let output = format!("output={}", run.display());
            let done = greffon_command(&["train", &recipe, "--set", &output])
                .env("RAYON_NUM_THREADS", threads)
                .output()
                .unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let result = result(&run);
            assert!(!result.0.is_empty() && result.1.len() >= 6, "the run wrote its result");
            match &first {
                None => first = Some(result),
                Some(first) => assert!(*first == result, "{threads} threads, {settings:?}: other bytes"),
            }
        }
    }
}
