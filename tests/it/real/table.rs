//! The table of the README, cell by cell: each family and each method as a PEFT folder in transformers with PEFT, and as
//! a GGUF adapter in llama.cpp's server. Merged models of the same are in `merged`.
#![expect(clippy::print_stdout, reason = "the figures of the README come from here")]

use std::path::{Path, PathBuf};

use adapters::export::gguf_lora::write_gguf_lora;
use adapters::export::peft::fold_patterns;
use adapters::{GgmlType, PeftAdapter};
use burn::tensor::Device;
use serde_json::Value;
use trainer::model::adapter;
use trainer::model::merged::Merged;

use super::merged::mean_difference;
use super::open;
use super::servers::Server;
use crate::families::FAMILIES;
use crate::support::{fixture, greffon, parity_examples};

/// The methods on the tiny Llama; of `PiSSA` what is exported, a plain LoRA of twice the rank.
pub(super) const METHODS: [&str; 8] =
    ["lora", "rslora", "patterns", "pattern-targets", "dora", "pissa", "ends", "norms"];

/// What GGUF has no form for, with a word of the refusal.
const NOT_IN_GGUF: [(&str, &str); 3] =
    [("dora", "magnitude"), ("ends", "outside the blocks"), ("ends-tied", "outside the blocks")];

/// The adapter of a method after ten steps, as PEFT wrote it.
pub(super) fn adapter_of(method: &str) -> PathBuf {
    match method {
        "lora" => fixture("parity/adapter_final"),
        _ => fixture(&format!("methods/{method}/adapter_final")),
    }
}

/// Tiny models' differences are far smaller than those of real ones, and so are their adapters' effects.
const LIMIT: &str = "0.001";

/// Runs the verb; the export must be proved.
fn proves(export: &Path, base: &Path, server: &Server) {
    let [export, base] = [export, base].map(|path| path.to_str().unwrap());
    let mut arguments = vec!["verify", export, "--prove", "--json", "--limit", LIMIT];
    arguments.extend(["--model", base, "--server", &server.address]);
    let out = greffon(&arguments);
    let said = String::from_utf8_lossy(&out.stderr);
    let report: Value = serde_json::from_slice(&out.stdout).unwrap_or_else(|_| panic!("{export}: {said}"));
    let mean = |side: &str| report[side]["mean"].as_f64().unwrap_or(f64::NAN);
    let name = export.rsplit('/').next().unwrap();
    println!(
        "{name}: on {:.1e}, off {:.1e}, effect {:.1e}",
        mean("on"),
        mean("off"),
        report["effect"].as_f64().unwrap()
    );
    assert!(out.status.success(), "{export}: {} {said}", report["reasons"]);
}

/// Proves the adapters of one base, each under its name.
fn prove_all(base: &Path, subjects: &[(String, PathBuf)], in_llama_cpp: bool) {
    let folder = tempfile::tempdir().unwrap();
    let opened = open(base);
    let (mut folders, mut files) = (Vec::new(), Vec::new());
    for (name, source) in subjects {
        let mut adapter = PeftAdapter::read(source).unwrap();
        let ours = folder.path().join(name);
        adapter.write(&ours, false).unwrap();
        folders.push((name.as_str(), ours.clone()));
        if name == "patterns" {
            (adapter.config, adapter.pairs) = fold_patterns(&adapter.config, &adapter.pairs).unwrap();
        }
        let file = folder.path().join(format!("{name}.gguf"));
        if !adapter.norms.is_empty() {
            // The verb refuses norms, before it comes to the writer of GGUF adapters.
            continue;
        }
        let written = write_gguf_lora(&file, &adapter.config, &adapter.pairs, &opened.gguf(), GgmlType::F32, false);
        match NOT_IN_GGUF.iter().find(|(method, _)| method == name) {
            None => {
                written.unwrap();
                files.push((file, ours));
            }
            Some((_, word)) => assert!(written.unwrap_err().to_string().contains(word), "{name}"),
        }
    }
    let named: Vec<(&str, &Path)> = folders.iter().map(|(name, path)| (*name, path.as_path())).collect();
    let server = Server::transformers(base, &named);
    for (_, path) in &named {
        proves(path, base, &server);
    }
    drop(server);
    if !in_llama_cpp {
        return;
    }
    let gguf = folder.path().join("base.gguf");
    Merged::new(&opened).unwrap().write_gguf(&gguf, GgmlType::F32, false).unwrap();
    let plain = opened.decoder(&Device::flex()).unwrap();
    let sequences: Vec<Vec<u32>> = parity_examples().into_iter().map(|example| example.input_ids).collect();
    for (file, ours) in &files {
        let mut decoder = plain.clone();
        adapter::load(&mut decoder, ours, &Device::flex()).unwrap();
        let server = Server::llama_cpp(&gguf, &[file]);
        let (on, effect) =
            (mean_difference(&server, &decoder, &sequences), mean_difference(&server, &plain, &sequences));
        println!("{} in llama.cpp: on {on:.1e}, effect {effect:.1e}", file.file_name().unwrap().display());
        assert!(on <= 0.01 && effect > 0.1, "{}: {on}, {effect}", file.display());
    }
}

#[test]
fn adapters_of_every_method_are_proved() {
    let subject = |method: &&str| ((*method).to_owned(), adapter_of(method));
    prove_all(&fixture("tiny-llama"), &METHODS.iter().map(subject).collect::<Vec<_>>(), true);
    prove_all(&fixture("tiny-llama-tied"), &[("ends-tied".to_owned(), adapter_of("ends-tied"))], false);
}

#[test]
fn adapters_of_every_family_are_proved() {
    for family in FAMILIES {
        let adapter = fixture(&format!("families/{family}-adapter"));
        // llama.cpp has no window for Mistral, and the prompts are longer than the tiny model's.
        let subjects = [(format!("{family}-adapter"), adapter)];
        prove_all(&fixture(&format!("families/{family}")), &subjects, family != "mistral");
    }
}
